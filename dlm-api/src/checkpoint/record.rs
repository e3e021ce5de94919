//! [`Record`]: what is durable, and its form in a file.
//!
//! The form is one line, `dlm-control 1 LENGTH BLAKE3`, and then a body of that length and digest, in JSON. A record is
//! believed as a whole or not at all.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::fits;
use crate::error::{Error, ErrorKind, Result, Scope};
use crate::fact::{Identity, Strength};
use crate::locator::Locator;
use crate::path::EntryPath;
use crate::sink::Stamp;

/// What the first line starts with.
const MAGIC: &str = "dlm-control ";
/// The version of the form that is written, and the only one that is read.
const VERSION: &str = "1";
/// The longest first line: magic, version, a 20 digit length and a digest, with some room for later versions.
const MAX_HEADER: usize = 256;

/// The largest record, in bytes: room for a swarm of a million scattered pieces, and small enough to be read at once.
pub(super) const MAX_RECORD: usize = 64 << 20;
/// The most entries. A tree of a million files is more than file systems and people like in one piece.
const MAX_ENTRIES: usize = 1 << 20;
/// The most sources, and the most identities of one entry, as each source may have given one.
const MAX_SOURCES: usize = 1 << 14;
/// The most bytes that a source may keep for itself: some bits for each of a million pieces.
const MAX_STATE: usize = 4 << 20;

/// What sets the digests of locators apart from other BLAKE3 digests of the same text.
const KEY_CONTEXT: &str = "dlm 2026-01-01 source key of a checkpoint";

/// What is durable of a download, and what is needed to go on with it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Record {
    /// The entries, in the order of their numbers.
    pub entries: Vec<EntryRecord>,
    /// The sources.
    pub sources: Vec<SourceRecord>,
}

/// What is durable of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct EntryRecord {
    /// Where it goes, relative to the sink's root.
    pub path: EntryPath,
    /// Where its file is, if the sink has put it elsewhere.
    pub placed: Option<EntryPath>,
    /// It only fills the space between others, and has no file.
    pub is_padding: bool,
    /// Its file was there under its final name before, and was taken over: that it has this name does not say that it is
    /// finished.
    pub in_place: bool,
    /// Its length in bytes, once it is known.
    pub len: Option<u64>,
    /// What tells its file from another one.
    pub stamp: Option<Stamp>,
    /// The ranges that are on stable storage: sorted, not empty, not overlapping.
    pub durable: Vec<Range<u64>>,
    /// Of these, what was checked against a digest: sorted, not empty, not overlapping.
    pub verified: Vec<Range<u64>>,
    /// What tells its content from another one.
    pub identities: Vec<Identity>,
    /// When its content was last changed.
    pub modified: Option<SystemTime>,
    /// Whether what was asked for names other entries, and not this one.
    pub left_out: bool,
}

impl EntryRecord {
    /// Where its file is.
    pub fn place(&self) -> &EntryPath {
        self.placed.as_ref().unwrap_or(&self.path)
    }

    /// An entry of which nothing is durable.
    pub fn new(path: EntryPath) -> Self {
        Self {
            path,
            placed: None,
            is_padding: false,
            in_place: false,
            len: None,
            stamp: None,
            durable: Vec::new(),
            verified: Vec::new(),
            identities: Vec::new(),
            modified: None,
            left_out: false,
        }
    }
}

/// What is kept about a source.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct SourceRecord {
    /// What [`source_key`] says of its locator, by which it is known again.
    pub key: String,
    /// Its locator without secrets, for people.
    pub locator: String,
    /// What the source keeps for itself; opaque.
    pub state: Vec<u8>,
}

/// What a source is known by in a record: a digest of the whole locator, since that may hold secrets. Whoever can guess the
/// locator can still confirm the guess.
pub fn source_key(locator: &Locator) -> String {
    blake3::Hash::from_bytes(blake3::derive_key(KEY_CONTEXT, locator.url().as_str().as_bytes())).to_hex().to_string()
}

