use super::*;
use crate::digest::{Algorithm, Digest};
use crate::fact::{Fact, Piece};
use crate::ledger::{Grant, Ledger, NotNow, Voice};
use crate::path::EntryPath;
use crate::span::SourceId;

const MB: u64 = 1 << 20;
const FIRST: EntryId = EntryId::FIRST;
const SECOND: EntryId = EntryId::new(1);

/// A ledger, the scheduler above it, and the time.
struct Desk {
    ledger: Ledger,
    balanced: Balanced,
    now: Instant,
    fast: SourceId,
    slow: SourceId,
}

impl Desk {
    fn new(lens: &[u64]) -> Self {
        let mut ledger = Ledger::new();
        for (i, &len) in lens.iter().enumerate() {
            let path = EntryPath::new(&format!("{i}")).unwrap();
            ledger.learn(Voice::User, Fact::Entry { path, len: Some(len) }).unwrap();
        }
        let (fast, slow) = (ledger.add_source("fast"), ledger.add_source("slow"));
        Self { ledger, balanced: Balanced::new(), now: Instant::now(), fast, slow }
    }

    fn pieces(mut self, len: u64, of: u64) -> Self {
        let digest = Digest::of(Algorithm::Blake3, b"");
        let starts = (0..of).step_by(len as usize);
        let pieces = starts.map(|at| Piece::new(Span::new(FIRST, at..of.min(at + len)), digest.clone()));
        self.ledger.learn(Voice::User, Fact::Pieces(pieces.collect())).unwrap();
        self
    }

    fn ask(&mut self, ask: &Ask) -> Result<Grant, NotNow> {
        let grant = self.ledger.claim(ask, &mut self.balanced, self.now);
        self.ledger.check();
        grant
    }

    fn any(&mut self, source: SourceId, max: u64) -> Result<Grant, NotNow> {
        self.ask(&Ask::new(source, Want::Any { max }))
    }

    fn any_at(&mut self, source: SourceId, rate: u64) -> Result<Grant, NotNow> {
        self.ask(&Ask::new(source, Want::Any { max: u64::MAX }).with_rate(rate))
    }

    /// A second passes in which these bytes of a lease come.
    fn second(&mut self, grant: &Grant, range: Range<u64>) {
        self.now += Duration::from_secs(1);
        self.ledger.admit(grant.lease, grant.spans[0].entry, range, self.now);
    }

    fn fail(&mut self, source: SourceId, range: Range<u64>) {
        let ask = Ask::new(source, Want::Exactly(vec![Span::new(FIRST, range.clone())]));
        let grant = self.ask(&ask).unwrap();
        self.ledger.admit(grant.lease, FIRST, range.clone(), self.now);
        let part = self.ledger.write_begins(grant.lease, &Span::new(FIRST, range)).unwrap();
        for id in self.ledger.landed(grant.lease, &part).pieces {
            assert!(self.ledger.fail_piece(grant.lease, id));
        }
        self.ledger.release(grant.lease);
    }
}

fn span(range: Range<u64>) -> Vec<Span> {
    vec![Span::new(FIRST, range)]
}

#[test]
fn bytes_are_given_out_from_the_front() {
    let mut desk = Desk::new(&[10 * MB, 5 * MB]);
    assert_eq!(desk.any(desk.fast, 4 * MB).unwrap().spans, span(0..4 * MB));
    assert_eq!(desk.any(desk.slow, 4 * MB).unwrap().spans, span(4 * MB..8 * MB));
    assert_eq!(desk.any(desk.fast, 4 * MB).unwrap().spans, span(8 * MB..10 * MB));
    assert_eq!(desk.any(desk.fast, 4 * MB).unwrap().spans, [Span::new(SECOND, 0..4 * MB)]);
}

#[test]
fn a_source_of_one_entry_is_given_that_entry() {
    let mut desk = Desk::new(&[MB, 100]);
    let ask = Ask::new(desk.fast, Want::Any { max: MB }).with_entry(SECOND);
    assert_eq!(desk.ask(&ask).unwrap().spans, [Span::new(SECOND, 0..100)]);
    assert_eq!(desk.ask(&ask), Err(NotNow::Wait));
}

