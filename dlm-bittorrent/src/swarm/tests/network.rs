//! Many swarms that talk to each other over links with a latency and a bandwidth, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::peer::{Ended, Origin, Room};
use crate::wire::codec::piece_head;

use super::*;

/// How a node serves others.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Manner {
    Honest,
    /// One in so many of its blocks is bad.
    Poison(u32),
    /// Says it has everything, and never sends a block.
    Mute,
    /// Chokes everybody now and then, whatever its swarm says.
    Stalls,
}

pub(crate) struct Node {
    pub(crate) swarm: Swarm,
    pub(crate) ledger: Ledger,
    pub(crate) manner: Manner,
    pub(crate) done_at: Option<Instant>,
    pub(crate) alive: bool,
    /// Bytes per second that it sends.
    pub(crate) uplink: f64,
    busy_until: Instant,
    links: BTreeMap<PeerKey, usize>,
    next_served: usize,
    serves_later: bool,
}

/// One direction of a connection.
struct End {
    node: usize,
    key: PeerKey,
    decoder: Decoder,
    buffer: BytesMut,
}

struct Link {
    ends: [End; 2],
    open: bool,
}

enum Event {
    Arrive { link: usize, to: usize, bytes: Bytes },
    Closed { link: usize, to: usize },
    Tick(usize),
    Serve(usize),
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    content: Content,
    links: Vec<Link>,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    queue: HashMap<u64, Event>,
    sequence: u64,
    pub(crate) rng: Rng,
    latency: Duration,
}

impl Network {
    pub(crate) fn new(content: Content, latency: Duration, seed: u64) -> Self {
        Self {
            now: Instant::now(),
            nodes: Vec::new(),
            content,
            links: Vec::new(),
            events: BinaryHeap::new(),
            queue: HashMap::new(),
            sequence: 0,
            rng: Rng::with_seed(seed),
            latency,
        }
    }

    /// One more peer that knows all that are there.
    pub(crate) fn add(&mut self, seed: bool, manner: Manner, uplink: f64, max_peers: usize) -> usize {
        let n = self.nodes.len();
        let pieces = self.content.geometry.pieces();
        let had = if seed { Bitfield::full(pieces) } else { Bitfield::new(pieces) };
        let config = Config::new([7; 20], peer_id(n as u32)).with_peers(max_peers, 10).with_upload_slots(4);
        let mut swarm = Swarm::new(self.now, config, self.content.geometry, had, self.rng.fork());
        swarm.addresses().set_our_address(address(n as u32));
        for other in 0..n {
            swarm.addresses().add(address(other as u32), Origin::Tracker);
        }
        self.nodes.push(Node {
            swarm,
            ledger: Ledger::default(),
            manner,
            done_at: None,
            alive: true,
            uplink,
            busy_until: self.now,
            links: BTreeMap::new(),
            next_served: 0,
            serves_later: false,
        });
        let first = Duration::from_millis(self.rng.u64(..1000));
        self.schedule(first, Event::Tick(n));
        n
    }

