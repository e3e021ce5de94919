//! What names a torrent.

use std::fmt;
use std::str::FromStr;

use dlm_api::{Error, ErrorKind, Result};
use sha1::{Digest as _, Sha1};

/// The SHA-1 of a torrent's `info` dictionary as it stands (BEP 3): the name of its swarm.
///
/// Written in hexadecimal digits; read from those or from base32, of either case (BEP 9).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash([u8; Self::LEN]);

impl InfoHash {
    /// The number of bytes.
    pub const LEN: usize = 20;

    /// That of an `info` dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// From 32 characters of base32 (RFC 4648) of either case.
    fn from_base32(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        let mut bits = 0u64;
        // Eight characters are five bytes.
        for (chars, out) in text.chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
            for c in chars {
                let value = match c.to_ascii_uppercase() {
                    c @ b'A'..=b'Z' => c - b'A',
                    c @ b'2'..=b'7' => c - b'2' + 26,
                    _ => return None,
                };
                bits = bits << 5 | u64::from(value);
            }
            out.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Some(Self(bytes))
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        for (pair, out) in text.chunks_exact(2).zip(&mut bytes) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *out = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }
}

impl From<[u8; InfoHash::LEN]> for InfoHash {
    fn from(bytes: [u8; InfoHash::LEN]) -> Self {
        Self(bytes)
    }
}

impl FromStr for InfoHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.len() {
            40 => Self::from_hex(text.as_bytes()),
            32 => Self::from_base32(text.as_bytes()),
            _ => None,
        };
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "not an info-hash: 40 hexadecimal digits or 32 of base32")
        })
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let hex = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        let hash: InfoHash = hex.parse().unwrap();
        assert_eq!(hash.to_string(), hex);
        assert_eq!(hex.to_uppercase().parse::<InfoHash>().unwrap(), hash);
        for base32 in ["YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", "yex6dqdlxisuvhoj6um3gnnkpqjwpkek"] {
            assert_eq!(base32.parse::<InfoHash>().unwrap(), hash, "{base32}");
        }
        assert_eq!(InfoHash::of(b"").to_string(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }

    #[test]
    fn nothing_else_is() {
        for bad in [
            "",
            "c12fe1c06bba254a9dc9f519b335aa7c1367a88",
            "c12fe1c06bba254a9dc9f519b335aa7c1367a88g",
            "+12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKE1",
            "äääääääääääääääääääää",
            "ääääääääääääääää",
        ] {
            assert_eq!(bad.parse::<InfoHash>().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
