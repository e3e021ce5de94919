//! Whatever peers say and the ledger answers, in any order: no panic, every claim is given back once, and what a peer is
//! asked for is bounded.

#![no_main]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use dlm_bittorrent::piece::{Bitfield, Geometry, Order, Priority};
use dlm_bittorrent::swarm::{Claim, Claims, Config, PeerKey, Received, Swarm};
use dlm_bittorrent::wire::{Block, Decoder, Handshake, Message, PeerId, Reserved};
use libfuzzer_sys::fuzz_target;

const PIECES: u32 = 12;
const PIECE_LEN: u32 = 40_000;
const BLOCK: u32 = 16_384;

#[derive(Arbitrary, Debug)]
enum Op {
    Connect { host: u8, fast: bool, outgoing: bool },
    Disconnect { peer: u8 },
    Say { peer: u8, what: Word },
    /// Answers the oldest or the newest request.
    Answer { peer: u8, newest: bool, wrong: bool },
    Reject { peer: u8, newest: bool },
    Transmit { peer: u8 },
    Upload { peer: u8 },
    Wait { millis: u16 },
    Elsewhere { piece: u8 },
    Lost { piece: u8 },
    Grants { piece: u8, how: u8 },
    Changed,
    Priority { piece: u8, level: u8 },
    Deadline { piece: u8, millis: Option<u16> },
    Sequential(bool),
    DontHave { peer: u8, piece: u8 },
    Limit { peer: u8, limit: u32 },
    UploadOnly { peer: u8, only: bool },
}

#[derive(Arbitrary, Debug)]
enum Word {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u8),
    Bitfield(u16),
    HaveAll,
    HaveNone,
    Request(u8, u16, u32),
    Cancel(u8, u16, u32),
    Reject(u8, u8),
    Piece(u8, u8, u8),
    Suggest(u8),
    AllowedFast(u8),
    Unknown(u8),
}

impl Word {
    fn message(&self) -> Message {
        let block = |piece: u8, begin: u16, len: u32| Block { piece: piece.into(), begin: begin.into(), len };
        match *self {
            Self::KeepAlive => Message::KeepAlive,
            Self::Choke => Message::Choke,
            Self::Unchoke => Message::Unchoke,
            Self::Interested => Message::Interested,
            Self::NotInterested => Message::NotInterested,
            Self::Have(piece) => Message::Have(u32::from(piece) % (PIECES + 1)),
            Self::Bitfield(bits) => Message::Bitfield(Bytes::copy_from_slice(&(bits & 0xfff0).to_be_bytes())),
            Self::HaveAll => Message::HaveAll,
            Self::HaveNone => Message::HaveNone,
            Self::Request(piece, begin, len) => Message::Request(block(piece % 16, begin, len % 200_000)),
            Self::Cancel(piece, begin, len) => Message::Cancel(block(piece % 16, begin, len % 200_000)),
            Self::Reject(piece, index) => Message::Reject(Block { piece: piece.into(), begin: u32::from(index) * BLOCK, len: BLOCK }),
            Self::Piece(piece, index, len) => {
                Message::Piece { piece: piece.into(), begin: u32::from(index) * BLOCK, data: Bytes::from(vec![0; len.into()]) }
            }
            Self::Suggest(piece) => Message::Suggest(piece.into()),
            Self::AllowedFast(piece) => Message::AllowedFast(u32::from(piece) % (PIECES + 1)),
            Self::Unknown(id) => Message::Unknown(id.saturating_add(30)),
        }
    }
}

#[derive(Default)]
struct Ledger {
    claimed: BTreeSet<u32>,
    answers: [u8; PIECES as usize],
}

impl Claims for Ledger {
    fn claim(&mut self, piece: u32) -> Claim {
        match self.answers[piece as usize] % 4 {
            2 => Claim::Busy,
            3 => Claim::Done,
            _ => {
                assert!(self.claimed.insert(piece), "{piece} is claimed twice");
                Claim::Granted
            }
        }
    }

    fn release(&mut self, piece: u32) {
        assert!(self.claimed.remove(&piece), "{piece} was not claimed");
    }

    fn has_rivals(&self) -> bool {
        self.answers[0] % 2 == 0
    }
}

/// What a peer was asked for and did not answer.
struct Asked {
    key: PeerKey,
    requests: Vec<Block>,
}

struct Test {
    swarm: Swarm,
    ledger: Ledger,
    now: Instant,
    peers: Vec<Asked>,
    bad: BTreeSet<u32>,
}

fuzz_target!(|ops: Vec<Op>| {
    let now = Instant::now();
    let total = u64::from(PIECES) * u64::from(PIECE_LEN) - 1234;
    let geometry = Geometry::new(total, PIECE_LEN).unwrap();
    let config = Config::new([1; 20], PeerId([0; 20])).with_peers(6, 3);
    let swarm = Swarm::new(now, config, geometry, Bitfield::new(PIECES), fastrand::Rng::with_seed(1));
    let mut test = Test { swarm, ledger: Ledger::default(), now, peers: Vec::new(), bad: BTreeSet::new() };
    for op in ops {
        test.apply(op);
        test.check();
    }
});

