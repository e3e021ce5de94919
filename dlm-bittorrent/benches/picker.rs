//! The picker at the greatest number of pieces that a torrent may have.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dlm_bittorrent::piece::{Bitfield, Has, Picker};
use fastrand::Rng;

const PIECES: u32 = 1 << 21;

/// Forty peers with a random half of the pieces each.
fn swarm() -> (Picker, Vec<Bitfield>) {
    let mut rng = Rng::with_seed(7);
    let mut picker = Picker::new(Bitfield::new(PIECES), rng.fork());
    let peers: Vec<_> = (0..40).map(|_| some(&mut rng, 2)).collect();
    peers.iter().for_each(|peer| picker.joined(peer));
    picker.pick(Has::All);
    (picker, peers)
}

/// One in `nth` of the pieces.
fn some(rng: &mut Rng, nth: u32) -> Bitfield {
    let mut bits = Bitfield::new(PIECES);
    (0..PIECES).filter(|_| rng.u32(..nth) == 0).for_each(|piece| _ = bits.insert(piece));
    bits
}

fn picker(c: &mut Criterion) {
    let mut rng = Rng::with_seed(1);
    let (mut picker, peers) = swarm();
    let few = some(&mut rng, 10_000);
    picker.joined(&few);
    c.bench_function("pick and take, a peer with half", |b| {
        b.iter(|| {
            let piece = picker.pick(Has::Pieces(&peers[rng.usize(..peers.len())])).unwrap_or(0);
            picker.take(piece);
            picker.put_back(black_box(piece));
        });
    });
    c.bench_function("pick, a peer with one in ten thousand", |b| {
        b.iter(|| black_box(picker.pick(Has::Pieces(&few))));
    });
    c.bench_function("have", |b| b.iter(|| picker.have(rng.u32(..PIECES))));
    c.bench_function("lost", |b| b.iter(|| picker.lost(rng.u32(..PIECES))));
    c.bench_function("a seed joins and leaves", |b| {
        b.iter(|| {
            picker.seed_joined();
            black_box(picker.pick(Has::All));
            picker.seed_left();
        });
    });
    c.bench_function("a peer with half joins, and the pick after it", |b| {
        b.iter_batched(
            || some(&mut rng, 2),
            |peer| {
                picker.joined(&peer);
                picker.pick(Has::All)
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = picker
}
criterion_main!(benches);
