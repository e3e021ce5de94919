//! Pieces that are put together from parts: of sources that have one entry each, and of other runs.

// An array of one range is what is meant here, not its numbers.
#![allow(clippy::single_range_in_vec_init)]

use std::time::Instant;

use super::methods::{A, B, C, FIRST, SECOND, any, ask, crossed, digest, set, span, write};
use crate::fact::{Fact, Piece};
use crate::ledger::{Ledger, NotNow, PieceId, View, Voice};
use crate::scheduler::{Ask, Balanced, Pick, Want};
use crate::span::{EntryId, SourceId, Span};

fn of(entry: EntryId, source: SourceId) -> Ask {
    Ask::new(source, Want::Any { max: u64::MAX }).with_entry(entry)
}

/// Two sources deliver one entry each, with their parts of the crossing piece.
fn in_parts(ledger: &mut Ledger, first: SourceId, second: SourceId) -> PieceId {
    let one = ask(ledger, &of(FIRST, first), Pick::Take(vec![span(0..20)])).unwrap();
    let two = ask(ledger, &of(SECOND, second), Pick::Take(vec![Span::new(SECOND, 0..20)])).unwrap();
    assert_eq!((&one.spans[..], &two.spans[..]), (&[span(0..20)][..], &[Span::new(SECOND, 0..20)][..]));
    assert_eq!(write(ledger, two.lease, &Span::new(SECOND, 0..20)), []);
    assert_eq!(ledger.sealed(SECOND), &set(&[0..20]));
    assert_eq!(ledger.take_recheck(), []);
    assert_eq!(ledger.trusted_from(SECOND, 5), None);
    assert_eq!(ledger.trusted_from(SECOND, 10), Some(20));
    assert_eq!(write(ledger, one.lease, &span(0..20)), []);
    ledger.release(one.lease);
    ledger.release(two.lease);
    ledger.learn(Voice::User, Fact::LayoutComplete).unwrap();
    assert!(!ledger.is_complete(), "nobody has checked it");
    let rechecks = ledger.take_recheck();
    assert_eq!(rechecks.len(), 1);
    rechecks[0]
}

#[test]
fn a_piece_is_put_together_from_parts_of_those_who_have_one_entry_only() {
    let mut ledger = crossed();
    let id = in_parts(&mut ledger, A, B);
    assert_eq!(ledger.take_completed(), [FIRST, SECOND]);
    ledger.rechecked(id, true);
    ledger.check();
    assert_eq!((ledger.verified(FIRST), ledger.verified(SECOND)), (&set(&[10..20]), &set(&[0..10])));
    assert!(ledger.is_complete() && ledger.is_trusted(&span(0..20)));
    assert_eq!(ledger.take_completed(), [FIRST, SECOND], "they are proven only now");
}

#[test]
fn who_has_a_part_in_a_wrong_piece_again_is_accused() {
    let mut ledger = crossed();
    ledger.bind(A, FIRST);
    ledger.bind(B, SECOND);
    // Of B other bytes are known to be right.
    ledger.learn(Voice::User, Fact::Pieces(vec![Piece::new(Span::new(SECOND, 10..20), digest(2))])).unwrap();
    let good = ask(&mut ledger, &of(SECOND, B), Pick::Take(vec![Span::new(SECOND, 10..20)])).unwrap();
    let piece = write(&mut ledger, good.lease, &Span::new(SECOND, 10..20))[0];
    ledger.seal_piece(good.lease, piece);
    ledger.release(good.lease);
    for round in 0..2 {
        let one = ask(&mut ledger, &of(FIRST, A), Pick::Take(vec![span(10..20)])).unwrap();
        let two = ask(&mut ledger, &of(SECOND, B), Pick::Take(vec![Span::new(SECOND, 0..10)])).unwrap();
        write(&mut ledger, one.lease, &span(10..20));
        write(&mut ledger, two.lease, &Span::new(SECOND, 0..10));
        ledger.release(one.lease);
        ledger.release(two.lease);
        let rechecks = ledger.take_recheck();
        ledger.rechecked(rechecks[0], false);
        ledger.end_quarantine();
        ledger.check();
        let accused: Vec<SourceId> = ledger.take_accused().into_iter().map(|(source, _)| source).collect();
        assert_eq!(accused, if round == 0 { vec![] } else { vec![A] });
        let view = View { ledger: &ledger, now: Instant::now() };
        assert!(view.has_failed(A, FIRST, 10) && view.has_failed(B, SECOND, 0));
        assert!(round == 1 || !view.is_for_others(A, FIRST, 10), "C has never begun");
        let begun = any(&mut ledger, C, Pick::Take(vec![span(0..10)])).unwrap();
        ledger.release(begun.lease);
        let view = View { ledger: &ledger, now: Instant::now() };
        assert!(view.is_for_others(A, FIRST, 10), "it is left to C");
    }
    assert_eq!(ledger.sealed(SECOND), &set(&[10..20]));
}

