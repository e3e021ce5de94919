use bytes::Bytes;
use dlm_api::EntryPath;
use proptest::prelude::*;

use super::*;
use crate::bencode::Item;

const HASH: &[u8] = &[7; 20];

fn bytes(text: &'static [u8]) -> Item {
    Item::Bytes(Bytes::from_static(text))
}

/// The entries of an `info` of one file with 5 bytes.
fn single() -> Vec<(&'static str, Item)> {
    vec![
        ("name", "a.txt".into()),
        ("length", Item::Int(5)),
        ("piece length", Item::Int(16384)),
        ("pieces", bytes(HASH)),
    ]
}

fn file(path: &[&str], len: i64) -> Vec<(&'static str, Item)> {
    vec![("length", Item::Int(len)), ("path", Item::list(path.iter().copied()))]
}

/// The entries of an `info` of these files, all in one piece.
fn folder(files: Vec<Vec<(&'static str, Item)>>) -> Vec<(&'static str, Item)> {
    vec![
        ("name", "top".into()),
        ("files", Item::List(files.into_iter().map(Item::dict).collect())),
        ("piece length", Item::Int(16384)),
        ("pieces", bytes(HASH)),
    ]
}

fn with(mut entries: Vec<(&'static str, Item)>, key: &'static str, value: Item) -> Vec<(&'static str, Item)> {
    entries.retain(|(k, _)| *k != key);
    entries.push((key, value));
    entries
}

fn parse(info: Vec<(&'static str, Item)>) -> Result<Info> {
    Info::parse(Item::dict(info).encode()?)
}

fn kind(info: Vec<(&'static str, Item)>) -> Option<ErrorKind> {
    parse(info).err().map(|e| e.kind())
}

fn torrent(entries: Vec<(&'static str, Item)>) -> Metainfo {
    Metainfo::parse(Item::dict(with(entries, "info", Item::dict(single()))).encode().unwrap()).unwrap()
}

#[test]
fn a_single_file() {
    let info = parse(with(single(), "attr", "xh".into())).unwrap();
    assert_eq!((info.name(), info.len(), info.piece_count(), info.piece_len()), ("a.txt", 5, 1, 16384));
    assert_eq!((info.piece_hash(0).map(|h| &h[..]), info.piece_hash(1)), (Some(HASH), None));
    let [file] = info.files() else { panic!("one file") };
    assert_eq!((file.path.as_str(), file.range()), ("a.txt", 0..5));
    assert!(file.is_executable && file.is_hidden && file.is_wanted() && info.is_single());
    assert!(!info.is_private() && info.source().is_none() && !info.is_hybrid());
}

#[test]
fn files_follow_each_other() {
    let pad = vec![("length", Item::Int(100)), ("attr", "p".into())];
    let link = with(with(file(&["l"], 77), "attr", "l".into()), "symlink path", Item::list(["..", "..", "etc"]));
    let info = parse(folder(vec![file(&["a"], 5), pad, file(&["d", "empty"], 0), link, file(&["d", "b"], 7)])).unwrap();
    let seen: Vec<_> = info.files().iter().map(|f| (f.path.as_str(), f.range(), f.is_wanted())).collect();
    assert_eq!(
        seen,
        [
            ("top/a", 0..5, true),
            ("top/_pad", 5..105, false),
            ("top/d/empty", 105..105, true),
            ("top/l", 105..105, false),
            ("top/d/b", 105..112, true),
        ]
    );
    assert_eq!(info.piece_spans(0).collect::<Vec<_>>(), [(0, 0..5), (1, 0..100), (4, 0..7)]);
    assert_eq!(info.spans(104..106).collect::<Vec<_>>(), [(1, 99..100), (4, 0..1)]);
}

#[test]
fn the_hash_is_of_the_bytes_as_they_stand() {
    // Unsorted, with a key that comes twice and a number that is not as it should be.
    let dict = b"d6:pieces20:777777777777777777774:name1:a12:piece lengthi016384e6:lengthi5e6:lengthi6ee";
    let file = [b"d4:info", &dict[..], b"e trailing"].concat();
    let torrent = Metainfo::parse(file.into()).unwrap();
    assert_eq!(torrent.info_hash(), InfoHash::of(dict));
    assert_eq!((&torrent.info_bytes()[..], torrent.len()), (&dict[..], 5));
    let info = Info::parse_verified(Bytes::from_static(dict), torrent.info_hash()).unwrap();
    assert_eq!(Metainfo::from_info(info).info_hash(), torrent.info_hash());
    let error = Info::parse_verified(Bytes::from_static(dict), InfoHash::from([0; 20])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let error = Info::parse([&dict[..], b"e"].concat().into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn hashes_are_not_copied() {
    let pieces = Bytes::from(vec![1; 20 * 100_000]);
    let info = with(with(single(), "length", Item::Int(16384 * 100_000)), "pieces", Item::Bytes(pieces));
    let file = Item::dict([("info", Item::dict(info))]).encode().unwrap();
    let torrent = Metainfo::parse(file.clone()).unwrap();
    let inside = |part: &Bytes| file.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(&torrent.piece_hashes()) && inside(torrent.info_bytes()));
    assert_eq!(torrent.piece_count(), 100_000);
}

#[test]
fn what_is_needed_must_make_sense() {
    assert_eq!(kind(single()), None);
    let wrong = Some(ErrorKind::InvalidInput);
    for (key, value, expected) in [
        ("length", Item::Int(0), wrong),
        ("length", Item::Int(-1), wrong),
        ("length", Item::Int(16385), wrong),
        ("length", "5".into(), wrong),
        ("length", Item::Int(i64::MAX), Some(ErrorKind::TooLarge)),
        ("piece length", Item::Int(0), wrong),
        ("piece length", Item::Int(-16384), wrong),
        ("piece length", Item::Int(1 << 40), wrong),
        ("piece length", Item::Int(i64::from(MAX_PIECE_LEN) + 1), Some(ErrorKind::TooLarge)),
        ("piece length", Item::Int(1), wrong),
        ("pieces", bytes(b"short"), wrong),
        ("pieces", bytes(&[0; 40]), wrong),
        ("pieces", Item::List(Vec::new()), wrong),
        ("name", Item::Int(1), wrong),
        ("name", "".into(), wrong),
        ("name", "..".into(), wrong),
        ("name", "/".into(), wrong),
        ("name", "\0\0".into(), wrong),
        ("meta version", Item::Int(3), Some(ErrorKind::Unsupported)),
        ("meta version", Item::Int(2), wrong),
        ("file tree", Item::dict([("a", Item::Int(1))]), wrong),
    ] {
        assert_eq!(kind(with(single(), key, value.clone())), expected, "{key} {value:?}");
    }
    for key in ["length", "piece length", "pieces", "name"] {
        let mut without = single();
        without.retain(|(k, _)| *k != key);
        assert_eq!(kind(without), wrong, "{key}");
    }
    for bad in [
        vec![],
        vec![file(&[], 5)],
        vec![vec![("length", Item::Int(5))]],
        vec![vec![("path", Item::list(["a"]))]],
        vec![file(&["a"], -5)],
        vec![file(&["a"], 0)],
        vec![file(&["a"], i64::MAX), file(&["b"], i64::MAX), file(&["c"], i64::MAX)],
        vec![with(file(&["a"], 5), "path", Item::List(vec![Item::Int(1)]))],
        vec![with(file(&["a"], 5), "path", "a".into())],
        vec![with(with(file(&["a"], 5), "attr", "l".into()), "symlink path", Item::List(vec![Item::Int(1)]))],
        vec![file(&["x"; 80], 5)],
    ] {
        assert_eq!(kind(folder(bad.clone())), wrong, "{bad:?}");
    }
    assert_eq!(kind(with(folder(vec![]), "files", Item::List(vec![Item::Int(1)]))), wrong);
    for bad in ["", "le", "d4:infoi1ee", "d4:infolee", "d4:infodee", "de", "i1e", "d2222222222:l"] {
        let error = Metainfo::parse(bad.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    let deep = Metainfo::parse(vec![b'l'; 20 * 1024].into()).unwrap_err();
    assert_eq!(deep.kind(), ErrorKind::TooLarge);
    let version_2 = vec![("meta version", Item::Int(2)), ("file tree", Item::dict([("a", Item::Int(1))]))];
    assert_eq!(kind(version_2), Some(ErrorKind::Unsupported));
}

#[test]
fn no_path_leaves_the_folder() {
    let hostile = [
        &["..", "..", "etc", "passwd"][..],
        &["/etc/passwd"],
        &["a/../../b"],
        &["..\\..\\boot.ini"],
        &["", ".", ""],
        &["C:", "x"],
        &["nul"],
        &[".ssh", "authorized_keys"],
        &["x.part"],
    ];
    let info = parse(folder(hostile.iter().map(|path| file(path, 1)).collect())).unwrap();
    let paths: Vec<_> = info.files().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "top/_/_/etc/passwd",
            "top/_etc_passwd",
            "top/a_.._.._b",
            "top/.._.._boot.ini",
            "top/_/_/_",
            "top/C_/x",
            "top/_nul",
            "top/.ssh/authorized_keys",
            "top/x_part",
        ]
    );
    let named = |name| parse(with(folder(vec![file(&["a"], 5)]), "name", name)).unwrap();
    assert_eq!(named("../up".into()).files()[0].path.as_str(), "_._up/a");
    for useless in ["", "..", ".", "/", "\u{1}"] {
        let info = named(useless.into());
        assert_eq!(info.name(), info.info_hash().to_string(), "{useless:?}");
    }
    assert_eq!(named(bytes(b"\xffabc")).name(), "\u{fffd}abc");
}

#[test]
fn what_is_said_to_be_utf_8_is_preferred() {
    let file = with(file(&["\u{fffd}"], 5), "path.utf-8", Item::list(["ä"]));
    let info = parse(with(folder(vec![file]), "name.utf-8", "Ö".into())).unwrap();
    assert_eq!((info.name(), info.files()[0].path.as_str()), ("Ö", "Ö/ä"));
    let said = torrent(vec![("comment", bytes(b"\xe4")), ("comment.utf-8", "ä\u{1b}[2J\nb".into())]);
    assert_eq!(said.comment(), Some("ä[2J\nb"));
}

#[test]
fn trackers_come_in_tiers() {
    let t = |n: u8| format!("http://t{n}.example/announce");
    let tiers = |tiers: &[&[&str]]| Item::List(tiers.iter().map(|tier| Item::list(tier.iter().copied())).collect());
    let of = |entries| torrent(entries).trackers().to_vec();
    assert_eq!(of(vec![]), Vec::<Vec<String>>::new());
    assert_eq!(of(vec![("announce", t(1).into())]), [[t(1)]]);
    let list = tiers(&[&[&t(2), "nonsense", &t(3)], &[], &["dht://x"], &[&t(2), &t(4)]]);
    assert_eq!(of(vec![("announce", t(1).into()), ("announce-list", list)]), [vec![t(2), t(3)], vec![t(4)]]);
    // A list of no use doesn't count.
    for list in [tiers(&[]), tiers(&[&["nonsense"]]), "x".into(), Item::list(["x"])] {
        assert_eq!(of(vec![("announce", t(1).into()), ("announce-list", list)]), [[t(1)]]);
    }
    assert_eq!(of(vec![("announce", "http://127.0.0.1/reboot".into())]), Vec::<Vec<String>>::new());
    let late: Vec<&str> = std::iter::repeat_n("x", MAX_LOOKED_AT).chain(["http://a/"]).collect();
    assert_eq!(of(vec![("announce-list", tiers(&[&late[1..]]))]), [["http://a/"]]);
    assert_eq!(of(vec![("announce-list", tiers(&[&late]))]), Vec::<Vec<String>>::new());
    let many: Vec<String> = (0..1000).map(|i| format!("udp://t{i}.example:1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(of(vec![("announce-list", tiers(&[&many]))])[0].len(), MAX_TRACKERS);
}

#[test]
fn web_seeds_are_one_or_many() {
    let of = |seeds: Item| {
        let seeds = torrent(vec![("url-list", seeds)]).web_seeds().to_vec();
        seeds.iter().map(Url::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of("http://a/b c".into()), ["http://a/b%20c"]);
    assert_eq!(
        of(Item::list(["ftp://a/", "http://b", "file:///etc/passwd", "x", "http://b/"])),
        ["ftp://a/", "http://b/"]
    );
    let late: Vec<&str> = std::iter::repeat_n("x", MAX_LOOKED_AT).chain(["http://a/"]).collect();
    assert_eq!(of(Item::list(late[1..].iter().copied())), ["http://a/"]);
    assert_eq!(of(Item::list(late)), Vec::<String>::new());
    assert_eq!(of("".into()), Vec::<String>::new());
    assert_eq!(of(Item::Int(1)), Vec::<String>::new());
}

#[test]
fn a_web_seed_has_the_torrents_own_names() {
    let url = |info: &Info, seed: &str, file| {
        info.web_seed_url(&seed.parse().unwrap(), file).map(|url| url.as_str().to_owned())
    };
    let info = parse(single()).unwrap();
    assert_eq!(url(&info, "http://h/x/y.iso?k", 0).as_deref(), Some("http://h/x/y.iso?k"));
    assert_eq!(url(&info, "http://h/x/", 0).as_deref(), Some("http://h/x/a.txt"));
    let name = Item::list(["sub dir?", ".ä#"]);
    let files = vec![file(&["a"], 1), with(file(&[], 1), "path", name), file(&["..", "b"], 1), file(&["A"], 1)];
    let info = parse(with(folder(files), "name", "a/b".into())).unwrap();
    for seed in ["http://h/x", "http://h/x/"] {
        assert_eq!(url(&info, seed, 0).as_deref(), Some("http://h/x/a%2Fb/a"));
        assert_eq!(url(&info, seed, 1).as_deref(), Some("http://h/x/a%2Fb/sub%20dir%3F/.%C3%A4%23"));
        assert_eq!(url(&info, seed, 2), None);
        assert_eq!(url(&info, seed, 3).as_deref(), Some("http://h/x/a%2Fb/A"));
        assert_eq!(url(&info, seed, 4), None);
    }
    assert_eq!(info.raw_path(1), Some(["a/b", "sub dir?", ".ä#"].map(Bytes::from).to_vec()));
    assert_eq!((info.raw_path(2), info.raw_path(4)), (None, None));
}

#[test]
fn the_rest_is_kept_if_it_makes_sense() {
    let nodes = |nodes: &[(&str, i64)]| {
        Item::List(nodes.iter().map(|(host, port)| Item::List(vec![(*host).into(), Item::Int(*port)])).collect())
    };
    let torrent = torrent(vec![
        ("nodes", nodes(&[("router.example", 1), ("::1", 2), ("", 3), ("a", 0), ("b", 65536)])),
        ("creation date", Item::Int(-1)),
        ("created by", "a program\u{7}".into()),
        ("httpseeds", Item::list(["http://a/"])),
    ]);
    let nodes: Vec<_> = torrent.nodes().iter().map(ToString::to_string).collect();
    assert_eq!(nodes, ["router.example:1", "[::1]:2"]);
    assert_eq!((torrent.creation_date(), torrent.created_by()), (None, Some("a program")));
    for (private, expected) in [(Item::Int(1), true), (Item::Int(0), false), ("1".into(), false)] {
        assert_eq!(parse(with(single(), "private", private)).unwrap().is_private(), expected);
    }
    assert_eq!(parse(with(single(), "source", "PTP".into())).unwrap().source(), Some("PTP"));
}

#[test]
fn no_tracker_is_shown() {
    let torrent = torrent(vec![("announce", "https://t.example/announce?passkey=0123abcd".into())]);
    assert!(!format!("{torrent:?}").contains("0123abcd"));
}

#[test]
fn the_halves_of_a_hybrid_must_agree() {
    let leaf = |len: i64| Item::dict([("", Item::dict([("length", Item::Int(len))]))]);
    let pad = vec![("length", Item::Int(16384 - 5)), ("attr", "p".into())];
    let files = || vec![file(&["a"], 5), pad.clone(), file(&["d", "b"], 7), file(&["e"], 0)];
    let hybrid = |files, tree: Vec<(&'static str, Item)>| {
        let info = with(folder(files), "meta version", Item::Int(2));
        with(with(info, "file tree", Item::dict(tree)), "pieces", bytes(&[7; 40]))
    };
    let tree = || vec![("a", leaf(5)), ("d", Item::dict([("b", leaf(7))])), ("e", leaf(0))];
    assert!(parse(hybrid(files(), tree())).unwrap().is_hybrid());
    let wrong = Some(ErrorKind::InvalidInput);
    assert_eq!(kind(hybrid(files(), with(tree(), "a", leaf(6)))), wrong);
    assert_eq!(kind(hybrid(files(), with(tree(), "x", leaf(6)))), wrong);
    assert_eq!(kind(hybrid(files(), with(tree(), "d", Item::dict([("c", leaf(7))])))), wrong);
    assert_eq!(kind(hybrid(files(), with(tree(), "", leaf(6)))), wrong);
    assert_eq!(kind(hybrid(files(), with(tree(), "e", Item::Int(1)))), wrong);
    assert_eq!(kind(hybrid(files(), tree()[..1].to_vec())), wrong);
    // Padding has no place in a tree, and what else is there may have no bytes.
    let attribute =
        |attr: &'static str| Item::dict([("", Item::dict([("attr", Item::from(attr)), ("length", Item::Int(0))]))]);
    assert_eq!(kind(hybrid(files(), with(tree(), "x", attribute("p")))), wrong);
    assert_eq!(kind(hybrid(files(), with(tree(), "x", attribute("l")))), None);
    let no_leaf = Item::dict([("", Item::dict([("length", Item::Int(5))])), ("b", leaf(1))]);
    assert_eq!(kind(hybrid(files(), with(tree(), "a", no_leaf))), wrong);
    // The second file does not start with a piece.
    let mut moved = files();
    moved[1] = with(moved[1].clone(), "length", Item::Int(16384 - 4));
    assert_eq!(kind(hybrid(moved, tree())), wrong);
    assert_eq!(kind(with(hybrid(files(), tree()), "piece length", Item::Int(16385))), wrong);
    // Not in canonical form.
    let bytes = Item::dict(hybrid(files(), tree())).encode().unwrap();
    let unsorted = [b"d1:zi1e", &bytes[1..]].concat();
    let error = Info::parse(unsorted.into()).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::InvalidInput, "a hybrid torrent that is not in canonical form")
    );
}

proptest! {
    #[test]
    fn whatever_the_names_paths_are_safe_and_distinct(
        name in ".{0,8}",
        paths in prop::collection::vec(prop::collection::vec("[aA./\\\\ ]{0,3}", 1..4), 1..12),
    ) {
        let files = paths.iter().map(|path| file(&path.iter().map(String::as_str).collect::<Vec<_>>(), 1)).collect();
        let info = parse(with(folder(files), "name", name.as_str().into())).unwrap();
        let seen: Vec<_> = info.files().iter().map(|file| file.path.as_str().to_lowercase()).collect();
        for (i, path) in seen.iter().enumerate() {
            prop_assert!(EntryPath::new(info.files()[i].path.as_str()).is_ok());
            for other in &seen[i + 1..] {
                let inside = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                prop_assert!(!inside(path, other) && !inside(other, path), "{path} {other}");
            }
        }
    }

    #[test]
    fn anything_parses_or_does_not(bytes: Vec<u8>, text in "d4:info(d|l|e|i1e|6:length|4:name1:a|12:piece length|6:pieces20:aaaaaaaaaaaaaaaaaaaa|5:files){0,20}") {
        let _ = Metainfo::parse(bytes.into());
        let _ = Metainfo::parse(text.into_bytes().into());
    }
}
