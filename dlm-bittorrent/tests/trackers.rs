//! Trackers: which are asked, what they are told, and what the user is told of them.

#[allow(dead_code)] // Not all of it is used here.
mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{MIB, client, config, fetch, folder};
use dlm_api::{ErrorKind, Event, Handle};
use dlm_bittorrent::{BitTorrentConfig, SeedGoal};
use dlm_testing::{Content, Libtorrent, Nginx, Opentracker, Torrent, free_address};
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

/// nginx in a tracker's place, which knows one peer.
fn tracker_of(nginx: &Nginx, seed: &Libtorrent) {
    let port = seed.address().port().to_be_bytes();
    let numbers = b"d8:completei1e10:incompletei0e8:intervali1800e5:peers6:\x7f\0\0\x01";
    std::fs::write(nginx.root().join("announce"), [&numbers[..], &port, b"e"].concat()).unwrap();
}

/// The events that the tracker was told of, with what was missing.
fn told(nginx: &Nginx) -> Vec<(String, u64)> {
    let value = |uri: &str, key: &str| {
        let pair = uri.split(['?', '&']).find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        pair.unwrap_or_default().to_owned()
    };
    let requests = nginx.requests().into_iter().map(|request| request.uri);
    requests.map(|uri| (value(&uri, "event"), value(&uri, "left").parse().unwrap())).collect()
}

fn said(event: &str, left: u64) -> (String, u64) {
    (event.to_owned(), left)
}

#[tokio::test]
async fn trackers_hear_of_the_end_and_of_what_is_left() {
    let (from, to, nginx) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Nginx::start());
    let len = 3 * MIB + 12_345;
    Content::new(13, len).write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().tier([nginx.url("announce")]).make(&from.path().join("file.bin"));
    // It has no tracker: it would announce itself.
    let seed = Libtorrent::seed(Torrent::builder().make(&from.path().join("file.bin")).path(), from.path());
    tracker_of(&nginx, &seed);
    fetch(config(), &torrent, to.path()).await.unwrap();
    nginx.wait_for_requests(3);
    assert_eq!(told(&nginx), [said("started", len), said("completed", 0), said("stopped", 0)]);
}

/// Others would take us for a seed, and private trackers count how often something was downloaded.
#[tokio::test]
async fn who_wants_a_part_is_no_seed() {
    let (from, to, nginx) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Nginx::start());
    let files = folder(from.path());
    let torrent = Torrent::builder().piece(16 << 10).tier([nginx.url("announce")]).make(&from.path().join("content"));
    let trackerless = Torrent::builder().piece(16 << 10).make(&from.path().join("content"));
    let seed = Libtorrent::seed(trackerless.path(), from.path());
    tracker_of(&nginx, &seed);
    let bytes = std::fs::read(torrent.path()).unwrap();
    let download = client(config()).download_container("file:///made.torrent", bytes);
    download.select(|path| path.file_name() == "file 5.bin").to_dir(to.path()).await.unwrap();
    let total: u64 = files.iter().map(|(_, content)| content.len).sum();
    nginx.wait_for_requests(2);
    let all = told(&nginx);
    let [(started, left), (stopped, left_at_end)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((started.as_str(), *left, stopped.as_str()), ("started", total, "stopped"));
    // Pieces are whole, and file 5 has 300,000 bytes.
    assert!((total - 400_000..total - 300_000).contains(left_at_end), "{all:?}");
}

/// However it ends: what is stopped, or was only looked at, is not left behind as a peer that nobody can connect to.
#[tokio::test]
async fn trackers_hear_that_we_leave() {
    let (from, to, nginx) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Nginx::start());
    let content = Content::new(14, 4 * MIB);
    content.write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().make(&from.path().join("file.bin"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    tracker_of(&nginx, &seed);
    let magnet = format!("magnet:?xt=urn:btih:{}&tr={}", torrent.info_hash(), nginx.url("announce"));
    client(config()).download(&magnet).inspect().await.unwrap();
    let events = |count| {
        nginx.wait_for_requests(count);
        told(&nginx).into_iter().map(|(event, _)| event).collect::<Vec<_>>()
    };
    assert_eq!(events(2), ["started", "stopped"]);

    // In the middle, and while it is given to others.
    for (rate, goal, expected) in [
        (Some(MIB), SeedGoal::OFF, &["started", "stopped"][..]),
        (None, SeedGoal::FOREVER, &["started", "completed", "stopped"]),
    ] {
        let before = nginx.requests().len();
        let mut download = client(config().with_seed(goal)).download(&magnet);
        if let Some(rate) = rate {
            download = download.rate_limit(rate);
        }
        let handle = download.to_dir(to.path().join(expected.len().to_string())).start();
        let mut changes = handle.events();
        if goal == SeedGoal::FOREVER {
            nginx.wait_for_requests(before + 2);
        } else {
            while handle.progress().received < MIB {
                changes.next().await.expect("it has ended");
            }
        }
        handle.stop();
        let _ = handle.wait().await;
        assert_eq!(events(before + expected.len())[before..], *expected);
    }
}

/// Whoever asks about a private torrent elsewhere is thrown out there. Of a magnet link it is known only later that it is one.
#[tokio::test]
async fn a_private_torrent_is_not_told_of_elsewhere() {
    let (from, to, nginx, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Nginx::start(), Nginx::start());
    Content::new(15, MIB).write_file(from.path().join("file.bin")).unwrap();
    let file = from.path().join("file.bin");
    let torrent = Torrent::builder().private().tier([nginx.url("announce")]).make(&file);
    let seed = Libtorrent::seed(Torrent::builder().private().make(&file).path(), from.path());
    tracker_of(&nginx, &seed);
    tracker_of(&other, &seed);
    let config = || config().with_tracker(other.url("announce"));
    // libtorrent gives nobody the metadata of a private torrent: the second one is one of us.
    let address = free_address();
    let first = client(config().with_listen(Some(address)).with_seed(SeedGoal::FOREVER));
    let bytes = std::fs::read(torrent.path()).unwrap();
    let handle = first.download_container("file:///made.torrent", bytes).to_dir(to.path().join("1")).start();
    nginx.wait_for_requests(2);
    assert_eq!(told(&other), []);
    let magnet = format!("magnet:?xt=urn:btih:{}&tr={}", torrent.info_hash(), nginx.url("announce"));
    let named = config().with_peer(address.to_string().parse().unwrap());
    timeout(SOON, client(named).download(&magnet).to_dir(to.path().join("2"))).await.expect("it waits").unwrap();
    nginx.wait_for_requests(5);
    assert_eq!(told(&nginx)[2..].last().unwrap(), &said("stopped", 0));
    handle.stop();
    let events: Vec<_> = told(&other).into_iter().map(|(event, _)| event).collect();
    assert!(!events.contains(&"completed".to_owned()), "{events:?}");
}
