//! Connections come and go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::peer::{Ended, MAX_UPLOADS, network};
use crate::wire::{Handshake, Message, Reserved};

use super::peer::{Peer, Pieces};
use super::{Close, PeerKey, Refusal, Slot, Swarm};

impl Swarm {
    /// What we understand, for our own handshake.
    pub const RESERVED: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

    /// How many requests we keep for each peer, to be told as `reqq` (BEP 10).
    pub const REQUEST_LIMIT: u32 = MAX_UPLOADS as u32;

    /// A connection has had both handshakes, `theirs` being the peer's.
    ///
    /// # Errors
    /// If the connection isn't wanted: it is to be closed, without [`disconnected`](Self::disconnected).
    pub fn connected(
        &mut self,
        now: Instant,
        address: SocketAddr,
        outgoing: bool,
        theirs: &Handshake,
    ) -> Result<PeerKey, Refusal> {
        if let Some(other) = self.crossed(now, address, outgoing, theirs) {
            self.close(other, Close::Duplicate);
        } else if let Err(refusal) = self.admit(address, theirs) {
            if outgoing {
                let how = if refusal == Refusal::Ourselves { Ended::Useless } else { Ended::Failed };
                self.list.refused(now, address, how);
            }
            return Err(refusal);
        }
        let fast = theirs.reserved.has(Reserved::FAST);
        let peer = Peer::new(now, address, theirs.peer_id, outgoing, fast, self.geometry.pieces());
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.peer = Some(Box::new(peer));
        let key = PeerKey { slot, generation: place.generation };
        self.count += 1;
        self.list.connected(address, outgoing);
        self.wake(key);
        Ok(key)
    }

    /// The connection is closed, whoever did it. What was asked of the peer is asked of others.
    pub fn disconnected(&mut self, now: Instant, key: PeerKey) {
        if self.peer(key).is_none() {
            return;
        }
        self.abandon(key, Abandon::Forget);
        self.disown(key);
        let place = &mut self.slots[key.slot as usize];
        let Some(peer) = place.peer.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.vacant.push(key.slot);
        self.count -= 1;
        self.closing.retain(|(closing, _)| *closing != key);
        match &peer.pieces {
            Pieces::Seed => self.picker.seed_left(),
            Pieces::Some(bits) => self.picker.left(bits),
        }
        let how = match peer.closing {
            Some(Close::Useless) => Ended::Useless,
            // There is another one.
            Some(Close::Duplicate) => Ended::Served,
            Some(Close::Fault(_) | Close::Banned | Close::Silent) => Ended::Failed,
            None if peer.down.total() + peer.up.total() == 0 => Ended::Failed,
            None => Ended::Served,
        };
        self.list.ended(now, peer.address, peer.outgoing, how);
        self.wake_hungry();
    }

    /// The peer says how many requests it keeps (`reqq`, BEP 10).
    pub fn set_request_limit(&mut self, key: PeerKey, limit: u32) {
        if let Some(peer) = self.peer_mut(key) {
            peer.window.set_max(limit);
        }
    }

    /// The peer says whether it wants nothing more (`upload_only`, BEP 21).
    pub fn set_upload_only(&mut self, key: PeerKey, upload_only: bool) {
        if let Some(peer) = self.peer_mut(key) {
            peer.upload_only = upload_only;
            self.close_if_useless(key);
        }
    }

    /// The peer gave this number to `lt_donthave` (BEP 54), or none.
    pub fn set_dont_have(&mut self, key: PeerKey, number: Option<u8>) {
        if let Some(peer) = self.peer_mut(key) {
            peer.dont_have = number;
        }
    }

    /// The blocks that came from the peer are being written, and nothing is read from it meanwhile: it is not blamed for its
    /// silence until [`written`](Self::written) is called.
    pub fn writing(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peer_mut(key) {
            peer.waits_for_us.get_or_insert(now);
        }
    }

    /// The peer is read again.
    pub fn written(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        let Some(since) = peer.waits_for_us.take() else { return };
        peer.last_received = now;
        peer.last_block = now;
        let took = now.saturating_duration_since(since);
        if took > NOTICEABLE {
            // It is not how long the peer takes to answer.
            peer.requests.iter_mut().for_each(|request| request.at = (request.at + took).min(now));
        }
    }

