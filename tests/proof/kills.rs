//! kill -9, again and again: what was fetched is not fetched twice.

use std::fs;

use dlm_testing::{Content, Location, Nginx, Proxy, wait_for};
use fastrand::Rng;
use serde_json::Value;

use super::{MIB, assert_code, dlm, event, folder, names, wait_for_state};

/// Kills a download of `len` bytes again and again, at random moments up to `most` bytes apart, and then lets it end.
/// Says how many times its length the server sent.
fn killed_again_and_again(kills: usize, most: u64, len: u64, checked: bool) -> f64 {
    let dir = folder();
    let (slow, to) = (dir.path().join("slow"), dir.path().join("to"));
    fs::write(&slow, "").unwrap();
    fs::create_dir(&to).unwrap();
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate_while(&slow, MIB)).start();
    let content = Content::new(5, len);
    nginx.put("f.bin", &content);
    let proxy = Proxy::new(nginx.addr());
    let (url, checksum) = (proxy.url("f/f.bin"), format!("sha256:{}", content.sha256()));
    let mut args = vec!["--json", "-c", "4", &url];
    if checked {
        args.extend(["--checksum", &checksum]);
    }

    let mut random = Rng::with_seed(1);
    for _ in 0..kills {
        let goal = proxy.delivered() + random.u64(1..most);
        let mut process = dlm(&to, &args).start();
        wait_for("some progress", || (proxy.delivered() >= goal).then_some(()));
        process.kill();
        assert_eq!(process.wait().code, None, "it must be killed before its end");
        assert!(!to.join("f.bin").exists());
    }
    fs::remove_file(&slow).unwrap();
    let done = dlm(&to, &args).run();
    assert_code(&done, 0);
    assert_eq!(content.check_file(to.join("f.bin")), Ok(()));
    assert_eq!(names(&to), ["f.bin"]);
    let events = done.json();
    let verification = if checked { "digest" } else { "same_content" };
    assert_eq!(event(&events, "complete")["entries"][0]["verification"], verification);

    sent(&nginx) as f64 / len as f64
}

/// The bytes of bodies that the server sent, those of requests that were broken off among them.
fn sent(nginx: &Nginx) -> u64 {
    nginx.all_requests().iter().map(|request| request.body_bytes_sent).sum()
}

#[test]
fn thirty_kills_cost_less_than_a_fifth() {
    let cost = killed_again_and_again(30, 4 * MIB, 72 * MIB, false);
    println!("{cost:.3} times the file");
    assert!(cost < 1.2, "{cost} times the file");
}

#[test]
fn kills_cost_no_more_where_a_checksum_is_given() {
    let cost = killed_again_and_again(8, 4 * MIB, 40 * MIB, true);
    println!("{cost:.3} times the file");
    assert!(cost < 1.2, "{cost} times the file");
}

#[test]
fn a_kill_after_the_last_byte_costs_nothing() {
    let (nginx, dir) = (Nginx::start(), folder());
    let content = Content::new(6, 256 * MIB);
    let url = nginx.put("f.bin", &content);
    let proxy = Proxy::cut_after(nginx.addr(), 255 * MIB);
    let checksum = format!("sha256:{}", content.sha256());
    let run = |url: &str| dlm(dir.path(), &["--json", "-o", "f.bin", "--checksum", &checksum, url]);

    // Nearly all of it. What this run leaves, the next one has to read before it can finish: it can be met at that.
    let (mut process, mut events) = run(&proxy.url("f.bin")).watch();
    let is_kept = |event: &Value| event["durable"].as_u64().is_some_and(|durable| durable > content.len / 10 * 9);
    // If it gives up before that can be seen, it has kept it all the same.
    let _ = events.by_ref().find(is_kept);
    process.kill();
    process.wait();

    let (mut process, mut events) = run(&url).watch();
    let resumed = events.find(|event| event["event"] == "resumed").unwrap()["bytes"].as_u64().unwrap();
    wait_for_state(&mut events, "finishing");
    process.kill();
    assert_eq!(process.wait().code, None, "it must be killed before its end");
    assert_eq!(names(dir.path()), ["f.bin.part", "f.bin.part.dlm", "f.bin.part.dlm-log"]);

    let before = sent(&nginx);
    let done = run(&url).run();
    assert_code(&done, 0);
    assert_eq!(content.check_file(dir.path().join("f.bin")), Ok(()));
    assert_eq!(names(dir.path()), ["f.bin"]);
    let events = done.json();
    let complete = event(&events, "complete");
    // What came in the last moment before a kill may come again; not what an earlier run had.
    assert!(resumed > content.len / 10 * 9, "{resumed}");
    assert!(complete["resumed"].as_u64().unwrap() >= resumed, "{complete}, {resumed}");
    let sent = sent(&nginx) - before;
    assert!(sent <= content.len - resumed + MIB, "{sent}, {resumed}");
}
