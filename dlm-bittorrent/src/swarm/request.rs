//! Which blocks are requested of a peer.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::piece::Order;
use crate::wire::{BLOCK_LEN, Message, encode};

use super::partial::{BlockState, Partial};
use super::peer::{BlockRef, Peer, Request};
use super::{Claim, Claims, PeerKey, Swarm, peer_of};

/// The most pieces that are claimed in vain before a peer is left without: the ledger's answer changes no faster.
const MAX_CLAIMS: usize = 16;

/// The most pieces that are begun for each peer, before they come first however common they are.
const PARTIALS_PER_PEER: usize = 2;

/// The most shared pieces that are compared for the one that is nearest to its end.
const MAX_COMPARED: usize = 64;

/// The most requests of a peer while only blocks are left that others were asked for.
const MAX_ENDGAME_REQUESTS: u32 = 16;

/// The most peers that a block is requested from.
const MAX_RIVALS: u8 = 3;

/// For how long there is to do at most, where there is a limit for what comes: as long as a peer's queue is at least, so that a
/// limit that nobody notices changes nothing.
const QUEUE: Duration = Duration::from_secs(2);

/// The fewest requests at a time, however low the limit is: one being answered, one on its way.
const MIN_IN_FLIGHT: f64 = 2.0;

/// How many late pieces are looked at for one that another peer could bring sooner.
const MAX_LATE: usize = 4;

/// Nobody is helped who is done sooner than twice this.
const LEAST_DELAY: Duration = Duration::from_millis(500);

/// Who will be done with its requests in this time is not helped in the end.
const SOON: Duration = Duration::from_secs(2);

impl Swarm {
    /// Requests blocks of the peer until its window is full.
    pub(super) fn request(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims, out: &mut BytesMut) {
        let mut allowance = self.allowance();
        loop {
            let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
            if peer.chokes_us && peer.allowed.is_empty() {
                return;
            }
            if peer.live >= peer.window.size() {
                peer.hungry = false;
                return;
            }
            if allowance == Some(0) || peer.rejects_all() {
                peer.hungry = true;
                return;
            }
            let current = match peer.current {
                Some((row, piece)) if !self.picker.is_urgent() => self.partials.take_next(row, piece, key),
                _ => None,
            };
            let Some(block) = current.or_else(|| self.next_block(now, key, claims)) else {
                if let Some(peer) = self.peer_mut(key) {
                    peer.hungry = true;
                }
                return;
            };
            let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
            if peer.live == 0 {
                // Whoever had nothing to send is not late.
                peer.last_block = now;
            }
            allowance = allowance.map(|blocks| blocks - 1);
            peer.live += 1;
            peer.last_wanted = now;
            peer.requests.push_back(Request { block, at: now, stale: false });
            encode(&Message::Request(self.geometry.block(block.piece, block.index)), out);
        }
    }

    /// How many more blocks may be asked for, if there is a limit: as many as it lets through in a while, without those that will
    /// come in that time. What a slow peer was asked for and doesn't send in it is not in anybody's way.
    fn allowance(&self) -> Option<u32> {
        let block = f64::from(BLOCK_LEN);
        let most = (self.down_limit? as f64 * QUEUE.as_secs_f64() / block).ceil().max(MIN_IN_FLIGHT);
        let coming: f64 = self.connected_peers().map(|(_, peer)| peer.coming_within(QUEUE)).sum();
        Some((most - coming / block).ceil().max(0.0) as u32)
    }

    /// A block of another piece than before.
    fn next_block(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims) -> Option<BlockRef> {
        if let Some(block) = self.late(now, key) {
            return Some(block);
        }
        let row = self
            .urgent(now, key, claims)
            .or_else(|| self.allowed(now, key, claims))
            .or_else(|| self.shared(key))
            .or_else(|| self.fresh(now, key, claims))
            .or_else(|| self.joined(key));
        let Some(row) = row else { return self.endgame(now, key) };
        let peer = super::peer_of_mut(&mut self.slots, key)?;
        let partial = self.partials.get_mut(row)?;
        if peer.parole && partial.owner.is_none() {
            (partial.owner, partial.solo) = (Some(key), true);
        }
        let piece = partial.piece;
        peer.current = Some((row, piece));
        self.partials.take_next(row, piece, key)
    }

