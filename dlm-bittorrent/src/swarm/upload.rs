//! What peers request of us.

use std::time::Instant;

use crate::peer::MAX_UPLOAD_LEN;
use crate::wire::extension::encode_dont_have;
use crate::wire::{Block, Message};

use super::{Fault, PeerKey, Swarm};

/// The most requests for what does not exist, is not there, or is too long. Honest peers send none; other programs' bugs
/// are forgiven a few.
const MAX_BAD_REQUESTS: u32 = 8;

impl Swarm {
    /// The next block that the peer is to be sent, if any: unchoked, there, and of a sane length. Once it is sent,
    /// [`uploaded`](Self::uploaded) is to be called.
    pub fn next_upload(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let peer = self.peer_mut(key)?;
        peer.last_wanted = now;
        peer.uploads.pop()
    }

    /// So many bytes of a block have been sent to the peer.
    pub fn uploaded(&mut self, now: Instant, key: PeerKey, bytes: u64) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        peer.up.add(bytes);
        peer.last_sent = now;
        self.up.add(bytes);
    }

    /// A block that [`next_upload`](Self::next_upload) named can't be read: it is not sent.
    pub fn not_uploaded(&mut self, key: PeerKey, block: Block) {
        self.refuse(key, block);
    }

    /// A piece that is had can't be read. It is given to nobody from now on, and those who may count on it are told (BEP 54).
    pub fn withhold(&mut self, piece: u32) {
        if !self.picker.had().has(piece) || !self.withheld.insert(piece) {
            return;
        }
        for slot in 0..self.slots.len() {
            let key = PeerKey { slot: slot as u32, generation: self.slots[slot].generation };
            let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { continue };
            peer.granted.retain(|(granted, _)| *granted != piece);
            if let Some(id) = peer.dont_have.filter(|_| peer.greeted && !peer.pieces.has(piece)) {
                peer.pending.push(Message::Extended { id, payload: encode_dont_have(piece) });
                super::wake(&mut self.awake, peer, key);
            }
        }
    }

    pub(super) fn requested(&mut self, now: Instant, key: PeerKey, block: Block) -> Result<(), Fault> {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return Err(Fault::Gone) };
        let exists = block.len <= MAX_UPLOAD_LEN && self.geometry.contains(block);
        if !exists || !self.picker.had().has(block.piece) {
            peer.bad_requests += 1;
            if peer.bad_requests > MAX_BAD_REQUESTS {
                return Err(Fault::BadRequests);
            }
            self.refuse(key, block);
            return Ok(());
        }
        let is_there = !self.withheld.contains(&block.piece);
        let mut granted = peer.granted.iter_mut().filter(|(piece, left)| *piece == block.piece && *left > 0);
        let mut is_free = || granted.next().map(|(_, left)| *left -= 1).is_some();
        let is_granted = is_there && (!peer.is_choked || is_free());
        if is_granted && peer.uploads.push(block) {
            super::wake(&mut self.awake, peer, key);
            return Ok(());
        }
        if !peer.refused.spend(now) {
            return Err(Fault::Flood);
        }
        self.refuse(key, block);
        Ok(())
    }

    pub(super) fn cancelled(&mut self, now: Instant, key: PeerKey, block: Block) -> Result<(), Fault> {
        let Some(peer) = self.peer_mut(key) else { return Err(Fault::Gone) };
        // To look for it costs something, whether it is there or has crossed the block.
        if !peer.refused.spend(now) {
            return Err(Fault::Flood);
        }
        if peer.uploads.cancel(block) {
            // BEP 6: a request is answered by its block or by a rejection, cancelled ones too.
            self.refuse(key, block);
        }
        Ok(())
    }

    /// Says that a request is not answered, to those who understand it.
    fn refuse(&mut self, key: PeerKey, block: Block) {
        if self.peer(key).is_some_and(|peer| peer.fast) {
            self.say(key, Message::Reject(block));
        }
    }
}
