//! What servers do with ranges, one by one: how many requests they see, and what the report says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dlm_api::{ErrorKind, Verification};
use dlm_fault_server::{Ending, Fault, FaultServer, File, Framing, Gate, Reply, Request};

use crate::harness::{HALF, LEN, Place, assert_honest, download, finish, half, sha256, stop_at};

/// A server whose first answer waits half-way until a second request has come.
fn second_beside(first: File, later: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> FaultServer {
    let gate = Gate::new();
    FaultServer::start(move |request| {
        if request.number == 0 {
            return first.reply(request).with_gate(HALF, &gate);
        }
        gate.open();
        later(request)
    })
}

/// A server that is good until it is told to turn, and serves no more than half until then.
fn turning(good: File, bad: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (FaultServer, Arc<AtomicBool>) {
    let turned = Arc::new(AtomicBool::new(false));
    let (gate, has_turned) = (Gate::new(), turned.clone());
    let server = FaultServer::start(move |request| match has_turned.load(Ordering::Relaxed) {
        true => bad(request),
        false => half(&good, request, &gate),
    });
    (server, turned)
}

#[tokio::test]
async fn a_good_server_sees_one_request_and_nothing_is_wasted() {
    let file = File::new(1, LEN);
    let server = FaultServer::file(file.clone());
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("good", &ended, &place, &server, &[file.content()]);
    assert_eq!(*ended.verification(), Verification::SameContent);
    assert_eq!((server.requests().len(), ended.report().wasted), (1, 0));
}

#[tokio::test]
async fn a_server_that_never_honours_ranges_sees_a_handful_of_requests() {
    let file = File::new(1, LEN).with(Fault::IgnoresRange);
    let later = file.clone();
    let server = second_beside(file.clone(), move |request| later.reply(request));
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("never", &ended, &place, &server, &[file.content()]);
    assert_eq!(*ended.verification(), Verification::SameContent);
    assert!((2..=4).contains(&server.requests().len()), "{}", server.requests().len());
}

#[tokio::test]
async fn a_server_that_sends_the_same_half_for_ever_is_given_up() {
    let file = File::new(1, LEN).with(Fault::IgnoresRange).with(Fault::CutAt(HALF));
    let server = FaultServer::file(file.clone());
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("half", &ended, &place, &server, &[]);
    assert_eq!(ended.result.unwrap_err().kind(), ErrorKind::Network);
    assert!(server.requests().len() <= 4, "one and two retries: {}", server.requests().len());
}

#[tokio::test]
async fn a_change_during_the_download_starts_it_again() {
    for etag in [Some("\"a\""), Some("W/\"a\""), None] {
        let file = File::new(2, LEN).with_etag(etag).with_modified(None);
        let changed = file.clone().with(Fault::ChangesAt(0));
        let server = second_beside(file.clone(), move |request| changed.reply(request));
        let place = Place::new();
        let ended = finish(download(&server).to_file(&place.file)).await;
        assert_honest("change", &ended, &place, &server, &[file.content(), file.changed_content()]);
        assert!(ended.restarts() >= 1, "{etag:?}: {:#?}", ended.news());
        assert_eq!(place.content().unwrap(), file.changed_content());
        let warnings = &ended.report().warnings;
        assert!(warnings.iter().any(|w| w.starts_with("started again")), "{warnings:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_range_are_noticed_without_a_digest() {
    // The header is right, the validator is strong and the same: only the overlap tells.
    let file = File::new(3, LEN);
    let liar = file.clone().with(Fault::BodyFromZero);
    let server = second_beside(file.clone(), move |request| liar.reply(request));
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("from zero", &ended, &place, &server, &[file.content()]);
    assert!(ended.benched().iter().any(|why| why.contains("different bytes")), "{:#?}", ended.news());
    assert!(ended.result.is_ok());
}

#[tokio::test]
async fn a_server_that_takes_every_tag_for_a_stale_one_is_resumed() {
    let file = File::new(4, LEN);
    let trap = file.clone().with(Fault::DistrustsIfRange);
    let (server, turned) = turning(file.clone(), move |request| trap.reply(request));
    let place = Place::new();
    stop_at(download(&server).retries(100).to_file(&place.file), HALF).await;
    turned.store(true, Ordering::Relaxed);
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("trap", &ended, &place, &server, &[file.content()]);
    assert!(ended.report().resumed >= HALF, "{}", ended.report().resumed);
    assert_eq!((ended.restarts(), ended.verification()), (0, &Verification::SameContent));
    let conditional: Vec<bool> =
        server.requests()[1..].iter().map(|e| e.request.header("if-range").is_some()).collect();
    assert_eq!(conditional, [true, false], "asked once with the tag, then without");
}

#[tokio::test]
async fn nodes_that_name_the_same_bytes_differently_serve_one_download() {
    let file = File::new(5, LEN).with(Fault::TagPerRequest);
    let later = file.clone();
    let server = second_beside(file.clone(), move |request| later.reply(request));
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("nodes", &ended, &place, &server, &[file.content()]);
    assert!(ended.result.is_ok(), "{:?}", ended.result);
}

#[tokio::test]
async fn what_is_resumed_without_a_validator_says_that_it_is_unverified() {
    for (etag, claimed) in [(Some("\"a\""), Verification::SameContent), (None, Verification::Unverified)] {
        let file = File::new(6, LEN).with_etag(etag).with_modified(None);
        let later = file.clone();
        let (server, turned) = turning(file.clone(), move |request| later.reply(request));
        let place = Place::new();
        stop_at(download(&server).retries(100).to_file(&place.file), HALF).await;
        turned.store(true, Ordering::Relaxed);
        let ended = finish(download(&server).to_file(&place.file)).await;
        assert_honest("resumed", &ended, &place, &server, &[file.content()]);
        assert_eq!((ended.verification(), ended.restarts()), (&claimed, 0), "{etag:?}");
        assert!(ended.report().wasted <= 4096, "{}", ended.report().wasted);
    }
}

#[tokio::test]
async fn a_validator_that_later_answers_lack_proves_nothing() {
    let file = File::new(6, LEN);
    let bare = file.clone().with_etag(None).with_modified(None).with(Fault::IgnoresIfRange);
    let (server, turned) = turning(file.clone(), move |request| bare.reply(request));
    let place = Place::new();
    stop_at(download(&server).retries(100).to_file(&place.file), HALF).await;
    turned.store(true, Ordering::Relaxed);
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("bare", &ended, &place, &server, &[file.content()]);
    assert_eq!(*ended.verification(), Verification::Unverified);
}

#[tokio::test]
async fn ranges_shorter_than_an_overlap_are_compared_all_the_same() {
    const ALMOST: u64 = LEN as u64 - 8000;
    for changes in [false, true] {
        let file = File::new(6, LEN).with_etag(None).with_modified(None);
        let (turned, gate) = (Arc::new(AtomicBool::new(false)), Gate::new());
        let short = file.clone().with(Fault::Short(1000));
        let short = if changes { short.with(Fault::ChangesSilentlyAt(0)) } else { short };
        let (has_turned, good) = (turned.clone(), file.clone());
        let server = FaultServer::start(move |request| match has_turned.load(Ordering::Relaxed) {
            true => short.reply(request),
            false => {
                let start = request.range().map_or(0, |(start, _)| start);
                good.reply(request).with_gate(ALMOST.saturating_sub(start), &gate)
            }
        });
        let place = Place::new();
        stop_at(download(&server).retries(100).to_file(&place.file), ALMOST).await;
        turned.store(true, Ordering::Relaxed);
        let ended = finish(download(&server).to_file(&place.file)).await;
        let version = if changes { file.changed_content() } else { file.content() };
        assert_honest("short", &ended, &place, &server, &[version]);
        assert_eq!((ended.result.is_ok(), ended.restarts()), (true, usize::from(changes)), "{:#?}", ended.news());
    }
}

#[tokio::test]
async fn a_range_that_is_not_there_any_more_starts_the_download_again() {
    let short = File::new(7, HALF as usize / 2);
    let unknown = |_: &Request| Reply::new(416);
    for tells_length in [true, false] {
        let (file, new) = (File::new(7, LEN), short.clone());
        let (server, turned) = turning(file, move |request| match request.range() {
            Some(_) if !tells_length => unknown(request),
            _ => new.reply(request),
        });
        let place = Place::new();
        stop_at(download(&server).retries(100).to_file(&place.file), HALF).await;
        turned.store(true, Ordering::Relaxed);
        let ended = finish(download(&server).to_file(&place.file)).await;
        assert_honest("416", &ended, &place, &server, &[short.content()]);
        assert!(ended.result.is_ok(), "{tells_length}: {:?}", ended.result);
    }
}

#[tokio::test]
async fn coded_content_is_one_stream_and_never_joined() {
    let file = File::new(8, LEN).with(Fault::Coded("gzip"));
    let cut = AtomicUsize::new(0);
    let coded = file.clone();
    let server = FaultServer::start(move |request| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        let reply = coded.reply(request);
        match cut.fetch_add(1, Ordering::Relaxed) {
            0 => reply.with_cut(HALF).with_ending(Ending::Close),
            _ => reply,
        }
    });
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("coded", &ended, &place, &server, &[file.content()]);
    let report = ended.report();
    assert!(report.warnings.iter().any(|w| w.contains("gzip")), "{:?}", report.warnings);
    assert!(report.wasted >= HALF, "all that was there is compared: {}", report.wasted);
}

#[tokio::test]
async fn a_body_that_ends_early_is_fetched_to_its_end() {
    for framing in [Framing::Length, Framing::UnfinishedChunks] {
        let file = File::new(9, LEN);
        let whole = file.clone();
        let server = FaultServer::start(move |request| match request.number {
            0 => whole.reply(request).with_framing(framing).with_cut(HALF).with_ending(Ending::Close),
            _ => whole.reply(request),
        });
        let place = Place::new();
        let ended = finish(download(&server).to_file(&place.file)).await;
        assert_honest("early", &ended, &place, &server, &[file.content()]);
        assert!(ended.report().wasted <= 4096, "{framing:?}: {}", ended.report().wasted);
        assert_eq!(server.requests().len(), 2, "{framing:?}");
    }
}

#[tokio::test]
async fn a_body_whose_end_only_the_connection_tells_is_not_claimed_to_be_whole() {
    let file = File::new(10, LEN);
    let whole = file.clone().with(Fault::Framed(Framing::Close)).with(Fault::IgnoresRange);
    let server = FaultServer::file(whole);
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("close", &ended, &place, &server, &[file.content()]);
    assert_eq!(*ended.verification(), Verification::Unverified);
    assert!(ended.report().warnings.iter().any(|w| w.contains("no length")), "{:?}", ended.report().warnings);
    // With a checksum it does not matter.
    let place = Place::new();
    let ended = finish(download(&server).checksum(sha256(&file.content())).to_file(&place.file)).await;
    assert_eq!(*ended.verification(), Verification::Digest("sha-256".into()));
}

#[tokio::test]
async fn chunks_of_no_known_length_are_one_stream() {
    let file = File::new(11, LEN).with(Fault::Framed(Framing::Chunked)).with(Fault::IgnoresRange);
    let server = FaultServer::file(file.clone());
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("chunks", &ended, &place, &server, &[file.content()]);
    assert_eq!((ended.verification(), server.requests().len()), (&Verification::SameContent, 1));
}

#[tokio::test]
async fn a_redirect_that_expires_is_asked_for_again() {
    let file = File::new(12, LEN);
    let content = file.content();
    let tickets = Mutex::new(0);
    // A ticket is good for one answer, of which the first ends early.
    let server = FaultServer::start(move |request| {
        let mut ticket = tickets.lock().expect("no panic");
        if request.path == "/file.bin" {
            *ticket += 1;
            return Reply::redirect(302, format!("/signed/{}", *ticket));
        }
        if request.path != format!("/signed/{}", *ticket) || request.number == 2 {
            return Reply::new(403);
        }
        let reply = file.reply(request);
        if request.number == 1 { reply.with_cut(HALF).with_ending(Ending::Close) } else { reply }
    });
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("redirect", &ended, &place, &server, &[content]);
    let paths: Vec<String> = server.requests().into_iter().map(|e| e.request.path).collect();
    assert_eq!(paths, ["/file.bin", "/signed/1", "/signed/1", "/file.bin", "/signed/2"], "{:?}", ended.result);
    assert_eq!(*ended.verification(), Verification::SameContent);
}

#[tokio::test]
async fn a_server_that_takes_two_connections_is_given_two() {
    for status in [503, 429, 403] {
        let file = File::new(13, LEN);
        let (open, gate, third) = (Arc::new(AtomicUsize::new(0)), Gate::new(), Arc::new(AtomicBool::new(false)));
        let served = file.clone();
        let was_refused = third.clone();
        // The first two wait until a third has been refused.
        let server = FaultServer::start(move |request| {
            if !was_refused.load(Ordering::Relaxed) {
                if open.fetch_add(1, Ordering::Relaxed) >= 2 {
                    was_refused.store(true, Ordering::Relaxed);
                    gate.open();
                    return Reply::new(status).with_header("Retry-After", "1");
                }
                return served.reply(request).with_gate(300_000, &gate);
            }
            served.reply(request)
        });
        let place = Place::new();
        let ended = finish(download(&server).to_file(&place.file)).await;
        assert_honest("limit", &ended, &place, &server, &[file.content()]);
        assert!(ended.result.is_ok(), "{status}: {:?}", ended.result);
        assert!(third.load(Ordering::Relaxed), "a third was tried");
    }
}

#[tokio::test]
async fn a_server_that_refuses_long_ranges_is_asked_for_shorter_ones() {
    let file = File::new(14, 2 * LEN);
    let limited = file.clone().with(Fault::MaxSpan(1 << 20));
    let (server, turned) = turning(file.clone(), move |request| limited.reply(request));
    let place = Place::new();
    stop_at(download(&server).retries(100).to_file(&place.file), HALF).await;
    turned.store(true, Ordering::Relaxed);
    let ended = finish(download(&server).to_file(&place.file)).await;
    assert_honest("span", &ended, &place, &server, &[file.content()]);
    assert!(ended.report().resumed >= HALF);
}

#[tokio::test]
async fn a_web_page_in_place_of_a_file_is_told() {
    let server = FaultServer::start(|_| Reply::ok("<html>log in</html>").with_header("Content-Type", "text/html"));
    let place = Place::new();
    let ended = finish(download(&server).to_file(&place.file)).await;
    let warnings = &ended.report().warnings;
    assert!(warnings.iter().any(|w| w.contains("web page")), "{warnings:?}");
}

#[tokio::test]
async fn the_first_bytes_of_a_resumed_download_are_compared_with_those_behind_them() {
    // Two places for one content: what the second one brought is there, what the first one was to bring is not.
    let file = File::new(15, LEN).with_etag(None).with_modified(None);
    let changed = file.clone().with(Fault::ChangesSilentlyAt(0));
    let turned = Arc::new(AtomicBool::new(false));
    let (has_turned, good) = (turned.clone(), file.clone());
    let server = FaultServer::start(move |request| {
        if has_turned.load(Ordering::Relaxed) {
            return changed.reply(request);
        }
        let reply = good.reply(request);
        match request.range() {
            // The head tells the length, and the first byte never comes.
            None | Some((0, _)) => reply.with_cut(0).with_ending(Ending::Stall),
            Some(_) => reply,
        }
    });
    let job = |place: &Place| {
        download(&server).mirror(server.url("/other.bin")).connections(1).retries(100).to_file(&place.file)
    };
    let place = Place::new();
    stop_at(job(&place), HALF / 2).await;
    turned.store(true, Ordering::Relaxed);
    let ended = finish(job(&place)).await;
    assert_honest("front", &ended, &place, &server, &[file.changed_content()]);
    assert!(ended.restarts() > 0, "{:#?}", ended.news());
}
