//! What became of a piece whose blocks are all there.
//!
//! Whose block was bad? If one peer sent the whole piece: that one. Otherwise a fingerprint of each block is kept with its
//! sender until the piece is good, and who sent a block that differs from the good one is banned. Until then those who may
//! have done it get whole pieces for themselves, so that the next bad one names its sender.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use super::partial::{BlockState, Partial};
use super::{PeerKey, Swarm};

/// The most failed pieces that are remembered. Their fingerprints take 40 bytes for each block of 16 KiB.
const MAX_SUSPECTS: usize = 64;

/// The most failed attempts at one piece that are remembered.
const MAX_ATTEMPTS: usize = 4;

/// Pieces that were bad, and who sent which block.
#[derive(Default, Debug)]
pub(super) struct Suspects {
    pieces: VecDeque<(u32, Vec<Attempt>)>,
}

#[derive(Debug)]
struct Attempt {
    /// For each block, in order, whose it was and what it looked like, if that is known.
    blocks: Vec<(IpAddr, Option<u64>)>,
}

impl Suspects {
    fn has(&self, piece: u32) -> bool {
        self.pieces.iter().any(|(suspect, _)| *suspect == piece)
    }

    fn add(&mut self, piece: u32, attempt: Attempt) {
        if let Some((_, attempts)) = self.pieces.iter_mut().find(|(suspect, _)| *suspect == piece) {
            if attempts.len() < MAX_ATTEMPTS {
                attempts.push(attempt);
            }
            return;
        }
        if self.pieces.len() == MAX_SUSPECTS {
            self.pieces.pop_front();
        }
        self.pieces.push_back((piece, vec![attempt]));
    }

    fn remove(&mut self, piece: u32) -> Vec<Attempt> {
        let place = self.pieces.iter().position(|(suspect, _)| *suspect == piece);
        place.and_then(|place| self.pieces.remove(place)).map_or_else(Vec::new, |(_, attempts)| attempts)
    }
}

impl Swarm {
    /// Whether the piece was bad before: then [`piece_done`](Self::piece_done) will ask for its blocks' fingerprints.
    pub fn had_failed(&self, piece: u32) -> bool {
        self.suspects.has(piece)
    }

    /// The piece is good, and can be read. `fingerprint` gives a hash of a block by its index, if it is known; it is called only
    /// if the piece [had failed](Self::had_failed) before. It must be keyed, or cryptographic: the sender of a bad block must
    /// not be able to find one with the fingerprint of the good.
    pub fn piece_done(&mut self, now: Instant, piece: u32, fingerprint: &mut dyn FnMut(u32) -> Option<u64>) {
        if piece >= self.geometry.pieces() || self.picker.had().has(piece) {
            return;
        }
        if let Some(partial) = self.remove_partial(piece) {
            self.acquit(&partial);
        }
        let mut liars = Vec::new();
        for attempt in self.suspects.remove(piece) {
            for (index, (address, seen)) in attempt.blocks.into_iter().enumerate() {
                // Where either is not known, nothing is proven.
                if let (Some(seen), Some(good)) = (seen, fingerprint(index as u32))
                    && seen != good
                {
                    liars.push(address);
                }
            }
        }
        liars.into_iter().for_each(|address| self.ban(address));
        self.complete(now, piece);
    }