#[test]
fn a_part_that_was_right_once_is_doubted_last() {
    let mut ledger = crossed();
    let id = in_parts(&mut ledger, A, B);
    ledger.rechecked(id, true);
    ledger.set_finished(FIRST);
    for (round, left) in [(0, set(&[0..20])), (1, set(&[0..10]))] {
        ledger.take_back(SECOND, 0..10);
        ledger.end_quarantine();
        let want = Ask::new(C, Want::Exactly(vec![span(10..20), Span::new(SECOND, 0..10)]));
        let rest = ask(&mut ledger, &want, Pick::Take(vec![Span::new(SECOND, 0..10)])).unwrap();
        assert_eq!(rest.spans, [Span::new(SECOND, 0..10)], "only what is missing of it");
        write(&mut ledger, rest.lease, &Span::new(SECOND, 0..10));
        ledger.release(rest.lease);
        assert_eq!(ledger.take_recheck(), [id]);
        ledger.rechecked(id, false);
        ledger.check();
        assert_eq!((ledger.sealed(FIRST), round), (&left, round));
    }
    assert!(!ledger.is_finished(FIRST), "it has to be written again");
}

/// The other file of the crossing piece is not wanted.
#[test]
fn a_piece_whose_rest_nobody_wants_is_waited_for() {
    let mut ledger = crossed();
    ledger.set_wanted(SECOND, false);
    ledger.learn(Voice::User, Fact::LayoutComplete).unwrap();
    let one = ask(&mut ledger, &of(FIRST, A), Pick::Take(vec![span(0..20)])).unwrap();
    write(&mut ledger, one.lease, &span(0..20));
    ledger.release(one.lease);
    assert_eq!(ledger.verified(FIRST), &set(&[]));
    assert!(!ledger.is_complete(), "its last ten bytes have a digest, and were not checked");
}

#[test]
fn a_recheck_is_of_the_bytes_that_it_read() {
    let mut ledger = crossed();
    for (entry, range, source) in [(FIRST, 10..20, A), (SECOND, 0..10, B)] {
        let lease = ask(&mut ledger, &of(entry, source), Pick::Take(vec![Span::new(entry, range.clone())])).unwrap();
        write(&mut ledger, lease.lease, &Span::new(entry, range));
        ledger.release(lease.lease);
    }
    // It is read from now on.
    let id = ledger.take_recheck()[0];
    // Meanwhile B is found to be wrong elsewhere, and its part is replaced.
    ledger.disown(B);
    ledger.end_quarantine();
    let lease = ask(&mut ledger, &of(SECOND, SourceId::new(2)), Pick::Take(vec![Span::new(SECOND, 0..10)])).unwrap();
    write(&mut ledger, lease.lease, &Span::new(SECOND, 0..10));
    ledger.release(lease.lease);
    // What was read before that was right.
    ledger.rechecked(id, true);
    assert_eq!(ledger.verified(SECOND), &set(&[]), "these bytes were never read");
}

/// The mirror of the first file is wrong in its part; the other source has all, right.
#[test]
fn who_can_bring_a_piece_alone_is_not_accused_with_a_part_of_it() {
    let mut ledger = crossed();
    let whole = [span(10..20), Span::new(SECOND, 0..10)];
    ledger
        .learn(
            Voice::User,
            Fact::Pieces(vec![Piece::new(span(0..10), digest(2)), Piece::new(Span::new(SECOND, 10..20), digest(3))]),
        )
        .unwrap();
    ledger.bind(A, FIRST);
    // Both have delivered something that was right.
    for (source, span) in [(A, span(0..10)), (B, Span::new(SECOND, 10..20))] {
        let want = if source == A { of(FIRST, A) } else { Ask::new(B, Want::Exactly(vec![span.clone()])) };
        let lease = ask(&mut ledger, &want, Pick::Take(vec![span.clone()])).unwrap();
        let piece = write(&mut ledger, lease.lease, &span)[0];
        ledger.seal_piece(lease.lease, piece);
        ledger.release(lease.lease);
    }
    for round in 0..2 {
        let mut balanced = Balanced::new();
        let one = ledger.claim(&of(FIRST, A), &mut balanced, Instant::now());
        let Ok(one) = one else {
            // It is left to the other one, who can be judged alone.
            assert_eq!(one.unwrap_err(), NotNow::Wait);
            return;
        };
        write(&mut ledger, one.lease, &span(10..20));
        ledger.release(one.lease);
        let rest = Ask::new(B, Want::Exactly(whole.to_vec()));
        let two = ledger.claim(&rest, &mut balanced, Instant::now()).unwrap();
        write(&mut ledger, two.lease, &two.spans[0].clone());
        ledger.release(two.lease);
        for id in ledger.take_recheck() {
            ledger.rechecked(id, false);
        }
        ledger.end_quarantine();
        let accused: Vec<SourceId> = ledger.take_accused().into_iter().map(|(source, _)| source).collect();
        assert!(!accused.contains(&B), "round {round}: it never had a chance: {accused:?}");
    }
}
