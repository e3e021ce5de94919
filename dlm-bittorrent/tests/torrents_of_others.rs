//! Torrents that others collected, valid and malformed, against what libtorrent says of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dlm_api::ErrorKind;
use dlm_bittorrent::bencode::{Document, Limits};
use dlm_bittorrent::{File, Metainfo};

/// The folder of the fixtures, if it is here. The test that needs it says that it was left out; in CI it fails, unless that
/// says itself that there are none.
fn fixtures(test: &str) -> Option<PathBuf> {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root = PathBuf::from(std::env::var_os("DLM_FIXTURES").unwrap_or(usual.into())).join("bittorrent");
    if root.is_dir() {
        return Some(root);
    }
    let may_be_missing = std::env::var_os("CI").is_none() || std::env::var_os("DLM_NO_FIXTURES").is_some();
    assert!(may_be_missing, "{test}: there are no fixtures in {}", root.display());
    eprintln!("LEFT OUT: {test}: there are no fixtures in {}", root.display());
    None
}

/// Whether libtorrent takes each of its torrents.
fn verdicts(root: &std::path::Path) -> BTreeMap<String, bool> {
    let matrix = fs::read_to_string(root.join("parse_matrix.txt")).unwrap();
    let columns = matrix.lines().map(|line| line.split('|').collect::<Vec<_>>());
    columns.map(|columns| (columns[0].to_owned(), columns[4] == "0")).collect()
}

fn read(root: &std::path::Path, name: &str) -> Vec<u8> {
    fs::read(root.join("libtorrent/test/test_torrents").join(name)).unwrap()
}

fn open(root: &std::path::Path, name: &str) -> Metainfo {
    Metainfo::parse(read(root, name).into()).unwrap_or_else(|e| panic!("{name}: {}", e.chain()))
}

/// Torrents that libtorrent takes and dlm doesn't: those of version 2 only.
const VERSION_2_ONLY: [&str; 10] = [
    "v2_incomplete_piece_layer.torrent",
    "v2_invalid_filename.torrent",
    "v2_invalid_filename2.torrent",
    "v2_invalid_piece_layer_root.torrent",
    "v2_invalid_root_hash.torrent",
    "v2_multiple_files.torrent",
    "v2_no_piece_layers.torrent",
    "v2_only.torrent",
    "v2_symlinks.torrent",
    "v2_unknown_piece_layer_entry.torrent",
];

