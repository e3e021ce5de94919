//! Downloads from real peers, and to them.

mod common;

use std::path::Path;

use common::{MIB, check_folder, client, config, fetch, folder, with_peer};
use dlm_api::{Client, ErrorKind, Event, State, Verification};
use dlm_bittorrent::{BitTorrent, SeedGoal};
use dlm_testing::{Content, Libtorrent, Nginx, Opentracker, Torrent, wait_for};
use futures::StreamExt;

#[tokio::test]
async fn a_file_comes_from_libtorrent() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(1, 40 * MIB + 12_345);
    content.write_file(from.path().join("file.bin")).unwrap();
    for piece in [16 << 10, 256 << 10, 4 << 20] {
        let torrent = Torrent::builder().piece(piece).make(&from.path().join("file.bin"));
        let seed = Libtorrent::seed(torrent.path(), from.path());
        let to = to.path().join(piece.to_string());
        let report = fetch(with_peer(config(), &seed), &torrent, &to).await.unwrap();
        content.check_file(to.join("file.bin")).unwrap();
        assert_eq!(report.entries[0].verification, Verification::Pieces);
        assert!(report.wasted < MIB, "{}", report.wasted);
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_folder_comes_from_libtorrent() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = folder(from.path());
    let torrent = Torrent::builder().piece(64 << 10).make(&from.path().join("content"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let report = fetch(with_peer(config(), &seed), &torrent, to.path()).await.unwrap();
    check_folder(to.path(), &files);
    assert_eq!(report.entries.len(), files.len());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
}

/// The padding of a hybrid torrent is not among what is downloaded.
#[tokio::test]
async fn a_hybrid_torrent_comes_by_its_first_half() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = folder(from.path());
    let torrent = Torrent::builder().piece(64 << 10).kind("hybrid").make(&from.path().join("content"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let report = fetch(with_peer(config(), &seed), &torrent, to.path()).await.unwrap();
    check_folder(to.path(), &files);
    assert_eq!(report.entries.len(), files.len());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn trackers_tell_of_peers() {
    let from = tempfile::tempdir().unwrap();
    let content = Content::new(2, 3 * MIB);
    content.write_file(from.path().join("file.bin")).unwrap();
    let hash = Torrent::builder().make(&from.path().join("file.bin")).info_hash().to_owned();
    let tracker = Opentracker::start([&hash]);
    for url in [tracker.http(), tracker.udp()] {
        let to = tempfile::tempdir().unwrap();
        let torrent = Torrent::builder().tier([url]).make(&from.path().join("file.bin"));
        let _seed = Libtorrent::seed(torrent.path(), from.path());
        fetch(config(), &torrent, to.path()).await.unwrap();
        content.check_file(to.path().join("file.bin")).unwrap();
    }
}

#[tokio::test]
async fn a_magnet_link_needs_no_torrent_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = folder(from.path());
    // The metadata is more than one piece of it.
    let torrent = Torrent::builder().piece(16 << 10).make(&from.path().join("content"));
    let tracker = Opentracker::start([torrent.info_hash()]);
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let magnet = format!("magnet:?xt=urn:btih:{}&x.pe={}&tr={}", torrent.info_hash(), seed.address(), tracker.udp());
    let entries = client(config()).download(&magnet).inspect().await.unwrap();
    assert_eq!(entries.len(), files.len());
    client(config()).download(&magnet).to_dir(to.path()).await.unwrap();
    check_folder(to.path(), &files);
}

/// The files in a folder, and in those below it.
fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] });
    names.collect()
}

