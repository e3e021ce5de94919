//! Identifiers, and [`Span`]: a byte range of one entry.

use std::fmt;
use std::ops::Range;

/// The largest offset that a file can have: `off_t` is signed on every platform that dlm runs on.
/// A range that ends here is open-ended: its length is not known yet.
pub const OPEN_END: u64 = i64::MAX as u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(u32);

        impl $name {
            /// The identifier with this number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number, as an index into a table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One output file of a download. Numbers are given by the ledger, in the order in which entries are learned.
    EntryId
}
id! {
    /// One source of a download. Numbers are given by the ledger.
    SourceId
}

impl EntryId {
    /// The only entry of a download of one file.
    pub const FIRST: Self = Self(0);
}

/// A source's exclusive right to write some spans. Never given out twice.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub(crate) u64);

/// A byte range of one entry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Span {
    /// The entry.
    pub entry: EntryId,
    /// The bytes, from `start` up to but not including `end`.
    pub range: Range<u64>,
}

impl Span {
    /// The bytes `range` of `entry`.
    pub const fn new(entry: EntryId, range: Range<u64>) -> Self {
        Self { entry, range }
    }

    /// The number of bytes; 0 for an empty or reversed range.
    pub const fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(&self) -> bool {
        self.range.start >= self.range.end
    }

    /// Whether a byte is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.entry == other.entry && self.range.start.max(other.range.start) < self.range.end.min(other.range.end)
    }

    /// Whether all of `other` is in it.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.entry == other.entry && self.range.start <= other.range.start && other.range.end <= self.range.end
    }

    /// Whether its end is not known yet.
    pub const fn is_open_ended(&self) -> bool {
        self.range.end == OPEN_END
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}..", self.entry, self.range.start)?;
        if self.is_open_ended() { Ok(()) } else { write!(f, "{}", self.range.end) }
    }
}
