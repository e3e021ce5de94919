//! Under which name a file ends up, and what becomes of one that is there already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use dlm_api::{ErrorKind, OnExists};
use dlm_fault_server::{Fault, FaultServer, File, Framing, Gate};

use crate::harness::{HALF, LEN, Place, client, download, finish, half, stop_at};

#[tokio::test]
async fn no_name_leads_out_of_the_folder() {
    let long = "a".repeat(300);
    let hostile = [
        "../../evil",
        "..\\..\\evil",
        "%2e%2e%2fevil",
        "/etc/passwd",
        "C:\\evil",
        "..",
        ".",
        "",
        "evil\u{202e}gpj.exe",
        "-rf",
        "NUL.txt",
        "a\u{7f}b",
        long.as_str(),
    ];
    for name in hostile {
        let forms = [
            format!("attachment; filename=\"{}\"", name.replace('\\', "\\\\")),
            format!("attachment; filename*=UTF-8''{}", percent(name)),
        ];
        for header in forms.into_iter().filter(|h| h.bytes().all(|b| (b' '..=b'~').contains(&b))) {
            let file = File::new(1, 1000).with_header("Content-Disposition", header.clone());
            let server = FaultServer::file(file.clone());
            let place = Place::new();
            let inner = place.folder.path().join("inner");
            let ended = finish(client().download(server.url("/url-name.bin")).to_dir(&inner)).await;
            let made = ended.report().entries[0].file.clone().expect("a file");
            assert_eq!(made.parent(), Some(inner.as_path()), "{header}");
            assert_eq!(std::fs::read(&made).unwrap(), file.content(), "{header}");
            assert_eq!(place.names(), ["inner"], "{header}");
            assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1, "{header}");
        }
    }
}

fn percent(name: &str) -> String {
    name.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[tokio::test]
async fn the_name_is_that_of_the_header_or_else_of_the_url() {
    let plain = File::new(1, 1000);
    let named = plain.clone().with_header("Content-Disposition", "attachment; filename=\"from header.bin\"");
    for (file, expected) in [(plain, "from-url.bin"), (named, "from header.bin")] {
        let server = FaultServer::file(file);
        let place = Place::new();
        let ended = finish(client().download(server.url("/a/from-url.bin?x=1")).to_dir(place.folder.path())).await;
        assert_eq!(ended.report().entries[0].path.as_str(), expected);
        assert_eq!(place.names(), [expected]);
    }
}

#[tokio::test]
async fn a_download_is_resumed_under_the_name_that_a_header_gave_it() {
    let file = File::new(2, LEN).with_header("Content-Disposition", "attachment; filename=\"named.bin\"");
    let (served, gate, turned) = (file.clone(), Gate::new(), Arc::new(AtomicBool::new(false)));
    let has_turned = turned.clone();
    let server = FaultServer::start(move |request| {
        if has_turned.load(Ordering::Relaxed) { served.reply(request) } else { half(&served, request, &gate) }
    });
    let place = Place::new();
    let job = || download(&server).retries(100).to_dir(place.folder.path());
    stop_at(job(), HALF).await;
    turned.store(true, Ordering::Relaxed);
    let names = place.names();
    assert!(
        names.contains(&"named.bin.part".to_owned()) && names.contains(&"named.bin.part.dlm".to_owned()),
        "{names:?}"
    );
    let ended = finish(job()).await;
    assert!(ended.report().resumed >= HALF);
    assert_eq!(place.names(), ["named.bin"]);
    assert_eq!(std::fs::read(place.folder.path().join("named.bin")).unwrap(), file.content());
}

#[tokio::test]
async fn a_file_larger_than_allowed_is_refused_with_and_without_a_length() {
    let file = File::new(3, LEN);
    let chunked = file.clone().with(Fault::Framed(Framing::Chunked));
    for (file, at_once) in [(file, true), (chunked, false)] {
        let server = FaultServer::file(file.clone());
        let place = Place::new();
        let ended = finish(download(&server).max_size(LEN as u64 - 1).to_file(&place.file)).await;
        assert_eq!(ended.result.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(place.content(), None);
        assert!(!at_once || place.names().is_empty(), "nothing is begun: {:?}", place.names());
        let place = Place::new();
        let ended = finish(download(&server).max_size(LEN as u64).to_file(&place.file)).await;
        assert!(ended.result.is_ok(), "{:?}", ended.result);
    }
}

#[tokio::test]
async fn a_file_that_is_there_is_kept_replaced_or_stood_beside() {
    let file = File::new(4, 5000);
    let server = FaultServer::file(file.clone());
    for on_exists in [OnExists::Fail, OnExists::Skip, OnExists::Overwrite, OnExists::Rename] {
        let place = Place::new();
        std::fs::write(&place.file, "old").unwrap();
        let ended = finish(download(&server).on_exists(on_exists).to_file(&place.file)).await;
        let there = place.content().unwrap();
        match on_exists {
            OnExists::Fail => {
                assert_eq!(ended.result.unwrap_err().kind(), ErrorKind::Exists);
                assert_eq!((there.as_slice(), place.names().len()), (&b"old"[..], 1));
            }
            OnExists::Skip => {
                assert!(ended.report().entries[0].skipped);
                assert_eq!((there.as_slice(), place.names().len()), (&b"old"[..], 1));
            }
            OnExists::Overwrite => {
                assert!(ended.result.is_ok());
                assert!(there == file.content() && place.names().len() == 1);
            }
            _ => {
                let other = ended.report().entries[0].file.clone().expect("a file");
                assert_ne!(other, place.file);
                assert_eq!((there.as_slice(), place.names().len()), (&b"old"[..], 2));
                assert_eq!(std::fs::read(other).unwrap(), file.content());
            }
        }
    }
}

#[tokio::test]
async fn a_file_has_the_time_of_its_last_change() {
    let time = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    let server = FaultServer::file(File::new(5, 5000).with_modified(Some(time)));
    for keep in [true, false] {
        let place = Place::new();
        let ended = finish(download(&server).keep_mtime(keep).to_file(&place.file)).await;
        assert!(ended.result.is_ok());
        let modified = std::fs::metadata(&place.file).unwrap().modified().unwrap();
        assert_eq!(modified == time, keep);
    }
}
