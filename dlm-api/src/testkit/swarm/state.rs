//! [`State`]: what one run of a swarm knows of its peers and of the pieces that are on their way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time;

use super::{BLOCK, Inner, Layout, Peer};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Flow, Lease};
use crate::ledger::NotNow;
use crate::scheduler::Want;
use crate::transfer::Transfer;

/// How many blocks a peer is asked for at once.
const PIPELINE: usize = 4;

/// How many leases are out at once.
const ACTIVE: usize = 6;

/// One of so many replies is a choke.
const CHOKES: usize = 10;

/// The longest that a peer chokes us.
const CHOKED: Duration = Duration::from_millis(400);

/// How far it is.
pub(super) enum Step {
    GoOn,
    /// Everything is there.
    Complete,
    /// Nothing more is wanted from this source.
    Refused,
}

/// A block of a piece.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct BlockId {
    piece: usize,
    start: u64,
    end: u64,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum BlockState {
    Missing,
    Asked(usize),
    Here,
}

/// Pieces that are on their way under one lease: one, unless somebody else's pieces are larger.
struct Active {
    number: u64,
    lease: Lease,
    pieces: Vec<usize>,
    blocks: Vec<(BlockId, BlockState)>,
    from: BTreeSet<usize>,
    /// It came wrong before, from several peers: one alone delivers it now, so that it is known who lies.
    single: bool,
}

struct Known {
    peer: Peer,
    have: Vec<bool>,
    asked: usize,
    open: usize,
    choking: bool,
    gone: bool,
}

/// What a peer did.
pub(super) enum Reply {
    Block { active: u64, peer: usize, block: BlockRef, data: Bytes },
    Choke(usize),
    Unchoke(usize),
    Leave(usize),
}

/// The place of a block in its lease.
type BlockRef = usize;

pub(super) struct State {
    swarm: Arc<Inner>,
    layout: Layout,
    transfer: Transfer,
    random: fastrand::Rng,
    peers: Vec<Known>,
    active: Vec<Active>,
    next_active: u64,
    /// Pieces that came wrong from several peers.
    doubtful: BTreeSet<usize>,
    replies: FuturesUnordered<BoxFuture<'static, Reply>>,
}

impl State {
    pub(super) fn new(swarm: Arc<Inner>, layout: Layout, transfer: Transfer) -> Self {
        let mut random = fastrand::Rng::with_seed(swarm.seed);
        let count = swarm.piece_count();
        let mut peers: Vec<Known> = swarm
            .peers
            .iter()
            .map(|peer| Known {
                peer: peer.clone(),
                have: (0..count).map(|_| random.f64() < peer.share).collect(),
                asked: 0,
                open: 0,
                choking: false,
                gone: false,
            })
            .collect();
        let lasting = |known: &Known| !known.peer.corrupt && known.peer.leaves_after.is_none();
        for piece in 0..count {
            if !peers.iter().any(|known| lasting(known) && known.have[piece])
                && let Some(known) = peers.iter_mut().find(|known| lasting(known))
            {
                known.have[piece] = true;
            }
        }
        Self {
            swarm,
            layout,
            transfer,
            random,
            peers,
            active: Vec::new(),
            next_active: 0,
            doubtful: BTreeSet::new(),
            replies: FuturesUnordered::new(),
        }
    }

    fn is_sealed(&self, piece: usize) -> bool {
        self.layout.spans(&self.swarm.piece_range(piece)).iter().all(|span| self.transfer.is_sealed(span))
    }

    /// Asks for whatever can be asked for.
    pub(super) fn step(&mut self) -> Result<Step> {
        let missing: Vec<usize> = (0..self.swarm.piece_count()).filter(|piece| !self.is_sealed(*piece)).collect();
        if missing.is_empty() {
            self.active.clear();
            return Ok(Step::Complete);
        }
        if self.peers.iter().all(|known| known.gone) {
            return Err(Error::new(ErrorKind::Network, "no peer is left"));
        }
        self.ask_for_active();
        while self.active.len() < ACTIVE {
            match self.claim_rarest(&missing) {
                Ok(()) => self.ask_for_active(),
                Err(NotNow::Wait) => break,
                Err(NotNow::Done) => return Ok(Step::Refused),
            }
        }
        Ok(Step::GoOn)
    }

    /// Claims the piece that the fewest peers have, of those which somebody would send now.
    fn claim_rarest(&mut self, missing: &[usize]) -> Result<(), NotNow> {
        let ready = |known: &Known| !known.gone && !known.choking && known.open < PIPELINE;
        let has = |piece: usize| self.peers.iter().filter(move |k| !k.gone && k.have[piece]).count();
        let mut wanted: Vec<usize> = missing.to_vec();
        self.random.shuffle(&mut wanted);
        wanted.retain(|piece| {
            !self.active.iter().any(|active| active.pieces.contains(piece))
                && self.peers.iter().any(|known| ready(known) && known.have[*piece])
        });
        wanted.sort_by_key(|piece| has(*piece));
        for piece in wanted {
            let (pieces, spans) = self.group(piece);
            let lease = match self.transfer.claim(Want::Exactly(self.transfer.missing_of(&spans)), None) {
                Ok(lease) => lease,
                Err(NotNow::Wait) => continue,
                Err(NotNow::Done) => return Err(NotNow::Done),
            };
            let blocks = pieces.iter().flat_map(|piece| {
                let range = self.swarm.piece_range(*piece);
                let starts = range.clone().step_by(BLOCK as usize);
                starts.map(move |start| {
                    let block = BlockId { piece: *piece, start, end: (start + BLOCK).min(range.end) };
                    (block, BlockState::Missing)
                })
            });
            let blocks = blocks.collect();
            let single = pieces.iter().any(|piece| self.doubtful.contains(piece));
            let number = self.next_active;
            self.next_active += 1;
            self.active.push(Active { number, lease, pieces, blocks, from: BTreeSet::new(), single });
            return Ok(());
        }
        Err(NotNow::Wait)
    }

