//! The same for torrents: kills, thousands of files, offsets past four gigabytes, millions of pieces.

use std::fs;

use dlm_testing::{Content, Dlm, Libtorrent, Proxy, Sparse, Torrent, wait_for};
use fastrand::Rng;
use serde_json::{Value, json};

use super::{MIB, assert_code, dlm, folder, names};

/// kill -9, again and again, at random moments.
#[test]
fn kills_cost_a_torrent_less_than_a_tenth() {
    /// It comes evenly, so that no moment is like the others.
    const RATE: u64 = 8 * MIB;
    /// A moment is about a second after the one before.
    const MOST: u64 = 2 * RATE;
    const KILLS: usize = 20;

    let (from, to) = (folder(), folder());
    let content = Content::new(8, RATE * (KILLS as u64 + 2));
    content.write_file(from.path().join("f.bin")).unwrap();
    let torrent = Torrent::builder().piece(128 << 10).make(&from.path().join("f.bin"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let proxy = Proxy::paced(seed.address(), RATE as u32);
    let peer = proxy.addr().to_string();
    let args = ["--json", "--listen", "127.0.0.1:0", "--peer", &peer, torrent.path().to_str().unwrap()];

    let mut random = Rng::with_seed(2);
    for _ in 0..KILLS {
        let goal = proxy.delivered() + random.u64(1..MOST);
        let mut process = dlm(to.path(), &args).start();
        wait_for("some progress", || (proxy.delivered() >= goal).then_some(()));
        process.kill();
        assert_eq!(process.wait().code, None, "it must be killed before its end");
        assert!(!to.path().join("f.bin").exists());
    }
    let done = dlm(to.path(), &args).run();
    assert_code(&done, 0);
    assert_eq!(content.check_file(to.path().join("f.bin")), Ok(()));
    assert_eq!(names(to.path()), ["f.bin"]);
    let cost = proxy.delivered() as f64 / content.len as f64;
    println!("{cost:.3} times the content");
    assert!(cost < 1.1, "{cost} times the content");
}

/// As many as may be open at a time on most systems, and six times as many files.
#[test]
fn six_thousand_files_come_under_the_usual_limit_of_descriptors() {
    const FILES: u64 = 6_000;
    const FOLDERS: u64 = 50;
    let file = |i| (format!("many/{}/{i}", i % FOLDERS), Content::new(i, 1_000 + i % 7 * 300));

    let (from, to) = (folder(), folder());
    for folder in 0..FOLDERS {
        fs::create_dir_all(from.path().join(format!("many/{folder}"))).unwrap();
    }
    for (name, content) in (0..FILES).map(file) {
        content.write_file(from.path().join(name)).unwrap();
    }
    let torrent = Torrent::builder().piece(32 << 10).make(&from.path().join("many"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let done = Dlm::new("/bin/sh")
        .args(["-c", "ulimit -n 1024 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_dlm"), "get"])
        .args(["--listen", "127.0.0.1:0", "--peer", &seed.address().to_string()])
        .arg(torrent.path())
        .dir(to.path())
        .run();
    assert_code(&done, 0);
    for (name, content) in (0..FILES).map(file) {
        assert_eq!(content.check_file(to.path().join(name)), Ok(()));
    }
    assert_eq!(names(to.path()), ["many"]);
}

/// In a file of five gigabytes, of which some pieces can be had: they come, are found again by the next run, and are given to
/// others, on all sides of where 32 bits end.
#[test]
fn offsets_past_four_gigabytes_are_right() {
    const PIECE: u32 = 1 << 20;
    const PIECES: [u32; 11] = [0, 1, 2047, 2048, 4094, 4095, 4096, 4097, 5000, 5118, 5119];
    let file = Sparse::new(5 << 10, PIECE, PIECES);
    let (from, to, there) = (folder(), folder(), folder());
    file.write_file(from.path().join("f.bin")).unwrap();
    let torrent = from.path().join("f.torrent");
    file.write_torrent(&torrent, "f.bin").unwrap();
    let some = Libtorrent::start(json!({"torrent": torrent, "save": from.path(), "have": PIECES}));
    let leech = Libtorrent::leech(&torrent, there.path());
    let get = |peer: &Libtorrent| {
        let peer = peer.address().to_string();
        dlm(to.path(), &["--json", "--listen", "127.0.0.1:0", "--peer", &peer, torrent.to_str().unwrap()])
    };

    let (process, mut events) = get(&some).watch();
    let is_enough = |event: &Value| {
        let transferred = event["transferred"].as_u64();
        event["verified"] == file.content_len() || transferred.is_some_and(|bytes| bytes > 2 * file.content_len())
    };
    let last = events.by_ref().find(is_enough).expect("it ended before it had what there is");
    assert_eq!(last["verified"], file.content_len(), "{last}");
    process.interrupt();
    assert_code(&process.wait(), 130);
    assert_eq!(file.check_file(to.path().join("f.bin.part")), Ok(()));

    let (process, mut events) = get(&leech).watch();
    let resumed = events.find(|event| event["event"] == "resumed").expect("it found nothing");
    assert_eq!(resumed["bytes"], file.content_len());
    wait_for("the other peer to have the same", || (leech.status().pieces == PIECES.len() as u32).then_some(()));
    drop((process, leech));
    assert_eq!(file.check_file(there.path().join("f.bin")), Ok(()));
}

/// As many pieces as a torrent can have, of which all can be had.
#[test]
fn two_million_pieces_take_little_memory() {
    const PIECES: u32 = 2 << 20;
    const MOST: u64 = 200 * MIB;
    // Shorter than usual, as there must be room for all of them.
    let file = Sparse::new(PIECES, 1 << 10, []);
    let (from, to) = (folder(), folder());
    file.write_file(from.path().join("f.bin")).unwrap();
    let torrent = from.path().join("f.torrent");
    file.write_torrent(&torrent, "f.bin").unwrap();
    let seed = Libtorrent::seed(&torrent, from.path());
    let peer = seed.address().to_string();
    let args = ["--json", "--listen", "127.0.0.1:0", "--peer", &peer, torrent.to_str().unwrap()];
    let (process, mut events) = dlm(to.path(), &args).watch();
    let first = events.find(|event| event["verified"].as_u64().is_some_and(|verified| verified > 0));
    assert!(first.is_some(), "it ended before anything came");
    drop(events);
    process.interrupt();
    let done = process.wait();
    assert_code(&done, 130);
    println!("{} MiB, and the first pieces after {}", done.peak_memory / MIB, first.unwrap());
    assert!(done.peak_memory < MOST, "{} MiB", done.peak_memory / MIB);
}
