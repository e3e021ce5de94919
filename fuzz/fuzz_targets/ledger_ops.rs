//! Whatever sources, sinks and schedulers do, and in whatever order, the ledger does not contradict itself.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use dlm_api::{
    Algorithm, Ask, Digest, EntryId, EntryPath, Fact, LeaseId, Ledger, Pick, Piece, PieceId, RangeSet, Scheduler,
    SourceId, Span, View, Voice, Want,
};
use libfuzzer_sys::fuzz_target;

const ENTRIES: u32 = 3;
const SOURCES: u32 = 3;

/// A span as the input says it, sense or not: small numbers, so that they meet.
#[derive(Arbitrary, Clone, Debug)]
struct At(u8, u8, u8);

impl At {
    fn entry(&self) -> EntryId {
        EntryId::new(u32::from(self.0) % ENTRIES)
    }

    fn span(&self) -> Span {
        Span::new(self.entry(), self.1.into()..u64::from(self.1) + u64::from(self.2 % 64))
    }
}

#[derive(Arbitrary, Debug)]
enum Op {
    Claim { source: u8, bound: Option<u8>, exactly: Option<Vec<At>>, pick: Vec<At>, how: u8, lease: u8, wait: u8 },
    Admit { lease: u8, at: At },
    Write { lease: u8, at: At },
    Landed { write: u8 },
    Failed { write: u8 },
    Check { check: u8, good: bool },
    TakeOver { lease: u8, at: At },
    Release { lease: u8 },
    Len { source: u8, entry: u8, len: u8 },
    UserLen { entry: u8, len: u8 },
    Pieces { source: u8, digest: u8, pieces: Vec<At> },
    Bench { source: u8, back: bool },
    Disown { source: u8 },
    KeepOnly { source: u8, entry: u8 },
    LoseDirty { entry: u8 },
    Restart { entry: u8, solo: bool },
    Restore { at: At },
    Durable { at: At },
    Window { at: Option<At> },
    Turn { good: bool },
    LayoutComplete,
}

/// Answers with what the input says.
#[derive(Debug)]
struct Said(Option<Pick>);

impl Scheduler for Said {
    fn pick(&mut self, _: &View<'_>, _: &Ask, _: Instant) -> Pick {
        self.0.take().unwrap_or(Pick::Wait)
    }
}

#[derive(Default)]
struct World {
    ledger: Ledger,
    leases: Vec<LeaseId>,
    writes: Vec<(LeaseId, Span)>,
    checks: Vec<(LeaseId, PieceId)>,
}

fn source(number: u8) -> SourceId {
    SourceId::new(u32::from(number) % SOURCES)
}

fn entry(number: u8) -> EntryId {
    EntryId::new(u32::from(number) % ENTRIES)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let mut world = World::default();
    for i in 0..ENTRIES {
        let path = EntryPath::new(&format!("{i}")).unwrap();
        world.ledger.learn(Voice::User, Fact::Entry { path, len: None }).unwrap();
    }
    for i in 0..SOURCES {
        world.ledger.add_source(format!("{i}"));
    }
    let mut now = Instant::now();
    while !input.is_empty() {
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        world.happen(op, &mut now);
        world.ledger.check();
    }
});

impl World {
    fn lease(&self, number: u8) -> Option<LeaseId> {
        self.leases.get(usize::from(number) % self.leases.len().max(1)).copied()
    }

