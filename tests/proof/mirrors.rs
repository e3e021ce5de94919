//! Mirrors that die, and mirrors that lie.

use std::fs;

use dlm_testing::{Content, Finished, Location, Nginx, Proxy};

use super::{KIB, MIB, assert_code, dlm, event, folder, names};

const CONTENT: Content = Content::new(7, 24 * MIB + 5);

/// One whose every connection is slow, so that a second mirror has its share.
fn slow() -> Nginx {
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(2 * MIB)).start();
    nginx.put("f.bin", &CONTENT);
    nginx
}

/// Fetches from two places, and expects the right file.
fn get(first: &str, second: &str, checksum: Option<&str>) -> Finished {
    let dir = folder();
    let mut args = vec!["--json", first, "-m", second];
    if let Some(checksum) = checksum {
        args.extend(["--checksum", checksum]);
    }
    let (process, events) = dlm(dir.path(), &args).watch();
    for event in events { if event["event"] != "progress" || event["elapsed_ms"].as_u64().unwrap() % 1000 < 210 { println!("{event}"); } }
    let done = process.wait();
    assert_code(&done, 0);
    assert_eq!(CONTENT.check_file(dir.path().join("f.bin")), Ok(()));
    assert_eq!(names(dir.path()), ["f.bin"]);
    done
}

/// The bytes that a source delivered, from the report at the end.
fn share(done: &Finished, source: &str) -> u64 {
    let events = done.json();
    let sources = event(&events, "complete")["sources"].as_array().unwrap().clone();
    let found = sources.iter().find(|s| s["source"] == source).unwrap_or_else(|| panic!("{source} in {sources:?}"));
    found["transferred"].as_u64().unwrap()
}

/// Whether the events say that a source is not to be used.
fn is_benched(done: &Finished, source: &str) -> bool {
    done.json().iter().any(|event| event["event"] == "source_benched" && event["source"] == source)
}

#[test]
fn a_mirror_that_dies_is_done_without_wherever_it_stands() {
    for dying_first in [true, false] {
        let nginx = slow();
        let proxy = Proxy::cut_after(nginx.addr(), 4 * MIB);
        let (dying, good) = (proxy.url("f/f.bin"), nginx.url("f/f.bin"));
        let done = if dying_first { get(&dying, &good, None) } else { get(&good, &dying, None) };
        assert!(proxy.is_cut());
        assert!(share(&done, &dying) > MIB && share(&done, &good) > MIB);
        assert!(is_benched(&done, &dying) && !is_benched(&done, &good), "{}", done.text());
    }
}

/// A server that has the file with every `step`th byte wrong.
fn liar(step: u64) -> Nginx {
    let nginx = slow();
    let file = nginx.root().join("f.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes.iter_mut().skip(step as usize / 2).step_by(step as usize).for_each(|byte| *byte ^= 1);
    fs::write(file, bytes).unwrap();
    nginx
}

#[test]
fn a_liar_is_found_out_and_named() {
    let checksum = format!("sha256:{}", CONTENT.sha256());
    // With many wrong bytes mirrors contradict each other where they meet; with few only the checksum tells.
    for step in [KIB, MIB] {
        for liar_first in [true, false] {
            let (honest, liar) = (slow(), liar(step));
            let (good, bad) = (honest.url("f/f.bin"), liar.url("f/f.bin"));
            let done = if liar_first { get(&bad, &good, Some(&checksum)) } else { get(&good, &bad, Some(&checksum)) };
            assert!(share(&done, &bad) > 0, "the liar had no chance to lie");
            assert!(is_benched(&done, &bad), "{}", done.text());
            let events = done.json();
            assert_eq!(event(&events, "complete")["entries"][0]["verification"], "digest");
        }
    }
}

#[test]
fn a_liar_alone_brings_nothing() {
    let (liar, dir) = (liar(MIB), folder());
    let checksum = format!("sha256:{}", CONTENT.sha256());
    let done = dlm(dir.path(), &["--json", "--checksum", &checksum, &liar.url("f.bin")]).run();
    assert_code(&done, 3);
    assert_eq!(names(dir.path()), [""; 0]);
}
