//! The first 68 bytes of a connection (BEP 3).

use std::error::Error;
use std::fmt;

/// What the protocol calls itself, with the length in front.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// A peer's name for itself: 20 bytes, by convention beginning with a client's name and version (BEP 20).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The eight reserved bytes: what a peer understands beyond BEP 3.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// The fast extension (BEP 6).
    pub const FAST: Self = Self([0, 0, 0, 0, 0, 0, 0, 0x04]);
    /// The extension protocol (BEP 10).
    pub const EXTENSIONS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0]);
    /// The distributed hash table (BEP 5).
    pub const DHT: Self = Self([0, 0, 0, 0, 0, 0, 0, 0x01]);

    /// These and those.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// Whether all of those are among these.
    pub fn has(self, other: Self) -> bool {
        self.with(other) == self
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The first 68 bytes of a connection: each side sends them, and hears the other's.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Handshake {
    /// What is understood.
    pub reserved: Reserved,
    /// Which torrent is meant: the SHA-1 of its info dictionary, or the first 20 bytes of the SHA-256 (BEP 52).
    pub info_hash: [u8; 20],
    /// Who is speaking.
    pub peer_id: PeerId,
}

impl Handshake {
    /// Its length on the wire.
    pub const LEN: usize = 68;

    /// The bytes to send.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Parses what came so far; `None` means that more bytes are needed.
    ///
    /// # Errors
    /// As soon as a byte shows that the other side speaks something else. The connection is of no use then, unless it is
    /// an encrypted one.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HandshakeError> {
        let head = bytes.len().min(PROTOCOL.len());
        if bytes[..head] != PROTOCOL[..head] {
            return Err(HandshakeError);
        }
        let Some(bytes) = bytes.first_chunk::<{ Self::LEN }>() else { return Ok(None) };
        let part = |from: usize| std::array::from_fn(|at| bytes[from + at]);
        let reserved = Reserved(std::array::from_fn(|at| bytes[20 + at]));
        Ok(Some(Self { reserved, info_hash: part(28), peer_id: PeerId(part(48)) }))
    }
}

/// The other side does not speak this protocol.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HandshakeError;

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a BitTorrent handshake")
    }
}

impl Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_bep_3() {
        let ours = Handshake {
            reserved: Reserved::FAST.with(Reserved::EXTENSIONS).with(Reserved::DHT),
            info_hash: [b'h'; 20],
            peer_id: PeerId(*b"-DL0001-abcdefghijkl"),
        };
        let bytes = ours.encode();
        let expected = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05hhhhhhhhhhhhhhhhhhhh-DL0001-abcdefghijkl";
        assert_eq!(bytes, *expected);
        assert_eq!(Handshake::decode(&bytes), Ok(Some(ours)));
        for end in 0..bytes.len() {
            assert_eq!(Handshake::decode(&bytes[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_speaks_something_else_is_told_at_its_first_byte() {
        assert_eq!(Handshake::decode(b"GET / HTTP/1.1"), Err(HandshakeError));
        assert_eq!(Handshake::decode(b"\x13BitTorrent protocoL"), Err(HandshakeError));
        assert_eq!(Handshake::decode(b"\x12"), Err(HandshakeError));
    }

    #[test]
    fn bits_are_told_apart() {
        assert!(!Reserved::FAST.has(Reserved::DHT));
        assert!(Reserved([0xff; 8]).has(Reserved::EXTENSIONS));
        assert!(Reserved::default().has(Reserved::default()));
    }
}