impl Test {
    fn at(&self, peer: u8) -> Option<usize> {
        (!self.peers.is_empty()).then(|| usize::from(peer) % self.peers.len())
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Connect { host, fast, outgoing } => {
                let reserved = if fast { Reserved::FAST } else { Reserved::default() };
                let theirs = Handshake { reserved, info_hash: [1; 20], peer_id: PeerId([host % 8; 20]) };
                let address = SocketAddr::from(([10, 0, 0, host % 8], 1));
                if let Ok(key) = self.swarm.connected(self.now, address, outgoing, &theirs) {
                    self.peers.push(Asked { key, requests: Vec::new() });
                }
            }
            Op::Disconnect { peer } => {
                let Some(at) = self.at(peer) else { return };
                let peer = self.peers.swap_remove(at);
                self.swarm.disconnected(self.now, peer.key);
            }
            Op::Say { peer, what } => {
                let Some(at) = self.at(peer) else { return };
                self.hear(at, what.message());
            }
            Op::Answer { peer, newest, wrong } => {
                let Some(at) = self.at(peer) else { return };
                let Some(block) = self.take(at, newest) else { return };
                if wrong {
                    self.bad.insert(block.piece);
                }
                let data = Bytes::from(vec![u8::from(wrong); block.len as usize]);
                self.hear(at, Message::Piece { piece: block.piece, begin: block.begin, data });
            }
            Op::Reject { peer, newest } => {
                let Some(at) = self.at(peer) else { return };
                let Some(block) = self.take(at, newest) else { return };
                self.hear(at, Message::Reject(block));
            }
            Op::Transmit { peer } => {
                let Some(at) = self.at(peer) else { return };
                self.transmit(at);
            }
            Op::Upload { peer } => {
                let Some(at) = self.at(peer) else { return };
                let key = self.peers[at].key;
                if let Some(block) = self.swarm.next_upload(self.now, key) {
                    assert!(self.swarm.had().has(block.piece) && self.swarm.geometry().contains(block));
                    self.swarm.uploaded(self.now, key, block.len.into());
                }
            }
            Op::Wait { millis } => {
                self.now += Duration::from_millis(u64::from(millis) * 4);
                self.swarm.tick(self.now, &mut self.ledger);
            }
            Op::Elsewhere { piece } => {
                let piece = u32::from(piece) % PIECES;
                if self.swarm.piece_had_elsewhere(self.now, piece) {
                    self.ledger.claimed.remove(&piece);
                }
            }
            Op::Lost { piece } => {
                let piece = u32::from(piece) % PIECES;
                self.ledger.claimed.remove(&piece);
                self.swarm.piece_lost(piece);
            }
            Op::Grants { piece, how } => self.ledger.answers[usize::from(piece) % PIECES as usize] = how,
            Op::Changed => self.swarm.changed(),
            Op::Priority { piece, level } => {
                self.swarm.set_priorities([(u32::from(piece) % PIECES, Priority::new(level))]);
            }
            Op::Deadline { piece, millis } => {
                let deadline = millis.map(|millis| self.now + Duration::from_millis(millis.into()));
                self.swarm.set_deadline(u32::from(piece) % PIECES, deadline);
            }
            Op::Sequential(yes) => self.swarm.set_order(if yes { Order::Sequential } else { Order::RarestFirst }),
            Op::DontHave { peer, piece } => {
                let Some(at) = self.at(peer) else { return };
                self.swarm.dont_have(self.peers[at].key, piece.into());
            }
            Op::Limit { peer, limit } => {
                let Some(at) = self.at(peer) else { return };
                self.swarm.set_request_limit(self.peers[at].key, limit);
            }
            Op::UploadOnly { peer, only } => {
                let Some(at) = self.at(peer) else { return };
                self.swarm.set_upload_only(self.peers[at].key, only);
            }
        }
    }

    fn take(&mut self, at: usize, newest: bool) -> Option<Block> {
        let requests = &mut self.peers[at].requests;
        if requests.is_empty() {
            return None;
        }
        Some(if newest { requests.remove(requests.len() - 1) } else { requests.remove(0) })
    }

    fn hear(&mut self, at: usize, message: Message) {
        let key = self.peers[at].key;
        match self.swarm.received(self.now, key, message) {
            Ok(Received::Block { piece, last, .. }) => {
                assert!(self.ledger.claimed.contains(&piece), "a block of a piece that is not claimed");
                if last {
                    self.ledger.claimed.remove(&piece);
                    if self.bad.remove(&piece) {
                        self.swarm.piece_failed(piece, &mut |index| Some(u64::from(index) + 1));
                    } else {
                        self.swarm.piece_done(self.now, piece, &mut |index| Some(u64::from(index)));
                    }
                }
            }
            Ok(_) => {}
            Err(_) => {
                self.peers.swap_remove(at);
                self.swarm.disconnected(self.now, key);
            }
        }
    }

    fn transmit(&mut self, at: usize) {
        let mut out = BytesMut::new();
        let key = self.peers[at].key;
        self.swarm.transmit(self.now, key, &mut self.ledger, &mut out);
        let mut decoder = Decoder::new(Some(PIECES));
        while let Some(message) = decoder.decode(&mut out).unwrap() {
            let requests = &mut self.peers[at].requests;
            match message {
                Message::Request(block) => {
                    assert!(self.swarm.geometry().contains(block) && block.len <= BLOCK);
                    assert!(!self.swarm.had().has(block.piece), "what is had is not asked for");
                    requests.push(block);
                }
                Message::Cancel(block) => requests.retain(|asked| *asked != block),
                _ => {}
            }
        }
        assert!(out.is_empty());
    }

    fn check(&mut self) {
        let stats = self.swarm.stats();
        assert_eq!(stats.peers, self.peers.len());
        assert_eq!(stats.partial_pieces, self.ledger.claimed.len(), "every claim has a partial piece");
        for peer in &self.peers {
            let stats = self.swarm.peer_stats(peer.key).unwrap();
            assert!(stats.requests <= 4096 && stats.window <= 4096 && stats.upload_queue <= 2000);
        }
        let mut awake = Vec::new();
        self.swarm.wakes(&mut awake);
        let unique: BTreeSet<PeerKey> = awake.iter().copied().collect();
        assert_eq!(unique.len(), awake.len());
    }
}
