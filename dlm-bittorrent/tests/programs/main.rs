//! Other people's programs as peers: each gives to us, and each gets from us, byte for byte.

#[path = "../common/mod.rs"]
mod common;
mod halves;

use std::path::Path;

use common::{MIB, check_folder, client, config, fetch, folder, with_peer};
use dlm_api::{Event, Handle, State};
use dlm_bittorrent::{BitTorrentConfig, SeedGoal};
use dlm_testing::{Aria2, Content, Libtorrent, NpmTracker, Peer, Rqbit, Torrent, Transmission, wait_for};
use futures::{StreamExt, join};
use serde_json::json;
use tempfile::TempDir;

/// Starts a program for a torrent, and a folder in which there is all of it, or nothing.
type Start = fn(&Path, &Path) -> Box<dyn Peer>;

const FILE: Content = Content::new(1, 5 * MIB + 12_345);

/// A torrent, and what it is of.
struct Made {
    from: TempDir,
    files: Vec<(String, Content)>,
    torrent: Torrent,
}

impl Made {
    fn new(name: &str, trackers: &[String], fill: impl FnOnce(&Path) -> Vec<(String, Content)>) -> Self {
        let from = tempfile::tempdir().unwrap();
        let files = fill(from.path());
        let builder = trackers.iter().fold(Torrent::builder().piece(64 << 10), |builder, url| builder.tier([url]));
        let torrent = builder.make(&from.path().join(name));
        Self { from, files, torrent }
    }

    /// Of one file.
    fn file(trackers: &[String]) -> Self {
        Self::new("file.bin", trackers, |from| {
            FILE.write_file(from.join("file.bin")).unwrap();
            vec![("file.bin".into(), FILE)]
        })
    }

    /// Of many files.
    fn folder(trackers: &[String]) -> Self {
        Self::new("content", trackers, folder)
    }
}

/// It has everything, and we have nothing.
async fn gives(start: Start) {
    // At once, as Transmission lets one wait for ten seconds each time.
    join!(give(start, Made::file(&[])), give(start, Made::folder(&[])));
}

async fn give(start: Start, made: Made) {
    let to = tempfile::tempdir().unwrap();
    let peer = start(made.torrent.path(), made.from.path());
    assert!(peer.is_complete());
    fetch(with_peer(config(), &*peer), &made.torrent, to.path()).await.unwrap();
    check_folder(to.path(), &made.files);
}

/// It has nothing and knows nobody but us, and we have nothing at first but know somebody who has: it gets what we get.
async fn gets(start: Start) {
    join!(get(start, Made::file(&[])), get(start, Made::folder(&[])));
}

async fn get(start: Start, made: Made) {
    let (to, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seed = Libtorrent::seed(made.torrent.path(), made.from.path());
    let peer = start(made.torrent.path(), there.path());
    assert!(!peer.is_complete());
    let handle = share(with_peer(with_peer(config(), &seed), &*peer), &made.torrent, to.path()).await;
    goes_on_until_it_is_there(handle, peer, there.path(), &made.files).await;
}

/// Downloads a torrent, and gives it to others from then on.
async fn share(config: BitTorrentConfig, torrent: &Torrent, to: &Path) -> Handle {
    let bytes = std::fs::read(torrent.path()).unwrap();
    let client = client(config.with_seed(SeedGoal::FOREVER));
    let handle = client.download_container("file:///made.torrent", bytes).to_dir(to).start();
    let mut events = handle.events();
    while events.next().await.expect("it has ended") != Event::State(State::Sharing) {}
    handle
}

/// Goes on until a peer has everything, from nobody but us.
async fn goes_on_until_it_is_there(handle: Handle, peer: Box<dyn Peer>, there: &Path, files: &[(String, Content)]) {
    let waited = tokio::task::spawn_blocking(move || {
        wait_for("the peer to have it all", || peer.is_complete().then_some(()));
        peer
    });
    // What it holds back until its end is there then.
    drop(waited.await.unwrap());
    // Transmission makes no empty files.
    let files: Vec<_> = files.iter().filter(|(_, content)| content.len > 0).cloned().collect();
    check_folder(there, &files);
    handle.stop();
    let uploaded = handle.wait().await.unwrap().uploaded;
    let all: u64 = files.iter().map(|(_, content)| content.len).sum();
    assert!(uploaded >= all, "{uploaded} of {all}");
}

fn transmission(torrent: &Path, folder: &Path) -> Box<dyn Peer> {
    Box::new(Transmission::start(torrent, folder))
}

fn aria2(torrent: &Path, folder: &Path) -> Box<dyn Peer> {
    Box::new(Aria2::start(torrent, folder))
}

fn rqbit(torrent: &Path, folder: &Path) -> Box<dyn Peer> {
    Box::new(Rqbit::start(torrent, folder))
}

fn newest_libtorrent(torrent: &Path, folder: &Path) -> Box<dyn Peer> {
    Box::new(Libtorrent::start_newest(json!({"torrent": torrent, "save": folder})))
}

#[tokio::test]
async fn transmission_gives() {
    gives(transmission).await;
}

#[tokio::test]
async fn transmission_gets() {
    gets(transmission).await;
}

#[tokio::test]
async fn aria2_gives() {
    gives(aria2).await;
}

#[tokio::test]
async fn aria2_gets() {
    gets(aria2).await;
}

#[tokio::test]
async fn rqbit_gives() {
    gives(rqbit).await;
}

#[tokio::test]
async fn rqbit_gets() {
    gets(rqbit).await;
}

#[tokio::test]
async fn the_newest_libtorrent_gives() {
    gives(newest_libtorrent).await;
}

#[tokio::test]
async fn the_newest_libtorrent_gets() {
    gets(newest_libtorrent).await;
}

/// Over HTTP and over UDP, with a torrent and with a magnet link that says nothing but where to ask.
#[tokio::test]
async fn a_tracker_of_npm_tells_us_of_peers() {
    let tracker = NpmTracker::start();
    for url in [tracker.http(), tracker.udp()] {
        let (to, by_link) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = Made::folder(std::slice::from_ref(&url));
        let _seed = Libtorrent::seed(made.torrent.path(), made.from.path());
        fetch(config(), &made.torrent, to.path()).await.unwrap();
        check_folder(to.path(), &made.files);
        let magnet = format!("magnet:?xt=urn:btih:{}&tr={url}", made.torrent.info_hash());
        client(config()).download(&magnet).to_dir(by_link.path()).await.unwrap();
        check_folder(by_link.path(), &made.files);
    }
}

/// aria2 asks over HTTP only, libtorrent over both. Neither is told of anybody, and nobody but us has anything.
#[tokio::test]
async fn a_tracker_of_npm_tells_others_of_us() {
    let tracker = NpmTracker::start();
    for (url, start) in [(tracker.http(), aria2 as Start), (tracker.udp(), newest_libtorrent)] {
        let (to, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = Made::folder(&[url]);
        // It knows of no tracker, so that nobody learns of it there.
        let untracked = Made::folder(&[]);
        let seed = Libtorrent::seed(untracked.torrent.path(), untracked.from.path());
        let handle = share(with_peer(config(), &seed), &made.torrent, to.path()).await;
        drop(seed);
        let peer = start(made.torrent.path(), there.path());
        goes_on_until_it_is_there(handle, peer, there.path(), &made.files).await;
    }
}
