// An array of one range is what is meant here, not its numbers.
#![allow(clippy::single_range_in_vec_init)]

use std::ops::Range;
use std::time::Instant;

use crate::digest::{Algorithm, Digest};
use crate::error::ErrorKind;
use crate::fact::{Fact, Identity, Piece, Strength};
use crate::ledger::{Grant, Ledger, NotNow, PieceId, View, Voice};
use crate::path::EntryPath;
use crate::runs::RangeSet;
use crate::scheduler::{Ask, Pick, Scheduler, Want};
use crate::span::{EntryId, LeaseId, SourceId, Span};

pub(super) const FIRST: EntryId = EntryId::FIRST;
pub(super) const SECOND: EntryId = EntryId::new(1);
pub(super) const A: SourceId = SourceId::new(0);
pub(super) const B: SourceId = SourceId::new(1);
pub(super) const C: SourceId = SourceId::new(2);

/// Answers with what the test says.
#[derive(Debug)]
struct Say(Option<Pick>);

impl Scheduler for Say {
    fn pick(&mut self, _: &View<'_>, _: &Ask, _: Instant) -> Pick {
        self.0.take().unwrap()
    }
}

fn ledger(lens: &[Option<u64>]) -> Ledger {
    let mut ledger = Ledger::new();
    for (i, &len) in lens.iter().enumerate() {
        ledger.learn(Voice::User, Fact::Entry { path: path(&format!("{i}")), len }).unwrap();
    }
    for name in ["a", "b", "c"] {
        ledger.add_source(name);
    }
    ledger
}

fn path(name: &str) -> EntryPath {
    EntryPath::new(name).unwrap()
}

/// A ledger of 100 bytes in pieces of ten.
fn in_pieces() -> Ledger {
    let mut ledger = ledger(&[Some(100)]);
    ledger.learn(Voice::User, Fact::Pieces((0..10).map(|i| piece(i * 10..i * 10 + 10)).collect())).unwrap();
    ledger
}

/// A ledger of two entries, and a piece of which each has ten bytes.
pub(super) fn crossed() -> Ledger {
    let mut ledger = ledger(&[Some(20), Some(20)]);
    let crossing = Piece { spans: Box::new([span(10..20), Span::new(SECOND, 0..10)]), digest: digest(1) };
    ledger.learn(Voice::User, Fact::Pieces(vec![crossing])).unwrap();
    ledger
}

pub(super) fn digest(content: u8) -> Digest {
    Digest::of(Algorithm::Blake3, &[content])
}

fn piece(range: Range<u64>) -> Piece {
    Piece::new(span(range), digest(1))
}

pub(super) fn span(range: Range<u64>) -> Span {
    Span::new(FIRST, range)
}

pub(super) fn set(ranges: &[Range<u64>]) -> RangeSet {
    ranges.iter().cloned().collect()
}

pub(super) fn ask(ledger: &mut Ledger, ask: &Ask, pick: Pick) -> Result<Grant, NotNow> {
    let grant = ledger.claim(ask, &mut Say(Some(pick)), Instant::now());
    ledger.check();
    grant
}

pub(super) fn any(ledger: &mut Ledger, source: SourceId, pick: Pick) -> Result<Grant, NotNow> {
    ask(ledger, &Ask::new(source, Want::Any { max: u64::MAX }), pick)
}

fn take(ledger: &mut Ledger, source: SourceId, range: Range<u64>) -> LeaseId {
    any(ledger, source, Pick::Take(vec![span(range)])).unwrap().lease
}

/// Bytes are handed over and begin to be written.
fn begin(ledger: &mut Ledger, lease: LeaseId, span: &Span) {
    let admitted = ledger.admit(lease, span.entry, span.range.clone(), Instant::now());
    assert_eq!((admitted.skip, admitted.take), (0, span.len()));
    assert_eq!(ledger.write_begins(lease, span), Some(span.clone()));
    ledger.check();
}

/// Bytes are handed over and written. The pieces that are whole by that.
pub(super) fn write(ledger: &mut Ledger, lease: LeaseId, span: &Span) -> Vec<PieceId> {
    begin(ledger, lease, span);
    let landed = ledger.landed(lease, span);
    ledger.check();
    landed.pieces
}

/// A source delivers a range, right in all its pieces.
fn deliver(ledger: &mut Ledger, source: SourceId, range: Range<u64>) {
    let lease = take(ledger, source, range.clone());
    for id in write(ledger, lease, &span(range)) {
        assert!(ledger.seal_piece(lease, id).0);
    }
    ledger.release(lease);
    ledger.check();
}

fn free(ledger: &Ledger) -> Vec<Range<u64>> {
    ledger.entries[0].free.ranges().collect()
}

#[test]
fn a_byte_is_admitted_once_and_only_to_who_leased_it() {
    let mut ledger = ledger(&[Some(100)]);
    let lease = take(&mut ledger, A, 20..60);
    let now = Instant::now();
    let admit = |ledger: &mut Ledger, range| {
        let a = ledger.admit(lease, FIRST, range, now);
        (a.skip, a.take, a.last)
    };
    assert_eq!(admit(&mut ledger, 0..10), (10, 0, false));
    assert_eq!(admit(&mut ledger, 0..30), (20, 10, false));
    assert_eq!(admit(&mut ledger, 0..30), (30, 0, false));
    assert_eq!(ledger.remaining(lease), [span(30..60)]);
    assert_eq!(admit(&mut ledger, 40..100), (0, 20, false));
    assert_eq!(admit(&mut ledger, 30..40), (0, 10, true));
    ledger.release(lease);
    assert_eq!(admit(&mut ledger, 30..40), (10, 0, true));
    assert_eq!(free(&ledger), [0..100]);
}

