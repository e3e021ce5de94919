//! Writes bencoding, always in its canonical form.

use std::collections::BTreeMap;

use bendy::encoding::{SingleItemEncoder, ToBencode};
use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};

use super::Limits;

/// A value to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)] // Bencoding has no other.
pub enum Item {
    /// An integer.
    Int(i64),
    /// A string, of text or of bytes.
    Bytes(Bytes),
    /// A list.
    List(Vec<Item>),
    /// A dictionary, its keys sorted as bytes.
    Dict(BTreeMap<Bytes, Item>),
}

impl Item {
    /// A dictionary of these.
    pub fn dict<K: Into<Bytes>>(entries: impl IntoIterator<Item = (K, Item)>) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// A list of these.
    pub fn list<I: Into<Item>>(items: impl IntoIterator<Item = I>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// It written out. Fails only if it nests deeper than anyone would read.
    pub fn encode(&self) -> Result<Bytes> {
        let encoded = Canonical(self).to_bencode();
        encoded.map(Bytes::from).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "cannot be written as bencoding").with("reason", e.to_string())
        })
    }
}

/// Keeps `bendy` out of the public interface.
struct Canonical<'a>(&'a Item);

impl ToBencode for Canonical<'_> {
    const MAX_DEPTH: usize = Limits::TORRENT.max_depth;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
        match self.0 {
            Item::Int(number) => encoder.emit_int(*number),
            Item::Bytes(bytes) => encoder.emit_bytes(bytes),
            Item::List(items) => encoder.emit_list(|e| items.iter().try_for_each(|item| e.emit(Canonical(item)))),
            Item::Dict(entries) => encoder
                .emit_dict(|mut e| entries.iter().try_for_each(|(key, value)| e.emit_pair(key, Canonical(value)))),
        }
    }
}

impl From<i64> for Item {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Bytes> for Item {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Item {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}
