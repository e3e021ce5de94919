//! The examples, run as a reader would run them, against a real nginx.

#![cfg(feature = "http")]

use std::path::{Path, PathBuf};
use std::process::Command;

use dlm_testing::{Content, Nginx};

/// What cargo has built the example as: tests and examples are siblings in the target folder.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(built.exists(), "{} is missing; `cargo test` builds the examples", built.display());
    built
}

fn run(name: &str, args: &[&str]) -> String {
    let output = Command::new(example(name)).args(args).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Place {
    nginx: Nginx,
    folder: tempfile::TempDir,
    content: Content,
}

impl Place {
    fn new() -> (Self, String) {
        let place =
            Self { nginx: Nginx::start(), folder: tempfile::tempdir().unwrap(), content: Content::new(7, 3_000_001) };
        let url = place.nginx.put("file.bin", &place.content);
        (place, url)
    }

    fn target(&self) -> String {
        self.folder.path().join("got.bin").to_str().unwrap().to_owned()
    }

    fn check(&self) {
        self.content.check_file(Path::new(&self.target())).unwrap();
    }
}

#[test]
fn get() {
    let (place, url) = Place::new();
    let said = run("get", &[&url, &place.target(), &format!("sha256:{}", place.content.sha256())]);
    place.check();
    assert_eq!(said, "3000001 bytes, Digest(\"sha-256\")\n");
}

#[test]
fn progress() {
    let (place, url) = Place::new();
    let said = run("progress", &[&url, &place.target()]);
    place.check();
    assert!(said.ends_with("State(Complete)\n3000001 bytes\n"), "{said}");
}

#[test]
fn reader() {
    let (place, url) = Place::new();
    let said = run("reader", &[&url, &place.target()]);
    place.check();
    let bytes = place.content.bytes();
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    assert!(said.contains(&format!("{:02x?}", &bytes[bytes.len() - 16..])), "{said}");
    assert!(said.contains(&format!("the sum of all 3000001 bytes: {sum}")), "{said}");
}

#[test]
fn custom_sink() {
    let (place, url) = Place::new();
    let lines = place.content.bytes().iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(run("custom_sink", &[&url]), format!("{lines} lines\n"));
}

#[test]
fn custom_source() {
    let (place, url) = Place::new();
    let local = place.nginx.root().join("file.bin");
    let said = run("custom_source", &[&place.target(), &format!("file://{}", local.display()), &url]);
    place.check();
    assert!(said.contains("bytes from file://"), "{said}");
}

#[test]
fn custom_scheduler() {
    let (place, url) = Place::new();
    run("custom_scheduler", &[&url, &place.target()]);
    place.check();
}
