//! Many connections, long files, many files, and what they take.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dlm_testing::{Content, Location, Nginx};

use super::{KIB, MIB, assert_code, dlm, event, folder, names};

/// One at a time: the figures of one would be those of another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many connections the server was asked over.
fn connections(nginx: &Nginx) -> usize {
    nginx.all_requests().iter().map(|request| request.connection).collect::<HashSet<_>>().len()
}

#[test]
fn a_gigabyte_over_eight_connections_takes_little_memory() {
    let _alone = alone();
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(8 * MIB)).start();
    let (content, dir) = (Content::new(1, 1024 * MIB), folder());
    nginx.put("f.bin", &content);

    let done = dlm(dir.path(), &["-c", "8", "--json", &nginx.url("f/f.bin")]).run();
    assert_code(&done, 0);
    assert_eq!(content.check_file(dir.path().join("f.bin")), Ok(()));
    assert_eq!(names(dir.path()), ["f.bin"]);
    assert_eq!(done.json().iter().filter_map(|event| event["connections"].as_u64()).max(), Some(8));
    // One whose tail is taken by another ends before its body does, so there are some more.
    assert!(connections(&nginx) >= 8);
    println!("{:.1} MiB at the most", done.peak_memory as f64 / MIB as f64);
    assert!(done.peak_memory < 32 * MIB, "{} bytes", done.peak_memory);
}

/// The rate once all connections are open, in bytes a second, and how many times longer than at that rate the end took.
fn measure(nginx: &Nginx, connections: u64, len: u64) -> (f64, f64) {
    let (content, dir) = (Content::new(2, len), folder());
    nginx.put("f.bin", &content);
    let url = nginx.url("f/f.bin");
    let (process, events) = dlm(dir.path(), &["-c", &connections.to_string(), "--json", &url]).watch();
    let (mut first, mut last, mut end, mut ended) = (None, None, None, None);
    for event in events {
        if event["event"] == "state" && event["state"] == "finishing" {
            ended = Some(Instant::now());
        }
        if event["event"] != "progress" {
            continue;
        }
        let now = (Instant::now(), event["received"].as_u64().unwrap());
        if first.is_none() && event["connections"] == connections {
            first = Some(now);
        }
        if now.1 * 10 <= len * 8 {
            last = Some(now);
        } else if now.1 * 10 >= len * 9 {
            end.get_or_insert(now);
        }
    }
    assert_code(&process.wait(), 0);
    assert_eq!(content.check_file(dir.path().join("f.bin")), Ok(()));
    let (first, last, end) = (first.expect("all connections"), last.unwrap(), end.unwrap());
    let passed = last.0.saturating_duration_since(first.0).as_secs_f64();
    assert!(passed > 1.0, "{connections} connections were open too late: {passed} seconds before the end");
    let rate = (last.1 - first.1) as f64 / passed;
    let tail = ended.unwrap().saturating_duration_since(end.0).as_secs_f64();
    (rate, tail / ((len - end.1) as f64 / rate))
}

#[test]
fn each_connection_adds_its_share_and_the_end_is_not_slow() {
    let _alone = alone();
    let rate = 2 * MIB;
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(rate)).start();
    let (single, _) = measure(&nginx, 1, 6 * rate);
    for (connections, len) in [(4, 80 * MIB), (8, 160 * MIB)] {
        let (rate, tail) = measure(&nginx, connections, len);
        let share = rate / single / connections as f64;
        println!("{connections} connections: {share:.3} of {connections} times a single one; the end takes {tail:.2}");
        assert!(share > 0.9, "{rate} is {share} of {connections} times {single}");
        assert!(tail < 2.0, "the last tenth takes {tail} times as long as others");
    }
}

#[test]
fn a_fast_connection_is_not_asked_in_small_bits() {
    let _alone = alone();
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(32 * MIB)).start();
    let (content, dir) = (Content::new(9, 256 * MIB), folder());
    nginx.put("f.bin", &content);
    assert_code(&dlm(dir.path(), &["-q", "-c", "2", &nginx.url("f/f.bin")]).run(), 0);
    assert_eq!(content.check_file(dir.path().join("f.bin")), Ok(()));
    let requests = nginx.all_requests().len();
    println!("{requests} requests");
    // The second connection brings nearly half of it. 4 MiB are asked for first, 32 MiB are the most.
    assert!(requests <= 16, "{requests}");
}

#[test]
fn a_slow_reader_of_standard_output_costs_no_memory() {
    let _alone = alone();
    let nginx = Nginx::builder().location(Location::new("/f/").limit_rate(10 * MIB)).start();
    let (content, dir) = (Content::new(3, 200 * MIB), folder());
    nginx.put("f.bin", &content);
    let (process, stdout) = dlm(dir.path(), &["-q", "-o", "-", "-c", "4", &nginx.url("f/f.bin")]).spawn();
    assert_eq!(content.check(Slow(stdout)), Ok(()));
    let done = process.wait();
    assert_code(&done, 0);
    assert_eq!(names(dir.path()), [""; 0]);
    assert!(connections(&nginx) >= 4);
    println!("{:.1} MiB at the most", done.peak_memory as f64 / MIB as f64);
    assert!(done.peak_memory < 64 * MIB, "{} bytes", done.peak_memory);
}

/// A reader of about 30 MiB a second, which is less than four connections bring.
struct Slow<R>(R);

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buf)?;
        thread::sleep(Duration::from_secs(1) * read as u32 / (30 * MIB) as u32);
        Ok(read)
    }
}

#[test]
fn a_limit_holds() {
    let _alone = alone();
    let (nginx, limit) = (Nginx::start(), 3 * MIB);
    let (content, dir) = (Content::new(4, 10 * limit), folder());
    let url = nginx.put("f.bin", &content);
    let done = dlm(dir.path(), &["--json", "--limit", "3MiB", &url]).run();
    assert_code(&done, 0);
    assert_eq!(content.check_file(dir.path().join("f.bin")), Ok(()));
    let events = done.json();
    let rate = content.len as f64 / (event(&events, "complete")["elapsed_ms"].as_f64().unwrap() / 1000.0);
    println!("{:.3} of the limit", rate / limit as f64);
    assert!(rate < limit as f64 * 1.05, "{rate}");
    assert!(rate > limit as f64 * 0.8, "{rate}");
}

#[test]
fn many_small_files_share_connections() {
    let _alone = alone();
    let (nginx, dir) = (Nginx::start(), folder());
    let contents: Vec<Content> = (0..300).map(|seed| Content::new(seed, 10 * KIB)).collect();
    let urls: Vec<String> = contents.iter().map(|c| nginx.put(&format!("f{}", c.seed), c)).collect();
    let start = Instant::now();
    let done = dlm(dir.path(), &["-q", "-i", "-", "-j", "8"]).input(urls.join("\n")).run();
    println!("{:?}", start.elapsed());
    assert_code(&done, 0);
    for content in &contents {
        assert_eq!(content.check_file(dir.path().join(format!("f{}", content.seed))), Ok(()));
    }
    assert_eq!(names(dir.path()).len(), contents.len());
    let connections = connections(&nginx);
    println!("{connections} connections");
    assert!(connections <= 32, "{connections}");
}
