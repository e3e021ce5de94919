//! The torrent's metadata from its peers (BEP 9), when all that is known of it is a hash.
//!
//! No peer can be believed before the whole is there. So nothing is allocated by what one says, but as pieces come; of
//! several lengths that are claimed, one at a time is tried; and when the whole is wrong, one peer at a time is asked for
//! all of it, until one is right: then those whose pieces differed are known.
//!
//! The invariant: at most [`MAX_METADATA`] bytes are held, of one length.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use crate::peer::budget::Budget;
use crate::wire::extension::{METADATA_PIECE, MetadataMessage};

/// The longest metadata that is fetched. A torrent of the most pieces has 40 MiB of hashes, but nobody makes those; the
/// largest in use are below 20.
pub const MAX_METADATA: u32 = 32 << 20;

/// The most requests that one peer is given at a time: peers that limit how often they answer reject more.
const MAX_REQUESTS: usize = 4;

/// A request that is not answered for so long is given to another peer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A length of which nothing comes for so long is not tried any more, while there are others.
const STALL: Duration = Duration::from_secs(30);

/// A peer that rejected a request is not asked again for so long.
const REJECTED: Duration = Duration::from_secs(60);

/// Says whether metadata is the one that is meant.
pub type IsRight = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What a message brought.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Fetched<K> {
    /// Nothing that was asked for, or more is needed.
    Nothing,
    /// All of it, and it is what the hash says. Those sent something else before.
    Done {
        /// The info dictionary.
        metadata: Bytes,
        /// Who is to be banned.
        liars: Vec<K>,
    },
    /// All of it, and it is wrong; this peer sent it alone, and is to be banned. If several did, nobody is named yet.
    Wrong(Option<K>),
}

/// Collects the metadata.
pub struct MetadataFetch<K> {
    is_right: IsRight,
    peers: Vec<Source<K>>,
    /// How often each claimed length has led nowhere.
    failures: BTreeMap<u32, u32>,
    len: Option<u32>,
    pieces: BTreeMap<u32, (K, Bytes)>,
    last_piece: Option<Instant>,
    /// Whether only one peer at a time is asked, and which.
    is_suspicious: bool,
    alone: Option<K>,
    /// Who sent what when it was wrong.
    evidence: Vec<(u32, K, [u8; 20])>,
}

#[derive(Debug)]
struct Source<K> {
    key: K,
    len: u32,
    asked: Vec<(u32, Instant)>,
    rejected: Option<Instant>,
    is_liar: bool,
}

impl<K: Copy + Eq> MetadataFetch<K> {
    /// Fetches what has this SHA-1.
    pub fn of_sha1(info_hash: [u8; 20]) -> Self {
        Self::new(Box::new(move |metadata| Sha1::digest(metadata)[..] == info_hash))
    }

    /// Fetches what this recognises.
    pub fn new(is_right: IsRight) -> Self {
        Self {
            is_right,
            peers: Vec::new(),
            failures: BTreeMap::new(),
            len: None,
            pieces: BTreeMap::new(),
            last_piece: None,
            is_suspicious: false,
            alone: None,
            evidence: Vec::new(),
        }
    }

    /// A peer says that it has the metadata, and how long it is; false if that can't be.
    pub fn joined(&mut self, key: K, len: u32) -> bool {
        if len == 0 || len > MAX_METADATA {
            return false;
        }
        // Said twice, it is nothing new.
        if self.peers.iter().any(|peer| peer.key == key && peer.len == len) {
            return true;
        }
        self.left(key);
        self.peers.push(Source { key, len, asked: Vec::new(), rejected: None, is_liar: false });
        true
    }

    /// A peer is gone.
    pub fn left(&mut self, key: K) {
        self.peers.retain(|peer| peer.key != key);
        if self.alone == Some(key) {
            self.start_again();
        }
        if self.len.is_some_and(|len| !self.peers.iter().any(|peer| peer.len == len)) {
            self.start_again();
            self.len = None;
        }
    }