#[test]
fn libtorrents_torrents_are_taken_and_refused_as_libtorrent_does() {
    let Some(root) = fixtures("libtorrents_torrents_are_taken_and_refused_as_libtorrent_does") else { return };
    let verdicts = verdicts(&root);
    assert_eq!(verdicts.len(), 108);
    let mut wrong = Vec::new();
    for (name, taken) in verdicts {
        let ours = Metainfo::parse(read(&root, &name).into());
        let as_expected = match &ours {
            Ok(_) => taken,
            Err(e) if VERSION_2_ONLY.contains(&name.as_str()) => e.kind() == ErrorKind::Unsupported,
            Err(_) => !taken,
        };
        if !as_expected {
            wrong.push(format!("{name}: libtorrent {taken}, dlm {:?}", ours.map_err(|e| e.chain())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn whatever_is_taken_holds_together() {
    let Some(root) = fixtures("whatever_is_taken_holds_together") else { return };
    let folders = ["libtorrent/test/test_torrents", "libtorrent/test/mutable_test_torrents", "anacrolix"];
    let mut taken = 0;
    for entry in folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "torrent") {
            continue;
        }
        let Ok(torrent) = Metainfo::parse(fs::read(&path).unwrap().into()) else { continue };
        taken += 1;
        let total: u64 = torrent.files().iter().map(|file| file.len).sum();
        assert_eq!(total, torrent.len(), "{path:?}");
        let mut at = 0;
        for piece in 0..torrent.piece_count() {
            for (file, range) in torrent.info().piece_spans(piece) {
                assert_eq!(torrent.files()[file].offset + range.start, at, "{path:?}");
                at += range.end - range.start;
            }
            assert!(torrent.piece_hash(piece).is_some());
        }
        assert_eq!(at, torrent.len(), "{path:?}");
        let mut paths: Vec<_> = torrent.files().iter().filter(|f| f.is_wanted()).map(|f| f.path.as_str()).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count, "{path:?}");
    }
    let others = 8 + 1;
    assert_eq!(taken, verdicts(&root).values().filter(|taken| **taken).count() - VERSION_2_ONLY.len() + others);
}

/// The hash is of the dictionary as it stands, never of what a program would write in its place. These come from the bytes
/// of `info`, cut out and hashed by another program; that of `invalid_name2` is in libtorrent's tests too.
#[test]
fn the_info_hash_is_that_of_the_bytes_as_they_stand() {
    let Some(root) = fixtures("the_info_hash_is_that_of_the_bytes_as_they_stand") else { return };
    for (name, hash) in [
        ("base.torrent", "c0fda1edafdbdbb96443424e0b3899af7159d10e"),
        ("unordered.torrent", "1e44709a0ec082a6a5ea4837e450ae08d3f4394e"),
        ("pad_file.torrent", "fa2d263afecd65b98640ae50d5b11d9d250d9e2a"),
        ("invalid_name2.torrent", "b61560c2918f463768cd122b6d2fdd47b77bdb35"),
        ("v2.torrent", "c14199bbec64d0e9e439aa3b6b7639e666b86eca"),
        ("v2_hybrid-missing-tailpad.torrent", "631a31dd0a46257d5078c0dee4e66e26f73e42ac"),
    ] {
        assert_eq!(open(&root, name).info_hash().to_string(), hash, "{name}");
    }
    let hybrid = fs::read(root.join("anacrolix/bittorrent-v2-hybrid-test.torrent")).unwrap();
    assert_eq!(
        Metainfo::parse(hybrid.into()).unwrap().info_hash().to_string(),
        "631a31dd0a46257d5078c0dee4e66e26f73e42ac"
    );
}

#[test]
fn what_they_say_is_understood() {
    let Some(root) = fixtures("what_they_say_is_understood") else { return };
    let paths = |name| open(&root, name).files().iter().map(|f| f.path.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths("slash_path.torrent"), ["temp/_/_/bar"]);
    assert_eq!(paths("duplicate_files.torrent"), ["temp/foo/bar.txt", "temp/foo/bar.1.txt"]);
    assert_eq!(paths("invalid_directory_name.torrent"), ["test2/_/foo", "test2/_/foo.1"]);
    assert_eq!(paths("single_multi_file.torrent"), ["temp/foo/bar"]);
    assert_eq!(open(&root, "invalid_name2.torrent").name(), "b61560c2918f463768cd122b6d2fdd47b77bdb35");
    assert_eq!(open(&root, "large_piece_size.torrent").piece_len(), 32_767 * 16_384);
    assert_eq!(open(&root, "whitespace_url.torrent").trackers(), [["udp://test.com/announce"]]);
    assert_eq!(open(&root, "creation_date.torrent").creation_date(), Some(1_234_567));
    assert_eq!(open(&root, "no_creation_date.torrent").creation_date(), None);
    let nodes = open(&root, "dht_nodes.torrent").nodes().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nodes, ["127.0.0.1:6881", "192.168.1.1:6881"]);
    let flags = |name, flag: fn(&File) -> bool| open(&root, name).files().iter().map(flag).collect::<Vec<_>>();
    assert_eq!(flags("pad_file.torrent", |f| f.is_pad), [false, true]);
    assert_eq!(flags("pad_file_no_path.torrent", |f| f.is_pad), [false, true]);
    assert_eq!(flags("symlink1.torrent", |f| f.is_symlink), [false, true]);
    assert_eq!(open(&root, "symlink1.torrent").len(), 425);
    let seeds = |name| open(&root, name).web_seeds().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(seeds("url_seed.torrent"), ["http://test.com/file"]);
    assert_eq!(seeds("url_seed_multi_space_nolist.torrent"), ["http://test.com/test%20file/foo%20bar"]);
    let folder = open(&root, "url_seed_multi_space_nolist.torrent");
    let url = folder.info().web_seed_url(&folder.web_seeds()[0], 0).unwrap();
    assert_eq!(url.as_str(), "http://test.com/test%20file/foo%20bar/temp/foo/bar.txt");
    assert_eq!(seeds("duplicate_web_seeds.torrent").len(), 3);
}

#[test]
fn a_fuzzers_findings_parse_or_do_not() {
    let Some(root) = fixtures("a_fuzzers_findings_parse_or_do_not") else { return };
    let mut seen = 0;
    for folder in ["Fuzz", "FuzzInterfaceRoundTrip"] {
        for entry in fs::read_dir(root.join("anacrolix/bencode-fuzz").join(folder)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            // Go writes what it found as `[]byte("...")`.
            let quoted = text.lines().find_map(|line| line.strip_prefix("[]byte(\"")?.strip_suffix("\")"));
            let bytes = unescape(quoted.expect("a string of bytes"));
            for limits in [Limits::TORRENT, Limits::MESSAGE, Limits::TRACKER, Limits::DHT] {
                let _ = Document::parse_prefix(&bytes, &limits);
            }
            let _ = Metainfo::parse(bytes.into());
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}

/// The escapes of a string in Go that a fuzzer writes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match (byte, byte == b'\\') {
            (_, false) => bytes.push(byte),
            _ => match rest.next() {
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                Some(b'n') => bytes.push(b'\n'),
                Some(other) => bytes.push(other),
                None => {}
            },
        }
    }
    bytes
}
