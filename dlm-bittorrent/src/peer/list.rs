//! The peers that are known of, and whom to connect to next.
//!
//! The invariant: whatever trackers, the DHT and other peers say, at most [`MAX_CANDIDATES`] addresses and [`MAX_BANS`] bans
//! are kept.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::canonical_priority;

/// The most addresses kept for one torrent. A swarm's trackers give 200 at a time, and 50 connections are many: there is
/// always somebody else to try. Each takes some 100 bytes.
pub const MAX_CANDIDATES: usize = 4000;

/// The most banned addresses kept; the oldest are forgiven. A ban needs bytes that were proven wrong, so they are rare.
pub const MAX_BANS: usize = 10_000;

/// How long a peer that failed once is left alone: it may only have been about to start. It is four times as long with each
/// further failure.
const FAILED: Duration = Duration::from_secs(5);

/// How long one is left alone that has served us: it has closed the connection for a reason.
const SERVED: Duration = Duration::from_secs(60);

/// The longest that it is left alone.
const MAX_BACK_OFF: Duration = Duration::from_secs(3600);

/// After so many failures in a row a peer is forgotten. Who tells of it again brings it back. Nobody would tell of one that the
/// user names: it stays.
const MAX_FAILURES: u8 = 6;

/// The longest that one is left alone that the user names and that fails: he may be about to start it.
const MAX_BACK_OFF_OF_USER: Duration = Duration::from_secs(5 * 60);

/// Who told us of a peer.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The user, or a magnet link.
    User,
    /// A tracker.
    Tracker,
    /// The distributed hash table.
    Dht,
    /// Another peer (BEP 11).
    Exchange,
    /// The local network (BEP 14).
    Local,
    /// The checkpoint of an earlier run.
    Resume,
}

/// What became of an address that was [added](PeerList::add).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Added {
    /// It is new.
    New,
    /// It was known.
    Known,
    /// It can't be one, or is banned.
    Refused,
    /// There is no room for it.
    Full,
}

/// How a connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Ended {
    /// It never got as far as a handshake, sent and took nothing, or broke a rule.
    Failed,
    /// It did what it could.
    Served,
    /// Neither side has what the other one wants: it is not tried again for long.
    Useless,
}

/// How many more connections the caller allows right now, over all torrents.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Room {
    /// Those being opened.
    pub half_open: usize,
    /// All.
    pub connections: usize,
}

/// The addresses of one torrent's peers.
#[derive(Debug)]
pub struct PeerList {
    candidates: BTreeMap<SocketAddr, Candidate>,
    bans: Bans,
    ours: Vec<SocketAddr>,
    max_half_open: usize,
    max_connections: usize,
    half_open: usize,
    connections: usize,
    rng: Rng,
}

#[derive(Debug)]
struct Candidate {
    origin: Origin,
    rank: u32,
    failures: u8,
    not_before: Option<Instant>,
    state: State,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Opening,
    Connected,
}

impl PeerList {
    /// An empty list for a torrent that may have so many connections, and so many of them being opened.
    pub fn new(max_half_open: usize, max_connections: usize, rng: Rng) -> Self {
        Self {
            candidates: BTreeMap::new(),
            bans: Bans::default(),
            ours: Vec::new(),
            max_half_open,
            max_connections,
            half_open: 0,
            connections: 0,
            rng,
        }
    }

    /// Our address as the world sees it, of this family, has become known: it decides the order among equals (BEP 40).
    pub fn set_our_address(&mut self, ours: SocketAddr) {
        self.ours.retain(|other| !is_of_family(*other, ours));
        self.ours.push(ours);
        for (address, candidate) in self.candidates.iter_mut().filter(|(address, _)| is_of_family(**address, ours)) {
            candidate.rank = canonical_priority(ours, *address);
        }
    }

    /// Somebody says that there is a peer at this address.
    pub fn add(&mut self, address: SocketAddr, origin: Origin) -> Added {
        if !is_possible(address) || self.bans.has(address.ip()) || self.ours.contains(&address) {
            return Added::Refused;
        }
        if let Some(known) = self.candidates.get_mut(&address) {
            if origin == Origin::User {
                known.origin = origin;
            }
            return Added::Known;
        }
        if self.candidates.len() >= MAX_CANDIDATES && !self.make_room(origin) {
            return Added::Full;
        }
        let rank = match self.ours.iter().find(|ours| is_of_family(**ours, address)) {
            Some(ours) => canonical_priority(*ours, address),
            None => self.rng.u32(..),
        };
        let state = State::Idle;
        self.candidates.insert(address, Candidate { origin, rank, failures: 0, not_before: None, state });
        Added::New
    }

    /// Whom to connect to now, if anybody: who failed least, then by BEP 40. The address counts as being opened until
    /// [`connected`](Self::connected) or [`ended`](Self::ended) is called.
    pub fn next(&mut self, now: Instant, room: Room) -> Option<SocketAddr> {
        let half_open = room.half_open.min(self.max_half_open.saturating_sub(self.half_open));
        let all = room.connections.min(self.max_connections.saturating_sub(self.half_open + self.connections));
        if half_open == 0 || all == 0 {
            return None;
        }
        let is_due = |peer: &Candidate| peer.state == State::Idle && peer.not_before.is_none_or(|at| at <= now);
        let due = self.candidates.iter_mut().filter(|(_, peer)| is_due(peer));
        let (address, peer) = due.min_by_key(|(_, peer)| (peer.failures, !peer.rank))?;
        peer.state = State::Opening;
        self.half_open += 1;
        Some(*address)
    }