    /// The piece that this peer is to be asked for now, if any. To be called until there is none, for each peer, whenever
    /// something has changed and about once a second.
    pub fn next_request(&mut self, now: Instant, key: K) -> Option<u32> {
        self.give_up_the_late(now);
        let len = self.choose(now)?;
        let is_able = |peer: &Source<K>| {
            let waits = peer.rejected.is_some_and(|at| now.saturating_duration_since(at) < REJECTED);
            peer.len == len && !peer.is_liar && !waits && peer.asked.len() < MAX_REQUESTS
        };
        if !self.peers.iter().any(|peer| peer.key == key && is_able(peer)) {
            return None;
        }
        if self.is_suspicious && *self.alone.get_or_insert(key) != key {
            return None;
        }
        let is_asked = |piece: &u32| self.peers.iter().any(|peer| peer.asked.iter().any(|(asked, _)| asked == piece));
        let missing = |piece: &u32| !self.pieces.contains_key(piece) && !is_asked(piece);
        let piece = (0..len.div_ceil(METADATA_PIECE)).find(missing)?;
        self.peers.iter_mut().find(|peer| peer.key == key)?.asked.push((piece, now));
        Some(piece)
    }

    /// A peer answers.
    pub fn received(&mut self, now: Instant, key: K, message: &MetadataMessage) -> Fetched<K> {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.key == key) else { return Fetched::Nothing };
        let (piece, data) = match message {
            MetadataMessage::Request(_) => return Fetched::Nothing,
            MetadataMessage::Reject(piece) => {
                peer.asked.retain(|(asked, _)| asked != piece);
                peer.rejected = Some(now);
                if self.alone == Some(key) {
                    self.start_again();
                }
                return Fetched::Nothing;
            }
            MetadataMessage::Data { piece, total, data } if Some(*total) == self.len && peer.len == *total => {
                (*piece, data)
            }
            MetadataMessage::Data { .. } => return Fetched::Nothing,
        };
        let len = peer.len;
        let begin = u64::from(piece) * u64::from(METADATA_PIECE);
        let expected = u64::from(len).saturating_sub(begin).min(METADATA_PIECE.into());
        let was_asked = peer.asked.iter().any(|(asked, _)| *asked == piece);
        peer.asked.retain(|(asked, _)| *asked != piece);
        if !was_asked || data.len() as u64 != expected {
            return Fetched::Nothing;
        }
        // A copy: a slice would hold the whole receive buffer.
        self.pieces.entry(piece).or_insert_with(|| (key, Bytes::copy_from_slice(data)));
        self.last_piece = Some(now);
        if self.pieces.len() < len.div_ceil(METADATA_PIECE) as usize {
            return Fetched::Nothing;
        }
        self.judge()
    }

    /// How many pieces are there that this peer has sent.
    pub fn pieces_of(&self, key: K) -> usize {
        self.pieces.values().filter(|(by, _)| *by == key).count()
    }

    /// How much is there, of how much.
    pub fn progress(&self) -> (u64, Option<u32>) {
        (self.pieces.values().map(|(_, data)| data.len() as u64).sum(), self.len)
    }

    /// All pieces are there.
    fn judge(&mut self) -> Fetched<K> {
        let mut metadata = BytesMut::with_capacity(self.len.unwrap_or_default() as usize);
        self.pieces.values().for_each(|(_, data)| metadata.extend_from_slice(data));
        if (self.is_right)(&metadata) {
            let mut liars = Vec::new();
            for (piece, key, digest) in &self.evidence {
                let is_same = self.pieces.get(piece).is_some_and(|(_, data)| Sha1::digest(data)[..] == digest[..]);
                if !is_same && !liars.contains(key) {
                    liars.push(*key);
                }
            }
            return Fetched::Done { metadata: metadata.freeze(), liars };
        }
        let first = self.pieces.first_key_value().map(|(_, (key, _))| *key);
        let only = first.filter(|first| self.pieces.values().all(|(key, _)| key == first));
        match only {
            Some(liar) => self.peers.iter_mut().filter(|peer| peer.key == liar).for_each(|peer| peer.is_liar = true),
            // One attempt is evidence enough, and bounds it.
            None if self.evidence.is_empty() => {
                let evidence = self.pieces.iter().map(|(piece, (key, data))| (*piece, *key, Sha1::digest(data).into()));
                self.evidence = evidence.collect();
            }
            None => {}
        }
        self.is_suspicious = true;
        if let Some(len) = self.len {
            *self.failures.entry(len).or_default() += 1;
        }
        self.start_again();
        self.len = None;
        Fetched::Wrong(only)
    }

    fn start_again(&mut self) {
        self.pieces.clear();
        self.alone = None;
        self.last_piece = None;
        self.peers.iter_mut().for_each(|peer| peer.asked.clear());
    }

    fn give_up_the_late(&mut self, now: Instant) {
        let is_late = |asked: &Instant| now.saturating_duration_since(*asked) >= TIMEOUT;
        let mut alone_is_late = false;
        for peer in &mut self.peers {
            let before = peer.asked.len();
            peer.asked.retain(|(_, at)| !is_late(at));
            if peer.asked.len() < before {
                // Others come first for a while.
                peer.rejected = Some(now);
                alone_is_late |= self.alone == Some(peer.key);
            }
        }
        if alone_is_late {
            self.start_again();
        }
    }

    /// The length that is tried: of those that failed least, the one that most peers claim.
    fn choose(&mut self, now: Instant) -> Option<u32> {
        let since = *self.last_piece.get_or_insert(now);
        if let Some(len) = self.len {
            let has_others = self.peers.iter().any(|peer| peer.len != len && !peer.is_liar);
            if now.saturating_duration_since(since) < STALL || !has_others {
                return Some(len);
            }
            *self.failures.entry(len).or_default() += 1;
            self.start_again();
        }
        let claims = |len: u32| self.peers.iter().filter(|peer| peer.len == len && !peer.is_liar).count();
        let failures = |len: u32| self.failures.get(&len).copied().unwrap_or(0);
        let honest = self.peers.iter().filter(|peer| !peer.is_liar).map(|peer| peer.len);
        self.len = honest.min_by_key(|len| (failures(*len), std::cmp::Reverse(claims(*len)), *len));
        self.last_piece = Some(now);
        // What nobody claims any more needs no memory.
        self.failures.retain(|len, _| self.peers.iter().any(|peer| peer.len == *len));
        self.len
    }
}

