//! What time brings.

use std::time::{Duration, Instant};

use crate::peer::Contender;
use crate::wire::Message;

use super::connection::Abandon;
use super::request::may_go_on;
use super::{Claims, Close, PeerKey, Slot, Swarm};

/// How often [`Swarm::tick`] wants to be called.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// A peer that owes us blocks and sends none for this long is asked for no more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How often in a row that may happen until we part.
const MAX_TIMEOUTS: u32 = 4;

/// The most overdue requests whose answers are still waited for.
const MAX_STALE: usize = 8192;

/// A connection stays open for two minutes without a word (BEP 3); some close it at once then.
const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// A peer that says nothing for so long is gone. It may be late with what it says every two minutes.
const SILENCE: Duration = Duration::from_secs(180);

/// A connection on which nobody wants anything for so long makes room for another.
const USELESS: Duration = Duration::from_secs(600);

/// A piece that nobody sends for so long is given up, so that another source, or a peer that may only have it whole, can have it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The most pieces that are kept while nobody sends them and nobody else could: those idle for longest are given up. Each may hold
/// up to 256 KiB that have not been written yet.
const MAX_IDLE_PIECES: usize = 64;

/// A piece whose blocks are all there, and of which nothing is heard for so long, was lost on its way. Writing it takes as long
/// as a limit of the rate makes it take.
const MAX_WHOLE: Duration = Duration::from_secs(600);

/// A peer that rejects a block is not asked for its piece again for so long: programs that do so are busy for seconds.
const REJECTED: Duration = Duration::from_secs(10);

/// How often pieces that the ledger would not give are asked for again.
const BUSY: Duration = Duration::from_secs(5);

impl Swarm {
    /// Time has passed: about once a second. Chokes and unchokes, notices who doesn't answer, and gives pieces up that
    /// nobody sends.
    pub fn tick(&mut self, now: Instant, claims: &mut dyn Claims) {
        let elapsed = now.saturating_duration_since(self.last_tick);
        if elapsed < TICK / 2 {
            return;
        }
        self.last_tick = now;
        self.down.tick(elapsed);
        self.up.tick(elapsed);
        let keys: Vec<PeerKey> = self.peers().collect();
        for key in &keys {
            self.tick_peer(now, elapsed, *key);
        }
        if self.choker.next_round().is_none_or(|at| at <= now) {
            self.choke(now);
        }
        if self.busy_since.is_some_and(|since| now.saturating_duration_since(since) >= BUSY) {
            self.changed();
        }
        self.release_idle(now, claims);
        // In the end there may be something to take over now.
        if self.picker.free().is_empty() && self.partials.len() > 0 {
            self.wake_hungry();
        }
    }