    fn happen(&mut self, op: Op, now: &mut Instant) {
        let ledger = &mut self.ledger;
        match op {
            Op::Claim { source: by, bound, exactly, pick, how, lease, wait } => {
                *now += Duration::from_millis(u64::from(wait) * 16);
                let want =
                    exactly.map_or(Want::Any { max: 100 }, |ats| Want::Exactly(ats.iter().map(At::span).collect()));
                let mut ask = Ask::new(source(by), want.clone());
                ask.entry = bound.map(entry);
                let spans: Vec<Span> = pick.iter().map(At::span).collect();
                let of = self.leases.get(usize::from(lease) % self.leases.len().max(1)).copied();
                let pick = match (how % 4, of, want) {
                    (0, Some(lease), _) => Pick::Steal { lease, at: pick.first().map_or(0, |at| at.1.into()) },
                    (1, _, _) => Pick::Hedge(spans),
                    (2, _, Want::Exactly(wanted)) => Pick::Take(wanted),
                    _ => Pick::Take(spans),
                };
                if let Ok(grant) = ledger.claim(&ask, &mut Said(Some(pick)), *now) {
                    assert_eq!(ledger.remaining(grant.lease), grant.spans);
                    self.leases.push(grant.lease);
                }
            }
            Op::Admit { lease, at } => {
                let Some(lease) = self.lease(lease) else { return };
                let span = at.span();
                let admitted = self.ledger.admit(lease, span.entry, span.range.clone(), *now);
                assert!(admitted.skip + admitted.take <= span.len());
            }
            Op::Write { lease, at } => {
                let Some(lease) = self.lease(lease) else { return };
                let span = at.span();
                // The pipeline writes only what was admitted, and once.
                let missing = self.ledger.remaining(lease);
                let is_missing = |s: &Span| {
                    missing
                        .iter()
                        .any(|m| m.entry == s.entry && m.range.start < s.range.end && s.range.start < m.range.end)
                };
                if is_missing(&span) || self.ledger.is_writing(std::slice::from_ref(&span)) {
                    return;
                }
                if let Some(part) = self.ledger.write_begins(lease, &span) {
                    assert!(span.range.start <= part.range.start && part.range.end <= span.range.end);
                    let sealed = self.ledger.sealed(part.entry);
                    if sealed.overlaps(&part.range) {
                        self.ledger.write_failed(lease, &part);
                        return;
                    }
                    self.writes.push((lease, part));
                }
            }
            Op::Landed { write } => {
                if self.writes.is_empty() {
                    return;
                }
                let (lease, span) = self.writes.swap_remove(usize::from(write) % self.writes.len());
                let landed = self.ledger.landed(lease, &span);
                self.checks.extend(landed.pieces.into_iter().map(|id| (lease, id)));
            }
            Op::Failed { write } => {
                if self.writes.is_empty() {
                    return;
                }
                let (lease, span) = self.writes.swap_remove(usize::from(write) % self.writes.len());
                self.ledger.write_failed(lease, &span);
            }
            Op::Check { check, good } => {
                if self.checks.is_empty() {
                    return;
                }
                let (lease, id) = self.checks.swap_remove(usize::from(check) % self.checks.len());
                if good {
                    ledger.seal_piece(lease, id);
                } else {
                    ledger.fail_piece(lease, id);
                }
            }
            Op::TakeOver { lease, at } => {
                let (Some(lease), Some(id)) = (self.lease(lease), self.ledger.piece_at(at.entry(), at.1.into())) else {
                    return;
                };
                if self.ledger.is_hedge(lease) {
                    self.ledger.take_over(lease, id);
                }
            }
            Op::Release { lease } => {
                if let Some(lease) = self.lease(lease) {
                    self.ledger.release(lease);
                    self.leases.retain(|l| *l != lease);
                }
            }
            Op::Len { source: by, entry: of, len } => {
                let _ = ledger.learn(Voice::Source(source(by)), Fact::Len(entry(of), len.into()));
            }
            Op::UserLen { entry: of, len } => {
                let _ = ledger.learn(Voice::User, Fact::Len(entry(of), len.into()));
            }
            Op::Pieces { source: by, digest, pieces } => {
                let digest = Digest::of(Algorithm::Md5, &[digest]);
                let pieces = pieces.chunks(2).map(|spans| {
                    let spans = spans.iter().map(At::span).collect::<Vec<_>>();
                    Piece { spans: spans.into(), digest: digest.clone() }
                });
                let _ = ledger.learn(Voice::Source(source(by)), Fact::Pieces(pieces.collect()));
            }
            Op::Bench { source: by, back: false } => ledger.bench(source(by)),
            Op::Bench { source: by, back: true } => ledger.unbench(source(by)),
            Op::Disown { source: by } => ledger.disown(source(by)),
            Op::KeepOnly { source: by, entry: of } => drop(ledger.keep_only(entry(of), source(by))),
            Op::LoseDirty { entry: of } => ledger.lose_dirty(entry(of)),
            Op::Restart { entry: of, solo } => {
                ledger.block(entry(of));
                ledger.check();
                ledger.restart(entry(of), solo);
            }
            Op::Restore { at } => {
                // Before anybody has begun.
                if self.leases.is_empty() && self.writes.is_empty() && !ledger.has_quarantine() {
                    let by = ledger.add_past();
                    let sealed = ledger.sealed(at.entry());
                    let fresh: RangeSet = sealed.gaps(at.span().range).collect();
                    ledger.restore(at.entry(), &fresh, &RangeSet::new(), by);
                }
            }
            Op::Durable { at } => ledger.set_durable(at.entry(), &[at.span().range].into_iter().collect()),
            Op::Window { at } => ledger.set_window(at.map(|at| at.span())),
            Op::Turn { good } => {
                for (source, _) in ledger.take_accused() {
                    ledger.disown(source);
                    ledger.bench(source);
                }
                for entry in ledger.take_restarts().into_keys() {
                    ledger.block(entry);
                    ledger.restart(entry, false);
                }
                ledger.take_recheck().into_iter().for_each(|id| ledger.rechecked(id, good));
                ledger.check();
                ledger.end_quarantine();
                drop(ledger.take_unlogged());
            }
            Op::LayoutComplete => drop(ledger.learn(Voice::User, Fact::LayoutComplete)),
        }
    }
}
