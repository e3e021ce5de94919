//! What time brings.

use std::time::{Duration, Instant};

use crate::peer::Contender;
use crate::wire::Message;

use super::connection::Abandon;
use super::{Claims, Close, PeerKey, Swarm};

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

/// A piece that nobody sends for so long is given up, so that another source can have it.
const MAX_IDLE: Duration = Duration::from_secs(60);

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

    /// Gives up the pieces that no peer sends any more.
    fn release_idle(&mut self, now: Instant, claims: &mut dyn Claims) {
        let mut released = Vec::new();
        let (slots, partials) = (&self.slots, &mut self.partials);
        for (_, partial) in partials.iter_mut().filter(|(_, partial)| partial.missing > 0) {
            if partial.missing > partial.free {
                partial.idle_since = None;
                continue;
            }
            let peers = || slots.iter().filter_map(|slot| slot.peer.as_deref());
            let mut owners = peers().filter(|peer| peer.closing.is_none() && peer.pieces.has(partial.piece)).peekable();
            let is_had = owners.peek().is_some();
            if owners.any(|peer| peer.may_be_asked(partial.piece) && !peer.snubs) {
                partial.idle_since = None;
                continue;
            }
            let since = *partial.idle_since.get_or_insert(now);
            if !is_had || now.saturating_duration_since(since) >= MAX_IDLE {
                released.push(partial.piece);
            }
        }
        for piece in released {
            self.remove_partial(piece);
            claims.release(piece);
            self.give_back(piece);
        }
    }
}