#[test]
fn what_has_no_digest_is_sealed_as_it_comes_and_a_piece_when_it_is_checked() {
    let mut ledger = ledger(&[Some(100)]);
    ledger.learn(Voice::User, Fact::Pieces(vec![piece(20..40)])).unwrap();
    let lease = take(&mut ledger, A, 0..100);
    assert_eq!(write(&mut ledger, lease, &span(0..30)), []);
    assert_eq!(ledger.sealed(FIRST), &set(&[0..20]));
    assert_eq!((ledger.totals().sealed, ledger.totals().landed), (20, 10));
    let pieces = write(&mut ledger, lease, &span(30..50));
    assert_eq!(pieces, ledger.pieces_within(&span(0..100)));
    assert_eq!(ledger.sealed(FIRST), &set(&[0..20, 40..50]));
    assert_eq!(ledger.seal_piece(lease, pieces[0]), (true, false));
    assert_eq!(ledger.seal_piece(lease, pieces[0]), (false, false), "once");
    assert_eq!(ledger.sealed(FIRST), &set(&[0..50]));
    assert_eq!(ledger.verified(FIRST), &set(&[20..40]));
    ledger.check();
    assert_eq!((ledger.piece_at(FIRST, 39), ledger.piece_at(FIRST, 40)), (Some(pieces[0]), None));
    assert_eq!(ledger.delivered_by(FIRST, 49), Some(A));
    assert_eq!(ledger.delivered_by(FIRST, 50), None);
}

#[test]
fn a_wrong_piece_is_free_again_and_remembered() {
    let mut ledger = in_pieces();
    let lease = take(&mut ledger, A, 0..30);
    let pieces = write(&mut ledger, lease, &span(0..20));
    assert!(ledger.fail_piece(lease, pieces[1]));
    assert!(!ledger.fail_piece(lease, pieces[1]), "it has lost it");
    ledger.check();
    assert_eq!(free(&ledger), [10..20, 30..100]);
    assert_eq!(ledger.remaining(lease), [span(20..30)]);
    let view = View { ledger: &ledger, now: Instant::now() };
    assert!(view.has_failed(A, FIRST, 15) && !view.has_failed(A, FIRST, 5) && !view.has_failed(B, FIRST, 15));
    deliver(&mut ledger, B, 10..20);
    assert!(!View { ledger: &ledger, now: Instant::now() }.has_failures());
}

#[test]
fn a_digest_that_fits_nobody_is_its_authors_fault() {
    let mut ledger = ledger(&[Some(10)]);
    ledger.learn(Voice::Source(C), Fact::Pieces(vec![piece(0..10)])).unwrap();
    let id = ledger.piece_at(FIRST, 0).unwrap();
    for (source, found) in [(C, b"good"), (A, b"evil"), (B, b"good"), (A, b"good")] {
        assert!(ledger.take_accused().is_empty(), "its author, or somebody alone, says nothing");
        ledger.testify(source, id, found);
    }
    assert!(ledger.pardon(A) && ledger.pardon(B) && !ledger.pardon(B) && !ledger.pardon(C));
    let accused = ledger.take_accused();
    assert_eq!(accused.iter().map(|(who, e)| (*who, e.kind())).collect::<Vec<_>>(), [(C, ErrorKind::Corrupt)]);
}

#[test]
fn bytes_that_are_being_written_are_nobodys_when_their_lease_is_gone() {
    for good in [true, false] {
        let mut ledger = ledger(&[Some(100)]);
        let lease = take(&mut ledger, A, 0..100);
        begin(&mut ledger, lease, &span(10..20));
        ledger.release(lease);
        ledger.check();
        assert_eq!(free(&ledger), [0..10, 20..100]);
        assert!(ledger.is_writing(&[span(0..11)]) && !ledger.is_writing(&[span(0..10)]) && !ledger.is_quiet());
        if good {
            assert_eq!(ledger.landed(lease, &span(10..20)), Default::default());
        } else {
            ledger.write_failed(lease, &span(10..20));
        }
        ledger.check();
        assert_eq!(free(&ledger), [0..100]);
        assert!(ledger.is_quiet());
    }
}

#[test]
fn a_write_that_failed_is_missing_again() {
    let mut ledger = ledger(&[Some(100)]);
    let lease = take(&mut ledger, A, 0..100);
    begin(&mut ledger, lease, &span(0..30));
    ledger.write_failed(lease, &span(0..30));
    ledger.check();
    assert_eq!(ledger.remaining(lease), [span(0..100)]);
}

