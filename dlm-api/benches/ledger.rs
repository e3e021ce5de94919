//! What the ledger costs at a million pieces. Each of these happens once for a piece. In order it must stay under 2
//! microseconds; in random order most of the time is spent waiting for memory, and it must stay far below what hashing a piece
//! costs, which is more than 100.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use dlm_api::{
    Algorithm, Ask, Balanced, Digest, EntryId, EntryPath, Fact, Ledger, Piece, Scheduler, SourceId, Span, Voice, Want,
};

const PIECES: u64 = 1_000_000;
/// As many when the benchmark is only tried out.
const FEW: u64 = 1_000;
const PIECE: u64 = 256 << 10;
const FIRST: EntryId = EntryId::FIRST;

/// Leases that are out while a scheduler picks.
const LEASES: u64 = 64;

/// A ledger of one entry in pieces, with a source.
fn ledger(pieces: u64) -> (Ledger, SourceId) {
    let mut ledger = Ledger::new();
    let path = EntryPath::new("a").expect("a safe name");
    ledger.learn(Voice::User, Fact::Entry { path, len: Some(pieces * PIECE) }).expect("nobody disagrees");
    let digest = Digest::of(Algorithm::Sha256, b"");
    let all = (0..pieces).map(|i| Piece::new(Span::new(FIRST, i * PIECE..(i + 1) * PIECE), digest.clone()));
    ledger.learn(Voice::User, Fact::Pieces(all.collect())).expect("nobody disagrees");
    ledger.learn(Voice::User, Fact::LayoutComplete).expect("nobody disagrees");
    let source = ledger.add_source("a source");
    (ledger, source)
}

/// Claims a piece, delivers and seals it.
fn piece(ledger: &mut Ledger, scheduler: &mut dyn Scheduler, ask: &Ask, now: Instant) {
    let grant = ledger.claim(ask, scheduler, now).expect("there is a free piece");
    let span = &grant.spans[0];
    assert_eq!(ledger.admit(grant.lease, span.entry, span.range.clone(), now).take, PIECE);
    let part = ledger.write_begins(grant.lease, span).expect("the lease holds it");
    for id in ledger.landed(grant.lease, &part).pieces {
        assert!(ledger.seal_piece(grant.lease, id).0);
    }
    ledger.release(grant.lease);
}

/// The pieces in an order without any, the same each time.
fn shuffled(pieces: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..pieces).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    order
}

fn seal_all(c: &mut Criterion, pieces: u64) {
    let now = Instant::now();
    let mut group = c.benchmark_group("claim, deliver and seal a piece");
    group.sample_size(10).throughput(Throughput::Elements(1));
    let mut in_order = Pieces::new(pieces);
    group.bench_function("in order", |b| {
        b.iter_custom(|times| {
            in_order.time(times, |ledger, source, _| {
                piece(ledger, &mut Balanced::new(), &Ask::new(source, Want::Any { max: PIECE }), now);
            })
        });
    });
    let order = shuffled(pieces);
    let mut in_any_order = Pieces::new(pieces);
    group.bench_function("in random order", |b| {
        b.iter_custom(|times| {
            in_any_order.time(times, |ledger, source, i| {
                let at = order[i as usize] * PIECE;
                let want = Want::Exactly(vec![Span::new(FIRST, at..at + PIECE)]);
                piece(ledger, &mut Balanced::new(), &Ask::new(source, want), now);
            })
        });
    });
    group.finish();
}

/// A ledger whose pieces are sealed one after the other, and a new one when all are.
struct Pieces {
    count: u64,
    done: u64,
    ledger: Ledger,
    source: SourceId,
}

impl Pieces {
    fn new(count: u64) -> Self {
        let (ledger, source) = ledger(count);
        Self { count, done: 0, ledger, source }
    }

    /// How long `seal` takes for this many pieces, of which it is told the number.
    fn time(&mut self, mut pieces: u64, seal: impl Fn(&mut Ledger, SourceId, u64)) -> Duration {
        let mut took = Duration::ZERO;
        while pieces > 0 {
            if self.done == self.count {
                *self = Self::new(self.count);
            }
            let n = pieces.min(self.count - self.done);
            let start = Instant::now();
            (self.done..self.done + n).for_each(|i| seal(&mut self.ledger, self.source, i));
            took += start.elapsed();
            self.done += n;
            pieces -= n;
        }
        took
    }
}

/// A scheduler that finds nothing free looks at all leases.
fn pick(c: &mut Criterion) {
    let (mut ledger, source) = ledger(LEASES);
    let slow = ledger.add_source("another source");
    let start = Instant::now();
    let mut scheduler = Balanced::new();
    for _ in 0..LEASES {
        ledger.claim(&Ask::new(slow, Want::Any { max: PIECE }), &mut scheduler, start).expect("there is a free piece");
    }
    // So slow that neither a steal nor a hedge would pay.
    let ask = Ask::new(source, Want::Any { max: PIECE }).with_rate(1);
    let now = start + Duration::from_secs(1);
    c.bench_function("pick among 64 leases", |b| {
        b.iter(|| black_box(ledger.claim(&ask, &mut scheduler, now)).expect_err("nothing is free"));
    });
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let is_trial = std::env::args().any(|arg| arg == "--test");
    seal_all(&mut c, if is_trial { FEW } else { PIECES });
    pick(&mut c);
    c.final_summary();
}
