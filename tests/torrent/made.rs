//! `dlm torrent`: what is made, shown and verified.

use std::fs;

use dlm_testing::Torrent;
use serde_json::{Value, json};

use crate::common::{assert_code, folder};
use crate::{CONTENT, FILES, Swarm, files, show, torrent};

#[test]
fn what_is_made_is_what_libtorrent_makes() {
    let dir = folder();
    CONTENT.write_file(dir.path().join("file.bin")).unwrap();
    files(&dir.path().join("album"));
    for (name, piece) in [("file.bin", "16KiB"), ("file.bin", "1MiB"), ("album", "32KiB"), ("album", "4MiB")] {
        let done = torrent(dir.path(), &["create", name, "--piece", piece, "-o", "made.torrent"]);
        assert_code(&done, 0);
        let bytes = match piece {
            "16KiB" => 16 << 10,
            "32KiB" => 32 << 10,
            "1MiB" => 1 << 20,
            _ => 4 << 20,
        };
        let theirs = Torrent::builder().piece(bytes).make(&dir.path().join(name));
        assert!(
            done.text().contains(&format!("info-hash {}\n", theirs.info_hash())),
            "{name} {piece}: {}",
            done.text()
        );
        assert_eq!(show(dir.path(), "made.torrent")["info_hash"], theirs.info_hash());
        fs::remove_file(dir.path().join("made.torrent")).unwrap();
    }
}