    /// It goes, without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        let keys: Vec<_> = self.nodes[node].links.keys().copied().collect();
        keys.into_iter().for_each(|key| self.close(node, key));
    }

    /// Runs until `done`, or for so long.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        let mut steps = 0u64;
        while let Some(Reverse((at, id))) = self.events.pop() {
            if at > end {
                self.events.push(Reverse((at, id)));
                return;
            }
            self.now = at;
            let Some(event) = self.queue.remove(&id) else { continue };
            self.handle(event);
            steps += 1;
            if steps.is_multiple_of(256) && done(self) {
                return;
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.events.push(Reverse((self.now + after, self.sequence)));
        self.queue.insert(self.sequence, event);
        self.sequence += 1;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { link, to, bytes } => self.arrive(link, to, &bytes),
            Event::Closed { link, to } => {
                let End { node, key, .. } = self.links[link].ends[to];
                self.close(node, key);
            }
            Event::Tick(node) if self.nodes[node].alive => {
                let Node { swarm, ledger, .. } = &mut self.nodes[node];
                swarm.tick(self.now, ledger);
                if self.rng.u32(..20) == 0 {
                    check(swarm, Some(ledger));
                }
                self.dial(node);
                self.pump(node);
                self.schedule(SECOND, Event::Tick(node));
            }
            Event::Serve(node) if self.nodes[node].alive => {
                self.nodes[node].serves_later = false;
                self.serve(node);
            }
            Event::Tick(_) | Event::Serve(_) => {}
        }
    }

    fn arrive(&mut self, link: usize, to: usize, bytes: &[u8]) {
        if !self.links[link].open {
            return;
        }
        let End { node, key, decoder, buffer } = &mut self.links[link].ends[to];
        let (at, key) = (*node, *key);
        buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(message) = decoder.decode(buffer).expect("a node speaks the protocol") {
            messages.push(message);
        }
        let node = &mut self.nodes[at];
        for message in messages {
            let received = node.swarm.received(self.now, key, message);
            // A piece may have failed, and its sender be banned, in between.
            let received = received.unwrap_or_else(|fault| panic!("node {at}: {fault}"));
            node.ledger.receive(self.now, &mut node.swarm, &self.content, &received);
        }
        if node.swarm.is_upload_only() && node.done_at.is_none() {
            node.done_at = Some(self.now);
        }
        self.pump(at);
    }

    fn dial(&mut self, node: usize) {
        let room = Room { half_open: 100, connections: 100 };
        while let Some(to) = self.nodes[node].swarm.addresses().next(self.now, room) {
            let SocketAddr::V4(v4) = to else { continue };
            let other = (u32::from(*v4.ip()) - 0x0a00_0000) as usize;
            if !self.nodes.get(other).is_some_and(|other| other.alive) {
                self.nodes[node].swarm.addresses().ended(self.now, to, true, Ended::Failed);
                continue;
            }
            let shake = |n: usize| handshake(n as u32, Swarm::RESERVED);
            let mut from = address(node as u32);
            from.set_port(50_000);
            let Ok(theirs) = self.nodes[other].swarm.connected(self.now, from, false, &shake(node)) else {
                self.nodes[node].swarm.addresses().ended(self.now, to, true, Ended::Failed);
                continue;
            };
            let Ok(ours) = self.nodes[node].swarm.connected(self.now, to, true, &shake(other)) else {
                self.nodes[other].swarm.disconnected(self.now, theirs);
                continue;
            };
            let pieces = self.content.geometry.pieces();
            let end = |node, key| End { node, key, decoder: Decoder::new(Some(pieces)), buffer: BytesMut::new() };
            self.links.push(Link { ends: [end(node, ours), end(other, theirs)], open: true });
            let link = self.links.len() - 1;
            self.nodes[node].links.insert(ours, link);
            self.nodes[other].links.insert(theirs, link);
            self.pump(other);
        }
    }

    fn close(&mut self, node: usize, key: PeerKey) {
        self.nodes[node].swarm.disconnected(self.now, key);
        let Some(link) = self.nodes[node].links.remove(&key) else { return };
        self.links[link].open = false;
        let to = usize::from(self.links[link].ends[0].node == node);
        self.schedule(self.latency, Event::Closed { link, to });
    }

    /// Sends what the swarm has to say.
    fn pump(&mut self, node: usize) {
        let (mut awake, mut closings) = (Vec::new(), Vec::new());
        self.nodes[node].swarm.wakes(&mut awake);
        let mut out = BytesMut::new();
        for key in awake {
            let Node { swarm, ledger, .. } = &mut self.nodes[node];
            swarm.transmit(self.now, key, ledger, &mut out);
            if !out.is_empty() {
                self.send(node, key, out.split().freeze());
            }
        }
        self.nodes[node].swarm.closings(&mut closings);
        closings.into_iter().for_each(|(key, _)| self.close(node, key));
        self.serve(node);
    }

    /// Sends blocks, by turns, as long as no more than a quarter of a second's worth waits.
    fn serve(&mut self, node: usize) {
        let keys: Vec<PeerKey> = self.nodes[node].links.keys().copied().collect();
        let mut idle = 0;
        while idle < keys.len() {
            let this = &mut self.nodes[node];
            if this.busy_until > self.now + SECOND / 4 {
                let wait = this.busy_until - self.now - SECOND / 5;
                if !std::mem::replace(&mut this.serves_later, true) {
                    self.schedule(wait, Event::Serve(node));
                }
                return;
            }
            this.next_served += 1;
            let key = keys[this.next_served % keys.len()];
            let Some(block) = this.swarm.next_upload(self.now, key) else {
                idle += 1;
                continue;
            };
            idle = 0;
            let stalls = this.manner == Manner::Stalls && self.rng.u32(..100) == 0;
            if this.manner == Manner::Mute || stalls {
                continue;
            }
            let mut bytes = BytesMut::from(&piece_head(block.piece, block.begin, block.len)[..]);
            bytes.extend_from_slice(&self.content.block(block));
            if let Manner::Poison(nth) = this.manner
                && self.rng.u32(..nth) == 0
            {
                bytes[13] ^= 0x55;
            }
            this.swarm.uploaded(self.now, key, block.len.into());
            self.send(node, key, bytes.freeze());
        }
    }

    fn send(&mut self, node: usize, key: PeerKey, bytes: Bytes) {
        let this = &mut self.nodes[node];
        let Some(link) = this.links.get(&key).copied() else { return };
        this.busy_until = this.busy_until.max(self.now) + Duration::from_secs_f64(bytes.len() as f64 / this.uplink);
        let arrival = this.busy_until - self.now + self.latency;
        let to = usize::from(self.links[link].ends[0].node == node);
        self.schedule(arrival, Event::Arrive { link, to, bytes });
    }
}