    /// The peer has a piece no longer (`lt_donthave`, BEP 54).
    pub fn dont_have(&mut self, key: PeerKey, piece: u32) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        match &mut peer.pieces {
            Pieces::Seed => {
                let mut bits = crate::piece::Bitfield::full(self.geometry.pieces());
                if !bits.remove(piece) {
                    return;
                }
                self.picker.joined(&bits);
                self.picker.seed_left();
                peer.pieces = Pieces::Some(bits);
            }
            Pieces::Some(bits) => {
                if !bits.remove(piece) {
                    return;
                }
                self.picker.lost(piece);
            }
        }
        peer.useful = peer.pieces.count_useful(self.picker.missing());
        peer.current = None;
        let gone: Vec<_> = peer.requests.iter().filter(|request| request.block.piece == piece).copied().collect();
        for request in gone {
            self.drop_request(key, request.block, true);
        }
        self.wake(key);
        self.wake_hungry();
    }

    /// Takes back what the peer was asked for, so that others are.
    pub(super) fn abandon(&mut self, key: PeerKey, how: Abandon) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        for request in &mut peer.requests {
            if !request.stale {
                self.partials.give_up(request.block);
                request.stale = true;
            }
            if how == Abandon::Forget {
                self.partials.unrefer(request.block);
            }
        }
        if how == Abandon::Forget {
            // What is on its way still comes.
            peer.forgiven = peer.forgiven.saturating_add(peer.requests.len() as u32).min(MAX_FORGIVEN);
            peer.requests.clear();
        }
        peer.live = 0;
        peer.current = None;
    }

    /// Others may join the pieces that the peer had for itself.
    pub(super) fn disown(&mut self, key: PeerKey) {
        for (_, partial) in self.partials.iter_mut() {
            if partial.owner == Some(key) {
                partial.owner = None;
                partial.solo = false;
            }
        }
    }

    /// Closes a connection of which neither side can have anything.
    pub(super) fn close_if_useless(&mut self, key: PeerKey) {
        let done = self.is_upload_only();
        let Some(peer) = self.peer(key) else { return };
        if done && (peer.is_seed() || peer.upload_only) {
            self.close(key, Close::Useless);
        }
    }

    /// Queues a message for the peer.
    pub(super) fn say(&mut self, key: PeerKey, message: Message) {
        if let Some(peer) = self.peer_mut(key) {
            peer.pending.push(message);
        }
        self.wake(key);
    }

    /// The connection to the same peer that this one takes the place of: both sides have opened one at a time, and neither is
    /// to close what the other one keeps. The one that the lesser name opened stays.
    fn crossed(&self, now: Instant, address: SocketAddr, outgoing: bool, theirs: &Handshake) -> Option<PeerKey> {
        let stays = outgoing == (self.config.peer_id < theirs.peer_id);
        let is_it = |peer: &Peer| {
            let is_at_a_time = now.saturating_duration_since(peer.since) < AT_A_TIME && peer.closing.is_none();
            // Nobody else may end it by taking its name.
            let is_same = peer.id == theirs.peer_id && peer.address.ip() == address.ip();
            is_same && is_at_a_time && peer.outgoing != outgoing
        };
        let is_usual = theirs.info_hash == self.config.info_hash && theirs.peer_id != self.config.peer_id;
        let is_allowed = !self.list.is_banned(address.ip()) && self.config.filter.allows(address.ip());
        let mut others = self.connected_peers().filter(|(_, peer)| is_it(peer)).map(|(key, _)| key);
        others.next().filter(|_| stays && is_usual && is_allowed)
    }

    fn admit(&self, address: SocketAddr, theirs: &Handshake) -> Result<(), Refusal> {
        let ip = address.ip().to_canonical();
        if theirs.info_hash != self.config.info_hash {
            return Err(Refusal::OtherTorrent);
        }
        if theirs.peer_id == self.config.peer_id {
            return Err(Refusal::Ourselves);
        }
        if self.list.is_banned(ip) || !self.config.filter.allows(ip) {
            return Err(Refusal::Denied);
        }
        if self.count >= self.config.max_peers {
            return Err(Refusal::Full);
        }
        if self.connected_peers().any(|(_, peer)| peer.id == theirs.peer_id || peer.address == address) {
            return Err(Refusal::Duplicate);
        }
        let at_address = self.connected_peers().filter(|(_, peer)| network(peer.address.ip()) == network(ip));
        if at_address.count() >= self.config.max_per_address {
            return Err(Refusal::TooManyAtAddress);
        }
        Ok(())
    }
}

/// Two connections that are this close are opened at a time.
const AT_A_TIME: Duration = Duration::from_secs(10);

/// A shorter wait for us makes no answer look late: round trips take as long.
const NOTICEABLE: Duration = Duration::from_millis(100);

/// The most blocks that are forgiven: what two full windows can have on their way.
pub(super) const MAX_FORGIVEN: u32 = 8192;

/// What becomes of the requests of a peer that others are asked for.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Abandon {
    /// An answer would still be taken.
    Keep,
    /// They are gone.
    Forget,
}
