//! Messages of extensions (BEP 10): dictionaries, each extension under a number that the receiver gave to it.

mod dont_have;
mod handshake;
mod metadata;

use std::fmt;

pub use dont_have::{decode_dont_have, encode_dont_have};
pub use handshake::ExtensionHandshake;
pub use metadata::{METADATA_PIECE, MetadataMessage};

use crate::bencode;

/// The number of the extensions' own handshake.
pub const HANDSHAKE: u8 = 0;

/// An extension that we speak.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Extension {
    /// Metadata from peers (BEP 9).
    Metadata,
    /// A piece is had no longer (BEP 54).
    DontHave,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Metadata, Self::DontHave];

    /// What it is called in a handshake.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "ut_metadata",
            Self::DontHave => "lt_donthave",
        }
    }

    /// The number that we give to it: peers send us its messages with this one.
    pub const fn number(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::DontHave => 2,
        }
    }

    /// The extension to which we gave this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.number() == number)
    }
}

/// A message that is not what its extension defines.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExtensionError {
    /// It is no bencoding, or has no end.
    Bencode(bencode::Fault),
    /// Something is missing in it, or out of range.
    Content,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bencode(_) => "an extension's message is not bencoded",
            Self::Content => "an extension's message lacks something, or has it out of range",
        })
    }
}

impl std::error::Error for ExtensionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bencode(fault) => Some(fault),
            Self::Content => None,
        }
    }
}

impl From<bencode::Fault> for ExtensionError {
    fn from(fault: bencode::Fault) -> Self {
        Self::Bencode(fault)
    }
}
