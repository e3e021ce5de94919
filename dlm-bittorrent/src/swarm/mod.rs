//! One torrent among its peers, as a state machine: what peers say goes in, what they are to be told comes out.
//!
//! No I/O, no clock, no locks. The caller has the connections, decodes what comes with a [`Decoder`](crate::wire::Decoder),
//! and for each connection
//!
//! 1. gives both handshakes' outcome to [`connected`](Swarm::connected);
//! 2. gives each message to [`received`](Swarm::received), and writes the blocks that this returns;
//! 3. for each peer in [`wakes`](Swarm::wakes), appends to its send buffer what [`transmit`](Swarm::transmit) says, then
//!    blocks as long as [`next_upload`](Swarm::next_upload) names one and the buffer has room;
//! 4. closes what [`closings`](Swarm::closings) names, and says so with [`disconnected`](Swarm::disconnected).
//!
//! About once a second it calls [`tick`](Swarm::tick). A piece is claimed from the download's ledger, by way of [`Claims`],
//! before its first block is requested, so that other sources may work on the same download; what came of a piece whose
//! blocks are all there is told by [`piece_done`](Swarm::piece_done) and its siblings.
//!
//! The invariants: a piece is claimed exactly once for each partial piece; a block's count of requests is the number of
//! peers that it is requested from; and everything that a peer can make grow has a named bound.

mod connection;
mod events;
mod partial;
mod peer;
mod receive;
mod request;
mod tick;
mod transmit;
mod upload;
mod verdict;
mod window;

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use crate::peer::{Choker, ExternalAddress, IpFilter, Meter, PeerList, Voter};
use crate::piece::{Bitfield, Copies, Geometry, Order, Picker, Priority};
use crate::wire::PeerId;

pub use events::{Close, Fault, PeerStats, Received, Refusal, Stats};
use partial::Partials;
use peer::Peer;
use verdict::Suspects;

/// What a swarm is told once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The torrent's hash, as handshakes name it.
    pub info_hash: [u8; 20],
    /// Our own name, to notice that we are talking to ourselves.
    pub peer_id: PeerId,
    /// The most connections. A torrent hardly gets faster with more than 50 peers, and slots for uploads get rare.
    pub max_peers: usize,
    /// The most connections that are being opened at a time.
    pub max_half_open: usize,
    /// The most connections to one address: more than one for those behind a common router, few enough that nobody
    /// becomes many peers for free.
    pub max_per_address: usize,
    /// How many peers are uploaded to at a time, besides the one that is tried.
    pub upload_slots: usize,
    /// Which addresses may be spoken to.
    pub filter: Arc<IpFilter>,
}

impl Config {
    /// The usual: 50 peers, 10 of them being opened, 3 at an address, 8 slots, no filter.
    pub fn new(info_hash: [u8; 20], peer_id: PeerId) -> Self {
        Self {
            info_hash,
            peer_id,
            max_peers: 50,
            max_half_open: 10,
            max_per_address: 3,
            upload_slots: 8,
            filter: Arc::default(),
        }
    }

    /// Another number of connections, and of those being opened.
    #[must_use]
    pub fn with_peers(mut self, max: usize, half_open: usize) -> Self {
        (self.max_peers, self.max_half_open) = (max, half_open);
        self
    }

    /// Another number of connections to one address.
    #[must_use]
    pub fn with_max_per_address(mut self, max: usize) -> Self {
        self.max_per_address = max;
        self
    }

    /// Another number of peers that are uploaded to.
    #[must_use]
    pub fn with_upload_slots(mut self, slots: usize) -> Self {
        self.upload_slots = slots;
        self
    }

    /// Only addresses that this allows.
    #[must_use]
    pub fn with_filter(mut self, filter: Arc<IpFilter>) -> Self {
        self.filter = filter;
        self
    }
}

/// A connected peer. Never given to another one again.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerKey {
    slot: u32,
    generation: u32,
}

/// Whether a piece may be fetched from the swarm.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Claim {
    /// It may, and by nobody else.
    Granted,
    /// Somebody else fetches it, or it is not its turn. It is tried again later, or when [`Swarm::changed`] is called.
    Busy,
    /// It is had.
    Done,
}

/// The download's ledger, as far as a swarm needs it.
pub trait Claims {
    /// The swarm is about to request the piece's first block.
    fn claim(&mut self, piece: u32) -> Claim;
    /// No peer delivers the piece any more: whatever came of it is given up.
    fn release(&mut self, piece: u32);
    /// Whether another source could fetch what is released.
    fn has_rivals(&self) -> bool;
}