    /// A piece that somebody waits for.
    fn urgent(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims) -> Option<u32> {
        if !self.picker.is_urgent() {
            return None;
        }
        let mut tries = 0;
        loop {
            let peer = self.peer(key)?;
            let usable = |piece: &u32| {
                let row = self.partials.find(*piece).and_then(|row| self.partials.get(row));
                let has_work =
                    row.map_or(self.picker.free().has(*piece), |row| row.free > 0 && may_go_on(row, peer, key));
                has_work && peer.pieces.has(*piece) && peer.may_be_asked(*piece)
            };
            let piece = self.picker.urgent().find(usable)?;
            match self.partials.find(piece) {
                Some(row) => return Some(row),
                None if tries < MAX_CLAIMS => tries += 1,
                None => return None,
            }
            if let Some(row) = self.start(now, key, piece, claims) {
                return Some(row);
            }
        }
    }

    /// A block of a piece that somebody has been waiting for too long, as who was asked for it takes much longer than this peer.
    fn late(&mut self, now: Instant, key: PeerKey) -> Option<BlockRef> {
        let peer = self.peer(key).filter(|peer| !peer.parole)?;
        let own = peer.backlog().max(LEAST_DELAY);
        let block = self.picker.overdue(now).take(MAX_LATE).find_map(|piece| {
            let row = self.partials.find(piece)?;
            let partial = self.partials.get(row).filter(|partial| !partial.solo && is_on_offer(partial, peer))?;
            // Who asked one already asked another: a third would only cost.
            let is_once = |block: BlockRef| partial.blocks.get(block.index as usize) == Some(&BlockState::Requested(1));
            let slower =
                self.connected_peers().filter(|(other, slow)| *other != key && slow.backlog() > own.saturating_mul(2));
            let requests = slower.flat_map(|(_, slow)| slow.requests.iter().filter(|request| !request.stale));
            let blocks = requests.map(|request| request.block).filter(|block| block.piece == piece && is_once(*block));
            blocks.min_by_key(|block| block.index)
        })?;
        self.partials.take_again(block);
        Some(block)
    }

    /// While the peer chokes us: one of the pieces that it allows all the same.
    fn allowed(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims) -> Option<u32> {
        let peer = self.peer(key)?;
        if !peer.chokes_us {
            return None;
        }
        let (mut open, mut free) = (None, Vec::new());
        for piece in peer.allowed.iter().filter(|piece| peer.pieces.has(**piece)) {
            if let Some(row) = self.partials.find(*piece) {
                let is_mine = |partial: &Partial| may_join(partial, peer, key) && partial.free > 0;
                open = open.or(self.partials.get(row).is_some_and(is_mine).then_some(row));
            } else if self.picker.free().has(*piece) {
                free.push(*piece);
            }
        }
        open.or_else(|| free.into_iter().find_map(|piece| self.start(now, key, piece, claims)))
    }

    /// A piece that is nobody's own, or the peer's, and was begun; unless the peer has a rarer one that was not, and few
    /// are begun: what only a seed has is not to wait for what others could send, too.
    fn shared(&mut self, key: PeerKey) -> Option<u32> {
        let peer = self.peer(key)?;
        let peer_chokes = peer.chokes_us;
        let open = self.partials.open().iter().take(MAX_COMPARED);
        let rows = open.filter_map(|row| Some((*row, self.partials.get(*row)?)));
        let usable = rows.filter(|(_, partial)| may_join(partial, peer, key) && is_on_offer(partial, peer));
        if self.picker.order() == Order::Sequential {
            return usable.min_by_key(|(_, partial)| partial.piece).map(|(row, _)| row);
        }
        let rank = |partial: &Partial| (self.picker.availability(partial.piece), partial.missing);
        let (row, (availability, _)) =
            usable.map(|(row, partial)| (row, rank(partial))).min_by_key(|(_, rank)| *rank)?;
        if self.partials.len() > PARTIALS_PER_PEER * self.count {
            return Some(row);
        }
        let rarest = self.picker.pick(peer_of(&self.slots, key)?.pieces.as_has());
        let is_rarer = rarest.is_some_and(|piece| !peer_chokes && self.picker.availability(piece) < availability);
        (!is_rarer).then_some(row)
    }