/// Interrupted in the middle, the files that it doesn't name are as little wanted afterwards as before.
#[tokio::test]
async fn a_magnet_link_can_name_files() {
    let from = tempfile::tempdir().unwrap();
    let files = folder(from.path());
    // Pieces that wanted files share with others.
    let torrent = Torrent::builder().piece(1 << 20).make(&from.path().join("content"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let plain = format!("magnet:?xt=urn:btih:{}&x.pe={}", torrent.info_hash(), seed.address());
    let entries = client(config()).download(&plain).inspect().await.unwrap();
    let at = |name: &str| entries.iter().position(|entry| entry.path.file_name() == name).unwrap();
    let wanted = ["file 5.bin", "file 10.bin"];
    let magnet = format!("{plain}&so={},{},1000-2000", at(wanted[0]), at(wanted[1]));
    let there = |to: &Path| {
        let there =
            files.iter().filter(|(name, _)| to.join(name).exists()).map(|(name, _)| name.rsplit_once('/').unwrap().1);
        there.map(str::to_owned).collect::<Vec<_>>()
    };

    for is_stopped in [true, false] {
        let to = tempfile::tempdir().unwrap();
        let handle = client(config()).download(&magnet).rate_limit(MIB).to_dir(to.path()).start();
        let mut events = handle.events();
        while handle.progress().received < 2 * MIB {
            events.next().await.expect("it has ended");
        }
        if is_stopped {
            handle.stop();
            handle.wait().await.unwrap_err();
        }
        // Otherwise it ends like one that is killed: only the log knows how far it was.
        drop(handle);
        let report = loop {
            match client(config()).download(&magnet).to_dir(to.path()).await {
                // What was dropped has not ended yet.
                Err(error) if error.kind() == ErrorKind::Exists => {}
                report => break report.unwrap(),
            }
        };
        assert!(report.resumed > 0);
        assert_eq!(there(to.path()), wanted);
        for (name, content) in files.iter().filter(|(name, _)| wanted.iter().any(|wanted| name.ends_with(wanted))) {
            content.check_file(to.path().join(name)).unwrap();
        }
        let mut left: Vec<_> = walk(to.path());
        left.retain(|name| !wanted.iter().any(|wanted| name.ends_with(wanted)));
        assert_eq!(left, [""; 0], "nothing else is left");
    }

    // What the caller says himself counts more.
    let to = tempfile::tempdir().unwrap();
    client(config()).download(&magnet).select(|path| path.file_name() == "file 3.bin").to_dir(to.path()).await.unwrap();
    assert_eq!(there(to.path()), ["file 3.bin"]);

    let to = tempfile::tempdir().unwrap();
    let error = client(config()).download(format!("{plain}&so=1000")).to_dir(to.path()).await.unwrap_err();
    assert!(error.chain().contains("selects none of the torrent's files"), "{}", error.chain());
}

/// Whoever is in the way knows our address, and only the tracker tells it.
#[tokio::test]
async fn libtorrent_gets_it_all_from_us() {
    let (from, to, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = folder(from.path());
    let content = from.path().join("content");
    let hash = Torrent::builder().piece(64 << 10).make(&content).info_hash().to_owned();
    let tracker = Opentracker::start([&hash]);
    let torrent = Torrent::builder().piece(64 << 10).tier([tracker.http()]).make(&content);
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let client = client(with_peer(config(), &seed).with_seed(SeedGoal::FOREVER));
    let bytes = std::fs::read(torrent.path()).unwrap();
    let handle = client.download_container("file:///made.torrent", bytes).to_dir(to.path()).start();
    let mut events = handle.events();
    while events.next().await.expect("it has ended") != Event::State(State::Sharing) {}
    check_folder(to.path(), &files);
    drop(seed);
    let leech = Libtorrent::leech(torrent.path(), there.path());
    let leech = tokio::task::spawn_blocking(move || {
        wait_for("libtorrent to have it all", || leech.status().seeding.then_some(()));
        leech
    });
    drop(leech.await.unwrap());
    check_folder(there.path(), &files);
    handle.stop();
    let report = handle.wait().await.unwrap();
    let all: u64 = files.iter().map(|(_, content)| content.bytes().len() as u64).sum();
    assert!(report.uploaded >= all, "{} of {all}", report.uploaded);
}

/// It goes on where it was, and what is there is not fetched again.
#[tokio::test]
async fn a_download_that_was_stopped_goes_on() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = folder(from.path());
    let all: u64 = files.iter().map(|(_, content)| content.bytes().len() as u64).sum();
    let torrent = Torrent::builder().piece(32 << 10).make(&from.path().join("content"));
    let bytes = std::fs::read(torrent.path()).unwrap();
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let download = |client: &Client| client.download_container("file:///made.torrent", bytes.clone());
    let first = client(with_peer(config(), &seed));
    let handle = download(&first).rate_limit(2 * MIB).to_dir(to.path()).start();
    let mut events = handle.events();
    while handle.progress().received < all / 2 {
        events.next().await.expect("it has ended");
    }
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    let report = download(&client(with_peer(config(), &seed))).to_dir(to.path()).await.unwrap();
    check_folder(to.path(), &files);
    assert!(report.resumed >= all / 2, "{} of {all}", report.resumed);
    assert!(report.transferred <= all - report.resumed + MIB, "{} of {all}", report.transferred);
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
}

/// What the torrent names beside its swarm: here the swarm is empty, there the server has not all that it should.
#[tokio::test]
async fn a_web_seed_serves_alone_and_beside_a_swarm() {
    let nginx = Nginx::start();
    let content = Content::new(4, 12 * MIB + 5);
    nginx.put("file.bin", &content);
    let from = tempfile::tempdir().unwrap();
    content.write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().web_seed(nginx.url("file.bin")).make(&from.path().join("file.bin"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    for config in [config(), with_peer(config(), &seed)] {
        let to = tempfile::tempdir().unwrap();
        let client = Client::builder()
            .threads(2)
            .protocol(dlm_http::Http::new().unwrap())
            .protocol(BitTorrent::with_config(config).unwrap())
            .build();
        let bytes = std::fs::read(torrent.path()).unwrap();
        let report = client.download_container("file:///made.torrent", bytes).to_dir(to.path()).await.unwrap();
        content.check_file(to.path().join("file.bin")).unwrap();
        assert_eq!(report.entries[0].verification, Verification::Pieces);
    }
}

/// A folder whose files the pieces cross, on a server: named by the torrent, or by the user; alone, beside a peer, and with some
/// of its files selected.
#[tokio::test]
async fn a_folder_comes_from_a_server() {
    let from = tempfile::tempdir().unwrap();
    let files = folder(from.path());
    let nginx = Nginx::builder().root(from.path()).start();
    let named = Torrent::builder().piece(64 << 10).web_seed(nginx.url("")).make(&from.path().join("content"));
    let plain = Torrent::builder().piece(64 << 10).make(&from.path().join("content"));
    let peer = Libtorrent::seed(plain.path(), from.path());
    for (torrent, mirror, has_peer) in [
        (&named, None, false),
        (&named, None, true),
        (&plain, Some(nginx.url("")), false),
        (&plain, Some(nginx.url("")), true),
    ] {
        let to = tempfile::tempdir().unwrap();
        let config = if has_peer { with_peer(config(), &peer) } else { config() };
        let client = Client::builder().threads(2).protocol(dlm_http::Http::new().unwrap());
        let client = client.protocol(BitTorrent::with_config(config).unwrap()).build();
        let bytes = std::fs::read(torrent.path()).unwrap();
        let mut download = client.download_container("file:///made.torrent", bytes);
        download = mirror.iter().fold(download, |download, url| download.mirror(url));
        let report = download.to_dir(to.path()).await.unwrap();
        check_folder(to.path(), &files);
        let has_bytes = report.entries.iter().filter(|entry| entry.len > 0);
        assert!(has_bytes.clone().all(|entry| entry.verification == Verification::Pieces), "{report:?}");
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
    }
    let to = tempfile::tempdir().unwrap();
    let client = Client::builder().threads(2).protocol(dlm_http::Http::new().unwrap());
    let client = client.protocol(BitTorrent::with_config(config()).unwrap()).build();
    let download = client.download_container("file:///made.torrent", std::fs::read(named.path()).unwrap());
    let wanted = |name: &str| name.ends_with("file 3.bin") || name.ends_with("file 7.bin");
    download.select(move |path| wanted(path.as_str())).to_dir(to.path()).await.unwrap();
    for (name, content) in files {
        if wanted(&name) {
            content.check_file(to.path().join(name)).unwrap();
        } else {
            assert!(!to.path().join(name).exists());
        }
    }
}

/// One of two seeds has other bytes on its disk than it believes.
#[tokio::test]
async fn a_seed_that_lies_spoils_nothing() {
    let (good, bad, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(5, 8 * MIB);
    content.write_file(good.path().join("file.bin")).unwrap();
    let mut spoilt = content.bytes();
    spoilt.iter_mut().step_by(100_000).for_each(|byte| *byte ^= 1);
    std::fs::write(bad.path().join("file.bin"), spoilt).unwrap();
    let torrent = Torrent::builder().make(&good.path().join("file.bin"));
    let (honest, liar) = (Libtorrent::seed(torrent.path(), good.path()), Libtorrent::seed(torrent.path(), bad.path()));
    fetch(with_peer(with_peer(config(), &liar), &honest), &torrent, to.path()).await.unwrap();
    content.check_file(to.path().join("file.bin")).unwrap();
}