/// Tells one content of a record from every other one.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Generation(pub(super) [u8; 32]);

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({})", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl Record {
    /// The record in the form in which it is stored, and its generation. Fails with [`ErrorKind::InvalidInput`] or
    /// [`ErrorKind::TooLarge`] if it isn't one that [`decode`](Self::decode) would take.
    pub fn encode(&self) -> Result<(Vec<u8>, Generation)> {
        if let Err(why) = self.check() {
            return Err(Error::new(ErrorKind::InvalidInput, "a checkpoint that makes no sense").with("reason", why));
        }
        let body = serde_json::to_vec(&Body::from(self))
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "a checkpoint that can't be written").with_source(e))?;
        let digest = blake3::hash(&body);
        let mut bytes = header(&body, digest).into_bytes();
        if bytes.len() + body.len() > MAX_RECORD {
            return Err(Error::new(ErrorKind::TooLarge, "the checkpoint is too large")
                .with("bytes", body.len())
                .with("limit", MAX_RECORD));
        }
        bytes.extend(body);
        Ok((bytes, Generation(digest.into())))
    }

    /// Reads what [`encode`](Self::encode) wrote. Fails with [`ErrorKind::Corrupt`] if anything at all is wrong with it,
    /// and with [`ErrorKind::Unsupported`] if it is of another version.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Generation)> {
        if bytes.len() > MAX_RECORD {
            return Err(damaged(format!("longer than {MAX_RECORD} bytes")));
        }
        let line = bytes.iter().take(MAX_HEADER).position(|b| *b == b'\n').ok_or_else(|| damaged("no first line"))?;
        let (first, body) = bytes.split_at(line + 1);
        let words = first.strip_prefix(MAGIC.as_bytes()).ok_or_else(|| damaged("byte 0: not a control file"))?;
        let version = words.split(|b| *b == b' ').next().unwrap_or_default();
        if version != VERSION.as_bytes() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a control file of a version that this program doesn't know",
            )
            .with("version", version.escape_ascii())
            .with("known", VERSION)
            .with_scope(Scope::Download));
        }
        // Compared as text, so that there is one way only to write it.
        let digest = blake3::hash(body);
        let wanted = header(body, digest);
        if first != wanted.as_bytes() {
            let same = first.iter().zip(wanted.as_bytes()).take_while(|(a, b)| a == b).count();
            return Err(damaged(format!("byte {same}: length or digest don't match {} bytes of body", body.len())));
        }
        let body: Body = serde_json::from_slice(body).map_err(|e| damaged(format!("body: {e}")))?;
        let record = Self::try_from(body).map_err(damaged)?;
        record.check().map_err(damaged)?;
        Ok((record, Generation(digest.into())))
    }

    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        limit("entries", self.entries.len(), MAX_ENTRIES)?;
        limit("sources", self.sources.len(), MAX_SOURCES)?;
        let mut paths = std::collections::HashSet::new();
        for (i, entry) in self.entries.iter().enumerate() {
            if !paths.insert(&entry.path) {
                return Err(format!("entry {i}: its path is that of another entry"));
            }
            limit("identities", entry.identities.len(), MAX_SOURCES).map_err(|why| format!("entry {i}: {why}"))?;
            for (name, ranges) in [("durable", &entry.durable), ("verified", &entry.verified)] {
                if let Some(at) = first_bad(ranges, entry.len) {
                    return Err(format!("entry {i}: {name} range {at} is empty, out of order or too long"));
                }
            }
            if !is_within(&entry.verified, &entry.durable) {
                return Err(format!("entry {i}: verified, but not durable"));
            }
        }
        self.sources.iter().enumerate().try_for_each(|(i, source)| {
            limit("bytes of state", source.state.len(), MAX_STATE).map_err(|why| format!("source {i}: {why}"))
        })
    }
}

fn header(body: &[u8], digest: blake3::Hash) -> String {
    format!("{MAGIC}{VERSION} {} {}\n", body.len(), digest.to_hex())
}

fn damaged(place: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "the control file is damaged").with("at", place.into()).with_scope(Scope::Download)
}

fn limit(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max { Err(format!("{count} {what}, more than {max}")) } else { Ok(()) }
}

/// The first range that isn't after the one before it, or doesn't fit into `len`.
fn first_bad(ranges: &[Range<u64>], len: Option<u64>) -> Option<usize> {
    let mut end = 0;
    ranges.iter().position(|range| {
        let is_bad = range.start < end || !fits(range, len);
        end = range.end;
        is_bad
    })
}

/// Whether every byte of `inner` is in `outer`; both are sorted. Ranges of `outer` that touch are one.
fn is_within(inner: &[Range<u64>], outer: &[Range<u64>]) -> bool {
    let mut outer = outer.iter().peekable();
    inner.iter().all(|range| {
        let mut at = range.start;
        while let Some(around) = outer.peek() {
            if around.start > at {
                return false;
            }
            at = at.max(around.end);
            if at >= range.end {
                return true;
            }
            outer.next();
        }
        false
    })
}

