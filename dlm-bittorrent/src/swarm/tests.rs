mod content;
mod network;
mod patience;
mod poison;
mod reading;
mod rules;
mod simulation;
mod uploads;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;

use crate::piece::{Bitfield, Geometry};
use crate::wire::{BLOCK_LEN, Block, Decoder, Handshake, Message, PeerId, Reserved};

use super::partial::BlockState;
use super::*;
use content::{Content, Ledger};

const SECOND: Duration = Duration::from_secs(1);

fn address(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
}

fn peer_id(n: u32) -> PeerId {
    let mut id = *b"-DL0001-000000000000";
    id[16..].copy_from_slice(&n.to_be_bytes());
    PeerId(id)
}

fn handshake(n: u32, reserved: Reserved) -> Handshake {
    Handshake { reserved, info_hash: [7; 20], peer_id: peer_id(n) }
}

/// One swarm, and peers whose every word is given by the test.
struct Scripted {
    swarm: Swarm,
    ledger: Ledger,
    content: Content,
    now: Instant,
}

impl Scripted {
    /// A torrent of so many pieces of `blocks` blocks, none of them there.
    fn new(pieces: u32, blocks: u32) -> Self {
        Self::with(pieces, blocks, Bitfield::new)
    }

    fn with(pieces: u32, blocks: u32, had: impl FnOnce(u32) -> Bitfield) -> Self {
        let content = Content::new(pieces, blocks * BLOCK_LEN);
        let now = Instant::now();
        let config = Config::new([7; 20], peer_id(0)).with_max_per_address(1);
        let swarm = Swarm::new(now, config, content.geometry, had(pieces), Rng::with_seed(5));
        Self { swarm, ledger: Ledger::default(), content, now }
    }

    fn connect(&mut self, n: u32) -> PeerKey {
        self.connect_as(n, Swarm::RESERVED)
    }

    fn connect_as(&mut self, n: u32, reserved: Reserved) -> PeerKey {
        self.swarm.connected(self.now, address(n), true, &handshake(n, reserved)).unwrap()
    }

    /// A peer that has everything and doesn't choke us.
    fn seed(&mut self, n: u32) -> PeerKey {
        let key = self.connect(n);
        self.hear(key, Message::HaveAll);
        self.hear(key, Message::Unchoke);
        key
    }

    fn hear(&mut self, key: PeerKey, message: Message) -> Received {
        self.swarm.received(self.now, key, message).unwrap()
    }

    fn say(&mut self, key: PeerKey) -> Vec<Message> {
        let mut out = BytesMut::new();
        self.swarm.transmit(self.now, key, &mut self.ledger, &mut out);
        let mut decoder = Decoder::new(Some(self.content.geometry.pieces()));
        check(&self.swarm, Some(&self.ledger));
        std::iter::from_fn(|| decoder.decode(&mut out).unwrap()).collect()
    }

    fn requests(&mut self, key: PeerKey) -> Vec<Block> {
        let only = |message| if let Message::Request(block) = message { Some(block) } else { None };
        self.say(key).into_iter().filter_map(only).collect()
    }

    fn good(&self, block: Block) -> Message {
        Message::Piece { piece: block.piece, begin: block.begin, data: self.content.block(block) }
    }

    fn bad(&self, block: Block) -> Message {
        let mut data = self.content.block(block).to_vec();
        data[0] ^= 1;
        Message::Piece { piece: block.piece, begin: block.begin, data: Bytes::from(data) }
    }

    /// Takes a block, and judges its piece when it is whole.
    fn deliver(&mut self, key: PeerKey, message: Message) -> Received {
        let received = self.hear(key, message);
        self.ledger.receive(self.now, &mut self.swarm, &self.content, &received);
        check(&self.swarm, Some(&self.ledger));
        received
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += SECOND.min(until - self.now);
            self.swarm.tick(self.now, &mut self.ledger);
            check(&self.swarm, Some(&self.ledger));
        }
    }

    fn closings(&mut self) -> Vec<(PeerKey, Close)> {
        let mut closings = Vec::new();
        self.swarm.closings(&mut closings);
        closings
    }
}

/// What always holds.
pub(super) fn check(swarm: &Swarm, ledger: Option<&Ledger>) {
    for (row, partial) in swarm.partials.iter() {
        assert_eq!(swarm.partials.find(partial.piece), Some(row));
        assert!(!swarm.picker.free().has(partial.piece), "a piece that is fetched is not free");
        let count = |which: fn(&BlockState) -> bool| partial.blocks.iter().filter(|state| which(state)).count() as u32;
        assert_eq!(partial.free, count(|state| *state == BlockState::Free));
        assert_eq!(partial.missing, count(|state| !matches!(state, BlockState::Received(_))));
        assert_eq!(swarm.partials.open().contains(&row), partial.free > 0);
        let mut references = 0;
        let mut requested = vec![0u8; partial.blocks.len()];
        for (_, peer) in swarm.connected_peers() {
            for request in peer.requests.iter().filter(|request| request.block.row == row) {
                assert_eq!(request.block.piece, partial.piece);
                references += 1;
                requested[request.block.index as usize] += u8::from(!request.stale);
            }
        }
        assert_eq!(partial.references, references);
        for (state, requested) in partial.blocks.iter().zip(requested) {
            match state {
                BlockState::Requested(n) => assert_eq!(*n, requested),
                BlockState::Free => assert_eq!(requested, 0),
                BlockState::Received(_) => {}
            }
        }
        assert!(ledger.is_none_or(|ledger| ledger.claimed.contains(&partial.piece)), "a partial piece is claimed");
    }
    if let Some(ledger) = ledger {
        assert_eq!(ledger.claimed.len(), swarm.partials.len(), "every claim has a partial piece");
    }
    for (_, peer) in swarm.connected_peers() {
        assert_eq!(peer.live as usize, peer.requests.iter().filter(|request| !request.stale).count());
        assert_eq!(peer.useful, peer.pieces.count_useful(swarm.picker.missing()));
        assert!(peer.requests.len() <= 4 * 8192);
    }
    assert_eq!(swarm.count, swarm.connected_peers().count());
}