#[test]
fn what_is_read_comes_first_and_what_is_before_it_last() {
    let mut desk = Desk::new(&[10 * MB, MB]);
    desk.ledger.set_focus(Some((FIRST, 7 * MB)));
    assert_eq!(desk.any(desk.fast, 2 * MB).unwrap().spans, span(7 * MB..9 * MB));
    assert_eq!(desk.any(desk.fast, 2 * MB).unwrap().spans, span(9 * MB..10 * MB));
    assert_eq!(desk.any(desk.fast, 2 * MB).unwrap().spans, span(0..2 * MB));
}

#[test]
fn a_window_is_not_left_except_by_the_lease_that_the_sink_waits_for() {
    let mut desk = Desk::new(&[100 * MB]);
    desk.ledger.set_window(Some(Span::new(FIRST, 10 * MB..14 * MB)));
    assert_eq!(desk.any(desk.fast, 2 * MB).unwrap().spans, span(10 * MB..12 * MB));
    assert_eq!(desk.any(desk.slow, 8 * MB).unwrap().spans, span(12 * MB..14 * MB));
    let mut desk = Desk::new(&[100 * MB]);
    desk.ledger.set_window(Some(Span::new(FIRST, 10 * MB..14 * MB)));
    assert_eq!(desk.any(desk.fast, 20 * MB).unwrap().spans, span(10 * MB..30 * MB));
    // What is free lies behind the window, so the lease that holds the window up is shared.
    assert_eq!(desk.any(desk.slow, 20 * MB).unwrap().spans, span(12 * MB..14 * MB));
}

#[test]
fn a_piece_is_never_split() {
    let mut desk = Desk::new(&[10 * MB]).pieces(3 * MB, 10 * MB);
    assert_eq!(desk.any(desk.fast, 1).unwrap().spans, span(0..3 * MB));
    assert_eq!(desk.any(desk.fast, 4 * MB).unwrap().spans, span(3 * MB..9 * MB));
    assert_eq!(desk.any(desk.fast, MB).unwrap().spans, span(9 * MB..10 * MB));
}

#[test]
fn exactly_what_is_wanted_or_nothing() {
    let mut desk = Desk::new(&[10 * MB]).pieces(MB, 10 * MB);
    let ask = Ask::new(desk.fast, Want::Exactly(span(2 * MB..4 * MB)));
    assert_eq!(desk.ask(&ask).unwrap().spans, span(2 * MB..4 * MB));
    assert_eq!(desk.ask(&ask), Err(NotNow::Wait));
    let half = Ask::new(desk.fast, Want::Exactly(span(5 * MB..5 * MB + 1)));
    assert_eq!(desk.ask(&half), Err(NotNow::Wait), "a part of a piece");
    desk.ledger.set_window(Some(Span::new(FIRST, 4 * MB..6 * MB)));
    let beyond = Ask::new(desk.fast, Want::Exactly(span(6 * MB..7 * MB)));
    assert_eq!(desk.ask(&beyond), Err(NotNow::Wait), "behind the window");
}

#[test]
fn the_lease_that_ends_last_is_shared_so_that_both_end_together() {
    let mut desk = Desk::new(&[40 * MB]);
    let near = desk.any(desk.fast, 10 * MB).unwrap();
    let last = desk.any(desk.slow, 30 * MB).unwrap();
    desk.second(&near, 0..5 * MB);
    desk.ledger.admit(last.lease, FIRST, 10 * MB..12 * MB, desk.now);
    // 28 MB are left of it, at 2 MB a second. Who has 6 MB a second takes three quarters.
    let grant = desk.any_at(desk.fast, 6 * MB).unwrap();
    assert_eq!(grant.spans, span(19 * MB..40 * MB));
    assert_eq!(desk.ledger.remaining(last.lease), span(12 * MB..19 * MB));
    assert_eq!(desk.ledger.remaining(near.lease), span(5 * MB..10 * MB));
}

