//! `dlm get` against the real nginx: what arrives, what is left behind, and how the program ends.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;

use common::{assert_code, dlm, folder, names};
use dlm_testing::{Authority, Content, Dlm, Finished, Location, Nginx, Process, Proxy};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const CONTENT: Content = Content::new(1, 5 * MIB + 7);

fn get(dir: &Path, args: &[&str]) -> Finished {
    dlm(dir, args).run()
}

#[test]
fn a_file_arrives_with_its_name_and_time_and_nothing_else() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let served = fs::File::options().append(true).open(nginx.root().join("f.bin")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    served.set_modified(time).unwrap();

    let done = get(dir.path(), &[&url]);
    assert_code(&done, 0);
    assert!(done.stdout.is_empty());
    assert!(done.stderr.contains("f.bin: 5.00 MiB in "), "{}", done.stderr);
    assert_eq!(names(dir.path()), ["f.bin"]);
    assert_eq!(CONTENT.check_file(dir.path().join("f.bin")), Ok(()));
    assert_eq!(fs::metadata(dir.path().join("f.bin")).unwrap().modified().unwrap(), time);

    let done = get(dir.path(), &["--no-mtime", "-q", "-o", "now", &url]);
    assert_code(&done, 0);
    assert_eq!(done.stderr, "");
    assert_ne!(fs::metadata(dir.path().join("now")).unwrap().modified().unwrap(), time);
}

#[test]
fn it_goes_where_it_is_told_to() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    for (args, file) in [
        (&["-o", "name"][..], "name"),
        (&["-d", "new/folder"], "new/folder/f.bin"),
        (&["-d", "new", "-o", "name"], "new/name"),
    ] {
        assert_code(&get(dir.path(), &[args, &[&url]].concat()), 0);
        assert_eq!(CONTENT.check_file(dir.path().join(file)), Ok(()));
    }
    let done = get(dir.path(), &["-o", "-", "-c", "4", &url]);
    assert_code(&done, 0);
    assert_eq!(CONTENT.check(&done.stdout[..]), Ok(()));
}

#[test]
fn a_file_that_is_there_is_treated_as_told() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let file = dir.path().join("f.bin");
    fs::write(&file, "mine").unwrap();

    let done = get(dir.path(), &[&url]);
    assert_code(&done, 1);
    assert!(done.stderr.contains("--on-exists"), "{}", done.stderr);
    assert_code(&get(dir.path(), &["--on-exists", "skip", &url]), 0);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(names(dir.path()), ["f.bin"]);

    assert_code(&get(dir.path(), &["--on-exists", "rename", &url]), 0);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let other = names(dir.path()).into_iter().find(|name| name != "f.bin").unwrap();
    assert_eq!(CONTENT.check_file(dir.path().join(other)), Ok(()));

    assert_code(&get(dir.path(), &["--on-exists", "overwrite", &url]), 0);
    assert_eq!(CONTENT.check_file(&file), Ok(()));
}

#[test]
fn a_checksum_decides() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let good = format!("sha256:{}", CONTENT.sha256());
    let done = get(dir.path(), &["--checksum", &good, "-o", "good", &url]);
    assert_code(&done, 0);
    assert!(done.stderr.contains("sha-256 matches"), "{}", done.stderr);

    let bad = format!("sha256:{}", "00".repeat(32));
    let done = get(dir.path(), &["--checksum", &bad, "-o", "bad", &url]);
    assert_code(&done, 3);
    assert!(done.stderr.contains("hint: "), "{}", done.stderr);
    assert_eq!(names(dir.path()), ["good"]);
}

#[test]
fn each_failure_has_its_code() {
    let nginx = Nginx::builder().location(Location::new("/private/").user("me", "secret")).start();
    let dir = folder();
    let url = nginx.put("f.bin", &CONTENT);
    assert_code(&get(dir.path(), &[&nginx.url("missing")]), 4);
    let private = nginx.url("private/f.bin");
    assert_code(&get(dir.path(), &[&private]), 5);
    assert_code(&get(dir.path(), &["--user", "me:wrong", &private]), 5);
    assert_code(&get(dir.path(), &["--max-size", "5MiB", &url]), 1);
    assert_code(&get(dir.path(), &["-d", "/proc/none", &url]), 1);
    // A port that nobody answers at: the system completes the connection, and then there is silence.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/f.bin", silent.local_addr().unwrap());
    assert_code(&get(dir.path(), &["--timeout", "200ms", "--retries", "0", &silent]), 7);
    assert_eq!(names(dir.path()), [""; 0], "nothing is left where nothing was received");

    assert_code(&get(dir.path(), &["--user", "me:secret", &private]), 0);
    assert_code(&get(dir.path(), &["-o", "too", &private.replace("//", "//me:secret@")]), 0);
}

#[test]
fn a_full_disk_has_its_code() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let script = "exec \"$0\" get -o - \"$1\" > /dev/full";
    let done = Dlm::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_dlm"), &url]).dir(dir.path()).run();
    assert_code(&done, 6);
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let (process, mut stdout) = dlm(dir.path(), &["-o", "-", &url]).spawn();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let done = process.wait();
    assert_code(&done, 1);
    assert!(done.stderr.contains("has stopped reading"), "{}", done.stderr);
}

