//! Anything that can happen to a ledger, in any order.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::world::{Kind, World};
use crate::error::ErrorKind;
use crate::ledger::View;
use crate::scheduler::{Ask, Balanced, Pick, Scheduler, Want};
use crate::span::{EntryId, LeaseId, Span};

/// Answers with anything at all, sense or not.
#[derive(Debug)]
struct Hostile(fastrand::Rng);

impl Hostile {
    fn span(&mut self, view: &View<'_>) -> Span {
        let rng = &mut self.0;
        let entry = EntryId::new(rng.u32(..5));
        let free = view.free_from(entry, rng.u64(..3_000_000));
        let range = match (rng.u8(..6), free) {
            (0, _) => rng.u64(..3_000_000)..rng.u64(..3_000_000),
            (1, Some(free)) => free,
            (2..6, Some(free)) => {
                let start = rng.u64(free.start..free.end.min(free.start + 3_000_000));
                start..start + rng.u64(1..400_000)
            }
            _ => 0..u64::MAX,
        };
        Span::new(entry, range)
    }

    fn piece(&mut self, view: &View<'_>) -> Option<Vec<Span>> {
        let span = self.span(view);
        view.piece_at(span.entry, span.range.start)
    }
}

impl Scheduler for Hostile {
    fn pick(&mut self, view: &View<'_>, ask: &Ask, _: Instant) -> Pick {
        let leases: Vec<_> = view.leases().collect();
        let lease = self.0.choice(&leases).cloned();
        match (self.0.u8(..12), &ask.want, lease) {
            (0..5, _, _) => Pick::Take((0..self.0.usize(..4)).map(|_| self.span(view)).collect()),
            (5..7, Want::Exactly(spans), _) => Pick::Take(spans.clone()),
            (5 | 6, _, Some(lease)) => Pick::Steal {
                lease: lease.id,
                at: lease.tail.range.start.saturating_sub(1_000) + self.0.u64(..=lease.tail.len().min(1 << 40)),
            },
            (7..10, Want::Exactly(spans), _) if self.0.bool() => {
                let holder = spans.first().and_then(|span| view.holder(span));
                holder.map_or(Pick::Wait, |lease| Pick::Steal { lease: lease.id, at: self.0.u64(..3_000_000) })
            }
            (7..10, _, Some(lease)) => match view.piece_at(lease.tail.entry, lease.tail.range.start) {
                Some(piece) => Pick::Hedge(piece),
                None => Pick::Hedge(vec![lease.tail]),
            },
            (10, _, _) => self.piece(view).map_or(Pick::Done, Pick::Take),
            _ => Pick::Steal { lease: LeaseId(self.0.u64(..10)), at: self.0.u64(..3_000_000) },
        }
    }
}

/// What happens, and two numbers that say to whom and how much.
type Op = (u8, u32, u32);

fn happen(world: &mut World, (what, a, b): Op) {
    let (a, len) = (a as usize, u64::from(b));
    let (connection, source) = (a % world.connections.len(), a % world.sources.len());
    let i = a % world.lens.len();
    let entry = EntryId::new(i as u32);
    match what {
        0..6 => {
            let rate = (b % 3 > 0).then_some(len % 4_000_000);
            world.claim(connection, Want::Any { max: 1 + len % 2_000_000 }, rate);
        }
        6..8 => {
            let at = len % world.lens[i].max(1);
            let exact = match world.ledger.piece_at(entry, at) {
                Some(id) => world.ledger.piece(id).spans.to_vec(),
                None => vec![Span::new(entry, at..at + 1 + len % 100_000)],
            };
            world.claim((a / 7) % world.connections.len(), Want::Exactly(exact), None);
        }
        8..16 => {
            world.deliver(connection, if b % 4 == 0 { len % 70_000 } else { 0 }, len % 600_000);
        }
        16..21 => world.flush(connection),
        21..28 => world.land(a, b % 8 > 0),
        28..33 => world.check_piece(a),
        33..35 => world.drop_lease(connection),
        35 => world.now += Duration::from_millis(u64::from(b % 4_000)),
        36..38 => world.say_len(source, (b as usize) % world.lens.len()),
        38 => world.say_pieces(source, 50_000 + len % 3 * 75_000),
        39 => world.ledger.bench(world.sources[source].id),
        40 => world.ledger.unbench(world.sources[source].id),
        41 => world.disown(source, ErrorKind::Corrupt),
        42 => drop(world.ledger.keep_only(entry, world.sources[(b as usize) % world.sources.len()].id)),
        43 => world.ledger.lose_dirty(entry),
        44 => world.checkpoint(),
        45 => drop(world.ledger.take_unlogged()),
        46 if b % 4 == 0 => world.restart(entry, b % 8 == 0),
        47 => world.ledger.set_focus((b % 3 > 0).then_some((entry, len % 2_000_000))),
        48 if b % 4 == 0 => world.ledger.set_window(Some(Span::new(entry, len % 1_000_000..len % 1_000_000 + 500_000))),
        49 => world.ledger.set_exclusive((b % 2 == 0).then(|| world.sources[source].id)),
        50..52 => world.extend(connection),
        _ => world.turn(),
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Honest), Just(Kind::Slow), Just(Kind::Stalling), Just(Kind::Liar), Just(Kind::Short),]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec((0..55u8, any::<u32>(), any::<u32>()), 0..160)
}

fn lens() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0), 1..1_000u64, 1_000..2_500_000u64], 1..4)
}

/// Everything happens; after each step nothing is wrong, and when it is over, the download comes to its end.
fn live(lens: &[u64], others: &[Kind], known: u8, scheduler: Box<dyn Scheduler>, ops: Vec<Op>) {
    let kinds: Vec<Kind> = [&[Kind::Honest], others].concat();
    let mut world = World::new(lens, &kinds, scheduler);
    if known & 1 > 0 {
        (0..lens.len()).for_each(|entry| world.say_len(0, entry));
    }
    if known & 2 > 0 {
        world.say_pieces(0, 75_000);
    }
    for op in ops {
        happen(&mut world, op);
        world.check();
    }
    assert!(world.settle(), "it never ends: {:#?}", world.ledger);
}

proptest! {
    #[test]
    fn the_default_scheduler_brings_every_download_to_its_end(
        lens in lens(), others in proptest::collection::vec(kind(), 0..4), known: u8, ops in ops()
    ) {
        live(&lens, &others, known, Box::new(Balanced::new()), ops);
    }

    #[test]
    fn no_scheduler_can_make_a_download_wrong(
        lens in lens(), others in proptest::collection::vec(kind(), 0..4), known: u8, seed: u64, ops in ops()
    ) {
        live(&lens, &others, known, Box::new(Hostile(fastrand::Rng::with_seed(seed))), ops);
    }
}