/// The bytes wait in a buffer while a hedge brings the piece.
#[test]
fn what_a_lease_has_lost_is_not_written() {
    let mut ledger = in_pieces();
    let lease = take(&mut ledger, A, 0..30);
    ledger.admit(lease, FIRST, 0..30, Instant::now());
    let hedge = any(&mut ledger, B, Pick::Hedge(vec![span(10..20)])).unwrap();
    assert!(hedge.hedge && ledger.is_hedge(hedge.lease));
    ledger.admit(hedge.lease, FIRST, 10..20, Instant::now());
    assert_eq!(ledger.write_begins(hedge.lease, &span(10..20)), None, "a hedge stays in memory");
    let id = ledger.piece_at(FIRST, 10).unwrap();
    assert!(ledger.take_over(hedge.lease, id));
    assert_eq!(ledger.write_begins(lease, &span(0..30)), Some(span(0..10)));
    assert_eq!(ledger.write_begins(lease, &span(10..30)), Some(span(20..30)));
    assert_eq!(ledger.write_begins(lease, &span(30..40)), None);
    assert_eq!(ledger.write_begins(hedge.lease, &span(10..20)), Some(span(10..20)));
    assert_eq!(ledger.landed(hedge.lease, &span(10..20)).pieces, [id]);
    assert!(!ledger.fail_piece(lease, id), "not its piece any more");
    assert_eq!(ledger.seal_piece(hedge.lease, id), (true, false));
    ledger.check();
}

#[test]
fn a_hedge_is_of_one_piece_that_somebody_fetches_and_never_in_doubt() {
    let mut ledger = in_pieces();
    let hedge = |ledger: &mut Ledger, range| any(ledger, B, Pick::Hedge(vec![span(range)])).map(|g| g.spans);
    assert_eq!(hedge(&mut ledger, 0..10), Err(NotNow::Wait), "free");
    let lease = take(&mut ledger, A, 0..30);
    assert_eq!(hedge(&mut ledger, 0..30), Ok(vec![span(0..10)]));
    assert_eq!(hedge(&mut ledger, 0..10), Err(NotNow::Wait), "twice");
    let (late, id) = (ledger.leases.keys().last().copied().unwrap(), ledger.piece_at(FIRST, 0).unwrap());
    write(&mut ledger, lease, &span(0..10));
    ledger.seal_piece(lease, id);
    assert!(!ledger.take_over(late, id), "sealed");
    ledger.keep_only(FIRST, B);
    assert!(!ledger.take_over(late, id), "a record may claim it");
    ledger.check();
}

#[test]
fn a_hedge_of_a_piece_that_is_divided_otherwise_now_is_worth_nothing() {
    let mut ledger = ledger(&[Some(100)]);
    ledger.learn(Voice::Source(C), Fact::Pieces(vec![piece(0..20)])).unwrap();
    take(&mut ledger, A, 0..20);
    let hedge = any(&mut ledger, B, Pick::Hedge(vec![span(0..20)])).unwrap().lease;
    ledger.admit(hedge, FIRST, 0..20, Instant::now());
    ledger.disown(C);
    ledger.learn(Voice::User, Fact::Pieces(vec![piece(0..10)])).unwrap();
    let id = ledger.piece_at(FIRST, 0).unwrap();
    assert!(!ledger.take_over(hedge, id) && !ledger.fail_piece(hedge, id), "nor is it to blame");
    ledger.check();
}

#[test]
fn a_steal_takes_what_was_not_handed_over() {
    let mut ledger = in_pieces();
    let lease = take(&mut ledger, A, 0..50);
    ledger.admit(lease, FIRST, 0..12, Instant::now());
    let steal = |ledger: &mut Ledger, at| any(ledger, B, Pick::Steal { lease, at }).map(|g| g.spans);
    assert_eq!(steal(&mut ledger, 35), Ok(vec![span(40..50)]), "from a piece on");
    assert_eq!(steal(&mut ledger, 0), Ok(vec![span(20..40)]));
    assert_eq!(steal(&mut ledger, 0), Err(NotNow::Wait), "the rest of a piece stays");
    assert_eq!(ledger.remaining(lease), [span(12..20)]);
    assert_eq!(any(&mut ledger, B, Pick::Steal { lease: LeaseId(99), at: 0 }), Err(NotNow::Wait));
}

#[test]
fn who_wants_exactly_a_piece_of_a_lease_is_given_that_and_what_is_behind_it_is_free() {
    let mut ledger = in_pieces();
    let lease = take(&mut ledger, A, 0..100);
    ledger.admit(lease, FIRST, 0..25, Instant::now());
    let exactly = |ledger: &mut Ledger, ranges: &[Range<u64>]| {
        let want = Want::Exactly(ranges.iter().cloned().map(span).collect());
        ask(ledger, &Ask::new(B, want), Pick::Steal { lease, at: 0 }).map(|g| g.spans)
    };
    assert_eq!(exactly(&mut ledger, &[20..30]), Err(NotNow::Wait), "its first bytes are handed over");
    assert_eq!(exactly(&mut ledger, &[50..55]), Err(NotNow::Wait), "a part of a piece");
    assert_eq!(exactly(&mut ledger, &[50..60, 50..60]), Err(NotNow::Wait), "twice the same");
    assert_eq!(ledger.remaining(lease), [span(25..100)], "nothing was taken for nothing");
    assert_eq!(exactly(&mut ledger, &[80..90, 50..60]), Ok(vec![span(80..90), span(50..60)]));
    assert_eq!(ledger.remaining(lease), [span(25..50)]);
    assert_eq!(free(&ledger), [60..80, 90..100]);
    assert_eq!(exactly(&mut ledger, &[40..50, 60..70]), Ok(vec![span(40..50), span(60..70)]), "some of it is free");
    ledger.set_window(Some(Span::new(FIRST, 0..30)));
    assert_eq!(exactly(&mut ledger, &[30..40]), Err(NotNow::Wait), "behind the window");
}

