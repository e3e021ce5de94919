//! Facts: what is learned about the layout of a download.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::digest::Digest;
use crate::path::EntryPath;
use crate::span::{EntryId, Span};

/// Something learned about a download. Who said it is kept beside it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Fact {
    /// There is an entry with this path. Its number is what [`Transfer::entry_at`](crate::Transfer::entry_at) says.
    Entry {
        /// Where it goes, relative to the download's folder.
        path: EntryPath,
        /// Its length, where it is known.
        len: Option<u64>,
    },
    /// The length of an entry in bytes.
    Len(EntryId, u64),
    /// Pieces with digests of their own. Within an entry pieces don't overlap.
    Pieces(Vec<Piece>),
    /// The digest of a whole entry.
    Digest(EntryId, Digest),
    /// What tells this content from another one at the same place.
    Identity(EntryId, Identity),
    /// The name a source suggests for an entry, not made safe yet.
    Name(EntryId, String),
    /// The media type that a source gives an entry, with its parameters. By it a [container](crate::Container) is told from
    /// content that is wanted itself.
    MediaType(EntryId, String),
    /// When the content was last changed.
    Modified(EntryId, SystemTime),
    /// The entry is zeros that only fill the space between files: see [`EntryKind::Padding`](crate::EntryKind::Padding).
    Padding(EntryId),
    /// No further entry will be learned. A download is complete only when this is known;
    /// a download of one file knows it from the start.
    LayoutComplete,
}

/// The smallest set of spans with a digest of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The bytes, in the order in which they are hashed. More than one where a piece crosses entries.
    pub spans: Box<[Span]>,
    /// What they must hash to.
    pub digest: Digest,
}

impl Piece {
    /// A piece within one entry.
    pub fn new(span: Span, digest: Digest) -> Self {
        Self { spans: Box::new([span]), digest }
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(Span::len).sum()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What tells one content from another at the same place: an ETag, a date, an info-hash. Opaque to the core.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// What kind of thing `value` is (`etag`, `last-modified`, ...). Values of different schemes are never compared.
    pub scheme: Cow<'static, str>,
    /// The value, as the source gave it.
    pub value: String,
    /// What equal values promise.
    pub strength: Strength,
    /// The origin for which it holds, or `None` if it holds everywhere. Values of different origins are never compared.
    pub origin: Option<String>,
}

impl Identity {
    /// Whether the two can be compared at all.
    pub fn is_comparable(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.origin == other.origin
    }
}

/// What equal identities promise.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Strength {
    /// The contents mean the same, but their bytes may differ.
    Weak,
    /// The bytes are the same.
    Strong,
}