    /// When [`tick`](Self::tick) is due; never while nothing can happen by itself.
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.count > 0 || self.partials.len() > 0 || !self.busy.is_empty()).then(|| self.last_tick + TICK)
    }

    fn tick_peer(&mut self, now: Instant, elapsed: Duration, key: PeerKey) {
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        peer.down.tick(elapsed);
        peer.up.tick(elapsed);
        if !peer.snubs {
            peer.window.tick(peer.down.last_rate(), !peer.hungry);
        }
        if peer.is_wanted || peer.wants_us {
            peer.last_wanted = now;
        }
        peer.rejected.retain(|(_, at)| now.saturating_duration_since(*at) < REJECTED);
        let since = |at: Instant| now.saturating_duration_since(at);
        if peer.waits_for_us.is_none() && since(peer.last_received) > SILENCE {
            self.close(key, Close::Silent);
            return;
        }
        if since(peer.last_wanted) > USELESS {
            self.close(key, Close::Useless);
            return;
        }
        if since(peer.last_sent) > KEEP_ALIVE {
            peer.last_sent = now;
            self.say(key, Message::KeepAlive);
        }
        let Some(peer) = super::peer_of_mut(&mut self.slots, key) else { return };
        let patience = REQUEST_TIMEOUT.max(peer.window.latency().unwrap_or_default() * 4);
        if peer.waits_for_us.is_some() {
            // Its answers wait in our system's buffer.
        } else if peer.live > 0 && since(peer.last_block) > patience {
            self.snubbed(now, key);
        } else if peer.hungry || peer.live < peer.window.size() {
            super::wake(&mut self.awake, peer, key);
        }
    }

    /// The peer owes us blocks and sends none: others are asked for them.
    fn snubbed(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        peer.snubs = true;
        peer.timeouts += 1;
        peer.last_block = now;
        peer.window.snubbed();
        if peer.timeouts >= MAX_TIMEOUTS {
            self.close(key, Close::Silent);
        }
        let has_too_many = self.peer(key).is_some_and(|peer| peer.requests.len() > MAX_STALE);
        self.abandon(key, if has_too_many { Abandon::Forget } else { Abandon::Keep });
        self.disown(key);
        self.wake(key);
        self.wake_hungry();
    }

    fn choke(&mut self, now: Instant) {
        let seeding = self.is_upload_only();
        let contenders = self.connected_peers().filter(|(_, peer)| peer.wants_us && peer.closing.is_none());
        let contender = |(key, peer): (PeerKey, &super::Peer)| Contender {
            key,
            rate: if seeding { peer.up.rate() } else { peer.down.rate() },
            snubs: peer.snubs && !seeding,
            since: peer.since,
            unchoked: peer.unchoke,
        };
        let contenders: Vec<_> = contenders.map(contender).collect();
        let unchoked = self.choker.round(now, &mut self.rng, &contenders);
        for contender in contenders {
            let unchoke = unchoked.contains(&contender.key);
            if let Some(peer) = self.peer_mut(contender.key)
                && peer.unchoke != unchoke
            {
                peer.unchoke = unchoke;
                self.wake(contender.key);
            }
        }
    }

    /// Gives up the pieces that no peer sends any more, where that brings somebody else to send them. Otherwise what is there
    /// of them waits for whoever had them: most often for a peer that chokes us for a while, or comes back.
    fn release_idle(&mut self, now: Instant, claims: &mut dyn Claims) {
        let has_rivals = claims.has_rivals();
        let (mut released, mut kept) = (Vec::new(), Vec::new());
        let (slots, partials) = (&self.slots, &mut self.partials);
        for (_, partial) in partials.iter_mut() {
            if partial.missing == 0 {
                if now.saturating_duration_since(partial.last_block) >= MAX_WHOLE {
                    released.push(partial.piece);
                }
                continue;
            }
            if partial.missing > partial.free {
                partial.idle_since = None;
                continue;
            }
            let piece = partial.piece;
            let holders = || holders_of(slots, piece);
            let able = || holders().filter(|(_, peer)| peer.may_be_asked(piece) && !peer.snubs);
            if able().any(|(key, peer)| may_go_on(partial, peer, key)) {
                partial.idle_since = None;
                continue;
            }
            // Where nothing came there is nothing to lose.
            let others_could = has_rivals || partial.contributors.is_empty();
            // Those who can't go on are on parole.
            let (could_begin_anew, is_had) = (able().next().is_some(), holders().next().is_some());
            let since = *partial.idle_since.get_or_insert(now);
            let is_late = now.saturating_duration_since(since) >= MAX_IDLE;
            if (is_late && (others_could || could_begin_anew)) || (others_could && !is_had) {
                released.push(piece);
            } else {
                kept.push((since, piece));
            }
        }
        kept.sort_unstable();
        let too_many = kept.len().saturating_sub(MAX_IDLE_PIECES);
        released.extend(kept.iter().take(too_many).map(|(_, piece)| *piece));
        for piece in released {
            self.remove_partial(piece);
            claims.release(piece);
            self.give_back(piece);
        }
    }
}

/// The peers that have the piece.
fn holders_of(slots: &[Slot], piece: u32) -> impl Iterator<Item = (PeerKey, &super::Peer)> {
    let peers = slots.iter().enumerate().filter_map(|(at, slot)| {
        let key = PeerKey { slot: at as u32, generation: slot.generation };
        Some((key, slot.peer.as_deref()?))
    });
    peers.filter(move |(_, peer)| peer.closing.is_none() && peer.pieces.has(piece))
}