#[test]
fn a_lease_of_several_spans_loses_whole_pieces() {
    let mut both = crossed();
    let lease = take(&mut both, A, 0..20);
    assert_eq!(both.remaining(lease), [span(0..20), Span::new(SECOND, 0..10)]);
    let steal = |ledger: &mut Ledger, by: &Ask| ask(ledger, by, Pick::Steal { lease, at: 1 }).map(|g| g.spans);
    let any_of = |source| Ask::new(source, Want::Any { max: u64::MAX });
    let bound = steal(&mut both, &any_of(B).with_entry(FIRST));
    assert_eq!(bound, Ok(vec![span(1..10)]), "who can't deliver all of the last piece leaves it");
    assert_eq!(both.remaining(lease), [span(0..1), span(10..20), Span::new(SECOND, 0..10)]);
    let want = Want::Exactly(vec![span(10..20), Span::new(SECOND, 0..10)]);
    let crossing = Ok(vec![span(10..20), Span::new(SECOND, 0..10)]);
    assert_eq!(steal(&mut both, &Ask::new(C, want.clone())), crossing);
    assert_eq!(both.remaining(lease), [span(0..1)]);

    let mut begun = crossed();
    let lease = take(&mut begun, A, 0..20);
    begun.admit(lease, SECOND, 0..1, Instant::now());
    let before = Want::Exactly(vec![span(0..10)]);
    for want in [want, before] {
        let stolen = ask(&mut begun, &Ask::new(C, want), Pick::Steal { lease, at: 0 });
        assert_eq!(stolen, Err(NotNow::Wait), "the crossing piece has begun");
    }
    assert_eq!(any(&mut begun, B, Pick::Steal { lease, at: 0 }).map(|g| g.spans), Ok(vec![span(0..10)]));
    assert_eq!(begun.remaining(lease), [span(10..20), Span::new(SECOND, 1..10)]);
}

#[test]
fn a_lease_is_not_extended_by_what_it_lost_after_it_was_handed_over() {
    let mut ledger = ledger(&[Some(100)]);
    let lease = take(&mut ledger, A, 0..25);
    ledger.admit(lease, FIRST, 0..25, Instant::now());
    ledger.learn(Voice::User, Fact::Pieces((0..10).map(|i| piece(i * 10..i * 10 + 10)).collect())).unwrap();
    assert_eq!(free(&ledger), [20..100], "it has a part of a piece");
    ledger.extend(lease);
    assert_eq!(free(&ledger), [20..100]);
    assert_eq!(ledger.write_begins(lease, &span(15..25)), Some(span(15..20)), "the rest may come from somebody else");
}

#[test]
fn a_lease_is_extended_by_whole_pieces() {
    let mut plain = in_pieces();
    let lease = take(&mut plain, A, 0..10);
    let other = take(&mut plain, B, 50..60);
    plain.extend(lease);
    plain.extend(lease);
    assert_eq!(plain.remaining(lease), [span(0..50)]);
    plain.release(other);
    plain.extend(lease);
    plain.check();
    assert_eq!(plain.remaining(lease), [span(0..100)]);

    let mut crossed = crossed();
    let lease = take(&mut crossed, A, 0..5);
    crossed.extend(lease);
    crossed.check();
    assert_eq!(crossed.remaining(lease), [span(0..10)], "the rest of the next piece is in another entry");
}

#[test]
fn pieces_that_come_after_their_bytes_are_checked_or_fetched_again() {
    let mut ledger = ledger(&[Some(100)]);
    deliver(&mut ledger, A, 0..25);
    let lease = take(&mut ledger, B, 40..55);
    ledger.learn(Voice::User, Fact::Pieces(vec![piece(0..10), piece(10..20), piece(20..30), piece(50..60)])).unwrap();
    ledger.check();
    assert_eq!(ledger.remaining(lease), [span(40..50)], "a part of a piece can't be checked");
    let recheck = ledger.take_recheck();
    assert_eq!(recheck, ledger.pieces_within(&span(0..20)));
    ledger.rechecked(recheck[0], true);
    ledger.rechecked(recheck[1], false);
    ledger.check();
    assert_eq!((ledger.sealed(FIRST), ledger.verified(FIRST)), (&set(&[0..10]), &set(&[0..10])));
    assert!(ledger.has_quarantine() && !free(&ledger).iter().any(|run| run.start < 25));
    ledger.end_quarantine();
    ledger.check();
    assert_eq!(free(&ledger), [10..40, 50..100]);
}

