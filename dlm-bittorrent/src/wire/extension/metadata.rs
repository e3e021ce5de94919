//! `ut_metadata` (BEP 9): the info dictionary in pieces.

use bytes::{Bytes, BytesMut};

use crate::bencode::{Document, Item, Limits};

use super::ExtensionError;

/// The length of a piece of metadata; the last is shorter.
pub const METADATA_PIECE: u32 = 16 * 1024;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum MetadataMessage {
    /// Asks for a piece.
    Request(u32),
    /// A piece.
    Data {
        /// Which one.
        piece: u32,
        /// The length of the whole metadata.
        total: u32,
        /// Its bytes.
        data: Bytes,
    },
    /// The piece won't be sent.
    Reject(u32),
}

impl MetadataMessage {
    /// Reads one. `None` for a kind that nobody knows, which is to be ignored.
    ///
    /// # Errors
    /// If it is no dictionary, or lacks something.
    pub fn decode(payload: &Bytes) -> Result<Option<Self>, ExtensionError> {
        let document = Document::parse_prefix(payload, &Limits::MESSAGE)?;
        let int = |key| document.root().get(key).and_then(|value| value.as_int());
        let number = |key| int(key).and_then(|n| u32::try_from(n).ok()).ok_or(ExtensionError::Content);
        let piece = number("piece")?;
        Ok(match int("msg_type").ok_or(ExtensionError::Content)? {
            0 => Some(Self::Request(piece)),
            1 => Some(Self::Data { piece, total: number("total_size")?, data: payload.slice(document.len()..) }),
            2 => Some(Self::Reject(piece)),
            _ => None,
        })
    }

    /// The payload to send.
    pub fn encode(&self) -> Bytes {
        let (kind, piece, more) = match self {
            Self::Request(piece) => (0, *piece, None),
            Self::Data { piece, total, data } => (1, *piece, Some((*total, data))),
            Self::Reject(piece) => (2, *piece, None),
        };
        let mut fields = vec![("msg_type", Item::Int(kind)), ("piece", i64::from(piece).into())];
        if let Some((total, _)) = more {
            fields.push(("total_size", i64::from(total).into()));
        }
        // Only what nests deeply can't be written.
        let head = Item::dict(fields).encode().unwrap_or_default();
        match more {
            None => head,
            Some((_, data)) => {
                let mut whole = BytesMut::with_capacity(head.len() + data.len());
                whole.extend_from_slice(&head);
                whole.extend_from_slice(data);
                whole.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_bep_9() {
        for (message, bytes) in [
            (MetadataMessage::Request(0), &b"d8:msg_typei0e5:piecei0ee"[..]),
            (
                MetadataMessage::Data { piece: 0, total: 34_256, data: Bytes::from_static(b"xxxxxxxx") },
                b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx",
            ),
            (MetadataMessage::Reject(0), b"d8:msg_typei2e5:piecei0ee"),
        ] {
            assert_eq!(message.encode(), bytes);
            assert_eq!(MetadataMessage::decode(&Bytes::from_static(bytes)), Ok(Some(message)));
        }
    }

    #[test]
    fn what_lacks_something_is_refused_and_what_is_new_ignored() {
        for bad in
            ["", "i1e", "d5:piecei0ee", "d8:msg_typei0ee", "d8:msg_typei0e5:piecei-1ee", "d8:msg_typei1e5:piecei0ee"]
        {
            assert!(MetadataMessage::decode(&Bytes::from(bad)).is_err(), "{bad}");
        }
        assert_eq!(MetadataMessage::decode(&Bytes::from("d8:msg_typei9e5:piecei0ee")), Ok(None));
    }
}
