//! How large a swarm is, where the tracker tells that only to those who ask.

use std::fs;

use dlm_api::Client;
use dlm_bittorrent::tracker::TrackerUrl;
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, InfoHash, Metainfo};
use dlm_testing::{Content, Libtorrent, Nginx, Torrent};
use futures::StreamExt;

#[tokio::test]
async fn progress_knows_how_large_the_swarm_is() {
    let (from, to, nginx) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Nginx::start());
    let content = Content::new(1, 8 << 20);
    content.write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().tier([nginx.url("announce")]).make(&from.path().join("file.bin"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let hash: InfoHash = torrent.info_hash().parse().unwrap();
    // An answer without numbers, and the numbers. Nobody can be given as a peer here whom the seed doesn't know.
    let port = seed.address().port().to_be_bytes();
    let peers = [&b"d8:intervali1800e5:peers6:\x7f\0\0\x01"[..], &port, b"e"].concat();
    let numbers =
        [&b"d5:filesd20:"[..], hash.as_bytes(), b"d8:completei7e10:downloadedi9e10:incompletei3eeee"].concat();
    fs::write(nginx.root().join("announce"), peers).unwrap();
    fs::write(nginx.root().join("scrape"), numbers).unwrap();

    let torrents = BitTorrent::with_config(BitTorrentConfig::new().with_listen(None)).unwrap();
    let client = Client::builder().threads(1).protocol(torrents.clone()).build();
    let bytes = fs::read(torrent.path()).unwrap();
    let download = client.download_container("file:///made.torrent", bytes.clone()).rate_limit(1 << 20);
    let handle = download.to_dir(to.path()).start();
    let mut events = handle.events();
    let known = loop {
        let known = handle.progress().peers.and_then(|peers| peers.known_seeds.zip(peers.known_others));
        if known.is_some() {
            break known;
        }
        events.next().await.expect("it has ended");
    };
    assert_eq!(known, Some((7, 3)));
    handle.stop();
    let _ = handle.wait().await;

    // The same without a download.
    let all = torrents.torrent(&Metainfo::parse(bytes.into()).unwrap()).scrape().await;
    let [(tracker, Ok(swarm))] = &all[..] else { panic!("{all:?}") };
    assert_eq!((swarm.complete, swarm.incomplete, swarm.downloaded), (7, 3, 9));
    assert_eq!(torrents.scrape(tracker, &[hash, [1; 20].into()]).await.unwrap(), [Some(*swarm), None]);
    let strange = TrackerUrl::parse(&nginx.url("file.bin").replace("127.0.0.1", "example.invalid")).unwrap();
    let error = torrents.scrape(&strange, &[hash]).await.unwrap_err();
    assert_eq!(error.kind(), dlm_api::ErrorKind::Unsupported, "its path has no place for that");
}
