//! Trackers: which are asked, what they are told, and what the user is told of them.

#[allow(dead_code)] // Not all of it is used here.
mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{MIB, client, config, fetch};
use dlm_api::{ErrorKind, Event, Handle};
use dlm_bittorrent::BitTorrentConfig;
use dlm_testing::{Content, Libtorrent, Nginx, Opentracker, Torrent};
use futures::StreamExt;
use tokio::time::timeout;

/// Much less than one silent tracker is asked for, and much more than a loaded machine needs.
const SOON: Duration = Duration::from_secs(60);

/// A tracker that says nothing.
fn silent() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    (socket, url)
}

/// The list of a usual magnet link: most of it is dead, and only the last one knows somebody.
#[tokio::test]
async fn dead_trackers_do_not_keep_the_living_one_waiting() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(11, MIB);
    content.write_file(from.path().join("file.bin")).unwrap();
    let hash = Torrent::builder().make(&from.path().join("file.bin")).info_hash().to_owned();
    let tracker = Opentracker::start([&hash]);
    let torrent = Torrent::builder().tier([tracker.udp()]).make(&from.path().join("file.bin"));
    let _seed = Libtorrent::seed(torrent.path(), from.path());
    let dead: Vec<_> = (0..5).map(|_| silent()).collect();
    let dead_urls = dead.iter().map(|(_, url)| format!("&tr={url}")).collect::<String>();
    let magnet = format!("magnet:?xt=urn:btih:{}{dead_urls}&tr={}", torrent.info_hash(), tracker.udp());
    timeout(SOON, client(config()).download(&magnet).to_dir(to.path())).await.expect("it waits").unwrap();
    content.check_file(to.path().join("file.bin")).unwrap();
}

/// A torrent that nobody has.
fn unheard_of() -> (tempfile::TempDir, Torrent) {
    let from = tempfile::tempdir().unwrap();
    Content::new(12, MIB).write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().make(&from.path().join("file.bin"));
    (from, torrent)
}

fn start(config: BitTorrentConfig, torrent: &Torrent) -> (tempfile::TempDir, Handle) {
    let to = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(torrent.path()).unwrap();
    let handle = client(config).download_container("file:///made.torrent", bytes).to_dir(to.path()).start();
    (to, handle)
}

/// So many warnings.
async fn warnings(handle: &Handle, count: usize) -> Vec<String> {
    let warnings = handle.events().filter_map(async |event| match event {
        Event::Warning(text) => Some(text),
        _ => None,
    });
    timeout(SOON, warnings.take(count).collect()).await.expect("nobody is told")
}

#[tokio::test]
async fn the_user_is_told_why_there_are_no_peers() {
    let ((_from, torrent), nginx) = (unheard_of(), Nginx::start());
    let trackers = [
        ("http://127.0.0.1:1/SECRET/announce".to_owned(), "127.0.0.1:1/***", "cannot connect"),
        (nginx.url("SECRET/announce"), "/***", "404"),
        ("udp://nosuch.invalid:1/SECRET".to_owned(), "nosuch.invalid:1/***", "cannot resolve"),
    ];
    let peers = [("other.invalid:1", "can't be resolved"), ("127.0.0.1:1", "cannot connect to the peer")];
    let mut config = config();
    for (url, ..) in &trackers {
        config = config.with_tracker(url);
    }
    for (peer, _) in peers {
        config = config.with_peer(peer.parse().unwrap());
    }
    let (_to, handle) = start(config, &torrent);
    let told = warnings(&handle, trackers.len() + peers.len()).await;
    let wanted = trackers.iter().map(|(_, place, reason)| (*place, *reason)).chain(peers);
    for (place, reason) in wanted {
        let fitting = told.iter().filter(|text| text.contains(place) && text.contains(reason)).count();
        assert_eq!(fitting, 1, "{place} {reason}: {told:?}");
    }
    assert!(!told.concat().contains("SECRET"), "{told:?}");
    handle.stop();
    handle.wait().await.unwrap_err();
}

#[tokio::test]
async fn who_knows_nobody_is_told_so() {
    let (_from, torrent) = unheard_of();
    let (_to, handle) = start(config(), &torrent);
    let told = warnings(&handle, 1).await;
    assert!(told[0].contains("no tracker"), "{told:?}");
    handle.stop();
    handle.wait().await.unwrap_err();
    // Nobody ever comes.
    let to = tempfile::tempdir().unwrap();
    let error =
        timeout(SOON, fetch(config().with_listen(None), &torrent, to.path())).await.expect("it waits").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
    let magnet = format!("magnet:?xt=urn:btih:{}", torrent.info_hash());
    let error =
        timeout(SOON, client(config()).download(&magnet).to_dir(to.path())).await.expect("it waits").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
}
