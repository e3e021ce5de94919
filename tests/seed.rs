//! `dlm seed`, and data that is there before a download begins: with real peers of libtorrent that fetch it.

#![cfg(all(feature = "http", feature = "bittorrent"))]

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{assert_code, dlm, folder, names};
use dlm_testing::{Content, Dlm, Events, Finished, Libtorrent, Process, Torrent, wait_for};
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const PIECE: u64 = 64 << 10;
const FILES: [(&str, Content); 4] = [
    ("a.flac", Content::new(2, 2 * MIB)),
    ("b.flac", Content::new(3, 100_001)),
    ("covers/front.jpg", Content::new(4, 300_000)),
    ("readme", Content::new(5, 7)),
];
const LEN: u64 = 2 * MIB + 100_001 + 300_000 + 7;

/// A folder of files, and a torrent of it.
fn album(kind: &'static str) -> (TempDir, Torrent) {
    let dir = folder();
    for (name, content) in FILES {
        let path = dir.path().join("album").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        content.write_file(path).unwrap();
    }
    let torrent = Torrent::builder().piece(PIECE as u32).kind(kind).make(&dir.path().join("album"));
    (dir, torrent)
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn seed(path: &Path, torrent: &Torrent, args: &[&str]) -> Dlm {
    Dlm::new(env!("CARGO_BIN_EXE_dlm")).arg("seed").arg(path).arg(torrent.path()).args(args)
}

/// `dlm seed` that has checked everything, and where it listens.
struct Seeding {
    process: Process,
    events: Events,
    address: SocketAddr,
    /// What it told of the pieces.
    checked: (u64, u64),
}

impl Seeding {
    fn start(path: &Path, torrent: &Torrent) -> Self {
        let address = free_address();
        let (process, mut events) = seed(path, torrent, &["--json", "--listen", &address.to_string()]).watch();
        let checked = events.find(|event| event["event"] == "checked").expect("it checks");
        assert!(events.any(|event| event["state"] == "sharing"), "it did not begin to share");
        let number = |field: &str| checked[field].as_u64().unwrap();
        Self { process, events, address, checked: (number("right"), number("pieces")) }
    }

    /// It ends well when it is interrupted, and this is what it said at last.
    fn interrupt(self) -> (Value, Finished) {
        self.process.interrupt();
        let complete = self.events.filter(|event| event["event"] == "complete").last().expect("it is a success");
        let done = self.process.wait();
        assert_code(&done, 0);
        (complete, done)
    }
}

fn until_seeding(peer: &Libtorrent) {
    wait_for("the peer to have everything", || peer.status().seeding.then_some(()));
}

/// All that could tell of a change below a folder.
fn state(root: &Path) -> Vec<(PathBuf, u64, i64, i64, u64, u32)> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push((path, m.ino(), m.ctime(), m.ctime_nsec(), m.len(), m.mode()));
    }
    all.sort();
    all
}

fn check_album(dir: &Path) {
    for (name, content) in FILES {
        assert_eq!(content.check_file(dir.join("album").join(name)), Ok(()), "{name}");
    }
}

#[test]
fn a_folder_is_given_wherever_it_is() {
    for kind in ["v1", "hybrid"] {
        let (dir, torrent) = album(kind);
        for path in [dir.path().join("album"), dir.path().to_owned()] {
            let seeding = Seeding::start(&path, &torrent);
            assert_eq!(seeding.checked.0, seeding.checked.1);
            let theirs = folder();
            let leech = Libtorrent::leech(torrent.path(), theirs.path());
            leech.connect(seeding.address);
            until_seeding(&leech);
            check_album(theirs.path());
            let (complete, _) = seeding.interrupt();
            assert!(complete["uploaded"].as_u64().unwrap() >= LEN, "{complete}");
            assert_eq!(complete["transferred"], 0);
        }
    }
}

#[test]
fn a_single_file_is_given_under_any_name_until_that_is_enough() {
    let content = Content::new(1, 5 * MIB + 7);
    let (dir, theirs) = (folder(), folder());
    content.write_file(dir.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().piece(PIECE as u32).make(&dir.path().join("file.bin"));
    let renamed = dir.path().join("renamed");
    fs::rename(dir.path().join("file.bin"), &renamed).unwrap();
    let leech = Libtorrent::leech(torrent.path(), theirs.path());
    let peer = leech.address().to_string();
    let done = seed(&renamed, &torrent, &["--listen", "127.0.0.1:0", "--peer", &peer, "--seed", "ratio=1"]).run();
    assert_code(&done, 0);
    assert!(done.stderr.contains("checked: all 81 pieces are right"), "{}", done.stderr);
    assert!(done.stderr.contains("; uploaded 5.00 MiB, ratio 1.00\n"), "{}", done.stderr);
    until_seeding(&leech);
    assert_eq!(content.check_file(theirs.path().join("file.bin")), Ok(()));
    assert_eq!(names(dir.path()), ["renamed"]);
}

#[test]
fn nothing_is_changed_or_made_and_nothing_has_to_be_writable() {
    let (dir, torrent) = album("v1");
    fs::remove_file(dir.path().join("album/readme")).unwrap();
    let album = dir.path().join("album");
    let set = |mode_of_files: u32, mode_of_folders: u32| {
        for name in ["a.flac", "b.flac", "covers/front.jpg"] {
            fs::set_permissions(album.join(name), fs::Permissions::from_mode(mode_of_files)).unwrap();
        }
        for folder in [&album.join("covers"), &album, dir.path()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode_of_folders)).unwrap();
        }
    };
    set(0o444, 0o555);
    let before = state(dir.path());
    let seeding = Seeding::start(&album, &torrent);
    assert_eq!(seeding.checked, (38, 39));
    let theirs = folder();
    let leech = Libtorrent::leech(torrent.path(), theirs.path());
    leech.connect(seeding.address);
    let enough = (38 * PIECE) as f64 / LEN as f64 - 0.001;
    wait_for("the peer to have what there is", || (leech.status().progress >= enough).then_some(()));
    seeding.interrupt();
    assert_eq!(state(dir.path()), before);
    set(0o644, 0o755);
}

