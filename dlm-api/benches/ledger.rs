//! What the ledger costs at a million pieces, step by step. Each of these happens once for a piece, and must stay under 2
//! microseconds whatever the order in which pieces come.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use dlm_api::{
    Algorithm, Ask, Balanced, Digest, EntryId, EntryPath, Fact, Grant, Ledger, Piece, SourceId, Span, Voice, Want,
};

const PIECES: u64 = 1_000_000;
/// As many when the benchmark is only tried out.
const FEW: u64 = 1_000;
const PIECE: u64 = 256 << 10;
const FIRST: EntryId = EntryId::FIRST;

/// Leases that are out at a time.
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

/// The pieces in an order without any, the same each time.
fn shuffled(pieces: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..pieces).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    order
}

/// What happens once for a piece, each for some pieces one after the other, so that it can be timed alone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Step {
    /// A source asks for it.
    Claim,
    /// Its bytes are handed over and land in the sink.
    Write,
    /// Its digest matched.
    Seal,
    /// Its lease ends.
    Release,
    /// It gets into the log and then into the record.
    Record,
}

fn steps(c: &mut Criterion, pieces: u64) {
    let any = Want::Any { max: PIECE };
    for (name, order, want) in
        [("in order", (0..pieces).collect(), Some(any)), ("in random order", shuffled(pieces), None)]
    {
        let mut pieces = Pieces::new(order, want);
        let mut group = c.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Elements(1));
        for step in [Step::Claim, Step::Write, Step::Seal, Step::Release, Step::Record] {
            group.bench_function(format!("{step:?}").to_lowercase(), |b| {
                b.iter_custom(|times| pieces.time(step, times))
            });
        }
        group.finish();
    }
}

/// A ledger whose pieces are sealed in this order, and a new one when all are.
struct Pieces {
    order: Vec<u64>,
    /// What is asked for; exactly the next piece for `None`.
    want: Option<Want>,
    done: usize,
    ledger: Ledger,
    source: SourceId,
}

impl Pieces {
    fn new(order: Vec<u64>, want: Option<Want>) -> Self {
        let (ledger, source) = ledger(order.len() as u64);
        Self { order, want, done: 0, ledger, source }
    }

    /// How long this step takes for at least this many pieces, were it that many.
    fn time(&mut self, step: Step, times: u64) -> Duration {
        let (mut took, mut pieces) = (Duration::ZERO, 0);
        while pieces < times {
            if self.done == self.order.len() {
                (self.ledger, self.source) = ledger(self.order.len() as u64);
                self.done = 0;
            }
            let n = (self.order.len() - self.done).min(LEASES as usize);
            took += self.go(n)[step as usize];
            pieces += n as u64;
        }
        took.mul_f64(times as f64 / pieces as f64)
    }

    /// The next `n` pieces go all the way. Says how long each step took.
    fn go(&mut self, n: usize) -> [Duration; 5] {
        let now = Instant::now();
        let (ledger, scheduler) = (&mut self.ledger, &mut Balanced::new());
        let exactly = |i: &u64| Want::Exactly(vec![Span::new(FIRST, i * PIECE..(i + 1) * PIECE)]);
        let ask = |i: &u64| Ask::new(self.source, self.want.clone().unwrap_or_else(|| exactly(i)));
        let asks: Vec<Ask> = self.order[self.done..self.done + n].iter().map(ask).collect();
        let start = Instant::now();
        let grants: Vec<Grant> =
            asks.iter().map(|ask| ledger.claim(ask, scheduler, now).expect("the piece is free")).collect();
        let claimed = Instant::now();
        let mut whole = Vec::with_capacity(n);
        for Grant { lease, spans, .. } in &grants {
            assert_eq!(ledger.admit(*lease, FIRST, spans[0].range.clone(), now).take, PIECE);
            let part = ledger.write_begins(*lease, &spans[0]).expect("the lease holds it");
            whole.push((*lease, ledger.landed(*lease, &part).pieces[0]));
        }
        let written = Instant::now();
        for (lease, piece) in &whole {
            assert!(ledger.seal_piece(*lease, *piece).0);
        }
        let sealed = Instant::now();
        grants.iter().for_each(|grant| ledger.release(grant.lease));
        let released = Instant::now();
        // A download of this rate does the one ten times a second, and the other each 64 MiB.
        assert_eq!(ledger.take_unlogged().iter().map(Span::len).sum::<u64>(), n as u64 * PIECE);
        self.done += n;
        if self.done.is_multiple_of(256) || self.done == self.order.len() {
            ledger.dirty().iter().for_each(|(entry, ranges)| ledger.set_durable(*entry, ranges));
        }
        let recorded = Instant::now();
        [claimed - start, written - claimed, sealed - written, released - sealed, recorded - released]
    }
}

/// A small entry without pieces goes all the way, and an engine asks how things are. With a hundred times as many entries this
/// takes about as long.
fn entries(c: &mut Criterion, counts: [u32; 2]) {
    const LEN: u64 = 1000;
    let mut group = c.benchmark_group("an entry of");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for count in counts {
        let new = || {
            let mut ledger = Ledger::new();
            for i in 0..count {
                let path = EntryPath::new(&i.to_string()).expect("a safe name");
                ledger.learn(Voice::User, Fact::Entry { path, len: Some(LEN) }).expect("nobody disagrees");
            }
            ledger.learn(Voice::User, Fact::LayoutComplete).expect("nobody disagrees");
            let source = ledger.add_source("a source");
            (ledger, source)
        };
        let (mut ledger, mut source) = new();
        group.bench_function(count.to_string(), |b| {
            b.iter_custom(|times| {
                let (mut took, mut left) = (Duration::ZERO, times);
                while left > 0 {
                    if ledger.is_complete() {
                        (ledger, source) = new();
                    }
                    let (now, n) = (Instant::now(), left.min(u64::from(count) - ledger.totals().sealed / LEN));
                    for _ in 0..n {
                        let ask = Ask::new(source, Want::Any { max: PIECE });
                        let Grant { lease, spans, .. } =
                            ledger.claim(&ask, &mut Balanced::new(), now).expect("there is a free entry");
                        ledger.admit(lease, spans[0].entry, spans[0].range.clone(), now);
                        let part = ledger.write_begins(lease, &spans[0]).expect("the lease holds it");
                        assert_eq!(ledger.landed(lease, &part).sealed, LEN);
                        ledger.release(lease);
                        assert_eq!(ledger.take_unlogged().len(), 1);
                        black_box((ledger.totals(), ledger.is_complete(), ledger.has_quarantine()));
                    }
                    took += now.elapsed();
                    left -= n;
                }
                took
            });
        });
    }
    group.finish();
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
    steps(&mut c, if is_trial { FEW } else { PIECES });
    entries(&mut c, if is_trial { [1, 10] } else { [1_000, 100_000] });
    pick(&mut c);
    c.final_summary();
}
