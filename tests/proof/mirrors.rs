//! Mirrors that die, and mirrors that lie.

use std::fs;

use dlm_testing::{Content, Location, Nginx, Proxy};
use serde_json::Value;

use super::{KIB, MIB, assert_code, dlm, event, folder, names};

const CONTENT: Content = Content::new(7, 16 * MIB + 5);

const SLOW: u64 = 2 * MIB;
const FAST: u64 = 6 * MIB;

/// One whose every connection has this rate.
fn server(rate: u64) -> Nginx {
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(rate)).start();
    nginx.put("f.bin", &CONTENT);
    nginx
}

/// A server that has the file with every `step`th byte wrong.
fn liar(rate: u64, step: u64) -> Nginx {
    let nginx = server(rate);
    let file = nginx.root().join("f.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes.iter_mut().skip(step as usize / 2).step_by(step as usize).for_each(|byte| *byte ^= 1);
    fs::write(file, bytes).unwrap();
    nginx
}

/// Fetches from two places, and expects the right file.
fn get(first: &str, second: &str, checksum: Option<&str>) -> Vec<Value> {
    let dir = folder();
    let mut args = vec!["--json", "-c", "4", first, "-m", second];
    if let Some(checksum) = checksum {
        args.extend(["--checksum", checksum]);
    }
    let done = dlm(dir.path(), &args).run();
    assert_code(&done, 0);
    assert_eq!(CONTENT.check_file(dir.path().join("f.bin")), Ok(()));
    assert_eq!(names(dir.path()), ["f.bin"]);
    done.json()
}

/// The bytes that a source delivered, from the report at the end.
fn share(events: &[Value], source: &str) -> u64 {
    let sources = event(events, "complete")["sources"].as_array().unwrap();
    let found = sources.iter().find(|s| s["source"] == source).unwrap_or_else(|| panic!("{source} in {sources:?}"));
    found["transferred"].as_u64().unwrap()
}

/// Whether an event of this kind names a source.
fn is_told(events: &[Value], kind: &str, source: &str) -> bool {
    events.iter().any(|event| event["event"] == kind && event["source"] == source)
}

#[test]
fn a_mirror_that_dies_is_done_without_wherever_it_stands() {
    for dying_first in [true, false] {
        let nginx = server(SLOW);
        let proxy = Proxy::cut_after(nginx.addr(), 4 * MIB);
        let (dying, good) = (proxy.url("f/f.bin"), nginx.url("f/f.bin"));
        let events = if dying_first { get(&dying, &good, None) } else { get(&good, &dying, None) };
        assert!(proxy.is_cut());
        assert!(share(&events, &dying) > MIB && share(&events, &good) > MIB);
        assert!(is_told(&events, "source_retry", &dying), "{events:?}");
        assert!(!is_told(&events, "source_retry", &good), "{events:?}");
    }
}

/// An honest server and a liar of these rates.
fn lies_are_found_out(honest: u64, lying: u64) {
    let checksum = format!("sha256:{}", CONTENT.sha256());
    // With many wrong bytes mirrors contradict each other where they meet; with few only the checksum tells.
    for step in [KIB, MIB] {
        for liar_first in [true, false] {
            let (honest, liar) = (server(honest), liar(lying, step));
            let (good, bad) = (honest.url("f/f.bin"), liar.url("f/f.bin"));
            let events = if liar_first { get(&bad, &good, Some(&checksum)) } else { get(&good, &bad, Some(&checksum)) };
            let report = events.iter().filter(|event| event["event"] != "progress").collect::<Vec<_>>();
            assert!(share(&events, &bad) > 0, "the liar had no chance to lie: {report:?}");
            assert!(is_told(&events, "source_benched", &bad), "{report:?}");
            assert_eq!(event(&events, "complete")["entries"][0]["verification"], "digest");
        }
    }
}

#[test]
fn a_liar_is_found_out_and_named() {
    lies_are_found_out(SLOW, SLOW);
}

#[test]
fn a_liar_that_is_faster_is_not_believed_for_that() {
    lies_are_found_out(SLOW, FAST);
}

#[test]
fn a_liar_alone_brings_nothing() {
    let (liar, dir) = (liar(FAST, MIB), folder());
    let checksum = format!("sha256:{}", CONTENT.sha256());
    let done = dlm(dir.path(), &["--json", "--checksum", &checksum, &liar.url("f.bin")]).run();
    assert_code(&done, 3);
    assert_eq!(names(dir.path()), [""; 0]);
}