    /// Whether the last that is known of this peer is that it failed.
    pub fn has_failed(&self, address: SocketAddr) -> bool {
        self.candidates.get(&address).is_some_and(|peer| peer.failures > 0)
    }

    /// When somebody who is left alone may be tried again.
    pub fn next_due(&self) -> Option<Instant> {
        let idle = self.candidates.values().filter(|peer| peer.state == State::Idle);
        idle.filter_map(|peer| peer.not_before).min()
    }

    /// Whether nobody is connected or being connected to, and nobody is known who could be.
    pub fn is_idle(&self, now: Instant) -> bool {
        let is_due = |peer: &Candidate| peer.not_before.is_none_or(|at| at <= now);
        self.connections + self.half_open == 0 && !self.candidates.values().any(is_due)
    }

    /// A connection has had its handshakes. An incoming one comes from a port that nobody can connect to, so that its
    /// address is only counted.
    pub fn connected(&mut self, address: SocketAddr, outgoing: bool) {
        self.connections += 1;
        if !outgoing {
            return;
        }
        if let Some(peer) = self.candidates.get_mut(&address) {
            if peer.state == State::Opening {
                self.half_open -= 1;
            }
            peer.state = State::Connected;
        }
    }

    /// A connection has had its handshakes, and is not wanted.
    pub(crate) fn refused(&mut self, now: Instant, address: SocketAddr, how: Ended) {
        if self.candidates.get(&address).is_some_and(|peer| peer.state == State::Opening) {
            self.ended(now, address, true, how);
        }
    }

    /// A connection is no more, or was never made.
    pub fn ended(&mut self, now: Instant, address: SocketAddr, outgoing: bool, how: Ended) {
        let Some(peer) = self.candidates.get_mut(&address).filter(|_| outgoing) else {
            self.connections = self.connections.saturating_sub(1);
            return;
        };
        match std::mem::replace(&mut peer.state, State::Idle) {
            State::Idle => return,
            State::Opening => self.half_open -= 1,
            State::Connected => self.connections = self.connections.saturating_sub(1),
        }
        let wait = match how {
            Ended::Served => {
                peer.failures = 0;
                SERVED
            }
            Ended::Useless => MAX_BACK_OFF,
            Ended::Failed => {
                peer.failures = (peer.failures + 1).min(MAX_FAILURES);
                let longest = if peer.origin == Origin::User { MAX_BACK_OFF_OF_USER } else { MAX_BACK_OFF };
                (FAILED * 4u32.pow(u32::from(peer.failures - 1))).min(longest)
            }
        };
        peer.not_before = Some(now + wait);
        let is_forgotten = peer.failures >= MAX_FAILURES && peer.origin != Origin::User;
        if is_forgotten || self.bans.has(address.ip()) {
            self.candidates.remove(&address);
        }
    }

    /// Nobody at this address is spoken to again.
    pub fn ban(&mut self, address: IpAddr) {
        self.bans.add(address);
        let bans = &self.bans;
        self.candidates.retain(|address, peer| peer.state != State::Idle || !bans.has(address.ip()));
    }

    /// Whether nobody at this address is spoken to.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.bans.has(address)
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many are being opened.
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// Forgets the one that failed most; if none failed, one that other peers told of, for a better source.
    fn make_room(&mut self, origin: Origin) -> bool {
        let is_worse = |peer: &Candidate| {
            let replaceable = peer.origin == Origin::Exchange && origin != Origin::Exchange;
            peer.state == State::Idle && peer.origin != Origin::User && (peer.failures > 0 || replaceable)
        };
        let worse = self.candidates.iter().filter(|(_, peer)| is_worse(peer));
        let worst = worse.max_by_key(|(_, peer)| (peer.failures, !peer.rank)).map(|(address, _)| *address);
        worst.is_some_and(|address| self.candidates.remove(&address).is_some())
    }
}

/// Addresses that delivered what was proven wrong. Of IPv6 the network counts, as its owner has 2^64 addresses.
#[derive(Default, Debug)]
pub struct Bans {
    addresses: HashSet<IpAddr>,
    order: VecDeque<IpAddr>,
}

impl Bans {
    /// One more; the oldest is forgiven when there are [`MAX_BANS`].
    pub fn add(&mut self, address: IpAddr) {
        let network = network(address);
        if !self.addresses.insert(network) {
            return;
        }
        self.order.push_back(network);
        if self.order.len() > MAX_BANS
            && let Some(oldest) = self.order.pop_front()
        {
            self.addresses.remove(&oldest);
        }
    }

    /// Whether it is among them.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&network(address))
    }
}

/// What counts as one address: of IPv6 the network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}

fn is_of_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip().to_canonical().is_ipv4() == b.ip().to_canonical().is_ipv4()
}

fn is_possible(address: SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() && !broadcast
}

#[cfg(test)]
mod tests;
