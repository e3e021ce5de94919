//! What was there before: nobody has it before it is checked, and nobody is given it to fetch.

use super::super::*;
use crate::digest::Algorithm;
use crate::fact::{Fact, Identity, Strength};
use crate::scheduler::{Ask, Balanced, Want};
use std::time::Instant;

const LEN: u64 = 100;
const A: EntryId = EntryId::FIRST;
const B: EntryId = EntryId::new(1);

fn first(len: u64) -> RangeSet {
    std::iter::once(0..len).collect()
}

/// Two files that share a piece, at which nobody has looked.
fn ledger(learns_pieces: bool) -> (Ledger, SourceId) {
    let mut ledger = Ledger::new();
    ledger.look_first();
    let source = ledger.add_source("s");
    for path in ["d/a", "d/b"] {
        let fact = Fact::Entry { path: EntryPath::new(path).unwrap(), len: Some(LEN) };
        ledger.learn(Voice::Source(source), fact).unwrap();
    }
    if learns_pieces {
        learn_pieces(&mut ledger, source);
    }
    (ledger, source)
}

fn learn_pieces(ledger: &mut Ledger, source: SourceId) {
    let digest = Digest::of(Algorithm::Sha1, b"");
    let piece = |spans: &[Span]| Piece { spans: spans.into(), digest: digest.clone() };
    let pieces = [
        piece(&[Span::new(A, 0..80)]),
        piece(&[Span::new(A, 80..LEN), Span::new(B, 0..60)]),
        piece(&[Span::new(B, 60..LEN)]),
    ];
    ledger.learn(Voice::Source(source), Fact::Pieces(pieces.into())).unwrap();
    ledger.learn(Voice::Source(source), Fact::LayoutComplete).unwrap();
    ledger.check();
}

fn claims(ledger: &mut Ledger, source: SourceId) -> Vec<Span> {
    let ask = Ask { source, entry: None, want: Want::Any { max: u64::MAX }, rate: None };
    let mut spans = Vec::new();
    while let Ok(grant) = ledger.claim(&ask, &mut Balanced::new(), Instant::now()) {
        spans.extend(grant.spans);
    }
    spans
}

#[test]
fn nothing_is_given_out_before_somebody_has_looked() {
    let (mut ledger, source) = ledger(true);
    assert_eq!(ledger.unseen(10), [A, B]);
    assert_eq!(claims(&mut ledger, source), []);
    assert!(ledger.is_checking() && !ledger.is_complete());
    let past = ledger.add_past();
    ledger.seen(A, RangeSet::new(), past);
    // The piece that goes on in the other one waits for it.
    assert_eq!(claims(&mut ledger, source), [Span::new(A, 0..80)]);
    ledger.seen(B, RangeSet::new(), past);
    ledger.check();
    assert!(!ledger.is_checking());
    let rest = claims(&mut ledger, source);
    assert_eq!(rest.iter().map(Span::len).sum::<u64>(), 2 * LEN - 80);
}

#[test]
fn what_was_found_is_nobody_s_before_it_is_checked() {
    for learns_later in [false, true] {
        let (mut ledger, source) = ledger(!learns_later);
        let past = ledger.add_past();
        ledger.seen(A, first(LEN), past);
        ledger.seen(B, first(70), past);
        if learns_later {
            learn_pieces(&mut ledger, source);
        }
        ledger.check();
        let whole = Span::new(A, 0..80);
        let crossing = [Span::new(A, 80..LEN), Span::new(B, 0..60)];
        assert_eq!(claims(&mut ledger, source), [Span::new(B, 60..LEN)], "the piece of which only a part was found");
        let pieces = ledger.take_recheck();
        assert_eq!(pieces.len(), 2);
        assert!(!ledger.is_trusted(&whole) && !ledger.is_checked(&whole) && ledger.is_checking());

        ledger.rechecked(pieces[0], true);
        assert!(ledger.is_trusted(&whole) && ledger.is_checked(&whole));
        assert!(!ledger.is_trusted(&crossing[0]) && !ledger.is_complete());
        ledger.rechecked(pieces[1], false);
        assert!(!ledger.is_checking());
        assert_eq!(claims(&mut ledger, source), [], "a record may claim it");
        ledger.end_quarantine();
        assert_eq!(claims(&mut ledger, source), crossing);
        assert_eq!(ledger.count_pieces(), (3, 1));
        ledger.check();
    }
}

#[test]
fn what_is_kept_as_it_is_is_complete_once_it_is_checked() {
    let (mut ledger, source) = ledger(true);
    ledger.keep_as_is();
    let past = ledger.add_past();
    ledger.seen(A, first(80), past);
    ledger.seen(B, RangeSet::new(), past);
    assert_eq!(claims(&mut ledger, source), []);
    assert!(!ledger.is_complete());
    let pieces = ledger.take_recheck();
    ledger.rechecked(pieces[0], true);
    assert!(ledger.is_complete() && ledger.is_trusted(&Span::new(A, 0..80)));
    assert_eq!(claims(&mut ledger, source), []);
}

#[test]
fn what_was_found_is_not_of_the_content_of_a_response() {
    let mut ledger = Ledger::new();
    ledger.look_first();
    ledger.add_unnamed();
    ledger.set_path(A, EntryPath::new("f").unwrap());
    let source = ledger.add_source("s");
    let past = ledger.add_past();
    ledger.seen(A, first(50), past);
    ledger.adopt_unproven(A);
    let tag = Identity { scheme: "etag".into(), value: "1".into(), strength: Strength::Strong, origin: None };
    ledger.learn(Voice::Source(source), Fact::Identity(A, tag)).unwrap();
    ledger.learn(Voice::Source(source), Fact::Len(A, LEN)).unwrap();
    let identities = ledger.identities(A);
    ledger.count_stream(A, &identities);
    assert_eq!(claims(&mut ledger, source), [Span::new(A, 50..LEN)]);
    let recorded = ledger.common_identities(A);
    assert!(recorded.iter().all(|i| i.strength == Strength::Weak), "a later run would believe that all came under it");
    assert!(!ledger.is_one_content(A));
}
