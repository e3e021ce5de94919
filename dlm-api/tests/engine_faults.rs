//! What the engine makes of every kind of bad answer, length and validator.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Script, client_here, content};
use dlm_api::{Digest, Download, ErrorKind, Event, Ranged, Report, Result, Strength, Verification};

const LEN: usize = 3 * MIB;
const PIECE: usize = 256 * KIB;
/// The most that a compared overlap is.
const OVERLAP: u64 = 4 << 10;

/// Downloads into memory, and gives what is there at the end, and what was told.
async fn fetch(download: Download) -> (Result<Report>, Option<Bytes>, Vec<Event>) {
    let memory = memory();
    let handle = download.to_memory(memory.clone()).start();
    let events = listen(&handle);
    let result = handle.wait().await;
    (result, first(&memory), events.await.unwrap())
}

fn of(scripts: &[&Script]) -> Download {
    scripts.iter().fold(client_here().download_from_sources(), |download, script| download.source(ranged(script)))
}

/// A script that is slow enough for several connections to be worth it.
fn slow(name: &str, bytes: &Bytes) -> Script {
    script(name, bytes).with_rate(200_000).with_chunk(16 * KIB)
}

#[tokio::test(start_paused = true)]
async fn lengths_around_a_piece_with_and_without_a_length() {
    for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        for tells in [true, false] {
            for with_pieces in [true, false] {
                let what = format!("{len} bytes, length told: {tells}, pieces: {with_pieces}");
                let bytes = content(1, len);
                let script = script("a", &bytes);
                let script = if tells { script } else { script.without_len() };
                let mut download = of(&[&script]);
                if with_pieces {
                    download = download.pieces(PIECE as u64, pieces(&bytes, PIECE));
                }
                let (result, got, _) = fetch(download).await;
                let report = result.unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
                same(got.unwrap(), &bytes, &what);
                assert_eq!(report.entries[0].len, len as u64, "{what}");
                let checked = if with_pieces && len > 0 { Verification::Pieces } else { Verification::SameContent };
                assert_eq!(report.entries[0].verification, checked, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bad_answers_that_cost_nothing_but_time() {
    use Act::*;
    let cases: Vec<(&str, Vec<Act>)> = vec![
        ("short answers", vec![Short(100_000), Short(1), Short(70_000)]),
        ("an ignored range first", vec![IgnoreRange]),
        ("an ignored range later", vec![BreakAfter(MIB), IgnoreRange]),
        ("an ignored range, broken off again", vec![BreakAfter(MIB), IgnoreRange, BreakAfter(500_000)]),
        ("a broken body, again and again", vec![BreakAfter(10), BreakAfter(MIB), BreakAfter(MIB), BreakAfter(0)]),
        ("silence", vec![StallAfter(MIB), StallAfter(0), StallAfter(100)]),
        ("a refused connection", vec![Refuse(ErrorKind::Network), Refuse(ErrorKind::Timeout)]),
        ("asked to wait", vec![Refuse(ErrorKind::Throttled), BreakAfter(MIB), Refuse(ErrorKind::Throttled)]),
    ];
    for (what, acts) in cases {
        for strength in [Some(Strength::Strong), Some(Strength::Weak), None] {
            let bytes = content(2, LEN);
            let script = script("a", &bytes).with_validator(strength);
            script.act(acts.clone());
            let (result, got, events) = fetch(of(&[&script])).await;
            result.unwrap_or_else(|e| panic!("{what}, {strength:?}: {}", e.chain()));
            same(got.unwrap(), &bytes, format_args!("{what}, {strength:?}"));
            assert_eq!(benched(&events), [], "{what}, {strength:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_that_nothing_helps_against_end_the_source() {
    for kind in [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Unsupported, ErrorKind::Protocol] {
        let bytes = content(3, LEN);
        let (bad, good) = (script("bad", &bytes), script("good", &bytes));
        bad.always(Act::Refuse(kind));
        let (result, _, _) = fetch(of(&[&bad])).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(bad.requests().len(), 1, "{kind}: it is asked once");

        let (result, got, events) = fetch(of(&[&bad, &good])).await;
        result.unwrap();
        same(got.unwrap(), &bytes, kind);
        // If it was asked before the good one was done.
        assert!(benched(&events).iter().all(|who| *who == ("script://bad/f".to_owned(), kind)));
    }
    // Whoever is down is asked again, and given up after a while.
    for kind in [ErrorKind::Network, ErrorKind::Timeout, ErrorKind::Throttled] {
        let down = script("down", &content(3, 10));
        down.always(Act::Refuse(kind));
        let (result, _, _) = fetch(of(&[&down]).retries(2)).await;
        assert_eq!(result.unwrap_err().kind(), kind);
        assert!(down.requests().len() >= 3, "{kind}");
    }
}

/// The first body stalls; a sibling, or the next request, brings the rest.
#[tokio::test(start_paused = true)]
async fn a_stalled_body_is_replaced_within_seconds() {
    let bytes = content(4, LEN);
    let script = script("a", &bytes);
    script.act([Act::StallAfter(MIB)]);
    let (result, got, _) = fetch(of(&[&script])).await;
    let report = result.unwrap();
    same(got.unwrap(), &bytes, "stall");
    assert!(report.elapsed < Duration::from_secs(5), "{:?}", report.elapsed);
    // A stall that lasts can bring a second connection, and each asks for an overlap.
    assert!(report.wasted <= 8 * OVERLAP, "{}", report.wasted);
}

/// The answer says that it is the right range, and its bytes are those of the beginning.
#[tokio::test(start_paused = true)]
async fn bytes_from_zero_are_never_joined_in_silence() {
    let bytes = content(5, LEN);
    for strength in [Some(Strength::Strong), Some(Strength::Weak), None] {
        let script = script("a", &bytes).with_validator(strength);
        script.act([Act::BreakAfter(MIB)]);
        script.always(Act::BodyFromZero);
        let (result, got, _) = fetch(of(&[&script])).await;
        // The whole from zero is right. What is wrong is a join.
        if result.is_ok() {
            same(got.unwrap(), &bytes, format_args!("{strength:?}"));
        }
    }
    // With somebody else at hand the download ends well.
    let (bad, good) = (script("bad", &bytes), script("good", &bytes));
    bad.act([Act::BreakAfter(MIB)]).always(Act::BodyFromZero);
    let (result, got, _) = fetch(of(&[&bad, &good]).checksum(sha256(&bytes))).await;
    result.unwrap();
    same(got.unwrap(), &bytes, "with a good mirror");
}

#[tokio::test(start_paused = true)]
async fn a_content_that_changes_on_the_way_is_never_spliced() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let old = content(seed, LEN);
        // As long, shorter or longer; and sometimes the same but for the end.
        let mut new = content(seed + 1000, LEN - 1 + seed as usize % 3).to_vec();
        if seed % 4 == 0 {
            new[..MIB].copy_from_slice(&old[..MIB]);
        }
        let new = Bytes::from(new);
        for strength in [Some(Strength::Strong), Some(Strength::Weak), None] {
            let script = slow("a", &old).with_validator(strength);
            let before = random.usize(1..LEN);
            script.act([Act::BreakAfter(before), Act::Change(new.clone())]);
            let (result, got, events) = fetch(of(&[&script])).await;
            let what = format!("seed {seed}, {strength:?}, changed after {before}");
            match result {
                Ok(_) => same(got.unwrap(), &new, &what),
                Err(error) if strength == Some(Strength::Strong) => panic!("{what}: {}", error.chain()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Changed, "{what}"),
            }
            if strength.is_some() {
                assert!(events.iter().any(|e| matches!(e, Event::Restarted { .. })), "{what}: {events:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_content_that_never_holds_still_is_given_up() {
    let script = script("a", &content(6, LEN));
    for i in 0..40 {
        script.act([Act::BreakAfter(MIB), Act::Change(content(100 + i, LEN))]);
    }
    script.always(Act::Change(content(99, LEN)));
    let (result, got, _) = fetch(of(&[&script])).await;
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::Changed);
    } else {
        // One request brought it all.
        assert_eq!(got.unwrap().len(), LEN);
    }
}

#[tokio::test(start_paused = true)]
async fn a_digest_of_the_whole_finds_the_liar() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let bytes = content(seed, LEN);
        let (honest, liar) = (slow("honest", &bytes), slow("liar", &bytes));
        liar.always(Act::LieFrom(seed * 200_000));
        let scripts = if seed % 2 == 0 { [&honest, &liar] } else { [&liar, &honest] };
        let (result, got, events) = fetch(of(&scripts).checksum(sha256(&bytes))).await;
        let report = result.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(got.unwrap(), &bytes, format_args!("seed {seed}"));
        let benched = benched(&events);
        assert!(benched.iter().any(|(name, _)| name.contains("liar")), "seed {seed}: {benched:?}");
        let honest = report.sources.iter().find(|source| source.source.contains("honest")).unwrap();
        assert_eq!(honest.benched, None, "seed {seed}: in the end it is believed");
    }
}

#[tokio::test(start_paused = true)]
async fn with_pieces_only_the_bad_one_is_fetched_again() {
    let bytes = content(7, LEN);
    let script = script("a", &bytes);
    script.act([Act::LieFrom(LEN as u64 - 1)]);
    let digests = pieces(&bytes, PIECE);
    let (result, got, events) = fetch(of(&[&script]).pieces(PIECE as u64, digests)).await;
    let report = result.unwrap();
    same(got.unwrap(), &bytes, "pieces");
    assert_eq!(report.transferred, (LEN + PIECE) as u64, "one piece more than the file");
    assert!(
        events.iter().any(|e| matches!(e, Event::PieceCorrupt { range, .. } if range.end == LEN as u64)),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lying_mirror_is_found_by_its_pieces() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let bytes = content(seed, LEN);
        let (honest, liar) = (slow("honest", &bytes), slow("liar", &bytes));
        liar.always(Act::LieFrom(0));
        let (result, got, events) = fetch(of(&[&liar, &honest]).pieces(PIECE as u64, pieces(&bytes, PIECE))).await;
        result.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(got.unwrap(), &bytes, format_args!("seed {seed}"));
        assert_eq!(benched(&events), [("script://liar/f".to_owned(), ErrorKind::Corrupt)], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_liar_alone_never_ends_well() {
    let bytes = content(8, LEN);
    for (with_pieces, from) in [(true, 0), (true, 2 * MIB), (false, 0), (false, 2 * MIB)] {
        let liar = script("liar", &bytes);
        liar.always(Act::LieFrom(from as u64));
        let download = of(&[&liar]);
        let (result, got, _) = fetch(match with_pieces {
            true => download.pieces(PIECE as u64, pieces(&bytes, PIECE)),
            false => download.checksum(sha256(&bytes)),
        })
        .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(got, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_dies_is_replaced() {
    let bytes = content(9, LEN);
    let (dying, other) = (slow("dying", &bytes), slow("other", &bytes));
    dying.act([Act::BreakAfter(MIB)]).always(Act::Refuse(ErrorKind::Network));
    let (result, got, events) = fetch(of(&[&dying, &other]).retries(2)).await;
    let report = result.unwrap();
    same(got.unwrap(), &bytes, "a dead mirror");
    assert!(benched(&events).iter().all(|(name, _)| name.contains("dying")));
    assert_eq!(report.entries[0].verification, Verification::Unverified, "two origins, and nothing to check them by");
}

/// Two places of the same name with different content, and nothing to say which is meant.
#[tokio::test(start_paused = true)]
async fn mirrors_with_different_contents_are_not_mixed() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let (one, other) = (content(seed, LEN), content(seed + 50, LEN));
        let (a, b) = (slow("a", &one), slow("b", &other));
        let (result, got, _) = fetch(of(&[&a, &b])).await;
        if result.is_ok() {
            let got = got.unwrap();
            assert!(got == one || got == other, "seed {seed}: a mixture of both");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_digest_settles_which_of_two_contents_is_meant() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let (wanted, other) = (content(seed, LEN), content(seed + 50, LEN + seed as usize % 2));
        let (a, b) = (slow("a", &other), slow("b", &wanted));
        let (result, got, _) = fetch(of(&[&a, &b]).checksum(sha256(&wanted))).await;
        result.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(got.unwrap(), &wanted, format_args!("seed {seed}"));
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_is_allowed_is_refused_before_it_is_fetched() {
    let script = script("a", &content(10, LEN));
    let (result, _, _) = fetch(of(&[&script]).max_size(LEN as u64 - 1)).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
    let endless = Script::new("script://b/f", content(10, LEN)).unwrap().without_len();
    let (result, _, _) = fetch(of(&[&endless]).max_size(LEN as u64 - 1)).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
    let (result, _, _) = fetch(of(&[&endless]).pieces(0, [] as [Digest; 0])).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn one_request_is_enough_for_one_connection() {
    let script = script("a", &content(11, LEN));
    let source = Ranged::new(script.clone());
    let (result, _, _) = fetch(client_here().download_from_sources().source(source)).await;
    result.unwrap();
    assert_eq!(script.requests().len(), 1);
}