    /// A piece that nobody has begun with.
    fn fresh(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims) -> Option<u32> {
        for _ in 0..MAX_CLAIMS {
            let peer = super::peer_of_mut(&mut self.slots, key)?;
            if peer.chokes_us {
                return None;
            }
            let mut suggested = None;
            while let (None, Some(piece)) = (suggested, peer.suggested.pop_front()) {
                suggested = Some(piece).filter(|piece| self.picker.free().has(*piece) && peer.pieces.has(*piece));
            }
            let piece = suggested.or_else(|| self.picker.pick(peer.pieces.as_has()))?;
            if let Some(row) = self.start(now, key, piece, claims) {
                return Some(row);
            }
        }
        None
    }

    /// A piece that another peer has for itself, as nothing else is left.
    fn joined(&self, key: PeerKey) -> Option<u32> {
        let peer = self.peer(key)?;
        if peer.parole {
            return None;
        }
        let rows = self.partials.open().iter().filter_map(|row| Some((*row, self.partials.get(*row)?)));
        let usable = rows.filter(|(_, partial)| !partial.solo && is_on_offer(partial, peer));
        usable.max_by_key(|(_, partial)| partial.free).map(|(row, _)| row)
    }

    /// A block that another peer was asked for, as all are.
    fn endgame(&mut self, now: Instant, key: PeerKey) -> Option<BlockRef> {
        let peer = self.peer(key)?;
        if !self.picker.free().is_empty() || peer.live >= MAX_ENDGAME_REQUESTS || peer.parole {
            return None;
        }
        let is_late = |partial: &Partial| match partial.owner.and_then(|owner| self.peer(owner)) {
            Some(owner) => owner.backlog() > SOON && owner.backlog() > peer.backlog(),
            None => now.saturating_duration_since(partial.last_block) > SOON,
        };
        let rows = self.partials.iter().filter(|(_, partial)| {
            partial.missing > 0 && !partial.solo && is_on_offer(partial, peer) && is_late(partial)
        });
        let block = rows.into_iter().find_map(|(row, partial)| {
            let piece = partial.piece;
            let is_asked = |index| peer.requests.iter().any(|request| request.block == BlockRef { row, piece, index });
            let again =
                |(_, state): &(usize, &BlockState)| matches!(state, BlockState::Requested(n) if *n < MAX_RIVALS);
            let mut candidates = partial.blocks.iter().enumerate().filter(again).map(|(index, _)| index as u32);
            candidates.find(|index| !is_asked(*index)).map(|index| BlockRef { row, piece, index })
        })?;
        self.partials.take_again(block);
        Some(block)
    }

    /// Claims a piece, and makes a row for it.
    fn start(&mut self, now: Instant, key: PeerKey, piece: u32, claims: &mut dyn Claims) -> Option<u32> {
        match claims.claim(piece) {
            Claim::Granted => {
                self.picker.take(piece);
                let peer = self.peer(key)?;
                let is_own = peer.parole || peer.is_fast_for(self.geometry.piece_len());
                let owner = is_own.then_some(key);
                let (blocks, solo) = (self.geometry.blocks_of(piece), peer.parole);
                Some(self.partials.add(now, piece, blocks, owner, solo))
            }
            Claim::Busy => {
                self.picker.take(piece);
                self.busy.insert(piece);
                self.busy_since.get_or_insert(now);
                None
            }
            Claim::Done => {
                self.piece_had_elsewhere(now, piece);
                None
            }
        }
    }
}

/// Whether the peer may be asked for blocks of the piece before all others are taken.
fn may_join(partial: &Partial, peer: &Peer, key: PeerKey) -> bool {
    // Who is on parole goes on with what it alone has sent.
    let is_alone = || partial.missing == partial.free && partial.contributors.iter().all(|by| by.key == key);
    partial.owner == Some(key) || (partial.owner.is_none() && !partial.solo && (!peer.parole || is_alone()))
}

/// Whether the peer may be asked for blocks of the piece at all.
pub(super) fn may_go_on(partial: &Partial, peer: &Peer, key: PeerKey) -> bool {
    may_join(partial, peer, key) || (!partial.solo && !peer.parole)
}

/// Whether the peer could send a block of it now.
fn is_on_offer(partial: &Partial, peer: &Peer) -> bool {
    peer.pieces.has(partial.piece) && peer.may_be_asked(partial.piece)
}