#[test]
fn pieces_that_make_no_sense_are_refused() {
    let mut ledger = in_pieces();
    let mut learn = |piece| ledger.learn(Voice::Source(A), Fact::Pieces(vec![piece])).map_err(|e| e.kind());
    assert_eq!(learn(piece(0..10)), Ok(()), "said before");
    assert_eq!(learn(piece(5..15)), Ok(()), "another division is no contradiction");
    assert_eq!(learn(Piece::new(span(0..10), digest(2))), Err(ErrorKind::Changed));
    assert_eq!(learn(piece(95..105)), Err(ErrorKind::Changed), "beyond the end");
    assert_eq!(learn(piece(5..5)), Err(ErrorKind::Protocol));
    assert_eq!(learn(Piece { spans: Box::new([]), digest: digest(1) }), Err(ErrorKind::Protocol));
    assert_eq!(learn(Piece::new(Span::new(SECOND, 0..1), digest(1))), Err(ErrorKind::InvalidInput));
    assert_eq!(learn(Piece { spans: Box::new([span(0..5), span(3..9)]), digest: digest(1) }), Err(ErrorKind::Protocol));
    assert_eq!(ledger.pieces_within(&span(0..100)).len(), 10);
    assert!(ledger.is_covered_by_pieces(FIRST) && ledger.has_pieces(FIRST));
}

#[test]
fn who_is_disowned_loses_what_only_he_vouches_for() {
    let mut ledger = ledger(&[Some(100)]);
    ledger.learn(Voice::User, Fact::Pieces(vec![piece(0..10)])).unwrap();
    ledger.learn(Voice::Source(A), Fact::Pieces(vec![piece(10..20), piece(20..30)])).unwrap();
    deliver(&mut ledger, A, 0..20);
    deliver(&mut ledger, B, 20..40);
    deliver(&mut ledger, A, 40..50);
    let version = ledger.version(FIRST);
    ledger.disown(A);
    ledger.check();
    assert_eq!(ledger.sealed(FIRST), &set(&[0..10, 20..40]));
    assert_eq!(ledger.verified(FIRST), &set(&[0..10]), "his digests prove nothing");
    assert_eq!(ledger.pieces_within(&span(0..100)).len(), 1);
    assert!(ledger.version(FIRST) > version);
    assert_eq!(ledger.shares(FIRST), [(B, 20), (A, 10)]);
}

#[test]
fn of_an_entry_only_one_sources_bytes_are_kept() {
    let mut ledger = ledger(&[Some(100)]);
    deliver(&mut ledger, A, 0..20);
    deliver(&mut ledger, B, 20..50);
    assert_eq!(ledger.sources_of(FIRST), 2);
    assert_eq!(ledger.keep_only(FIRST, A), 30);
    ledger.check();
    assert_eq!(ledger.sealed(FIRST), &set(&[0..20]));
    ledger.end_quarantine();
    assert_eq!(free(&ledger), [20..100]);
}

#[test]
fn of_a_piece_only_the_part_is_taken_back_that_lies_in_the_entry() {
    for back in [|l: &mut Ledger| l.lose_dirty(FIRST), |l: &mut Ledger| l.restart(FIRST, false)] {
        let mut ledger = crossed();
        let lease = any(&mut ledger, A, Pick::Take(vec![span(10..20)])).unwrap();
        assert_eq!(lease.spans, [span(10..20), Span::new(SECOND, 0..10)]);
        assert_eq!(write(&mut ledger, lease.lease, &span(10..20)), []);
        let pieces = write(&mut ledger, lease.lease, &Span::new(SECOND, 0..10));
        ledger.seal_piece(lease.lease, pieces[0]);
        ledger.release(lease.lease);
        ledger.check();
        back(&mut ledger);
        ledger.end_quarantine();
        ledger.check();
        assert_eq!((ledger.sealed(FIRST), ledger.verified(SECOND)), (&set(&[]), &set(&[0..10])));
        let rest = any(&mut ledger, B, Pick::Take(vec![span(10..20)])).unwrap();
        assert_eq!(rest.spans, [span(10..20)]);
        assert_eq!(write(&mut ledger, rest.lease, &span(10..20)), []);
        assert_eq!((ledger.sealed(FIRST), ledger.verified(FIRST)), (&set(&[10..20]), &set(&[])));
        assert!(!ledger.is_trusted(&span(10..20)) && ledger.is_trusted(&Span::new(SECOND, 0..10)));
        assert_eq!(ledger.take_recheck(), pieces);
        ledger.rechecked(pieces[0], true);
        ledger.check();
        assert!(ledger.is_trusted(&span(10..20)));
    }
}

#[test]
fn a_piece_crosses_entries_at_their_ends_only() {
    let mut ledger = ledger(&[Some(20), Some(20), None]);
    for (spans, good) in [
        ([span(10..19), Span::new(SECOND, 0..10)], false),
        ([span(10..20), Span::new(SECOND, 1..10)], false),
        ([Span::new(EntryId::new(2), 0..10), Span::new(SECOND, 0..10)], false),
        ([Span::new(SECOND, 0..20), span(0..10)], false),
        ([span(10..20), Span::new(SECOND, 0..10)], true),
    ] {
        let piece = Piece { spans: spans.into(), digest: digest(1) };
        assert_eq!(ledger.learn(Voice::Source(A), Fact::Pieces(vec![piece])).is_ok(), good);
    }
    assert_eq!(ledger.pieces_within(&Span::new(SECOND, 0..20)).len(), 1);
    ledger.learn(Voice::User, Fact::Len(FIRST, 30)).unwrap();
    assert!(ledger.take_restarts().contains_key(&FIRST));
    ledger.restart(FIRST, false);
    ledger.check();
    // It doesn't reach the end any more.
    assert_eq!(ledger.pieces_within(&Span::new(SECOND, 0..20)).len(), 0);
}