#[test]
fn what_is_damaged_is_not_given_and_somebody_else_can_give_it() {
    let (dir, torrent) = album("v1");
    let good = folder();
    let copy = |name: &str| {
        let to = good.path().join("album").join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(dir.path().join("album").join(name), to).unwrap();
    };
    FILES.iter().for_each(|(name, _)| copy(name));
    let file = dir.path().join("album/a.flac");
    let mut bytes = fs::read(&file).unwrap();
    bytes[200_000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let before = state(dir.path());

    let seeding = Seeding::start(dir.path(), &torrent);
    assert_eq!(seeding.checked, (38, 39));
    let theirs = folder();
    let leech = Libtorrent::leech(torrent.path(), theirs.path());
    leech.connect(seeding.address);
    let enough = (LEN - PIECE) as f64 / LEN as f64 - 0.001;
    wait_for("the peer to have what is right", || (leech.status().progress >= enough).then_some(()));
    assert!(!leech.status().seeding);
    let other = Libtorrent::seed(torrent.path(), good.path());
    leech.connect(other.address());
    until_seeding(&leech);
    check_album(theirs.path());
    assert_eq!(other.status().uploaded, PIECE, "all else came from us");
    let (complete, _) = seeding.interrupt();
    assert_eq!(complete["entries"].as_array().unwrap().len(), 3, "{complete}");
    assert_eq!(state(dir.path()), before);
}

#[test]
fn what_can_not_be_given_says_why() {
    let (dir, torrent) = album("v1");
    let (empty, wrong) = (folder(), folder());
    fs::create_dir_all(wrong.path().join("album")).unwrap();
    fs::write(wrong.path().join("album/a.flac"), vec![7; MIB as usize]).unwrap();
    for (path, args, code, why) in [
        (empty.path(), &[][..], 4, "none of the torrent's files is there"),
        (empty.path(), &[], 4, "hint: look at that path"),
        (wrong.path(), &[], 3, "nothing of what is there is right"),
        (wrong.path(), &[], 3, "hint: these are other files"),
        (Path::new("nowhere"), &[], 2, "cannot read nowhere"),
        (dir.path(), &["--seed", "off"], 2, "--seed off"),
    ] {
        let done = seed(path, &torrent, &[&["--listen", "127.0.0.1:0"], args].concat()).dir(empty.path()).run();
        assert_code(&done, code);
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
    assert_eq!(names(empty.path()), [""; 0]);
}

/// What is right of the files that are there stays as it is, and only the rest is fetched.
#[test]
fn a_download_keeps_what_is_right() {
    let (dir, torrent) = album("v1");
    let (theirs, to) = (Libtorrent::seed(torrent.path(), dir.path()), folder());
    let peer = theirs.address().to_string();
    let get = |args: &[&str]| {
        let usual = ["--listen", "127.0.0.1:0", "--peer", &peer, "--on-exists", "check", "--json"];
        dlm(to.path(), &[&usual[..], &[torrent.path().to_str().unwrap()], args].concat()).run()
    };
    fs::create_dir_all(to.path().join("album/covers")).unwrap();
    for (name, content) in &FILES[..3] {
        content.write_file(to.path().join("album").join(name)).unwrap();
    }
    let damaged = to.path().join("album/a.flac");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[200_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let untouched = to.path().join("album/b.flac");
    let before = state(&untouched);
    let done = get(&[]);
    assert_code(&done, 0);
    check_album(to.path());
    assert_eq!(state(&untouched), before);
    let complete = done.json().into_iter().find(|event| event["event"] == "complete").unwrap();
    // The damaged piece, and the one in which the missing file is.
    assert!(complete["transferred"].as_u64().unwrap() <= 2 * PIECE, "{complete}");
    assert_eq!(names(to.path()), ["album"]);

    // All of it is there now: nobody is needed, and it can be given at once.
    drop(theirs);
    let before = state(to.path());
    let theirs = folder();
    let peer = Libtorrent::leech(torrent.path(), theirs.path());
    let done = get(&["--peer", &peer.address().to_string(), "--seed", "ratio=1"]);
    assert_code(&done, 0);
    until_seeding(&peer);
    check_album(theirs.path());
    let album = |state: Vec<(PathBuf, u64, i64, i64, u64, u32)>| -> Vec<_> {
        state.into_iter().filter(|(path, ..)| path != to.path()).collect()
    };
    assert_eq!(album(state(to.path())), album(before));
}
