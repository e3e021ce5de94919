//! Digests: what bytes must hash to, and how they are hashed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// One running hash. A protocol that has a hash of its own (a tree, a CRC of parts) implements this.
pub trait Hasher: Send {
    /// Takes the next bytes.
    fn update(&mut self, data: &[u8]);
    /// The digest of all that was taken.
    fn finish(self: Box<Self>) -> Vec<u8>;
}

/// A hash function: its name, how strong it is, and how to start it.
pub trait HashFunction: Send + Sync + 'static {
    /// The name in lower case, as it stands in `sha-256:...`.
    fn name(&self) -> &str;
    /// Whether two different contents with the same digest can be made on purpose: true for MD5 and SHA-1.
    /// A digest of a broken function still finds accidents.
    fn is_broken(&self) -> bool;
    /// The digest's length in bytes.
    fn digest_len(&self) -> usize;
    /// Starts hashing.
    fn start(&self) -> Box<dyn Hasher>;
}

/// The hash functions that are built in.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// MD5 (RFC 1321), for old lists; broken.
    Md5,
    /// SHA-1 (FIPS 180-4), for BitTorrent v1 and old lists; broken.
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// BLAKE3 with its usual 32 bytes.
    Blake3,
}

struct Rust<D>(D);

impl<D: sha2::Digest + Send> Hasher for Rust<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().as_bytes().to_vec()
    }
}

impl HashFunction for Algorithm {
    fn name(&self) -> &str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
            Self::Blake3 => "blake3",
        }
    }

    fn is_broken(&self) -> bool {
        matches!(self, Self::Md5 | Self::Sha1)
    }

    fn digest_len(&self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    fn start(&self) -> Box<dyn Hasher> {
        use sha2::Digest as _;
        match self {
            Self::Md5 => Box::new(Rust(md5::Md5::new())),
            Self::Sha1 => Box::new(Rust(sha1::Sha1::new())),
            Self::Sha256 => Box::new(Rust(sha2::Sha256::new())),
            Self::Sha512 => Box::new(Rust(sha2::Sha512::new())),
            Self::Blake3 => Box::new(Blake3(blake3::Hasher::new())),
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Reads the names that checksum lists use: `sha256`, `SHA-256`, `sha1`, ...
    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "md5" => Ok(Self::Md5),
            "sha1" | "sha-1" => Ok(Self::Sha1),
            "sha256" | "sha-256" => Ok(Self::Sha256),
            "sha512" | "sha-512" => Ok(Self::Sha512),
            "blake3" | "b3" => Ok(Self::Blake3),
            _ => Err(Error::new(ErrorKind::InvalidInput, "unknown hash function")
                .with("name", text.escape_debug())
                .with("known", "sha256, sha512, blake3, sha1, md5")),
        }
    }
}

/// What some bytes must hash to.
#[derive(Clone)]
pub struct Digest {
    function: Function,
    bytes: Box<[u8]>,
}

#[derive(Clone)]
enum Function {
    BuiltIn(Algorithm),
    Brought(Arc<dyn HashFunction>),
}

impl Digest {
    /// The digest `bytes` of a built-in function. Fails when the length is wrong.
    pub fn new(algorithm: Algorithm, bytes: impl Into<Box<[u8]>>) -> Result<Self> {
        Self::checked(Function::BuiltIn(algorithm), bytes.into())
    }

    /// The digest `bytes` of a function that a protocol brings itself. Fails when the length is wrong.
    pub fn with_function(function: Arc<dyn HashFunction>, bytes: impl Into<Box<[u8]>>) -> Result<Self> {
        Self::checked(Function::Brought(function), bytes.into())
    }

    fn checked(function: Function, bytes: Box<[u8]>) -> Result<Self> {
        let digest = Self { function, bytes };
        let wanted = digest.function().digest_len();
        if digest.bytes.len() != wanted {
            return Err(Error::new(ErrorKind::InvalidInput, "a digest of the wrong length")
                .with("function", digest.function().name())
                .with("bytes", digest.bytes.len())
                .with("expected", wanted));
        }
        Ok(digest)
    }

    /// The digest of `data`.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = algorithm.start();
        hasher.update(data);
        Self { function: Function::BuiltIn(algorithm), bytes: hasher.finish().into() }
    }

    /// The hash function.
    pub fn function(&self) -> &dyn HashFunction {
        match &self.function {
            Function::BuiltIn(algorithm) => algorithm,
            Function::Brought(function) => function.as_ref(),
        }
    }

    /// The digest itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest `bytes` of the same function.
    pub(crate) fn with_bytes(&self, bytes: &[u8]) -> Self {
        Self { function: self.function.clone(), bytes: bytes.into() }
    }

    /// Whether it is of the very same function and length, so that the bytes are all that differs.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let same = match (&self.function, &other.function) {
            (Function::BuiltIn(one), Function::BuiltIn(other)) => one == other,
            (Function::Brought(one), Function::Brought(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.bytes.len() == other.bytes.len()
    }

    /// Whether `hasher`, started by this digest's function, came to this digest.
    pub fn matches(&self, hasher: Box<dyn Hasher>) -> bool {
        hasher.finish() == *self.bytes
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.function().name() == other.function().name()
    }
}

impl Eq for Digest {}

/// Reads `ALGO:HEX` (`sha256:9f86...`).
impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &'static str| Error::new(ErrorKind::InvalidInput, why).with("text", text.escape_debug());
        let (name, hex) = text.split_once(':').ok_or_else(|| bad("a checksum is written ALGO:HEX"))?;
        let hex = hex.as_bytes();
        if hex.len() % 2 != 0 {
            return Err(bad("a checksum with an odd number of hex digits"));
        }
        let digit = |b: u8| char::from(b).to_digit(16);
        let bytes: Option<Box<[u8]>> =
            hex.chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect();
        Self::new(name.parse()?, bytes.ok_or_else(|| bad("a checksum with something other than hex digits"))?)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.function().name())?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // "abc": RFC 1321 A.5, FIPS 180-4's examples, and BLAKE3's reference implementation.
    const ABC: [&str; 5] = [
        "md5:900150983cd24fb0d6963f7d28e17f72",
        "sha-1:a9993e364706816aba3e25717850c26c9cd0d89d",
        "sha-256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha-512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ];

    #[test]
    fn known_answers() {
        for text in ABC {
            let digest: Digest = text.parse().unwrap();
            let mut hasher = digest.function().start();
            hasher.update(b"a");
            hasher.update(b"bc");
            assert!(digest.matches(hasher), "{text}");
            assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn malformed_checksums_are_refused_with_a_reason() {
        for text in ["", "abc", "sha256:", "sha256:0", "sha256:00", "md5:zz0150983cd24fb0d6963f7d28e17f72", "crc:00"] {
            assert_eq!(text.parse::<Digest>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