/// One torrent and its peers.
#[derive(Debug)]
pub struct Swarm {
    config: Config,
    geometry: Geometry,
    picker: Picker,
    rng: Rng,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    count: usize,
    partials: Partials,
    suspects: Suspects,
    list: PeerList,
    external: ExternalAddress,
    choker: Choker<PeerKey>,
    awake: Vec<PeerKey>,
    closing: Vec<(PeerKey, Close)>,
    /// The pieces that were completed, in order: each peer knows how far it has been told.
    log: Vec<u32>,
    /// The pieces that the ledger would not give.
    busy: BTreeSet<u32>,
    busy_since: Option<Instant>,
    last_tick: Instant,
    down: Meter,
    up: Meter,
    wasted: u64,
    /// Pieces that are had and can't be read.
    withheld: HashSet<u32>,
    down_limit: Option<u64>,
}

#[derive(Default, Debug)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Swarm {
    /// A swarm without peers for a torrent cut like this, of which `had` is there already. A set of another size than the
    /// geometry's counts as empty.
    pub fn new(now: Instant, config: Config, geometry: Geometry, had: Bitfield, mut rng: Rng) -> Self {
        let had = if had.size() == geometry.pieces() { had } else { Bitfield::new(geometry.pieces()) };
        Self {
            picker: Picker::new(had, rng.fork()),
            list: PeerList::new(config.max_half_open, config.max_peers, rng.fork()),
            external: ExternalAddress::default(),
            choker: Choker::new(config.upload_slots),
            config,
            geometry,
            rng,
            slots: Vec::new(),
            vacant: Vec::new(),
            count: 0,
            partials: Partials::default(),
            suspects: Suspects::default(),
            awake: Vec::new(),
            closing: Vec::new(),
            log: Vec::new(),
            busy: BTreeSet::new(),
            busy_since: None,
            last_tick: now,
            down: Meter::default(),
            up: Meter::default(),
            wasted: 0,
            withheld: HashSet::new(),
            down_limit: None,
        }
    }

    /// How the content is cut.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The addresses of peers: those to connect to, and the banned.
    pub fn addresses(&mut self) -> &mut PeerList {
        &mut self.list
    }

    /// Somebody says that this is our address, as the world sees it, at which we listen at this port. If most say so, it decides
    /// whom we prefer to connect to (BEP 40).
    pub fn told_our_address(&mut self, by: Voter, address: IpAddr, port: u16) {
        if let Some(ours) = self.external.vote(by, address) {
            self.list.set_our_address(SocketAddr::new(ours, port));
        }
    }

    /// The pieces that are had.
    pub fn had(&self) -> &Bitfield {
        self.picker.had()
    }

    /// Whether nothing more is wanted: everything is had, or what is not is unwanted (a partial seed, BEP 21).
    pub fn is_upload_only(&self) -> bool {
        self.picker.missing().is_empty()
    }

    /// Moves the peers that have something to be sent into `awake`, each once.
    pub fn wakes(&mut self, awake: &mut Vec<PeerKey>) {
        let slots = &self.slots;
        let is_awake = |key: &PeerKey| peer_of(slots, *key).is_some_and(|peer| peer.awake);
        awake.extend(self.awake.drain(..).filter(is_awake));
    }

    /// Moves the peers whose connection is to be closed, and why, into `closings`.
    pub fn closings(&mut self, closings: &mut Vec<(PeerKey, Close)>) {
        closings.append(&mut self.closing);
    }

    /// Changes how much pieces are wanted.
    pub fn set_priorities(&mut self, priorities: impl IntoIterator<Item = (u32, Priority)>) {
        for (piece, priority) in priorities {
            self.picker.set_priority(piece, priority);
            // What is being fetched, or fetched by another source, stays so.
            if self.partials.find(piece).is_some() || self.busy.contains(&piece) {
                self.picker.take(piece);
            }
        }
        let missing = self.picker.missing();
        for slot in &mut self.slots {
            let Some(peer) = &mut slot.peer else { continue };
            peer.useful = peer.pieces.count_useful(missing);
        }
        self.wake_where(|_| true);
        let all: Vec<PeerKey> = self.peers().collect();
        all.into_iter().for_each(|key| self.close_if_useless(key));
    }

    /// Changes the order in which pieces are fetched.
    pub fn set_order(&mut self, order: Order) {
        self.picker.set_order(order);
    }

    /// Somebody waits for the piece, or no longer does.
    pub fn set_deadline(&mut self, piece: u32, deadline: Option<Instant>) {
        self.picker.set_deadline(piece, deadline);
    }

    /// Somebody waits for what comes from this piece on, in order, up to the piece `end` at most, and has no use for others now; or
    /// nobody waits any more.
    pub fn set_window(&mut self, window: Option<(u32, Option<u32>)>) {
        let (start, end) = window.unwrap_or((0, None));
        self.picker.set_window(start, end);
        self.picker.set_order(if window.is_some() { Order::Sequential } else { Order::RarestFirst });
        self.wake_hungry();
    }

    /// The limit of what may come, in bytes a second. No more is asked for than it lets through soon.
    pub fn set_download_limit(&mut self, rate: Option<u64>) {
        if std::mem::replace(&mut self.down_limit, rate) != rate {
            self.wake_hungry();
        }
    }

    /// How many peers are uploaded to at a time from the next round on.
    pub fn set_upload_slots(&mut self, slots: usize) {
        self.config.upload_slots = slots;
        self.choker.set_slots(slots);
    }

    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerKey> + '_ {
        let keys = self.slots.iter().enumerate().filter(|(_, slot)| slot.peer.is_some());
        keys.map(|(at, slot)| PeerKey { slot: at as u32, generation: slot.generation })
    }

    /// How it goes.
    pub fn stats(&self) -> Stats {
        let seeds = self.connected_peers().filter(|(_, peer)| peer.is_seed()).count();
        Stats {
            peers: self.count,
            seeds,
            copies: self.copies(),
            downloaded: self.down.total(),
            uploaded: self.up.total(),
            wasted: self.wasted,
            down_rate: self.down.rate(),
            up_rate: self.up.rate(),
            partial_pieces: self.partials.len(),
        }
    }

    /// How it goes with one peer.
    pub fn peer_stats(&self, key: PeerKey) -> Option<PeerStats> {
        let peer = self.peer(key)?;
        Some(PeerStats {
            address: peer.address,
            id: peer.id,
            is_outgoing: peer.outgoing,
            is_seed: peer.is_seed(),
            pieces: peer.pieces.count(self.geometry.pieces()),
            chokes_us: peer.chokes_us,
            is_choked: peer.is_choked,
            wants_us: peer.wants_us,
            is_wanted: peer.is_wanted,
            snubs: peer.snubs,
            downloaded: peer.down.total(),
            uploaded: peer.up.total(),
            down_rate: peer.down.rate(),
            up_rate: peer.up.rate(),
            requests: peer.live as usize,
            window: peer.window.size() as usize,
            upload_queue: peer.uploads.len(),
        })
    }

    fn copies(&self) -> Copies {
        self.picker.copies()
    }

    fn peer(&self, key: PeerKey) -> Option<&Peer> {
        peer_of(&self.slots, key)
    }

    fn peer_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        peer_of_mut(&mut self.slots, key)
    }

    fn connected_peers(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let key = PeerKey { slot: at as u32, generation: slot.generation };
            Some((key, slot.peer.as_deref()?))
        })
    }

    /// The peer has something to be sent.
    fn wake(&mut self, key: PeerKey) {
        if let Some(peer) = peer_of_mut(&mut self.slots, key) {
            wake(&mut self.awake, peer, key);
        }
    }

    /// Blocks have become free: those who could be asked for more are.
    fn wake_hungry(&mut self) {
        self.wake_where(|peer| peer.hungry);
    }

    fn wake_where(&mut self, which: impl Fn(&Peer) -> bool) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let key = PeerKey { slot: at as u32, generation: slot.generation };
            if let Some(peer) = slot.peer.as_deref_mut()
                && which(peer)
            {
                wake(&mut self.awake, peer, key);
            }
        }
    }

    /// The connection is to be closed; what it is for is over.
    fn close(&mut self, key: PeerKey, why: Close) {
        if let Some(peer) = peer_of_mut(&mut self.slots, key)
            && peer.closing.replace(why).is_none()
        {
            self.closing.push((key, why));
        }
    }

    /// Nobody at this address is spoken to again.
    fn ban(&mut self, address: IpAddr) {
        self.list.ban(address);
        let all: Vec<PeerKey> = self.peers().collect();
        for key in all {
            if self.peer(key).is_some_and(|peer| self.list.is_banned(peer.address.ip())) {
                self.close(key, Close::Banned);
            }
        }
    }
}

fn wake(awake: &mut Vec<PeerKey>, peer: &mut Peer, key: PeerKey) {
    if !std::mem::replace(&mut peer.awake, true) {
        awake.push(key);
    }
}

fn peer_of(slots: &[Slot], key: PeerKey) -> Option<&Peer> {
    let slot = slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
    slot.peer.as_deref()
}

fn peer_of_mut(slots: &mut [Slot], key: PeerKey) -> Option<&mut Peer> {
    let slot = slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
    slot.peer.as_deref_mut()
}

#[cfg(test)]
mod tests;