#[test]
fn whoever_reads_gets_the_split_at_his_place() {
    let mut desk = Desk::new(&[40 * MB]);
    let lease = desk.any(desk.slow, 40 * MB).unwrap();
    desk.second(&lease, 0..2 * MB);
    desk.ledger.set_focus(Some((FIRST, 9 * MB)));
    assert_eq!(desk.any_at(desk.fast, 2 * MB).unwrap().spans, span(9 * MB..40 * MB));
}

#[test]
fn a_steal_starts_at_a_piece() {
    let mut desk = Desk::new(&[40 * MB]).pieces(3 * MB, 40 * MB);
    let lease = desk.any(desk.slow, 40 * MB).unwrap();
    desk.second(&lease, 0..2 * MB);
    assert_eq!(desk.any_at(desk.fast, 2 * MB).unwrap().spans, span(24 * MB..40 * MB));
}

#[test]
fn little_is_not_stolen_nor_what_is_done_soon() {
    let mut desk = Desk::new(&[2 * MIN_STEAL]);
    let lease = desk.any(desk.slow, MB).unwrap();
    desk.now += Duration::from_secs(1);
    desk.ledger.admit(lease.lease, FIRST, 0..1, desk.now);
    assert_eq!(desk.any_at(desk.fast, 100 * MB), Err(NotNow::Wait), "a byte less than twice the least");

    let mut desk = Desk::new(&[20 * MB]);
    let lease = desk.any(desk.slow, 20 * MB).unwrap();
    desk.second(&lease, 0..10 * MB);
    assert_eq!(desk.any_at(desk.fast, 100 * MB), Err(NotNow::Wait), "done in a second");

    let mut desk = Desk::new(&[2 * MIN_STEAL + 1]);
    let lease = desk.any(desk.slow, MB).unwrap();
    desk.now += Duration::from_secs(1);
    desk.ledger.admit(lease.lease, FIRST, 0..1, desk.now);
    // It has all but no rate: even so it keeps the least, and the other has as much.
    let stolen = desk.any_at(desk.fast, 1).unwrap();
    assert_eq!(stolen.spans[0].len(), MIN_STEAL);
}

#[test]
fn a_silent_lease_loses_all_however_little_that_is() {
    for len in [100, 20 * MB] {
        let mut desk = Desk::new(&[len]);
        let lease = desk.any(desk.slow, OPEN).unwrap();
        desk.now += SILENT;
        if len == 100 {
            assert_eq!(desk.any(desk.fast, OPEN), Err(NotNow::Wait), "it may just be slow to begin");
        }
        desk.now += Duration::from_millis(1);
        let stolen = desk.any(desk.fast, OPEN).unwrap();
        assert_eq!(stolen.spans, span(0..len));
        assert_eq!(desk.ledger.remaining(lease.lease), []);
        assert!(desk.ledger.admit(lease.lease, FIRST, 0..1, desk.now).last);
    }
}

const OPEN: u64 = u64::MAX;

/// Two servers that take their time to begin would take the bytes from each other for ever.
#[test]
fn who_is_slow_to_begin_gets_there() {
    const FIRST_BYTE: Duration = Duration::from_secs(20);
    let mut desk = Desk::new(&[100]);
    let (mut holder, mut other) = (desk.fast, desk.slow);
    let mut lease = desk.any(holder, OPEN).unwrap();
    let mut since = desk.now;
    for _ in 0..1_000 {
        desk.now += Duration::from_millis(500);
        if desk.now - since >= FIRST_BYTE {
            assert_eq!(desk.ledger.admit(lease.lease, FIRST, 0..100, desk.now).take, 100);
            return;
        }
        if let Ok(stolen) = desk.any(other, OPEN) {
            (holder, other, lease, since) = (other, holder, stolen, desk.now);
        }
    }
    panic!("{holder:?} still has brought nothing");
}

