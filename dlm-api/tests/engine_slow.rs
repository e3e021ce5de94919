//! Connections that are slow or silent: which are replaced, when, and what that costs.

mod common;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Script, Served, client_here, content};
use dlm_api::{Event, Report, WriterSink};
use tokio::io::AsyncReadExt;
use tokio::time;

/// What each connection brings in a second, unless it is told otherwise.
const RATE: u64 = 1_000_000;

/// Much less than a tenth of that.
const TRICKLE: u64 = RATE * 3 / 100;

const CHUNK: usize = 16 * KIB;

/// The most that a compared overlap is.
const OVERLAP: u64 = 4 << 10;

/// How long a connection must be slow to be replaced.
const LAGGARD_TIME: Duration = Duration::from_secs(5);

/// How much later than that it may be seen: a rate is a mean of the last seconds.
const NOTICED: Duration = Duration::from_secs(2);

fn slow(bytes: &Bytes) -> Script {
    script("a", bytes).with_rate(RATE).with_chunk(CHUNK)
}

/// This many bytes a second from the beginning.
fn trickle(rate: u64) -> Act {
    Act::Trickle { after: 0, rate }
}

/// Downloads over this many connections at most, and compares.
async fn fetch(script: &Script, bytes: &Bytes, connections: usize) -> (Report, Vec<Event>) {
    fastrand::seed(0);
    let memory = memory();
    let download = client_here().download_from_sources().source(ranged(script)).connections(connections);
    let handle = download.to_memory(memory.clone()).start();
    let events = listen(&handle);
    let report = handle.wait().await.unwrap();
    same(first(&memory).unwrap(), bytes, "the download");
    (report, events.await.unwrap())
}

/// How often a connection was replaced because of its siblings.
fn replaced(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|e| matches!(e, Event::SourceRetry { reason, .. } if reason.contains("than its siblings")))
        .count()
}

/// How many bytes two ranges have in common.
fn common_part(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

/// Nothing was brought twice but the overlaps that are compared, and what was on its way where a body was let go.
fn nothing_is_brought_twice(served: &[Served], len: usize) {
    let brought: u64 = served.iter().map(|s| s.bytes).sum();
    let most = len as u64 + served.len() as u64 * (OVERLAP + CHUNK as u64);
    assert!(brought <= most, "{brought} bytes were brought of {len}, with {} requests", served.len());
}

/// The first request, or a later one, trickles from its beginning. Without the rule its connection would be kept for as long
/// as there is anything left to be stolen from it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_trickles_is_replaced_and_only_what_is_missing_asked_again() {
    const LEN: usize = 40 * MIB;
    let bytes = content(1, LEN);
    for (connections, nth) in [(2, 0), (2, 1), (2, 3), (4, 0), (4, 1), (4, 3)] {
        let what = format!("{connections} connections, request {nth}");
        let script = slow(&bytes);
        script.act((0..nth).map(|_| Act::Serve)).act([trickle(TRICKLE)]);
        let (report, events) = fetch(&script, &bytes, connections).await;
        assert_eq!(replaced(&events), 1, "{what}: {events:?}");

        let served = script.served();
        let laggard = &served[nth];
        // Alone, nobody is slow.
        let since = laggard.opened.max(served[1].opened);
        let lasted = laggard.closed.unwrap() - since;
        assert!((LAGGARD_TIME..LAGGARD_TIME + NOTICED).contains(&lasted), "{what}: it was kept for {lasted:?}");

        // Somebody else goes on where it was.
        let brought = laggard.range();
        let next = served.iter().find(|s| s.start + OVERLAP == brought.end).expect("the rest is asked for");
        let after = next.opened - laggard.closed.unwrap();
        assert!(after < Duration::from_secs(3), "{what}: the rest was asked for after {after:?}");
        let again = |s: &Served| common_part(&s.range(), &(brought.start + OVERLAP..brought.end));
        let others = served.iter().enumerate().filter(|(i, _)| *i != nth);
        let again: u64 = others.map(|(_, s)| again(s)).sum();
        assert!(again <= OVERLAP, "{what}: of {} bytes {again} were brought again", laggard.bytes);
        nothing_is_brought_twice(&served, LEN);

        // The others are not kept from their share.
        let alone = Duration::from_secs_f64(LEN as f64 / RATE as f64);
        assert!(report.elapsed < alone.mul_f64(0.7), "{what}: {:?}", report.elapsed);
    }
}

/// Shortly before its end a connection becomes slow. What is left of its lease is too short to be stolen, and its sibling
/// has nothing else to do.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_download_does_not_wait_for_a_laggard() {
    const LEN: usize = 6 * MIB;
    let bytes = content(2, LEN);
    let script = slow(&bytes);
    script.act([Act::Serve, Act::Trickle { after: 2_300_000, rate: RATE / 200 }]);
    let (report, events) = fetch(&script, &bytes, 2).await;
    let served = script.served();
    assert_eq!(replaced(&events), 1, "{events:?}");
    let [first, laggard, rest] = &served[..] else { panic!("{} requests", served.len()) };
    assert!(first.closed.unwrap() + LAGGARD_TIME < laggard.closed.unwrap(), "the sibling is idle");
    assert_eq!(rest.start, laggard.range().end - OVERLAP, "only what is missing is asked for again");
    // What is left would take more than a minute.
    assert!(report.elapsed < Duration::from_secs(13), "{:?}", report.elapsed);
    nothing_is_brought_twice(&served, LEN);
}