#[test]
fn one_stream_gets_the_pieces_that_cross_entries_whole() {
    let mut ledger = crossed();
    ledger.restart(FIRST, true);
    assert!(ledger.is_solo(FIRST));
    let grant = any(&mut ledger, A, Pick::Take(vec![span(0..1)])).unwrap();
    assert_eq!(grant.spans, [span(0..20), Span::new(SECOND, 0..10)]);
    let bound = Ask::new(B, Want::Any { max: 100 }).with_entry(SECOND);
    let rest = ask(&mut ledger, &bound, Pick::Take(vec![Span::new(SECOND, 10..20)])).unwrap();
    assert_eq!(rest.spans, [Span::new(SECOND, 10..20)]);
}

#[test]
fn nobody_gets_exactly_what_overlaps_itself_or_is_nothing() {
    let mut ledger = ledger(&[Some(100)]);
    for spans in
        [vec![span(0..10), span(5..15)], vec![span(0..10), Span::new(FIRST, Range { start: 30, end: 20 })], vec![]]
    {
        let wanted = Ask::new(A, Want::Exactly(spans.clone()));
        assert_eq!(ask(&mut ledger, &wanted, Pick::Take(spans)), Err(NotNow::Wait));
    }
    let two = vec![span(0..10), span(50..60)];
    let wanted = Ask::new(A, Want::Exactly(two.clone()));
    assert_eq!(ask(&mut ledger, &wanted, Pick::Take(two.clone())).map(|g| g.spans), Ok(two));
}

#[test]
fn a_checkpoint_makes_durable_what_is_still_there() {
    let mut ledger = ledger(&[Some(100)]);
    deliver(&mut ledger, A, 0..50);
    assert_eq!(ledger.take_unlogged(), [span(0..50)]);
    assert_eq!(ledger.take_unlogged(), []);
    let dirty = ledger.dirty();
    assert_eq!(dirty, [(FIRST, set(&[0..50]))]);
    deliver(&mut ledger, B, 50..60);
    ledger.keep_only(FIRST, B);
    ledger.set_durable(FIRST, &dirty[0].1);
    ledger.check();
    assert!(ledger.durable(FIRST).is_empty(), "it was taken back meanwhile");
    let dirty = ledger.dirty();
    ledger.set_durable(FIRST, &dirty[0].1);
    deliver(&mut ledger, A, 60..70);
    ledger.log_again();
    assert_eq!(ledger.take_unlogged(), [span(60..70)]);
    ledger.lose_dirty(FIRST);
    ledger.check();
    assert_eq!((ledger.sealed(FIRST), ledger.durable(FIRST)), (&set(&[50..60]), &set(&[50..60])));
    assert_eq!((ledger.totals().durable, ledger.totals().len), (10, None));
}

#[test]
fn a_restart_frees_all_but_what_is_being_written() {
    let mut ledger = ledger(&[Some(100)]);
    deliver(&mut ledger, A, 0..50);
    let lease = take(&mut ledger, B, 50..100);
    begin(&mut ledger, lease, &span(50..60));
    ledger.block(FIRST);
    assert_eq!(any(&mut ledger, C, Pick::Take(vec![span(0..100)])), Err(NotNow::Wait));
    assert!(ledger.admit(lease, FIRST, 60..70, Instant::now()).last);
    ledger.restart(FIRST, false);
    ledger.check();
    assert_eq!(free(&ledger), [0..50, 60..100]);
    ledger.landed(lease, &span(50..60));
    ledger.check();
    assert_eq!(free(&ledger), [0..100]);
}

#[test]
fn what_an_earlier_run_left_counts_as_far_as_it_goes() {
    let mut ledger = in_pieces();
    let past = ledger.add_past();
    ledger.restore(FIRST, &set(&[0..25, 90..200]), &set(&[0..10]), past);
    ledger.check();
    // A part of a piece is fetched again, a whole one is checked if it was not.
    assert_eq!(ledger.sealed(FIRST), &set(&[0..20, 90..100]));
    assert_eq!(ledger.take_recheck(), [ledger.piece_at(FIRST, 10).unwrap(), ledger.piece_at(FIRST, 90).unwrap()]);
    assert!(ledger.is_benched(past) && ledger.sources_of(FIRST) == 0);
    assert!(!ledger.is_one_content(FIRST), "several responses may have brought it");
}

#[test]
fn what_an_earlier_run_left_is_of_one_content_only_if_a_strong_validator_says_so() {
    for strength in [Strength::Weak, Strength::Strong] {
        let mut ledger = ledger(&[Some(100)]);
        let past = ledger.add_past();
        let tag = Identity { scheme: "etag".into(), value: "1".into(), strength, origin: None };
        ledger.learn(Voice::Record, Fact::Identity(FIRST, tag)).unwrap();
        ledger.restore(FIRST, &set(&[0..100]), &set(&[]), past);
        assert_eq!(ledger.is_one_content(FIRST), strength == Strength::Strong);
    }
}