#[test]
fn of_an_unknown_length_there_is_one_lease() {
    let mut desk = Desk::new(&[]);
    let entry = desk.ledger.add_unnamed();
    let lease = desk.any(desk.slow, MB).unwrap();
    assert!(lease.spans[0].is_open_ended() && lease.spans[0].range.start == 0);
    desk.now += Duration::from_secs(60);
    assert_eq!(desk.any_at(desk.fast, MB), Err(NotNow::Wait));
    desk.ledger.learn(Voice::User, Fact::Len(entry, 10 * MB)).unwrap();
    assert_eq!(desk.any_at(desk.fast, MB).unwrap().spans, span(0..10 * MB));
}

#[test]
fn one_stream_brings_all_of_an_entry_that_must_not_be_joined() {
    let mut desk = Desk::new(&[10 * MB]);
    desk.ledger.restart(FIRST, true);
    let lease = desk.any(desk.slow, MB).unwrap();
    assert_eq!(lease.spans, span(0..10 * MB));
    desk.now += Duration::from_secs(60);
    assert_eq!(desk.any_at(desk.fast, MB), Err(NotNow::Wait));
    let exactly = Ask::new(desk.fast, Want::Exactly(span(0..1)));
    desk.ledger.release(lease.lease);
    assert_eq!(desk.ask(&exactly), Err(NotNow::Wait));
}

#[test]
fn a_piece_that_failed_goes_to_somebody_else() {
    let mut desk = Desk::new(&[4 * MB]).pieces(MB, 4 * MB);
    desk.fail(desk.slow, MB..2 * MB);
    let alone = desk.any(desk.slow, 4 * MB).unwrap();
    assert_eq!(alone.spans, span(0..4 * MB), "the other may never begin");
    desk.ledger.release(alone.lease);
    let begun = desk.any(desk.fast, MB).unwrap();
    desk.ledger.release(begun.lease);
    let slow = desk.any(desk.slow, 4 * MB).unwrap();
    assert_eq!(slow.spans, span(0..MB), "up to the one that it had wrong");
    assert_eq!(desk.any(desk.slow, 4 * MB).unwrap().spans, span(2 * MB..4 * MB));
    assert_ne!(desk.any(desk.slow, 4 * MB).map(|g| g.spans), Ok(span(MB..2 * MB)));
    assert_eq!(desk.any(desk.fast, 4 * MB).unwrap().spans, span(MB..2 * MB));
}

#[test]
fn a_source_that_is_alone_tries_again() {
    let mut desk = Desk::new(&[4 * MB]).pieces(MB, 4 * MB);
    desk.fail(desk.slow, 0..MB);
    desk.ledger.bench(desk.fast);
    assert_eq!(desk.any(desk.slow, MB).unwrap().spans, span(0..MB));
}

/// A swarm beside a mirror that has leased all of it and has brought two of 40 pieces, at a million bytes a second.
fn swarm_beside_a_mirror() -> (Desk, Grant) {
    let mut desk = Desk::new(&[40 * MB]).pieces(MB, 40 * MB);
    let mirror = desk.any(desk.slow, OPEN).unwrap();
    desk.second(&mirror, 0..2 * MB);
    (desk, mirror)
}

#[test]
fn a_swarm_beside_a_slow_mirror_of_everything_does_not_starve() {
    let (mut desk, mirror) = swarm_beside_a_mirror();
    let exactly = |desk: &mut Desk, at| desk.ask(&Ask::new(desk.fast, Want::Exactly(span(at * MB..(at + 1) * MB))));
    assert_eq!(exactly(&mut desk, 2), Err(NotNow::Wait), "the one that it brings next");
    assert_eq!(exactly(&mut desk, 3), Err(NotNow::Wait), "it will be there in a second");
    assert_eq!(exactly(&mut desk, 30).unwrap().spans, span(30 * MB..31 * MB));
    assert_eq!(desk.ledger.remaining(mirror.lease), span(2 * MB..30 * MB));
    assert_eq!(exactly(&mut desk, 20), Err(NotNow::Wait), "what was behind it is free, and the mirror comes soon");
    assert_eq!(exactly(&mut desk, 31).unwrap().spans, span(31 * MB..32 * MB));
    assert_eq!(exactly(&mut desk, 30), Err(NotNow::Wait), "it is what its lease brings next");
    desk.ledger.bench(desk.slow);
    assert_eq!(exactly(&mut desk, 20).unwrap().spans, span(20 * MB..21 * MB), "the mirror is gone");
}