#[test]
fn several_are_all_tried_and_the_first_failure_decides() {
    let (nginx, dir) = (Nginx::start(), folder());
    let contents: Vec<Content> = (0..6).map(|seed| Content::new(seed, 100_000 + seed)).collect();
    let urls: Vec<String> = contents.iter().map(|c| nginx.put(&format!("f{}", c.seed), c)).collect();
    let list = format!("# six, and one that is not there\n{}\n\n{}\n", nginx.url("missing"), urls[1..].join("\n"));
    let done = dlm(dir.path(), &["-j", "2", "-i", "-", "--json", &urls[0]]).input(list).run();
    assert_code(&done, 4);
    for content in contents {
        assert_eq!(content.check_file(dir.path().join(format!("f{}", content.seed))), Ok(()));
    }
    let last = done.json().pop().unwrap();
    assert_eq!((&last["complete"], &last["failed"], &last["exit_code"]), (&6.into(), &1.into(), &4.into()));
}

#[test]
fn json_tells_the_whole_story_without_secrets() {
    let nginx = Nginx::builder().location(Location::new("/private/").user("me", "hunter2")).start();
    let dir = folder();
    nginx.put("f.bin", &CONTENT);
    let url = nginx.url("private/f.bin?key=hunter2").replace("//", "//me:hunter2@");
    let checksum = format!("sha256:{}", CONTENT.sha256());
    let done = get(dir.path(), &["--json", "-vvv", "--checksum", &checksum, "--header", "X-Key: hunter2", &url]);
    assert_code(&done, 0);
    assert!(!done.text().contains("hunter2"), "{}", done.text());
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);

    let events = done.json();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 2], kinds[kinds.len() - 1]), ("started", "complete", "done"));
    let complete = &events[events.len() - 2];
    let entry = &complete["entries"][0];
    assert_eq!((&entry["len"], &entry["hash"]), (&CONTENT.len.into(), &"sha-256".into()), "{entry}");
    assert_eq!(CONTENT.check_file(dir.path().join(entry["file"].as_str().unwrap())), Ok(()));
}

/// Starts a download that can't end soon, and waits until some of it is there.
fn started(dir: &Path, url: &str) -> Process {
    let (process, stdout) = dlm(dir, &["--json", "-c", "2", url]).spawn();
    let mut lines = BufReader::new(stdout);
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {:?}", process.wait());
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "progress" && event["received"].as_u64().unwrap() > MIB {
            break;
        }
    }
    // It must not be stopped by an output that nobody reads.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    process
}

/// Breaks a download off, and runs it again: it must go on from what was there.
fn broken_off(how: impl FnOnce(&mut Process), code: Option<i32>) {
    let dir = folder();
    let slow = dir.path().join("slow");
    fs::write(&slow, "").unwrap();
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate_while(&slow, 2 * MIB)).start();
    let content = Content::new(2, 64 * MIB);
    nginx.put("f.bin", &content);
    let (url, to) = (nginx.url("f/f.bin"), dir.path().join("to"));
    fs::create_dir(&to).unwrap();

    let mut process = started(&to, &url);
    how(&mut process);
    let done = process.wait();
    assert_eq!(done.code, code, "{}", done.stderr);
    assert!(!to.join("f.bin").exists());

    fs::remove_file(&slow).unwrap();
    let done = get(&to, &["--json", &url]);
    assert_code(&done, 0);
    assert_eq!(content.check_file(to.join("f.bin")), Ok(()));
    assert_eq!(names(&to), ["f.bin"]);
    let events = done.json();
    let complete = events.iter().find(|event| event["event"] == "complete").unwrap();
    let (resumed, transferred) = (complete["resumed"].as_u64().unwrap(), complete["transferred"].as_u64().unwrap());
    assert!(resumed > 0 && resumed + transferred >= content.len, "{complete}");
    assert!(transferred < content.len, "{complete}");
}

#[test]
fn an_interrupted_download_goes_on() {
    broken_off(|process| process.interrupt(), Some(130));
}

#[test]
fn a_terminated_download_goes_on() {
    broken_off(|process| process.terminate(), Some(130));
}

#[test]
fn a_killed_download_goes_on() {
    broken_off(Process::kill, None);
}

#[test]
fn a_mirror_that_dies_is_done_without() {
    let (nginx, dir) = (Nginx::start(), folder());
    nginx.put("f.bin", &CONTENT);
    let dying = Proxy::cut_after(nginx.addr(), MIB);
    let checksum = format!("sha256:{}", CONTENT.sha256());
    let done = get(dir.path(), &["--checksum", &checksum, &dying.url("f.bin"), "-m", &nginx.url("f.bin")]);
    assert_code(&done, 0);
    assert_eq!(CONTENT.check_file(dir.path().join("f.bin")), Ok(()));
    assert!(dying.is_cut());
}

#[test]
fn certificates_are_checked() {
    let (authority, dir) = (Authority::new(), folder());
    let ca = authority.ca_file();
    let ca = ca.to_str().unwrap();
    for (cert, good) in
        [(authority.cert(), true), (authority.cert_for_another_host(), false), (authority.expired_cert(), false)]
    {
        let nginx = Nginx::builder().tls(cert).start();
        nginx.put("f.bin", &CONTENT);
        let url = nginx.tls_url("f.bin");
        let trusting = get(dir.path(), &["--retries", "0", "--ca-certificate", ca, "--on-exists", "overwrite", &url]);
        assert_eq!(trusting.code == Some(0), good, "{}", trusting.stderr);
        assert_ne!(get(dir.path(), &["--retries", "0", "-o", "unknown", &url]).code, Some(0));
        assert_code(&get(dir.path(), &["--insecure", "--on-exists", "overwrite", "-o", "insecure", &url]), 0);
    }
    assert_eq!(names(dir.path()), ["f.bin", "insecure"]);
}