#[test]
fn a_torrent_says_what_it_was_told_to() {
    let dir = folder();
    files(&dir.path().join("album"));
    std::os::unix::fs::symlink("a.flac", dir.path().join("album/link")).unwrap();
    let args = ["create", "album", "--tracker", "http://t1.example/announce", "--tracker", "udp://t2.example:1"];
    let more = ["--web-seed", "https://w.example/", "--private", "--comment", "c", "--source", "s", "--name", "other"];
    let done = torrent(dir.path(), &[&args[..], &more].concat());
    assert_code(&done, 0);
    assert!(done.stderr.contains("left out, as they are no files: 1 (link)\n"), "{}", done.stderr);
    let shown = show(dir.path(), "other.torrent");
    let paths: Vec<&str> = shown["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, FILES.map(|(name, _)| format!("other/{name}")));
    for (field, value) in [
        ("name", json!("other")),
        ("trackers", json!([["http://t1.example/announce"], ["udp://t2.example:1"]])),
        ("web_seeds", json!(["https://w.example/"])),
        ("private", json!(true)),
        ("comment", json!("c")),
        ("source", json!("s")),
        ("len", json!(FILES.iter().map(|(_, content)| content.len).sum::<u64>())),
        ("piece_len", json!(16384)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    // Nothing is overwritten.
    let before = fs::read(dir.path().join("other.torrent")).unwrap();
    let done = torrent(dir.path(), &["create", "album", "--name", "other"]);
    assert_code(&done, 1);
    assert!(done.stderr.contains("there already"), "{}", done.stderr);
    assert_eq!(fs::read(dir.path().join("other.torrent")).unwrap(), before);
    // And to standard output there is nothing else.
    let done = torrent(dir.path(), &["create", "album", "-o", "-"]);
    assert_code(&done, 0);
    fs::write(dir.path().join("piped"), &done.stdout).unwrap();
    assert_eq!(show(dir.path(), "piped")["name"], "album");
}

#[test]
fn magnet_links_are_shown() {
    let dir = folder();
    let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    let shown = show(dir.path(), &format!("magnet:?xt=urn:btih:{hash}&dn=a&tr=udp://t.example:1&x.pe=192.0.2.1:6881"));
    assert_eq!((&shown["info_hash"], &shown["name"]), (&hash.into(), &"a".into()));
    assert_eq!((&shown["trackers"], &shown["peers"]), (&json!([["udp://t.example:1"]]), &json!(["192.0.2.1:6881"])));
    assert_eq!((&shown["len"], &shown["files"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_torrent_is_shown_for_people() {
    let swarm = Swarm::folder();
    let done = torrent(&swarm.content, &["show", swarm.path()]);
    assert_code(&done, 0);
    let text = done.text();
    for part in
        ["name        album\n", swarm.torrent.info_hash(), "pieces      23 of 64.0 KiB\n", "  album/covers/front.jpg\n"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn data_is_verified() {
    let dir = folder();
    files(&dir.path().join("album"));
    // dlm would call it otherwise, but that is what it is called here.
    fs::write(dir.path().join("album/-odd"), "x").unwrap();
    assert_code(&torrent(dir.path(), &["create", "album", "--piece", "32KiB"]), 0);
    let verify = |path: &str| torrent(dir.path(), &["verify", "album.torrent", path]);
    for path in ["album", "."] {
        let done = verify(path);
        assert_code(&done, 0);
        assert_eq!(done.text(), "all right: 1.38 MiB, files: 5\n");
    }
    let album = dir.path().join("album");
    let mut bytes = fs::read(album.join("a.flac")).unwrap();
    bytes[200_000] ^= 1;
    fs::write(album.join("a.flac"), bytes).unwrap();
    fs::write(album.join("covers/front.jpg"), "short").unwrap();
    fs::remove_file(album.join("readme")).unwrap();
    let done = verify("album");
    assert_code(&done, 3);
    assert_eq!(
        done.text(),
        "damaged: album/a.flac: 1 of 33 pieces\n\
         not known: album/b.flac: 1 of 4 pieces lie across files that differ\n\
         wrong length: album/covers/front.jpg: 5 bytes instead of 300000\n\
         missing: album/readme\n\
         files that differ: 4 of 5\n"
    );
}

/// What a download would not follow proves nothing; what is too long says nothing about its neighbours.
#[test]
fn links_and_files_that_are_too_long_are_told_and_nothing_else() {
    let dir = folder();
    files(&dir.path().join("album"));
    assert_code(&torrent(dir.path(), &["create", "album", "--piece", "32KiB"]), 0);
    let album = dir.path().join("album");
    let long = fs::File::options().append(true).open(album.join("b.flac")).unwrap();
    long.set_len(FILES[1].1.len + 1).unwrap();
    let verify = |path: &str| {
        let done = torrent(dir.path(), &["verify", "album.torrent", path]);
        assert_code(&done, 3);
        done.text()
    };
    let too_long = "wrong length: album/b.flac: 100002 bytes instead of 100001\nfiles that differ: 1 of 4\n";
    assert_eq!(verify("album"), too_long);
    long.set_len(FILES[1].1.len).unwrap();
    fs::rename(album.join("covers"), dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", album.join("covers")).unwrap();
    assert_eq!(
        verify("album"),
        "not known: album/b.flac: 1 of 4 pieces lie across files that differ\n\
         a link: album/covers/front.jpg\n\
         not known: album/readme: 1 of 1 pieces lie across files that differ\n\
         files that differ: 3 of 4\n"
    );
    // The folder itself may be one: it was named.
    fs::remove_file(album.join("covers")).unwrap();
    fs::rename(dir.path().join("elsewhere"), album.join("covers")).unwrap();
    std::os::unix::fs::symlink("album", dir.path().join("link")).unwrap();
    assert_code(&torrent(dir.path(), &["verify", "album.torrent", "link"]), 0);
}

#[test]
fn a_single_file_is_verified_where_it_is() {
    let dir = folder();
    CONTENT.write_file(dir.path().join("file.bin")).unwrap();
    assert_code(&torrent(dir.path(), &["create", "file.bin"]), 0);
    fs::rename(dir.path().join("file.bin"), dir.path().join("renamed")).unwrap();
    assert_code(&torrent(dir.path(), &["verify", "file.bin.torrent", "renamed"]), 0);
    assert_code(&torrent(dir.path(), &["verify", "file.bin.torrent", "."]), 3);
    fs::rename(dir.path().join("renamed"), dir.path().join("file.bin")).unwrap();
    assert_code(&torrent(dir.path(), &["verify", "file.bin.torrent", "."]), 0);
}