/// The body as it is written. Apart from [`Record`], so that a change of that doesn't change the form unseen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    entries: Vec<EntryBody>,
    sources: Vec<SourceBody>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryBody {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placed: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_padding: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    in_place: bool,
    len: Option<u64>,
    /// Device and inode.
    stamp: Option<(u64, u64)>,
    durable: Vec<(u64, u64)>,
    verified: Vec<(u64, u64)>,
    identities: Vec<IdentityBody>,
    /// Seconds since 1970, rounded down, and nanoseconds.
    modified: Option<(i64, u32)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left_out: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityBody {
    scheme: String,
    value: String,
    strong: bool,
    origin: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceBody {
    key: String,
    locator: String,
    /// In hexadecimal.
    state: String,
}

impl From<&Record> for Body {
    fn from(record: &Record) -> Self {
        let pairs = |ranges: &[Range<u64>]| ranges.iter().map(|range| (range.start, range.end)).collect();
        let entries = record.entries.iter().map(|entry| EntryBody {
            path: entry.path.as_str().to_owned(),
            placed: entry.placed.as_ref().map(|path| path.as_str().to_owned()),
            is_padding: entry.is_padding,
            in_place: entry.in_place,
            len: entry.len,
            stamp: entry.stamp.map(|stamp| (stamp.device, stamp.inode)),
            durable: pairs(&entry.durable),
            verified: pairs(&entry.verified),
            identities: entry
                .identities
                .iter()
                .map(|identity| IdentityBody {
                    scheme: identity.scheme.clone().into_owned(),
                    value: identity.value.clone(),
                    strong: identity.strength == Strength::Strong,
                    origin: identity.origin.clone(),
                })
                .collect(),
            modified: entry.modified.and_then(to_unix),
            left_out: entry.left_out,
        });
        let sources = record.sources.iter().map(|source| SourceBody {
            key: source.key.clone(),
            locator: source.locator.clone(),
            state: to_hex(&source.state),
        });
        Self { entries: entries.collect(), sources: sources.collect() }
    }
}

impl TryFrom<Body> for Record {
    type Error = String;

    fn try_from(body: Body) -> Result<Self, String> {
        let ranges = |pairs: Vec<(u64, u64)>| pairs.into_iter().map(|(start, end)| start..end).collect();
        let entry = |(i, entry): (usize, EntryBody)| {
            let path = |path: String| EntryPath::new(&path).map_err(|e| format!("entry {i}: {e}"));
            Ok(EntryRecord {
                path: path(entry.path)?,
                placed: entry.placed.map(path).transpose()?,
                is_padding: entry.is_padding,
                in_place: entry.in_place,
                len: entry.len,
                stamp: entry.stamp.map(|(device, inode)| Stamp { device, inode }),
                durable: ranges(entry.durable),
                verified: ranges(entry.verified),
                identities: entry
                    .identities
                    .into_iter()
                    .map(|identity| Identity {
                        scheme: identity.scheme.into(),
                        value: identity.value,
                        strength: if identity.strong { Strength::Strong } else { Strength::Weak },
                        origin: identity.origin,
                    })
                    .collect(),
                modified: match entry.modified {
                    Some((seconds, nanos)) => {
                        Some(from_unix(seconds, nanos).ok_or_else(|| format!("entry {i}: no such time"))?)
                    }
                    None => None,
                },
                left_out: entry.left_out,
            })
        };
        let source = |(i, source): (usize, SourceBody)| {
            let state = from_hex(&source.state).ok_or_else(|| format!("source {i}: its state is not hexadecimal"))?;
            Ok(SourceRecord { key: source.key, locator: source.locator, state })
        };
        Ok(Self {
            entries: body.entries.into_iter().enumerate().map(entry).collect::<Result<_, String>>()?,
            sources: body.sources.into_iter().enumerate().map(source).collect::<Result<_, String>>()?,
        })
    }
}

/// A time as seconds since 1970, rounded down, and nanoseconds; `None` for one that no clock shows.
fn to_unix(time: SystemTime) -> Option<(i64, u32)> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Some((i64::try_from(after.as_secs()).ok()?, after.subsec_nanos())),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).ok()?.checked_neg()?;
            match before.subsec_nanos() {
                0 => Some((seconds, 0)),
                nanos => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
            }
        }
    }
}

fn from_unix(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start =
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(whole) } else { SystemTime::UNIX_EPOCH.checked_add(whole) };
    if nanos >= 1_000_000_000 {
        return None;
    }
    start?.checked_add(Duration::from_nanos(nanos.into()))
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()).collect()
}
