//! What a block costs from the wire to the caller, and the request for the next one: decoding, the swarm, encoding.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dlm_bittorrent::piece::{Bitfield, Geometry};
use dlm_bittorrent::swarm::{Claim, Claims, Config, PeerKey, Received, Swarm};
use dlm_bittorrent::wire::{BLOCK_LEN, Block, Decoder, Handshake, Message, PeerId, encode};
use fastrand::Rng;

/// So many blocks come with one receive, as 512 KiB hold.
const BATCH: usize = 32;

struct Grants;

impl Claims for Grants {
    fn claim(&mut self, _: u32) -> Claim {
        Claim::Granted
    }

    fn release(&mut self, _: u32) {}

    fn has_rivals(&self) -> bool {
        false
    }
}

/// A download from so many seeds, in turn, that never ends.
struct Download {
    swarm: Swarm,
    peers: Vec<(PeerKey, std::collections::VecDeque<Block>)>,
    now: Instant,
    data: Bytes,
    turn: usize,
}

impl Download {
    fn new(seeds: u8) -> Self {
        let (now, geometry) = (Instant::now(), Geometry::new(1 << 41, 1 << 20));
        let geometry = geometry.unwrap_or_else(|e| panic!("{e}"));
        let config = Config::new([0; 20], PeerId([0; 20]));
        let mut swarm = Swarm::new(now, config, geometry, Bitfield::new(geometry.pieces()), Rng::with_seed(1));
        let mut peers = Vec::new();
        for n in 1..=seeds {
            let theirs = Handshake { reserved: Swarm::RESERVED, info_hash: [0; 20], peer_id: PeerId([n; 20]) };
            let key = swarm.connected(now, ([10, 0, 0, n], 1).into(), true, &theirs);
            let key = key.unwrap_or_else(|e| panic!("{e}"));
            swarm.set_request_limit(key, 2000);
            for message in [Message::HaveAll, Message::Unchoke] {
                let _ = swarm.received(now, key, message);
            }
            peers.push((key, Default::default()));
        }
        let data = Bytes::from(vec![7; BLOCK_LEN as usize]);
        let mut download = Self { swarm, peers, now, data, turn: 0 };
        // Until the windows are open.
        (0..1000).for_each(|_| download.batch());
        download
    }

    fn batch(&mut self) {
        self.turn += 1;
        let at = self.turn % self.peers.len();
        let (key, requests) = &mut self.peers[at];
        for _ in 0..BATCH {
            let Some(block) = requests.pop_front() else { break };
            let message = Message::Piece { piece: block.piece, begin: block.begin, data: self.data.clone() };
            if let Ok(Received::Block { piece, last: true, .. }) = self.swarm.received(self.now, *key, message) {
                self.swarm.piece_done(self.now, piece, &mut |_| None);
            }
        }
        let mut out = BytesMut::with_capacity(BATCH * 17);
        self.swarm.transmit(self.now, *key, &mut Grants, &mut out);
        let mut decoder = Decoder::new(None);
        while let Ok(Some(message)) = decoder.decode(&mut out) {
            if let Message::Request(block) = message {
                requests.push_back(block);
            }
        }
        self.now += Duration::from_micros(500);
        self.swarm.tick(self.now, &mut Grants);
        self.swarm.wakes(&mut Vec::new());
    }
}

fn swarm(c: &mut Criterion) {
    let mut group = c.benchmark_group("blocks");
    group.throughput(Throughput::Elements(BATCH as u64));
    for seeds in [1, 40] {
        let mut download = Download::new(seeds);
        group.bench_function(format!("received and requested, {seeds} seeds"), |b| b.iter(|| download.batch()));
    }
    let mut receive = BytesMut::new();
    for begin in 0..BATCH as u32 {
        let data = Bytes::from(vec![1; BLOCK_LEN as usize]);
        encode(&Message::Piece { piece: 0, begin: begin * BLOCK_LEN, data }, &mut receive);
    }
    group.bench_function("decoded", |b| {
        b.iter_batched(
            || receive.clone(),
            |mut buf| {
                let mut decoder = Decoder::new(None);
                while let Ok(Some(message)) = decoder.decode(&mut buf) {
                    black_box(message);
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = swarm
}
criterion_main!(benches);
