//! Trackers: which are asked, what they are told, and what the user is told of them.

#[allow(dead_code)] // Not all of it is used here.
mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{MIB, client, config};
use dlm_testing::{Content, Libtorrent, Opentracker, Torrent};
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