    /// The piece is bad. `fingerprint` is as for [`piece_done`](Self::piece_done), of the bad blocks; it is called if
    /// several peers sent them. The claim is over: the piece is claimed again before it is fetched again.
    pub fn piece_failed(&mut self, piece: u32, fingerprint: &mut dyn FnMut(u32) -> Option<u64>) {
        let Some(partial) = self.remove_partial(piece) else { return };
        match partial.contributors[..] {
            [] => {}
            [only] => self.ban(only.address),
            _ => {
                let blocks = partial.blocks.iter().enumerate().filter_map(|(index, state)| {
                    let BlockState::Received(from) = state else { return None };
                    let contributor = partial.contributors.get(usize::from(*from))?;
                    Some((contributor.address, fingerprint(index as u32)))
                });
                let blocks: Vec<_> = blocks.collect();
                // Blocks are found by their place, so that all have to be there.
                if blocks.len() == partial.blocks.len() {
                    self.suspects.add(piece, Attempt { blocks });
                }
                for contributor in &partial.contributors {
                    if let Some(peer) = self.peer_mut(contributor.key) {
                        peer.parole = true;
                        peer.current = None;
                    }
                }
            }
        }
        self.give_back(piece);
    }

    /// What came of the piece is lost, by nobody's fault: it could not be written, or its lease is gone. It is claimed again
    /// before it is fetched again.
    pub fn piece_lost(&mut self, piece: u32) {
        if self.remove_partial(piece).is_some() {
            self.give_back(piece);
        }
    }

    /// Another source has the piece: it can be read, and need not be fetched. A claim that there was is over. Not so if all of
    /// its blocks have come from peers: then that they are written, and what became of it, is told anyway. The answer is
    /// whether this brought something new.
    pub fn piece_had_elsewhere(&mut self, now: Instant, piece: u32) -> bool {
        let row = self.partials.find(piece).and_then(|row| self.partials.get(row));
        let is_ours = row.is_some_and(|row| row.missing == 0);
        if is_ours || piece >= self.geometry.pieces() || self.picker.had().has(piece) {
            return false;
        }
        self.remove_partial(piece);
        self.suspects.remove(piece);
        self.complete(now, piece);
        true
    }

    /// Something in the ledger has changed: pieces that it would not give may be had now.
    pub fn changed(&mut self) {
        self.busy_since = None;
        if self.busy.is_empty() {
            return;
        }
        while let Some(piece) = self.busy.pop_first() {
            self.picker.put_back(piece);
        }
        self.wake_hungry();
    }

    /// Takes a row away, and every request for its blocks with it.
    pub(super) fn remove_partial(&mut self, piece: u32) -> Option<Partial> {
        let row = self.partials.find(piece)?;
        if self.partials.get(row).is_some_and(|partial| partial.references > 0) {
            let keys: Vec<PeerKey> = self.peers().collect();
            for key in keys {
                let Some(peer) = self.peer(key) else { continue };
                let of_row = peer.requests.iter().map(|request| request.block).filter(|block| block.row == row);
                let blocks: Vec<_> = of_row.collect();
                blocks.into_iter().for_each(|block| self.drop_request(key, block, true));
            }
        }
        self.partials.remove(row)
    }

    /// The piece is missing again.
    pub(super) fn give_back(&mut self, piece: u32) {
        self.picker.put_back(piece);
        self.wake_hungry();
    }

    /// A good piece by one peer alone ends its parole.
    fn acquit(&mut self, partial: &Partial) {
        if let [only] = partial.contributors[..]
            && let Some(peer) = self.peer_mut(only.key)
        {
            peer.parole = false;
        }
    }

    fn complete(&mut self, now: Instant, piece: u32) {
        self.busy.remove(&piece);
        let was_missing = self.picker.missing().has(piece);
        self.picker.done(piece);
        self.log.push(piece);
        let is_done = self.is_upload_only();
        for slot in 0..self.slots.len() {
            let key = PeerKey { slot: slot as u32, generation: self.slots[slot].generation };
            let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { continue };
            let has_it = peer.pieces.has(piece);
            if has_it && was_missing {
                peer.useful = peer.useful.saturating_sub(1);
            }
            // Who lacks it is told; who has nothing else that we want, too.
            if !has_it || peer.useful == 0 {
                super::wake(&mut self.awake, peer, key);
            }
            if is_done {
                peer.last_wanted = peer.last_wanted.max(now);
                self.close_if_useless(key);
            }
        }
    }
}