/// More connections do not pay while one of them trickles. Those that are too many then are not the good ones.
#[tokio::test(start_paused = true)]
async fn the_connection_that_stays_is_not_the_laggard() {
    const LEN: usize = 8 * MIB;
    let bytes = content(3, LEN);
    let script = slow(&bytes);
    script.act([Act::Serve, trickle(TRICKLE)]);
    let (report, _) = fetch(&script, &bytes, 4).await;
    // As if there had been one connection all the time.
    assert!(report.elapsed < Duration::from_secs(10), "{:?}", report.elapsed);
    nothing_is_brought_twice(&script.served(), LEN);
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_that_is_no_laggard_is_kept() {
    const LEN: usize = 40 * MIB;
    let bytes = content(4, LEN);
    for (connections, nth) in [(2, 0), (4, 0), (4, 2)] {
        let what = format!("{connections} connections, request {nth}");
        let script = slow(&bytes);
        script.act((0..nth).map(|_| Act::Serve)).act([trickle(RATE * 12 / 100)]);
        let (_, events) = fetch(&script, &bytes, connections).await;
        let retries: Vec<_> = events.iter().filter(|e| matches!(e, Event::SourceRetry { .. })).collect();
        assert!(retries.is_empty(), "{what}: {retries:?}");
        let lasted = script.served()[nth].lasted().unwrap();
        assert!(lasted > LAGGARD_TIME + NOTICED, "{what}: it had no time to be noticed: {lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_all_as_slow_are_kept() {
    const LEN: usize = 2 * MIB;
    let bytes = content(5, LEN);
    for connections in [1, 2, 4] {
        let script = slow(&bytes);
        script.always(trickle(TRICKLE));
        let (report, events) = fetch(&script, &bytes, connections).await;
        assert!(report.elapsed > 3 * LAGGARD_TIME);
        let retries: Vec<_> = events.iter().filter(|e| matches!(e, Event::SourceRetry { .. })).collect();
        assert!(retries.is_empty(), "{connections} connections: {retries:?}");
        assert_eq!(script.most_open(), connections);
        nothing_is_brought_twice(&script.served(), LEN);
    }
}

/// What waits for a slow reader, or for a limit, has bytes that nobody takes. Both begin when there are several connections.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_held_back_is_no_laggard() {
    const LEN: usize = 16 * MIB;
    const FAST: usize = 10 * MIB;
    let bytes = content(7, LEN);
    for by_limit in [false, true] {
        let (writer, mut reader) = tokio::io::duplex(16 * KIB);
        let script = slow(&bytes);
        let download = client_here().download_from_sources().source(ranged(&script)).connections(4);
        let handle = download.to_sink(WriterSink::new(writer).with_window(4 * MIB as u64)).start();
        let events = listen(&handle);
        let (mut out, mut buffer) = (Vec::new(), vec![0; 16 * KIB]);
        loop {
            let n = reader.read(&mut buffer).await.unwrap();
            if n == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..n]);
            match by_limit {
                _ if out.len() < FAST => {}
                true => handle.set_rate_limit(Some(50_000)),
                false => time::sleep(Duration::from_millis(250)).await,
            }
        }
        let report = handle.wait().await.unwrap();
        same(out, &bytes, by_limit);
        assert_eq!(script.most_open(), 4);
        assert!(report.elapsed > Duration::from_secs(40), "{:?}", report.elapsed);
        assert_eq!(replaced(&events.await.unwrap()), 0, "by a limit: {by_limit}");
    }
}

/// With one connection nobody else can bring the rest.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_replaced_after_three_seconds_or_eight_round_trips() {
    const LEN: usize = 4 * MIB;
    let bytes = content(6, LEN);
    for (rtt, patience) in [(0, 3000), (100, 3000), (375, 3000), (1000, 8000)] {
        let (rtt, patience) = (Duration::from_millis(rtt), Duration::from_millis(patience));
        let script = slow(&bytes).with_rtt(rtt);
        // A server that is silent again is given more time.
        script.act([Act::StallAfter(MIB), Act::StallAfter(0)]);
        let (_, events) = fetch(&script, &bytes, 1).await;
        let silent = |e: &&Event| matches!(e, Event::SourceRetry { reason, .. } if reason.contains("nothing came"));
        assert_eq!(events.iter().filter(silent).count(), 2, "{rtt:?}: {events:?}");

        let served = script.served();
        let sending = Duration::from_secs_f64(MIB as f64 / RATE as f64);
        for (silence, wanted) in
            [(served[0].lasted().unwrap() - sending, patience), (served[1].lasted().unwrap(), 2 * patience)]
        {
            assert!((wanted..wanted + Duration::from_millis(200)).contains(&silence), "{rtt:?}: {silence:?}");
        }
        for next in &served[1..] {
            assert_eq!(next.start, MIB as u64 - OVERLAP, "{rtt:?}: only what is missing is asked for");
        }
        assert_eq!(served.iter().map(|s| s.bytes).sum::<u64>(), LEN as u64 + OVERLAP, "{rtt:?}");
        assert_eq!(served.len(), 3);
    }
}
