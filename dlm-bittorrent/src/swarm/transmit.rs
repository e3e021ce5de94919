//! What a peer is told.

use std::time::Instant;

use bytes::BytesMut;

use crate::wire::{Message, encode};

use super::peer::Peer;
use super::{Claims, PeerKey, Swarm};

impl Swarm {
    /// Appends everything that the peer is to be told now, but for blocks. Requests are for pieces that `claims` grants.
    ///
    /// Nothing is lost if it isn't called for a while, as long as the peer's send buffer is too full; then it has to be
    /// called without being asked to.
    pub fn transmit(&mut self, now: Instant, key: PeerKey, claims: &mut dyn Claims, out: &mut BytesMut) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        peer.awake = false;
        if peer.closing.is_some() {
            return;
        }
        let before = out.len();
        let had = self.picker.had();
        if !std::mem::replace(&mut peer.greeted, true) {
            let mut given = had.clone();
            self.withheld.iter().for_each(|piece| _ = given.remove(*piece));
            match () {
                () if peer.fast && given.is_full() => encode(&Message::HaveAll, out),
                () if peer.fast && given.is_empty() => encode(&Message::HaveNone, out),
                () if given.is_empty() => {}
                () => encode(&Message::Bitfield(given.to_wire()), out),
            }
            peer.told = self.log.len();
        }
        // Who has a piece is not told that we have it, too.
        for piece in self.log.get(peer.told..).unwrap_or_default() {
            if !peer.pieces.has(*piece) && !self.withheld.contains(piece) {
                encode(&Message::Have(*piece), out);
            }
        }
        peer.told = self.log.len();
        tell_choking(peer);
        for message in peer.pending.drain(..) {
            encode(&message, out);
        }
        let is_wanted = peer.useful > 0;
        if std::mem::replace(&mut peer.is_wanted, is_wanted) != is_wanted {
            encode(if is_wanted { &Message::Interested } else { &Message::NotInterested }, out);
        }
        if is_wanted {
            self.request(now, key, claims, out);
        }
        if out.len() > before
            && let Some(peer) = self.peer_mut(key)
        {
            peer.last_sent = now;
        }
    }
}

/// Queues what makes the peer know whether it is choked, behind what it must know before.
fn tell_choking(peer: &mut Peer) {
    if peer.unchoke != peer.is_choked {
        return;
    }
    peer.is_choked = !peer.unchoke;
    peer.pending.push(if peer.is_choked { Message::Choke } else { Message::Unchoke });
    if peer.is_choked {
        let Peer { uploads, granted, pending, fast, .. } = peer;
        let keep = |piece: &u32| *fast && granted.iter().any(|(granted, _)| granted == piece);
        uploads.reject(
            |block| keep(&block.piece),
            |block| {
                if *fast {
                    pending.push(Message::Reject(block));
                }
            },
        );
    }
}
