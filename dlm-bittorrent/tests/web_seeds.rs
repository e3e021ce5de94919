//! Which servers a torrent can make us ask.

use dlm_api::{Client, Result};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort};
use dlm_http::Http;
use dlm_testing::{Content, Libtorrent, Nginx, Torrent};

/// A torrent that names a server on this machine, from different places. A peer has everything too.
#[tokio::test]
async fn a_local_web_seed_is_asked_only_for_a_torrent_from_here() {
    let (nginx, from) = (Nginx::start(), tempfile::tempdir().unwrap());
    let content = Content::new(1, 6 << 20);
    content.write_file(from.path().join("file.bin")).unwrap();
    nginx.put("file.bin", &content);
    let named = nginx.url("file.bin").replace("127.0.0.1", "localhost");
    for url in [nginx.url("file.bin"), named] {
        let torrent = Torrent::builder().web_seed(url).make(&from.path().join("file.bin"));
        let seed = Libtorrent::seed(torrent.path(), from.path());
        let fetch = async |base: &str, peer: bool| -> Result<()> {
            let to = tempfile::tempdir().unwrap();
            let mut config = BitTorrentConfig::new().with_listen(Some(([127, 0, 0, 1], 0).into()));
            if peer {
                config = config.with_peer(HostPort::new("127.0.0.1", seed.address().port()).unwrap());
            }
            let protocols =
                Client::builder().threads(1).protocol(Http::new()?).protocol(BitTorrent::with_config(config)?);
            let bytes = std::fs::read(torrent.path()).unwrap();
            protocols.build().download_container(base, bytes).to_dir(to.path()).await?;
            content.check_file(to.path().join("file.bin")).unwrap();
            Ok(())
        };
        let before = nginx.requests().len();
        fetch("https://1.1.1.1/made.torrent", true).await.unwrap();
        assert_eq!(nginx.requests().len(), before, "a stranger has us ask a machine beside us");
        for base in ["file:///made.torrent", "http://192.168.0.1/made.torrent", "http://localhost:1/made.torrent"] {
            fetch(base, false).await.unwrap();
        }
    }
}
