//! Bencoding (BEP 3): what torrents, trackers, the DHT and extension messages are written in.
//!
//! [`Document`] reads it and [`Item`] writes it. Reading takes what swarms really send: keys that are not sorted, keys that
//! come twice (the first counts), numbers with leading zeros. It finds where everything starts and ends, and copies
//! nothing, so that what is hashed, as the `info` of a torrent is, is hashed as it stands. It doesn't recurse, and it is
//! bounded by [`Limits`], of which every way into dlm has its own.
//!
//! The crate `bendy` takes nothing but the canonical form. It writes ours ([`Item`]), and judges where BEP 52 demands that
//! form (hybrid torrents). To decode with it, everything else would first be sorted and written again: a second copy of
//! up to 64 MiB, for a check that the scan has already made.

mod item;
mod scan;

use std::fmt;

use dlm_api::{Error, ErrorKind, Scope};

pub use item::Item;
pub use scan::{Document, Entries, Items, Value};

/// How much one document may cost.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes; never more than 4 GiB.
    pub max_len: usize,
    /// How deep lists and dictionaries may nest: a stack of this many is kept.
    pub max_depth: usize,
    /// The most values, keys included: each takes 12 bytes of memory.
    pub max_values: usize,
}

impl Limits {
    /// A torrent. 64 MiB hold the hashes of more pieces than a torrent may have, and names for a long list of files.
    /// libtorrent too stops at three million values.
    pub const TORRENT: Self = Self { max_len: 64 << 20, max_depth: 64, max_values: 3_000_000 };
    /// What a peer sends in one extension message (BEP 10): a handshake, a piece of metadata, a list of peers.
    pub const MESSAGE: Self = Self { max_len: 256 << 10, max_depth: 16, max_values: 8192 };
    /// What a tracker answers. In the long form a peer takes about seven values and a hundred bytes, so this is room for
    /// ten thousand; usual are two hundred.
    pub const TRACKER: Self = Self { max_len: 1 << 20, max_depth: 16, max_values: 80_000 };
    /// One datagram of the DHT (BEP 5), which fits into one packet.
    pub const DHT: Self = Self { max_len: 4096, max_depth: 10, max_values: 512 };

    /// The same with another bound on the length.
    #[must_use]
    pub fn with_max_len(mut self, max_len: usize) -> Self {
        self.max_len = max_len;
        self
    }
}

/// Why bytes are no bencoding, or too much of it, and where.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    at: usize,
    reason: Reason,
}

/// What is wrong at the place of a [`Fault`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes end before the value does.
    Truncated,
    /// No value starts with this byte.
    NotAValue,
    /// A key of a dictionary is not a string.
    NotAKey,
    /// A key without a value.
    NoValue,
    /// Not an integer, or one of far more digits than 64 bits need.
    BadInteger,
    /// Not the length of a string.
    BadLength,
    /// Something follows where nothing may.
    Trailing,
    /// Lists or dictionaries nest too deep.
    TooDeep,
    /// Too many values.
    TooMany,
    /// Too many bytes.
    TooLong,
}

impl Fault {
    pub(crate) fn new(at: usize, reason: Reason) -> Self {
        Self { at, reason }
    }

    /// The offset of the byte where it was noticed.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// What is wrong there.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// As dlm's error: of this kind with this message, or [`ErrorKind::TooLarge`] where a limit was passed.
    pub fn into_error(self, kind: ErrorKind, message: &'static str) -> Error {
        let is_limit = matches!(self.reason, Reason::TooDeep | Reason::TooMany | Reason::TooLong);
        let kind = if is_limit { ErrorKind::TooLarge } else { kind };
        Error::new(kind, message).with("at", self.at).with_source(self)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::Truncated => "it ends too early",
            Reason::NotAValue => "no value starts like this",
            Reason::NotAKey => "a key that is not a string",
            Reason::NoValue => "a key without a value",
            Reason::BadInteger => "not an integer",
            Reason::BadLength => "not the length of a string",
            Reason::Trailing => "something follows the end",
            Reason::TooDeep => "it nests too deep",
            Reason::TooMany => "it has too many values",
            Reason::TooLong => "it is too long",
        })
    }
}

impl std::error::Error for Fault {}

/// What a peer or a tracker sent: the fault of that source, whichever it is.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.into_error(ErrorKind::Protocol, "not valid bencoding").with_scope(Scope::Source)
    }
}

#[cfg(test)]
mod tests;
