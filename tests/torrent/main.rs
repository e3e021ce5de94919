//! Torrents on the command line, with real peers of libtorrent: what is fetched and refused, and in `made` what is made, shown
//! and verified.

#![cfg(all(feature = "http", feature = "bittorrent"))]

#[path = "../common/mod.rs"]
mod common;
mod made;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use common::{assert_code, dlm, folder, names};
use dlm_testing::{Content, Dlm, Finished, Libtorrent, Location, Nginx, Opentracker, Torrent, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const CONTENT: Content = Content::new(1, 5 * MIB + 7);

/// A torrent, and a peer that has everything.
struct Swarm {
    _from: TempDir,
    content: PathBuf,
    torrent: Torrent,
    seed: Libtorrent,
}

impl Swarm {
    fn new(from: TempDir, name: &str) -> Self {
        let content = from.path().join(name);
        let torrent = Torrent::builder().piece(64 << 10).make(&content);
        let seed = Libtorrent::seed(torrent.path(), from.path());
        Self { _from: from, content, torrent, seed }
    }

    fn file() -> Self {
        let from = folder();
        CONTENT.write_file(from.path().join("file.bin")).unwrap();
        Self::new(from, "file.bin")
    }

    fn folder() -> Self {
        let from = folder();
        files(&from.path().join("album"));
        Self::new(from, "album")
    }

    fn path(&self) -> &str {
        self.torrent.path().to_str().unwrap()
    }

    fn peer(&self) -> String {
        self.seed.address().to_string()
    }

    /// Downloads what `what` leads to from the peer.
    fn get(&self, dir: &Path, what: &str, args: &[&str]) -> Finished {
        self.dlm(dir, what, args).run()
    }

    fn dlm(&self, dir: &Path, what: &str, args: &[&str]) -> Dlm {
        dlm(dir, &[&["--listen", "127.0.0.1:0", "--peer", &self.peer(), what], args].concat())
    }
}

const FILES: [(&str, Content); 4] = [
    ("a.flac", Content::new(2, MIB)),
    ("b.flac", Content::new(3, 100_001)),
    ("covers/front.jpg", Content::new(4, 300_000)),
    ("readme", Content::new(5, 7)),
];

/// A folder of files.
fn files(folder: &Path) {
    for (name, content) in FILES {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        content.write_file(path).unwrap();
    }
}

fn torrent(dir: &Path, args: &[&str]) -> Finished {
    Dlm::new(env!("CARGO_BIN_EXE_dlm")).arg("torrent").args(args).dir(dir).run()
}

/// What `show` tells of a torrent.
fn show(dir: &Path, torrent_file: &str) -> Value {
    let done = torrent(dir, &["show", "--json", torrent_file]);
    assert_code(&done, 0);
    done.json().remove(0)
}

#[test]
fn a_torrent_file_is_followed_wherever_it_is_from() {
    let swarm = Swarm::file();
    let nginx = Nginx::builder().location(Location::new("/typed/").directive("default_type application/x-bittorrent"));
    let nginx = nginx.start();
    fs::copy(swarm.torrent.path(), nginx.root().join("named.torrent")).unwrap();
    fs::copy(swarm.torrent.path(), nginx.root().join("typed")).unwrap();
    for what in [swarm.path(), &nginx.url("named.torrent"), &nginx.url("typed/typed")] {
        let dir = folder();
        let done = swarm.get(dir.path(), what, &[]);
        assert_code(&done, 0);
        assert!(done.stderr.contains("file.bin: 5.00 MiB in "), "{}", done.stderr);
        assert!(done.stderr.contains("every piece matches its digest"), "{}", done.stderr);
        assert_eq!(names(dir.path()), ["file.bin"], "{what}");
        assert_eq!(CONTENT.check_file(dir.path().join("file.bin")), Ok(()));
    }
}

/// One peer knows only what the torrent is, and the other one comes once that is known, to the address that is listened at.
#[test]
fn a_magnet_link_is_followed() {
    let (swarm, dir, nothing) = (Swarm::file(), folder(), folder());
    let knows = Libtorrent::leech(swarm.torrent.path(), nothing.path());
    let magnet = format!("magnet:?xt=urn:btih:{}&dn=called+so", swarm.torrent.info_hash());
    let listen = free_address();
    let args = ["--json", "--listen", &listen.to_string(), "--peer", &knows.address().to_string(), &magnet];
    let (process, mut events) = dlm(dir.path(), &args).watch();
    assert!(events.any(|event| event["total"] == CONTENT.len), "it did not find out what it is");
    swarm.seed.connect(listen);
    assert_eq!(events.last().unwrap()["exit_code"], 0);
    assert_code(&process.wait(), 0);
    assert_eq!(names(dir.path()), ["file.bin"]);
    assert_eq!(CONTENT.check_file(dir.path().join("file.bin")), Ok(()));
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_torrent_file_can_have_any_name_or_come_from_standard_input() {
    let (swarm, dir) = (Swarm::file(), folder());
    let bytes = fs::read(swarm.path()).unwrap();
    fs::write(dir.path().join("blob"), &bytes).unwrap();
    for (name, input) in [("blob", Vec::new()), ("-", bytes)] {
        let to = folder();
        let to_dir = to.path().to_str().unwrap();
        let done = swarm.dlm(dir.path(), "--torrent", &[name, "-d", to_dir]).input(input).run();
        assert_code(&done, 0);
        assert_eq!(CONTENT.check_file(to.path().join("file.bin")), Ok(()));
    }
}

#[test]
fn a_container_can_be_kept_as_it_is() {
    let (swarm, nginx, dir) = (Swarm::file(), Nginx::start(), folder());
    fs::copy(swarm.path(), nginx.root().join("x.torrent")).unwrap();
    assert_code(&dlm(dir.path(), &["--no-follow", &nginx.url("x.torrent")]).run(), 0);
    assert_eq!(names(dir.path()), ["x.torrent"]);
    assert_eq!(fs::read(dir.path().join("x.torrent")).unwrap(), fs::read(swarm.path()).unwrap());
}

#[test]
fn a_mirror_and_a_swarm_serve_one_file() {
    let (swarm, nginx, dir) = (Swarm::file(), Nginx::start(), folder());
    let mirror = nginx.put("other-name", &CONTENT);
    let done = swarm.get(dir.path(), swarm.path(), &["-m", &mirror, "--json", "-o", "mine"]);
    assert_code(&done, 0);
    assert_eq!(names(dir.path()), ["mine"]);
    assert_eq!(CONTENT.check_file(dir.path().join("mine")), Ok(()));
}

#[test]
fn output_names_the_only_file_and_nothing_else() {
    let (one, many, dir) = (Swarm::file(), Swarm::folder(), folder());
    assert_code(&one.get(dir.path(), one.path(), &["-o", "mine.bin"]), 0);
    assert_eq!(names(dir.path()), ["mine.bin"]);
    assert_eq!(CONTENT.check_file(dir.path().join("mine.bin")), Ok(()));

    let magnet = format!("magnet:?xt=urn:btih:{}", many.torrent.info_hash());
    for (what, output) in [(many.path(), "mine"), (many.path(), "-"), (&magnet, "mine")] {
        let done = many.get(dir.path(), what, &["-o", output]);
        assert_code(&done, 2);
        assert!(done.stderr.contains("there are 4 files, and --output is for one"), "{}", done.stderr);
        assert!(done.stdout.is_empty());
    }
    // Of this one nobody knows before the server has answered.
    let nginx = Nginx::builder().location(Location::new("/typed/").directive("default_type application/x-bittorrent"));
    let nginx = nginx.start();
    fs::copy(many.path(), nginx.root().join("typed")).unwrap();
    let done = many.get(dir.path(), &nginx.url("typed/typed"), &["-o", "mine"]);
    assert_code(&done, 1);
    assert!(done.stderr.contains("hint: if these are several files, name a folder with --dir"), "{}", done.stderr);
    assert_eq!(names(dir.path()), ["mine.bin"]);
}

/// Its pieces have bytes of its neighbours, for which there is no place beside it.
#[test]
fn output_is_for_a_download_of_one_file_even_if_one_is_selected() {
    let (swarm, dir) = (Swarm::folder(), folder());
    let done = swarm.get(dir.path(), swarm.path(), &["-o", "mine", "--select", "a.flac"]);
    assert_code(&done, 2);
    assert!(done.stderr.contains("the file is one of 4, and --output is for a download of one"), "{}", done.stderr);
    let done = swarm.get(dir.path(), swarm.path(), &["-o", "mine", "--select", "*.flac"]);
    assert_code(&done, 2);
    assert!(done.stderr.contains("there are 2 files, and --output is for one"), "{}", done.stderr);
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Whichever way it goes, and not only where its name was chosen.
#[test]
fn a_checksum_is_of_the_content_of_a_torrent_that_is_here_and_of_a_magnet_link() {
    let (one, many) = (Swarm::file(), Swarm::folder());
    let sha256 =
        |bytes: &[u8]| dlm_api::Digest::of(dlm_api::Algorithm::Sha256, bytes).to_string().replace("sha-", "sha");
    let (right, wrong) = (sha256(&fs::read(&one.content).unwrap()), sha256(b"other"));
    let magnet = format!("magnet:?xt=urn:btih:{}", one.torrent.info_hash());
    for what in [one.path(), &magnet] {
        for output in [&[][..], &["-o", "mine"], &["-o", "-"]] {
            let dir = folder();
            let done = one.get(dir.path(), what, &[&["--checksum", &wrong], output].concat());
            assert_code(&done, 3);
            assert_eq!(names(dir.path()), [""; 0], "{what} {output:?}");
            let done = one.get(dir.path(), what, &[&["--checksum", &right], output].concat());
            assert_code(&done, 0);
            assert!(done.stderr.contains("sha-256 matches"), "{what} {output:?}: {}", done.stderr);
        }
    }
    let magnet = format!("magnet:?xt=urn:btih:{}", many.torrent.info_hash());
    for what in [many.path(), &magnet] {
        let done = many.get(folder().path(), what, &["--checksum", &wrong]);
        assert_code(&done, 2);
        assert!(done.stderr.contains("there are 4 files, and --checksum is for one"), "{}", done.stderr);
    }
}

#[test]
fn only_what_is_selected_can_be_too_large() {
    let (swarm, dir) = (Swarm::folder(), folder());
    for (limit, code) in [("100k", 1), ("200k", 0)] {
        let done = swarm.get(dir.path(), swarm.path(), &["--max-size", limit, "--select", "b.flac"]);
        assert_code(&done, code);
    }
    assert_eq!(names(&dir.path().join("album")), ["b.flac"]);
    let done = swarm.get(folder().path(), swarm.path(), &["--max-size", "200k"]);
    assert_code(&done, 1);
    assert!(done.stderr.contains("hint: raise --max-size"), "{}", done.stderr);
}

#[test]
fn a_server_whose_torrent_is_none_is_told_apart_from_a_wrong_command_line() {
    let (nginx, dir) = (Nginx::start(), folder());
    fs::write(nginx.root().join("page.torrent"), "<html>gone</html>").unwrap();
    let done = dlm(dir.path(), &[&nginx.url("page.torrent")]).run();
    assert_code(&done, 1);
    assert!(done.stderr.contains("not a torrent"), "{}", done.stderr);
    assert!(done.stderr.contains("hint: see what it is: --no-follow"), "{}", done.stderr);
    assert_eq!(names(dir.path()), [""; 0]);
}

/// It is no mistake of the command line, wherever the torrent is from.
#[test]
fn a_torrent_of_version_2_only_is_not_supported_everywhere_alike() {
    let dir = folder();
    CONTENT.write_file(dir.path().join("file.bin")).unwrap();
    let made = Torrent::builder().kind("v2").make(&dir.path().join("file.bin"));
    let file = made.path().to_str().unwrap();
    fs::copy(file, dir.path().join("blob")).unwrap();
    for args in [
        &["get", file][..],
        &["get", "--torrent", "blob"],
        &["seed", ".", file],
        &["torrent", "show", file],
        &["torrent", "verify", file, "."],
    ] {
        let done = Dlm::new(env!("CARGO_BIN_EXE_dlm")).args(args).dir(dir.path()).run();
        assert_code(&done, 1);
        assert!(done.stderr.contains("version 2 only"), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn a_single_file_goes_to_standard_output() {
    let (swarm, dir) = (Swarm::file(), folder());
    let done = swarm.get(dir.path(), swarm.path(), &["-o", "-"]);
    assert_code(&done, 0);
    assert_eq!(CONTENT.check(&done.stdout[..]), Ok(()));
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Whatever its length, no more of it is held than what waits for its turn.
#[test]
fn standard_output_costs_little_memory() {
    const LONG: Content = Content::new(9, 160 * MIB + 1);
    let (from, dir) = (folder(), folder());
    LONG.write_file(from.path().join("file.bin")).unwrap();
    let swarm = Swarm::new(from, "file.bin");
    let done = swarm.get(dir.path(), swarm.path(), &["-o", "-"]);
    assert_code(&done, 0);
    assert_eq!(LONG.check(&done.stdout[..]), Ok(()));
    assert!(done.peak_memory < 110 << 20, "{} MiB", done.peak_memory >> 20);
}

#[test]
fn only_what_is_selected_is_fetched() {
    let (swarm, dir) = (Swarm::folder(), folder());
    assert_code(&swarm.get(dir.path(), swarm.path(), &["--select", "b.*", "--select", "album/covers/*"]), 0);
    let album = dir.path().join("album");
    assert_eq!((names(dir.path()), names(&album)), (vec!["album".into()], vec!["b.flac".into(), "covers".into()]));
    for (name, content) in &FILES[1..3] {
        assert_eq!(content.check_file(album.join(name)), Ok(()));
    }
}

#[test]
fn a_list_of_addresses_keeps_peers_away() {
    let (swarm, dir) = (Swarm::file(), folder());
    fs::write(dir.path().join("good.dat"), "127.000.000.002 - 127.000.000.255 , 000 , others\nwhat is this\n").unwrap();
    fs::write(dir.path().join("bad.p2p"), "<html>\n").unwrap();
    let done = swarm.get(dir.path(), swarm.path(), &["--ip-filter", "good.dat"]);
    assert_code(&done, 0);
    assert!(
        done.stderr.contains("warning: good.dat: line 2 is no range of addresses: it is skipped"),
        "{}",
        done.stderr
    );
    let done = swarm.get(dir.path(), swarm.path(), &["--ip-filter", "good.dat", "--ip-filter", "bad.p2p"]);
    assert_code(&done, 2);
    assert!(done.stderr.contains("bad.p2p: line 1: not a range of addresses"), "{}", done.stderr);
}

#[test]
fn a_swarm_is_as_large_as_its_trackers_say() {
    let from = folder();
    CONTENT.write_file(from.path().join("file.bin")).unwrap();
    let path = from.path().join("file.bin");
    let hash = Torrent::builder().make(&path).info_hash().to_owned();
    let tracker = Opentracker::start([&hash]);
    let dead = format!("http://{}/announce", free_address());
    let made = Torrent::builder().tier([tracker.http()]).tier([tracker.udp()]).tier([dead]).make(&path);
    let _seed = Libtorrent::seed(made.path(), from.path());
    let file = made.path().to_str().unwrap();
    let magnet = format!("magnet:?xt=urn:btih:{hash}&tr={}", tracker.udp());
    for (what, trackers) in [(file, 3), (&magnet, 1)] {
        // It takes a while until the seed has announced itself.
        let swarms = wait_for("the seed to be known", || {
            let done = torrent(from.path(), &["show", "--scrape", "--json", what]);
            let swarms = done.json().pop()?["swarms"].as_array()?.clone();
            (swarms[0]["seeds"] == 1).then_some(swarms)
        });
        assert_eq!(swarms.len(), trackers);
        assert_eq!(swarms[0]["leechers"], 0);
        assert_eq!(swarms[0]["error"], Value::Null);
        if let Some(dead) = swarms.get(2) {
            assert_eq!((&swarms[1]["seeds"], &dead["seeds"]), (&json!(1), &Value::Null));
            assert!(dead["error"].as_str().unwrap().contains("cannot connect"), "{dead}");
        }
    }
    let done = torrent(from.path(), &["show", "--scrape", file]);
    assert!(
        done.text().contains(&format!("1 seed, 0 leechers, downloaded 0 times ({})", tracker.udp())),
        "{}",
        done.text()
    );
    let other = format!("magnet:?xt=urn:btih:{}&tr={}", "ab".repeat(20), tracker.http());
    let done = torrent(from.path(), &["show", "--scrape", &other]);
    assert_ne!(done.code, Some(0));
    assert!(done.stderr.contains("no tracker knows"), "{}", done.stderr);
}

/// The user's own choice counts more than that of who made the link.
#[test]
fn a_magnet_link_can_name_files_and_select_overrules_it() {
    let swarm = Swarm::folder();
    let magnet = format!("magnet:?xt=urn:btih:{}&so=1,3", swarm.torrent.info_hash());
    for (args, wanted) in [(&[][..], &["b.flac", "readme"][..]), (&["--select", "a.*"], &["a.flac"])] {
        let dir = folder();
        assert_code(&swarm.get(dir.path(), &magnet, args), 0);
        assert_eq!(
            (names(dir.path()), names(&dir.path().join("album"))),
            (vec!["album".into()], wanted.to_vec().iter().map(|n| (*n).to_owned()).collect())
        );
    }
    let done = swarm.get(folder().path(), &magnet, &["--list-files"]);
    assert_eq!(done.text().lines().count(), FILES.len(), "all that could be chosen");
}

#[test]
fn padding_is_neither_listed_nor_missed() {
    let from = folder();
    files(&from.path().join("album"));
    let torrent_file = Torrent::builder().piece(64 << 10).kind("hybrid").make(&from.path().join("album"));
    let path = torrent_file.path().to_str().unwrap();
    assert_code(&torrent(from.path(), &["verify", path, "album"]), 0);
    let done = dlm(from.path(), &[path, "--list-files"]).run();
    assert_code(&done, 0);
    assert_eq!(done.text().lines().count(), FILES.len(), "{}", done.text());

    let (seed, dir) = (Libtorrent::seed(torrent_file.path(), from.path()), folder());
    let peer = seed.address().to_string();
    let done = dlm(dir.path(), &["--listen", "127.0.0.1:0", "--peer", &peer, path, "--select", "b.flac"]).run();
    assert_code(&done, 0);
    assert_eq!(names(&dir.path().join("album")), ["b.flac"]);
    assert_eq!(FILES[1].1.check_file(dir.path().join("album/b.flac")), Ok(()));
}

/// Neither files nor a record of them.
#[test]
fn what_could_not_begin_leaves_nothing() {
    let (swarm, dir) = (Swarm::folder(), folder());
    std::os::unix::fs::symlink("elsewhere", dir.path().join("album")).unwrap();
    let done = swarm.get(dir.path(), swarm.path(), &[]);
    assert_code(&done, 5);
    assert!(done.stderr.contains("a link in the way is not followed"), "{}", done.stderr);
    assert_eq!(names(dir.path()), ["album"]);
}

#[test]
fn a_selection_of_nothing_says_what_there_is() {
    let (swarm, dir) = (Swarm::folder(), folder());
    let done = swarm.get(dir.path(), swarm.path(), &["--select", "*.flac", "--select", "*.mp3"]);
    assert_code(&done, 2);
    assert!(done.stderr.contains("--select *.mp3"), "{}", done.stderr);
    assert!(
        done.stderr.contains("album/a.flac, album/b.flac, album/covers/front.jpg, album/readme"),
        "{}",
        done.stderr
    );
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn files_are_listed_and_not_fetched() {
    let (swarm, nginx, dir) = (Swarm::folder(), Nginx::start(), folder());
    let done = swarm.get(dir.path(), swarm.path(), &["--list-files"]);
    assert_code(&done, 0);
    let lines = "    0    1.00 MiB  album/a.flac\n    1    97.7 KiB  album/b.flac\n    \
                 2   293.0 KiB  album/covers/front.jpg\n    3         7 B  album/readme\n";
    assert_eq!((done.text().as_str(), done.stderr.as_str()), (lines, ""));
    let done = swarm.get(dir.path(), swarm.path(), &["--list-files", "--select", "b.*"]);
    assert_code(&done, 0);
    assert_eq!(done.text(), "    1    97.7 KiB  album/b.flac\n");
    let done = swarm.get(dir.path(), swarm.path(), &["--list-files", "--select", "c.*"]);
    assert_code(&done, 2);
    assert!(done.stderr.contains("--select c.*: no file is called so"), "{}", done.stderr);

    let magnet = format!("magnet:?xt=urn:btih:{}", swarm.torrent.info_hash());
    let (there, missing) = (nginx.put("f.bin", &CONTENT), nginx.url("missing"));
    let done = swarm.get(dir.path(), &magnet, &["--list-files", "--json", &there, &missing]);
    assert_code(&done, 4);
    let mut events = done.json();
    let failed = events.pop().unwrap();
    assert_eq!(
        (&failed["event"], &failed["download"], &failed["kind"]),
        (&"failed".into(), &2.into(), &"not_found".into())
    );
    let file = |download: usize, entry: usize, path: &str, len: u64| json!({"event": "file", "download": download, "entry": entry, "path": path, "len": len});
    let mut expected: Vec<Value> = FILES
        .iter()
        .enumerate()
        .map(|(i, (name, content))| file(0, i, &format!("album/{name}"), content.len))
        .collect();
    expected.push(file(1, 0, "f.bin", CONTENT.len));
    assert_eq!(events, expected);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn what_is_here_is_given_to_others() {
    let (swarm, dir, theirs) = (Swarm::file(), folder(), folder());
    // It knows nobody, so that all it gets is ours.
    let leech = Libtorrent::leech(swarm.torrent.path(), theirs.path());
    let done = swarm.get(dir.path(), swarm.path(), &["--peer", &leech.address().to_string(), "--seed", "ratio=1"]);
    assert_code(&done, 0);
    assert!(done.stderr.contains("what is here is checked; seeding\n"), "{}", done.stderr);
    assert!(done.stderr.contains("; uploaded 5.00 MiB, ratio 1.00\n"), "{}", done.stderr);
    assert_eq!(CONTENT.check_file(dir.path().join("file.bin")), Ok(()));
    wait_for("the other peer to have it", || leech.status().seeding.then_some(()));
    assert_eq!(CONTENT.check_file(theirs.path().join("file.bin")), Ok(()));
}

/// Trackers are told that it leaves, which may take a moment; that is not said to be seeding.
#[test]
fn without_a_goal_nothing_is_seeded() {
    let (swarm, dir) = (Swarm::file(), folder());
    // It answers once, and takes connections without a word after that.
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (mut peer, _) = tracker.accept().unwrap();
        let _ = peer.read(&mut [0; 4096]).unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 27\r\nConnection: close\r\n\r\nd8:intervali1800e5:peers0:e";
        peer.write_all(answer.as_bytes()).unwrap();
        tracker
    });
    let done = swarm.get(dir.path(), swarm.path(), &["--tracker", &url, "--limit", "8M"]);
    let _tracker = answered.join().unwrap();
    assert_code(&done, 0);
    assert!(!done.stderr.contains("seeding"), "{}", done.stderr);
}

#[test]
fn an_interruption_ends_the_seeding_well() {
    let (swarm, dir) = (Swarm::file(), folder());
    let (process, events) = swarm.dlm(dir.path(), swarm.path(), &["--json", "--seed", "forever"]).watch();
    let mut events = events.skip_while(|event| event["state"] != "sharing");
    assert!(events.next().is_some(), "it did not begin to share");
    process.interrupt();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["complete"], &last["exit_code"]), (&"done".into(), &1.into(), &0.into()));
    assert_code(&process.wait(), 0);
    assert_eq!(CONTENT.check_file(dir.path().join("file.bin")), Ok(()));
}

#[test]
fn what_makes_no_sense_exits_with_2() {
    let dir = folder();
    fs::write(dir.path().join("bad.torrent"), "no torrent").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::create_dir(dir.path().join("odd")).unwrap();
    fs::write(dir.path().join("odd/a\\b"), "x").unwrap();
    let url = "http://127.0.0.1:1/f";
    for (args, why) in [
        (&["get", url, "--select", "["][..], "--select <GLOB>'"),
        (&["get", url, "--seed", "much"], "--seed <GOAL>'"),
        (&["get", url, "--peer", "nobody"], "HOST:PORT"),
        (&["get", url, "--tracker", "ftp://h/announce?key=hunter2"], "--tracker <URL>'"),
        (&["get", url, "--listen", "6881"], "--listen"),
        (&["get", "missing.torrent"], "no such torrent file"),
        (&["get", "bad.torrent"], "not a torrent"),
        (&["get", "bad.torrent", "--no-follow"], "--no-follow"),
        (&["get", "--torrent", "f"], "not a torrent"),
        (&["torrent", "show", "bad.torrent"], "not a torrent"),
        (&["torrent", "show", "magnet:?dn=x"], "names no torrent"),
        (&["torrent", "verify", "bad.torrent", "."], "not a torrent"),
        (&["torrent", "verify", "empty.torrent", "nowhere"], "cannot read"),
        (&["torrent", "create", "nowhere"], "cannot read nowhere"),
        (&["torrent", "create", "empty"], "a torrent needs a byte"),
        (&["torrent", "create", "f", "-o", "new/"], "new/ is a folder"),
        (&["torrent", "create", "odd"], "odd/a\\b: a name with a backslash"),
        (&["torrent", "create", "f", "--piece", "100k"], "power of two"),
        (&["torrent", "create", "f", "--name", "a/b"], "not the name of a file"),
        (&["torrent", "create", "f", "--web-seed", "file:///x"], "web seed"),
        (&["torrent", "create", "f", "--tracker", "hunter2"], "--tracker <URL>'"),
        (&["torrent", "create", "f", "--tracker", "hunter2"], "Usage: dlm torrent create"),
    ] {
        let done = Dlm::new(env!("CARGO_BIN_EXE_dlm")).args(args).dir(dir.path()).run();
        assert_code(&done, 2);
        assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
        assert!(done.stdout.is_empty() && !done.stderr.contains("hunter2"), "{args:?}: {}", done.stderr);
    }
    assert_eq!(names(dir.path()), ["bad.torrent", "empty", "f", "odd"]);
}
