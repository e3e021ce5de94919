//! What peers say.

use std::time::Instant;

use bytes::Bytes;

use crate::peer::{ALLOWED_FAST, allowed_fast};
use crate::piece::Bitfield;
use crate::wire::{BLOCK_LEN, Block, Message};

use super::connection::{Abandon, MAX_FORGIVEN};
use super::partial::Contributor;
use super::peer::{BlockRef, Pieces};
use super::{Close, Fault, PeerKey, Received, Swarm};

/// The most blocks that nobody asked for. Those that were cancelled are forgiven, so that honest peers send none.
const MAX_UNSOLICITED: u32 = 16;

/// The most pieces that a peer can allow us while it chokes us. The BEP suggests 10.
const MAX_ALLOWED: usize = 64;

/// How often each block of a piece that is given for free is given to one peer: connections break, and blocks get lost.
const GRANTS: u32 = 3;

/// The most suggestions kept; the oldest go.
const MAX_SUGGESTED: usize = 16;

/// The most messages that wait to be sent: rejections of two full queues. Who doesn't read them must not ask for more.
const MAX_PENDING: usize = 2 * crate::peer::MAX_UPLOADS + 1000;

impl Swarm {
    /// A message came from the peer.
    ///
    /// # Errors
    /// If the peer broke a rule. The connection has to be closed, and [`disconnected`](Self::disconnected) be called.
    #[inline]
    pub fn received(&mut self, now: Instant, key: PeerKey, message: Message) -> Result<Received, Fault> {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return Err(Fault::Gone) };
        peer.last_received = now;
        if peer.closing.is_some() {
            return Ok(Received::Nothing);
        }
        let result = match message {
            Message::Piece { piece, begin, data } => self.block(now, key, piece, begin, data),
            other => self.control(now, key, other),
        };
        if let Err(fault) = result {
            self.fault(key, fault);
        }
        result
    }

    fn fault(&mut self, key: PeerKey, fault: Fault) {
        let Some(peer) = self.peer_mut(key) else { return };
        let address = peer.address.ip();
        // The caller knows, so that it is not told again.
        peer.closing = Some(Close::Fault(fault));
        if fault.is_malice() {
            self.ban(address);
        }
    }

    #[inline]
    fn block(&mut self, now: Instant, key: PeerKey, piece: u32, begin: u32, data: Bytes) -> Result<Received, Fault> {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return Err(Fault::Gone) };
        let len = data.len() as u32;
        let index = begin / BLOCK_LEN;
        peer.down.add(len.into());
        self.down.add(len.into());
        // Answers come in the order of the requests, but for peers that reorder, or answer stale ones.
        let is_it = |block: BlockRef| block.index == index && block.piece == piece;
        let Some(at) = peer.requests.iter().position(|request| is_it(request.block)) else {
            self.wasted += u64::from(len);
            if peer.forgiven > 0 {
                peer.forgiven -= 1;
            } else {
                peer.unsolicited += 1;
            }
            let is_too_much = peer.unsolicited > MAX_UNSOLICITED;
            return if is_too_much { Err(Fault::Unsolicited) } else { Ok(Received::Wasted(len)) };
        };
        if self.geometry.block(piece, index) != (Block { piece, begin, len }) {
            return Err(Fault::WrongLength);
        }
        let Some(request) = peer.requests.remove(at) else { return Ok(Received::Nothing) };
        peer.live -= u32::from(!request.stale);
        peer.last_block = now;
        peer.timeouts = 0;
        if std::mem::take(&mut peer.snubs) {
            peer.window.revived();
        }
        peer.window.answered(now.saturating_duration_since(request.at));
        let from = Contributor { key, address: peer.address.ip() };
        super::wake(&mut self.awake, peer, key);
        if self.down_limit.is_some() {
            // There is room for a request now, whoever makes it.
            self.wake_hungry();
        }
        let taken = self.partials.take(now, request.block, !request.stale, from);
        self.partials.unrefer(request.block);
        let Some(taken) = taken else {
            self.wasted += u64::from(len);
            return Ok(Received::Wasted(len));
        };
        if taken.rivals > 0 {
            self.cancel(request.block);
        }
        Ok(Received::Block { piece, begin, data, last: taken.last })
    }

    fn control(&mut self, now: Instant, key: PeerKey, message: Message) -> Result<Received, Fault> {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return Err(Fault::Gone) };
        let is_fast = matches!(
            message,
            Message::HaveAll | Message::HaveNone | Message::Suggest(_) | Message::Reject(_) | Message::AllowedFast(_)
        );
        if is_fast && !peer.fast {
            return Err(Fault::NotAgreed);
        }
        if peer.pending.len() > MAX_PENDING {
            return Err(Fault::Flood);
        }
        let has_budget = match message {
            Message::Request(_) | Message::Cancel(_) | Message::Have(_) | Message::Reject(_) => true,
            Message::Extended { .. } => peer.extended.spend(now),
            _ => peer.chatter.spend(now),
        };
        if !has_budget {
            return Err(Fault::Flood);
        }
        match message {
            Message::Choke => self.choked(key),
            Message::Unchoke => {
                peer.chokes_us = false;
                peer.last_block = now;
                self.wake(key);
            }
            Message::Interested => self.interested(now, key),
            Message::NotInterested => {
                peer.wants_us = false;
                peer.unchoke = false;
                self.wake(key);
            }
            Message::Have(piece) => self.has(now, key, piece)?,
            Message::Bitfield(bits) => {
                let bits = Bitfield::from_wire(self.geometry.pieces(), &bits).map_err(|_| Fault::BadBitfield)?;
                self.introduced(key, if bits.is_full() { Pieces::Seed } else { Pieces::Some(bits) });
            }
            Message::HaveAll => self.introduced(key, Pieces::Seed),
            Message::HaveNone => self.introduced(key, Pieces::Some(Bitfield::new(self.geometry.pieces()))),
            Message::Request(block) => return self.requested(now, key, block).map(|()| Received::Nothing),
            Message::Cancel(block) => return self.cancelled(now, key, block).map(|()| Received::Nothing),
            Message::Reject(block) => self.rejected(now, key, block)?,
            Message::Suggest(piece) if piece < self.geometry.pieces() => {
                peer.suggested.push_back(piece);
                if peer.suggested.len() > MAX_SUGGESTED {
                    peer.suggested.pop_front();
                }
            }
            Message::AllowedFast(piece) if piece < self.geometry.pieces() => {
                if peer.allowed.len() < MAX_ALLOWED && !peer.allowed.contains(&piece) {
                    peer.allowed.push(piece);
                    self.wake(key);
                }
            }
            Message::Suggest(_) | Message::AllowedFast(_) => return Err(Fault::NoSuchPiece),
            Message::Port(port) => return Ok(Received::DhtPort(port)),
            Message::Extended { id, payload } => return Ok(Received::Extended { id, payload }),
            Message::KeepAlive | Message::Unknown(_) | Message::Piece { .. } => {}
        }
        Ok(Received::Nothing)
    }

    fn choked(&mut self, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        if std::mem::replace(&mut peer.chokes_us, true) {
            return;
        }
        peer.current = None;
        // With the fast extension each request is answered or rejected; without, none is answered any more.
        if !peer.fast {
            self.abandon(key, Abandon::Forget);
        }
        self.disown(key);
        self.wake_hungry();
    }

    fn interested(&mut self, now: Instant, key: PeerKey) {
        let unchoked = self.connected_peers().filter(|(_, peer)| peer.unchoke).count();
        let has_slot = unchoked < self.config.upload_slots;
        let Some(peer) = self.peer_mut(key) else { return };
        peer.wants_us = true;
        peer.last_wanted = now;
        if has_slot && !peer.snubs {
            peer.unchoke = true;
            self.wake(key);
        }
    }

    fn has(&mut self, now: Instant, key: PeerKey, piece: u32) -> Result<(), Fault> {
        if piece >= self.geometry.pieces() {
            return Err(Fault::NoSuchPiece);
        }
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return Ok(()) };
        peer.introduced = true;
        let is_new = match &mut peer.pieces {
            Pieces::Seed => false,
            Pieces::Some(bits) => bits.insert(piece),
        };
        if !is_new {
            return if peer.chatter.spend(now) { Ok(()) } else { Err(Fault::Flood) };
        }
        self.picker.have(piece);
        if self.picker.missing().has(piece) {
            peer.useful += 1;
            if peer.hungry || !peer.is_wanted {
                super::wake(&mut self.awake, peer, key);
            }
        }
        if peer.is_seed() {
            self.close_if_useless(key);
        }
        Ok(())
    }

    /// The peer says what it has.
    fn introduced(&mut self, key: PeerKey, pieces: Pieces) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        if std::mem::replace(&mut peer.introduced, true) {
            self.has_more(key, pieces);
            return;
        }
        match &pieces {
            Pieces::Seed => self.picker.seed_joined(),
            Pieces::Some(bits) => self.picker.joined(bits),
        }
        peer.useful = pieces.count_useful(self.picker.missing());
        let is_new = pieces.count(self.geometry.pieces()) < ALLOWED_FAST as u32;
        peer.pieces = pieces;
        if is_new && peer.fast {
            let set = allowed_fast(peer.address.ip(), &self.config.info_hash, self.geometry.pieces(), ALLOWED_FAST);
            let had = self.picker.had();
            for piece in set.into_iter().filter(|piece| had.has(*piece) && !peer.pieces.has(*piece)) {
                peer.granted.push((piece, GRANTS * self.geometry.blocks_of(piece)));
                peer.pending.push(Message::AllowedFast(piece));
            }
        }
        self.wake(key);
        self.close_if_useless(key);
    }

    /// The peer says again what it has. It is to do so in the beginning only (BEP 3), but aria2 does when it got 20 pieces or more
    /// at once, instead of a `have` for each. It can only have more than before, so that however often it says so, no piece is
    /// counted twice.
    fn has_more(&mut self, key: PeerKey, pieces: Pieces) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        let Pieces::Some(had) = &mut peer.pieces else { return };
        let mut new = match pieces {
            Pieces::Seed => Bitfield::full(self.geometry.pieces()),
            Pieces::Some(bits) => bits,
        };
        had.iter().for_each(|piece| {
            new.remove(piece);
        });
        new.iter().for_each(|piece| {
            had.insert(piece);
        });
        peer.useful += new.count_common(self.picker.missing());
        self.picker.joined(&new);
        self.wake(key);
        self.close_if_useless(key);
    }

    /// The peer will not answer a request.
    fn rejected(&mut self, now: Instant, key: PeerKey, block: Block) -> Result<(), Fault> {
        let Some(peer) = self.peer_mut(key) else { return Ok(()) };
        let index = block.begin / BLOCK_LEN;
        let is_it = |of: BlockRef| of.piece == block.piece && of.index == index;
        let Some(request) = peer.requests.iter().find(|request| is_it(request.block)).copied() else {
            // A cancelled request may be rejected, too.
            peer.forgiven = peer.forgiven.saturating_sub(1);
            return if peer.refused.spend(now) { Ok(()) } else { Err(Fault::Flood) };
        };
        if peer.chokes_us {
            peer.allowed.retain(|piece| *piece != block.piece);
        } else {
            // It has too much to do, or can't read the piece. Asking again at once would bring another rejection.
            peer.window.overloaded();
            if peer.rejected.iter().all(|(piece, _)| *piece != block.piece) {
                peer.rejected.push((block.piece, now));
            }
            peer.current = peer.current.filter(|(_, piece)| *piece != block.piece);
        }
        self.drop_request(key, request.block, false);
        self.disown_piece(key, request.block.row);
        self.wake_hungry();
        Ok(())
    }

    /// A block is there: whoever else was asked for it need not send it.
    fn cancel(&mut self, block: BlockRef) {
        let keys: Vec<PeerKey> = self.peers().collect();
        for key in keys {
            let asked = |peer: &super::Peer| peer.requests.iter().any(|request| request.block == block);
            if self.peer(key).is_some_and(asked) {
                self.drop_request(key, block, true);
            }
        }
    }

    /// Takes a request of a peer back, and tells it if it should know.
    pub(super) fn drop_request(&mut self, key: PeerKey, block: BlockRef, tell: bool) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        let Some(at) = peer.requests.iter().position(|request| request.block == block) else { return };
        let Some(request) = peer.requests.remove(at) else { return };
        if !request.stale {
            peer.live -= 1;
            self.partials.give_up(block);
        }
        self.partials.unrefer(block);
        if tell {
            peer.forgiven = peer.forgiven.saturating_add(1).min(MAX_FORGIVEN);
            peer.pending.push(Message::Cancel(self.geometry.block(block.piece, block.index)));
            super::wake(&mut self.awake, peer, key);
        }
    }

    /// Others may join the piece, if the peer had it for itself.
    fn disown_piece(&mut self, key: PeerKey, row: u32) {
        if let Some(partial) = self.partials.get_mut(row)
            && partial.owner == Some(key)
            && !partial.solo
        {
            partial.owner = None;
        }
    }
}