impl<K: std::fmt::Debug> std::fmt::Debug for MetadataFetch<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataFetch")
            .field("peers", &self.peers)
            .field("len", &self.len)
            .field("pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}

/// Answers one peer's requests for metadata.
#[derive(Debug)]
pub struct MetadataServer {
    budget: Budget,
}

impl MetadataServer {
    /// For a peer that has just come: it may have the metadata twice at once, and then a piece each second.
    pub fn new(now: Instant, metadata_len: u32) -> Self {
        Self { budget: Budget::new(now, metadata_len.div_ceil(METADATA_PIECE).saturating_mul(2), 1) }
    }

    /// The answer to a request for a piece, `metadata` being what we have, if anything.
    pub fn answer(&mut self, now: Instant, piece: u32, metadata: Option<&Bytes>) -> MetadataMessage {
        let data = metadata.and_then(|metadata| {
            let begin = (piece as usize).checked_mul(METADATA_PIECE as usize)?;
            let end = begin.saturating_add(METADATA_PIECE as usize).min(metadata.len());
            (begin < end).then(|| (metadata.len() as u32, metadata.slice(begin..end)))
        });
        match data {
            Some((total, data)) if self.budget.spend(now) => MetadataMessage::Data { piece, total, data },
            _ => MetadataMessage::Reject(piece),
        }
    }
}

#[cfg(test)]
mod tests;