#[test]
fn responses_are_of_one_content_if_all_have_the_same_strong_validator() {
    let identity = |value: &str, strength| Identity {
        scheme: "etag".into(),
        value: value.into(),
        strength,
        origin: Some("https://a.example".into()),
    };
    let (strong, weak) = (identity("x", Strength::Strong), identity("x", Strength::Weak));
    let told = |answers: &[&[Identity]]| {
        let mut ledger = ledger(&[Some(10)]);
        ledger.learn(Voice::Source(A), Fact::Identity(FIRST, strong.clone())).unwrap();
        answers.iter().for_each(|identities| ledger.count_stream(FIRST, identities));
        (ledger.is_one_content(FIRST), ledger.common_identities(FIRST)[0].strength)
    };
    let (one, other) = ([strong.clone()], [identity("y", Strength::Strong)]);
    assert_eq!(told(&[&one]), (true, Strength::Strong));
    assert_eq!(told(&[&one, &one]), (true, Strength::Strong));
    assert_eq!(told(&[&one, &[]]), (false, Strength::Weak), "the second does not say");
    assert_eq!(told(&[&one, &other, &one]), (false, Strength::Weak));
    let alike = [weak];
    assert_eq!(told(&[&alike, &alike]), (false, Strength::Weak), "equal, but that promises little");
    let mut ledger = ledger(&[Some(10)]);
    ledger.count_stream(FIRST, &one);
    ledger.doubt_end(FIRST);
    assert!(!ledger.is_one_content(FIRST), "it may have been cut off");
}

