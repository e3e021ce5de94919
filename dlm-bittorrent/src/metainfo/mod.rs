//! Torrents (BEP 3): [`Metainfo`] is the whole file, [`Info`] the part of it that its info-hash names.

pub mod create;
mod files;
mod geometry;
mod hybrid;
mod info;

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use dlm_api::{ErrorKind, Result};
use url::Url;

use crate::bencode::{Document, Limits, Value};
use crate::tracker::TrackerUrl;
use crate::{HostPort, InfoHash};

pub use files::{File, spans};
pub use geometry::{BLOCK_LEN, Block, Geometry, MAX_PIECE_LEN, MAX_PIECES};
pub use info::Info;

/// The most trackers that are kept. Lists of all public ones that there are have about a hundred.
const MAX_TRACKERS: usize = 256;

/// The most web seeds that are kept.
const MAX_WEB_SEEDS: usize = 128;

/// The most nodes of the DHT that are kept: these are only a way in.
const MAX_NODES: usize = 64;

/// The most entries of one list that are looked at, of use or not: a torrent has room for millions.
const MAX_LOOKED_AT: usize = 4096;

/// The longest URL, in bytes: what servers and proxies take.
const MAX_URL: usize = 4096;

/// The longest text, in bytes, that is kept of a comment and the like.
const MAX_TEXT: usize = 16 << 10;

/// A torrent. Cheap to clone but for its trackers.
///
/// What is optional and makes no sense is left out; what is needed and makes none is an error with the place.
#[derive(Clone)]
pub struct Metainfo {
    info: Info,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<Url>,
    nodes: Vec<HostPort>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<u64>,
}

impl Metainfo {
    /// Reads a torrent. What follows its end doesn't matter; some servers add a line break.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] for what is no torrent, with [`ErrorKind::TooLarge`] where it would cost
    /// too much, and with [`ErrorKind::Unsupported`] for torrents of version 2 only (BEP 52).
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let document = Document::parse_prefix(&bytes, &Limits::TORRENT)
            .map_err(|e| e.into_error(ErrorKind::InvalidInput, info::MALFORMED))?;
        let root = document.root();
        let dict = root.as_dict().and_then(|_| root.get("info"));
        let info = Info::read(&bytes, dict.ok_or_else(|| info::invalid("a torrent without info", root))?)?;
        Ok(Self {
            trackers: trackers(root),
            web_seeds: web_seeds(root),
            nodes: nodes(root),
            comment: text(root.get("comment.utf-8")).or_else(|| text(root.get("comment"))),
            created_by: text(root.get("created by.utf-8")).or_else(|| text(root.get("created by"))),
            creation_date: root.get("creation date").and_then(Value::as_int).and_then(|date| u64::try_from(date).ok()),
            info,
        })
    }

    /// A torrent of which only the `info` is known, as with magnet links.
    pub fn from_info(info: Info) -> Self {
        Self {
            info,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// The same with other trackers, in tiers (BEP 12).
    #[must_use]
    pub fn with_trackers(mut self, tiers: Vec<Vec<String>>) -> Self {
        self.trackers = tiers;
        self
    }

    /// The same with other web seeds (BEP 19).
    #[must_use]
    pub fn with_web_seeds(mut self, seeds: Vec<Url>) -> Self {
        self.web_seeds = seeds;
        self
    }

    /// What the info-hash names: the files and the hashes.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// See [`Info::info_hash`].
    pub fn info_hash(&self) -> InfoHash {
        self.info.info_hash()
    }

    /// See [`Info::info_bytes`].
    pub fn info_bytes(&self) -> &Bytes {
        self.info.info_bytes()
    }

    /// See [`Info::name`].
    pub fn name(&self) -> &str {
        self.info.name()
    }

    /// See [`Info::geometry`].
    pub fn geometry(&self) -> Geometry {
        self.info.geometry()
    }

    /// See [`Info::piece_len`].
    pub fn piece_len(&self) -> u32 {
        self.info.piece_len()
    }

    /// See [`Info::piece_count`].
    pub fn piece_count(&self) -> u32 {
        self.info.piece_count()
    }

    /// See [`Info::len`].
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.info.len()
    }

    /// See [`Info::piece_hash`].
    pub fn piece_hash(&self, piece: u32) -> Option<&[u8; 20]> {
        self.info.piece_hash(piece)
    }

    /// See [`Info::piece_hashes`].
    pub fn piece_hashes(&self) -> Bytes {
        self.info.piece_hashes()
    }

    /// See [`Info::files`].
    pub fn files(&self) -> &[File] {
        self.info.files()
    }

    /// See [`Info::is_private`].
    pub fn is_private(&self) -> bool {
        self.info.is_private()
    }

    /// See [`Info::source`].
    pub fn source(&self) -> Option<&str> {
        self.info.source()
    }

    /// The trackers in their tiers (BEP 12), the first to be asked first: only those that a [`TrackerUrl`] can be, and none
    /// twice. They may hold a secret of the user's.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// The web seeds (BEP 19), none twice. [`Info::web_seed_url`] says where they have a file.
    pub fn web_seeds(&self) -> &[Url] {
        &self.web_seeds
    }

    /// Nodes of the DHT to begin with (BEP 5).
    pub fn nodes(&self) -> &[HostPort] {
        &self.nodes
    }

    /// What its maker wrote about it, without control characters but line breaks.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made it.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970.
    pub fn creation_date(&self) -> Option<u64> {
        self.creation_date
    }
}