    /// The pieces that have to be fetched together with this one, because somebody else's piece spans them.
    fn group(&self, piece: usize) -> (Vec<usize>, Vec<crate::Span>) {
        let mut pieces = BTreeSet::from([piece]);
        loop {
            let own: Vec<_> =
                pieces.iter().flat_map(|piece| self.layout.spans(&self.swarm.piece_range(*piece))).collect();
            let grown = self.transfer.grown_to_pieces(&own);
            let before = pieces.len();
            for span in &grown {
                let range = self.layout.linear(span);
                let last = (range.end - 1) / self.swarm.piece_len;
                pieces.extend((range.start / self.swarm.piece_len) as usize..=last as usize);
            }
            if pieces.len() == before {
                return (pieces.into_iter().collect(), grown);
            }
        }
    }

    /// Gives the missing blocks of what is on its way to peers that have them.
    fn ask_for_active(&mut self) {
        for active in &mut self.active {
            for at in 0..active.blocks.len() {
                let (block, BlockState::Missing) = active.blocks[at] else { continue };
                let only = active.single.then(|| active.from.first().copied()).flatten();
                let may = |(i, known): &(usize, &Known)| {
                    !known.gone
                        && !known.choking
                        && known.open < PIPELINE
                        && known.have[block.piece]
                        && only.is_none_or(|only| only == *i)
                };
                let able: Vec<usize> = self.peers.iter().enumerate().filter(may).map(|(i, _)| i).collect();
                let Some(&peer) = self.random.choice(&able) else { continue };
                active.blocks[at].1 = BlockState::Asked(peer);
                active.from.insert(peer);
                let known = &mut self.peers[peer];
                known.open += 1;
                known.asked += 1;
                let after = known.peer.slowest.mul_f64(self.random.f64());
                let reply = if known.peer.leaves_after.is_some_and(|blocks| known.asked > blocks) {
                    Reply::Leave(peer)
                } else if self.random.usize(..CHOKES) == 0 {
                    Reply::Choke(peer)
                } else {
                    let mut data = self.swarm.bytes(&(block.start..block.end));
                    if known.peer.corrupt && self.random.bool() {
                        data = data.iter().map(|byte| byte ^ 0x77).collect();
                    }
                    Reply::Block { active: active.number, peer, block: at, data }
                };
                self.replies.push(time::sleep(after).map(|()| reply).boxed());
            }
        }
    }

    /// What a peer does next; for ever, if nobody was asked for anything.
    pub(super) async fn reply(&mut self) -> Reply {
        match self.replies.next().await {
            Some(reply) => reply,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn take(&mut self, reply: Reply) -> Result<()> {
        match reply {
            Reply::Leave(peer) => self.peers[peer].gone = true,
            Reply::Choke(peer) => {
                self.peers[peer].choking = true;
                let after = CHOKED.mul_f64(self.random.f64());
                self.replies.push(time::sleep(after).map(move |()| Reply::Unchoke(peer)).boxed());
            }
            Reply::Unchoke(peer) => {
                self.peers[peer].choking = false;
                return Ok(());
            }
            Reply::Block { active, peer, block, data } => return self.arrived(active, peer, block, data).await,
        }
        // What was asked of it is asked of others.
        let (Reply::Leave(peer) | Reply::Choke(peer)) = reply else { return Ok(()) };
        self.forget(peer);
        Ok(())
    }

    /// Nothing that was asked of a peer comes.
    fn forget(&mut self, peer: usize) {
        self.peers[peer].open = 0;
        // Another one delivers it, under another lease, which has none of its bytes.
        self.active.retain(|active| !(active.single && active.from.contains(&peer)));
        for active in &mut self.active {
            for (_, state) in &mut active.blocks {
                if *state == BlockState::Asked(peer) {
                    *state = BlockState::Missing;
                }
            }
        }
    }

    async fn arrived(&mut self, number: u64, peer: usize, block: BlockRef, data: Bytes) -> Result<()> {
        // One that was asked for before a choke comes too late.
        let Some(i) = self.active.iter().position(|active| active.number == number) else {
            self.peers[peer].open = self.peers[peer].open.saturating_sub(1);
            return Ok(());
        };
        let active = &mut self.active[i];
        if active.blocks[block].1 != BlockState::Asked(peer) {
            return Ok(());
        }
        self.peers[peer].open = self.peers[peer].open.saturating_sub(1);
        active.blocks[block].1 = BlockState::Here;
        let id = active.blocks[block].0;
        let mut data = data;
        for span in self.layout.spans(&(id.start..id.end)) {
            let part = data.split_to(span.len() as usize);
            match active.lease.write(span.entry, span.range.start, part).await {
                Ok(Flow::More) => {}
                Ok(Flow::Stop) => {
                    self.active.remove(i);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.blame(i);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if active.blocks.iter().all(|(_, state)| *state == BlockState::Here) {
            self.active.remove(i);
        }
        Ok(())
    }

    /// Pieces came wrong. If one peer delivered them, it is known to lie.
    fn blame(&mut self, i: usize) {
        let active = self.active.remove(i);
        if let (1, Some(peer)) = (active.from.len(), active.from.first().copied()) {
            self.peers[peer].gone = true;
            self.forget(peer);
        } else {
            self.doubtful.extend(active.pieces);
        }
    }
}