#[test]
fn the_length_is_what_is_believed() {
    let mut ledger = ledger(&[None]);
    ledger.learn(Voice::Source(A), Fact::Len(FIRST, 50)).unwrap();
    let error = ledger.learn(Voice::Source(B), Fact::Len(FIRST, 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!((ledger.len(FIRST), ledger.len_said_by(FIRST, Voice::Source(B))), (Some(50), Some(80)));
    let lease = take(&mut ledger, B, 40..50);
    ledger.disown(A);
    ledger.check();
    assert_eq!((ledger.len(FIRST), free(&ledger)), (Some(80), vec![0..40, 50..80]));
    ledger.release(lease);
    ledger.learn(Voice::User, Fact::Len(FIRST, 70)).unwrap();
    assert_eq!(ledger.take_accused().len(), 1);
    assert_eq!(ledger.take_restarts().into_keys().collect::<Vec<_>>(), [FIRST]);
    assert!(ledger.learn(Voice::Source(C), Fact::Len(FIRST, u64::MAX)).is_err());
}

#[test]
fn an_entry_shorter_than_what_came_of_it_starts_again() {
    let mut ledger = ledger(&[None]);
    let lease = take(&mut ledger, A, 0..1);
    write(&mut ledger, lease, &span(0..50));
    ledger.learn(Voice::Source(A), Fact::Len(FIRST, 40)).unwrap();
    assert!(ledger.take_restarts().contains_key(&FIRST));
}

#[test]
fn a_length_does_not_cut_a_piece_unless_the_user_says_so() {
    let mut ledger = ledger(&[None]);
    ledger.learn(Voice::Source(A), Fact::Pieces(vec![piece(0..10), piece(10..20)])).unwrap();
    assert!(ledger.learn(Voice::Source(B), Fact::Len(FIRST, 15)).is_err());
    assert_eq!(ledger.len(FIRST), None);
    ledger.learn(Voice::User, Fact::Len(FIRST, 15)).unwrap();
    ledger.check();
    assert_eq!(ledger.pieces_within(&span(0..20)).len(), 1);
    assert!(!ledger.is_covered_by_pieces(FIRST));
}

#[test]
fn who_is_benched_or_not_chosen_gets_nothing() {
    let mut ledger = ledger(&[Some(100)]);
    let all = || Pick::Take(vec![span(0..100)]);
    let lease = take(&mut ledger, A, 0..100);
    ledger.bench(A);
    ledger.check();
    assert_eq!((free(&ledger), ledger.remaining(lease), ledger.live_sources(None)), (vec![0..100], vec![], 2));
    assert_eq!(any(&mut ledger, A, all()), Err(NotNow::Done));
    ledger.unbench(A);
    ledger.set_exclusive(Some(B));
    assert_eq!(any(&mut ledger, A, all()), Err(NotNow::Wait));
    ledger.set_exclusive(None);
    assert!(any(&mut ledger, A, all()).is_ok());
    assert_eq!((ledger.lease_count(), ledger.has_free()), (1, false));
}

#[test]
fn all_is_done_when_all_there_is_is_sealed_and_checked() {
    let mut ledger = ledger(&[Some(10), Some(0)]);
    deliver(&mut ledger, A, 0..10);
    assert!(!ledger.is_complete(), "there may be more entries");
    ledger.learn(Voice::User, Fact::LayoutComplete).unwrap();
    assert!(ledger.is_complete());
    assert_eq!((ledger.entry_count(), ledger.totals().len), (2, Some(10)));
    ledger.learn(Voice::Source(B), Fact::Pieces(vec![piece(0..10)])).unwrap();
    assert!(!ledger.is_complete(), "a piece has to be checked");
    let id = ledger.take_recheck()[0];
    ledger.rechecked(id, true);
    assert!(ledger.is_complete());
    assert_eq!(any(&mut ledger, A, Pick::Wait), Err(NotNow::Done));
}

#[test]
fn the_only_entry_has_the_name_that_the_caller_gives_it() {
    let mut ledger = Ledger::new();
    let entry = ledger.add_unnamed();
    let source = ledger.add_source("a");
    assert_eq!(ledger.source_name(source), "a");
    assert!(ledger.entry(entry).is_none() && ledger.path(entry).is_none());
    ledger.set_path(entry, path("mine"));
    ledger.learn(Voice::User, Fact::LayoutComplete).unwrap();
    ledger.learn(Voice::Source(source), Fact::Entry { path: path("theirs"), len: Some(5) }).unwrap();
    assert_eq!(ledger.entry_at(Voice::Source(source), &path("theirs")), Some(entry));
    assert_eq!(ledger.entry_at(Voice::User, &path("theirs")), None);
    assert!(ledger.learn(Voice::Source(source), Fact::Entry { path: path("more"), len: None }).is_err());
    ledger.learn(Voice::Source(source), Fact::Name(entry, "a name".into())).unwrap();
    assert_eq!((ledger.name(entry), ledger.len(entry)), (Some("a name"), Some(5)));
    assert_eq!(ledger.entry(entry).map(|e| e.path), Some(path("mine")));
}

/// Pieces of one length are kept together; that must not show.
#[test]
fn pieces_are_found_in_whatever_order_they_came() {
    let ranges = [(0..10), (20..30), (10..20), (30..40), (50..60), (40..47), (60..70), (70..75), (75..80), (47..50)];
    let pieces = ranges.clone().into_iter().enumerate().map(|(i, r)| Piece::new(span(r), digest(i as u8)));
    let pieces: Vec<Piece> = pieces.collect();
    let mut ledger = ledger(&[Some(100)]);
    for (i, piece) in pieces.iter().enumerate() {
        ledger.learn(Voice::Source(if i < 7 { A } else { B }), Fact::Pieces(vec![piece.clone()])).unwrap();
        ledger.check();
    }
    let check = |ledger: &Ledger, known: &[Piece]| {
        for at in 0..100 {
            let found = ledger.piece_at(FIRST, at).map(|id| ledger.piece(id));
            assert_eq!(found.as_ref(), known.iter().find(|piece| piece.spans[0].range.contains(&at)));
            let range = ledger.piece_range_at(FIRST, at);
            assert_eq!(range, found.map(|piece| piece.spans[0].range.clone()));
        }
        let mut sorted = known.to_vec();
        sorted.sort_by_key(|piece| piece.spans[0].range.start);
        let all = ledger.pieces_within(&span(0..100)).into_iter().map(|id| ledger.piece(id));
        assert_eq!(all.collect::<Vec<_>>(), sorted);
    };
    check(&ledger, &pieces);
    ledger.withdraw_facts(Voice::Source(B));
    check(&ledger, &pieces[..7]);
}

#[test]
fn what_was_checked_against_a_withdrawn_digest_is_not_verified_any_more() {
    let mut ledger = ledger(&[Some(10)]);
    ledger.learn(Voice::Source(B), Fact::Pieces(vec![piece(0..10)])).unwrap();
    deliver(&mut ledger, A, 0..10);
    assert_eq!(ledger.totals().verified, 10);
    ledger.withdraw_facts(Voice::Source(B));
    ledger.check();
    assert_eq!((ledger.totals().verified, ledger.totals().sealed), (0, 10));
}

/// What an operation costs grows with the number of runs, so that must not grow with the number of pieces.
#[test]
fn what_touches_is_one_run_however_many_pieces_there_are() {
    const PIECES: u64 = 5_000;
    let mut ledger = ledger(&[Some(PIECES * 10)]);
    let pieces = (0..PIECES).map(|i| piece(i * 10..i * 10 + 10)).collect();
    ledger.learn(Voice::User, Fact::Pieces(pieces)).unwrap();
    let lease = take(&mut ledger, A, 0..PIECES * 10);
    let runs = |l: &Ledger| {
        let e = &l.entries[0];
        [&e.free, &e.sealed, &e.verified, &e.dirty, &e.unlogged].map(RangeSet::count).into_iter().max().unwrap()
    };
    for i in 0..PIECES {
        let span = span(i * 10..i * 10 + 10);
        ledger.admit(lease, FIRST, span.range.clone(), Instant::now());
        ledger.write_begins(lease, &span).unwrap();
        let id = ledger.landed(lease, &span).pieces[0];
        ledger.seal_piece(lease, id);
        assert!(runs(&ledger) <= 1 && ledger.entries[0].by.iter().all(|(_, set)| set.count() == 1));
        let held = &ledger.leases[&lease].held;
        assert!(held.len() == 1 && held[0].admitted.count() == 1 && held[0].landed.count() == 0);
    }
    assert!(ledger.writing.is_empty());
}