#[test]
fn a_swarm_that_would_be_slower_leaves_the_mirror_alone() {
    let (mut desk, _) = swarm_beside_a_mirror();
    let far = Ask::new(desk.fast, Want::Exactly(span(10 * MB..11 * MB)));
    assert_eq!(desk.ask(&far.clone().with_rate(100_000)), Err(NotNow::Wait));
    assert_eq!(desk.ask(&far.with_rate(MB)).unwrap().spans, span(10 * MB..11 * MB));
}

#[test]
fn a_silent_lease_loses_exactly_what_is_wanted_and_all_behind_it() {
    let mut desk = Desk::new(&[4 * MB]).pieces(MB, 4 * MB);
    let silent = desk.any(desk.slow, OPEN).unwrap();
    let first = Ask::new(desk.fast, Want::Exactly(span(0..MB)));
    desk.now += SILENT;
    assert_eq!(desk.ask(&first), Err(NotNow::Wait), "it may just be slow to begin");
    desk.now += Duration::from_millis(1);
    assert_eq!(desk.ask(&first).unwrap().spans, span(0..MB));
    assert_eq!(desk.ledger.remaining(silent.lease), []);
}

#[test]
fn at_the_end_the_slowest_piece_is_raced() {
    let mut desk = Desk::new(&[4 * MB]).pieces(MB, 4 * MB);
    let lease = desk.any(desk.slow, 4 * MB).unwrap();
    desk.second(&lease, 0..3 * MB + 1_000);
    desk.now += Duration::from_secs(9);
    assert_eq!(desk.any(desk.fast, OPEN), Err(NotNow::Wait), "nobody knows how fast it is");
    let hedge = desk.any_at(desk.fast, 10 * MB).unwrap();
    assert_eq!((hedge.hedge, hedge.spans), (true, span(3 * MB..4 * MB)));
    assert_eq!(desk.any_at(desk.fast, 10 * MB), Err(NotNow::Wait), "one is enough");
    assert_eq!(desk.ledger.remaining(lease.lease), span(3 * MB + 1_000..4 * MB));
}

#[test]
fn what_nobody_can_check_is_not_raced_nor_what_would_not_be_faster() {
    let mut plain = Desk::new(&[300 << 10]);
    let lease = plain.any(plain.slow, MB).unwrap();
    plain.second(&lease, 0..1_000);
    assert_eq!(plain.any_at(plain.fast, 10 * MB), Err(NotNow::Wait));

    let mut even = Desk::new(&[4 * MB]).pieces(4 * MB, 4 * MB);
    let lease = even.any(even.slow, 4 * MB).unwrap();
    even.second(&lease, 0..100_000);
    assert_eq!(even.any_at(even.fast, 200_000), Err(NotNow::Wait));
    assert!(even.any_at(even.fast, 300_000).unwrap().hedge);
}

#[test]
fn hedges_together_stay_in_their_budget() {
    const LEN: u64 = 6 * MB;
    let mut desk = Desk::new(&[4 * LEN]).pieces(LEN, 4 * LEN);
    for i in 0..4 {
        let lease = desk.any(desk.slow, LEN).unwrap();
        // Nothing but hedges is left to give: each is in the middle of its only piece.
        desk.ledger.admit(lease.lease, FIRST, i * LEN..i * LEN + 1, desk.now);
    }
    desk.now += Duration::from_secs(60);
    let mut staged = 0;
    while let Ok(grant) = desk.any_at(desk.fast, 100 * MB) {
        assert!(grant.hedge);
        staged += grant.spans[0].len();
    }
    assert_eq!(staged, HEDGE_BUDGET / LEN * LEN);
}