/// Without the trackers, which may hold secrets.
impl fmt::Debug for Metainfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metainfo").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The tiers of `announce-list`, or `announce` if there is nothing of use in it.
fn trackers(root: Value<'_>) -> Vec<Vec<String>> {
    let mut known = HashSet::new();
    let mut looked_at = 0;
    let mut usable = |value: Value<'_>| {
        looked_at += 1;
        let text = value.as_bytes().filter(|text| text.len() <= MAX_URL && looked_at <= MAX_LOOKED_AT)?;
        let url = TrackerUrl::parse(std::str::from_utf8(text).ok()?).ok()?.as_str().to_owned();
        (known.len() < MAX_TRACKERS && known.insert(url.clone())).then_some(url)
    };
    let list = root.get("announce-list").and_then(Value::as_list);
    let tiers: Vec<Vec<String>> = list
        .into_iter()
        .flatten()
        .filter_map(Value::as_list)
        .map(|tier| tier.filter_map(&mut usable).collect())
        .filter(|tier: &Vec<String>| !tier.is_empty())
        .collect();
    if tiers.is_empty() {
        return root.get("announce").and_then(usable).map(|url| vec![url]).into_iter().collect();
    }
    tiers
}

/// The URLs of `url-list`, which is one or a list of them.
fn web_seeds(root: Value<'_>) -> Vec<Url> {
    let Some(value) = root.get("url-list") else { return Vec::new() };
    let single = value.as_bytes().map(|_| value);
    let mut known = HashSet::new();
    single
        .into_iter()
        .chain(value.as_list().into_iter().flatten())
        .take(MAX_LOOKED_AT)
        .filter_map(Value::as_bytes)
        .filter(|text| text.len() <= MAX_URL)
        .filter_map(|text| Url::parse(std::str::from_utf8(text).ok()?).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https" | "ftp") && url.has_host())
        .filter(|url| known.insert(url.clone()))
        .take(MAX_WEB_SEEDS)
        .collect()
}

/// The nodes of `nodes`: a list of pairs.
fn nodes(root: Value<'_>) -> Vec<HostPort> {
    let pairs = root.get("nodes").and_then(Value::as_list).into_iter().flatten().filter_map(Value::as_list);
    let node = |mut pair: crate::bencode::Items<'_>| {
        let host = pair.next()?.as_text()?;
        HostPort::new(&host, u16::try_from(pair.next()?.as_int()?).ok()?).ok()
    };
    pairs.take(MAX_LOOKED_AT).filter_map(node).take(MAX_NODES).collect()
}

/// A text for people to read. `None` if it is empty.
fn text(value: Option<Value<'_>>) -> Option<String> {
    let bytes = value?.as_bytes()?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
