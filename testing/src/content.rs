//! [`Content`]: files of any size whose every byte is known.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

const CHUNK: usize = 256 * 1024;

/// Bytes that look random, and are the same for the same seed. Any part can be had without the rest.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Content {
    /// Which bytes.
    pub seed: u64,
    /// How many.
    pub len: u64,
}

impl Content {
    /// `len` bytes of this seed.
    pub const fn new(seed: u64, len: u64) -> Self {
        Self { seed, len }
    }

    /// Fills `out` with the bytes from `offset` on, whatever [`len`](Self::len) says.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let skip = (offset % 8) as usize;
        let mut word = offset / 8;
        let (head, rest) = out.split_at_mut(if skip == 0 { 0 } else { (8 - skip).min(out.len()) });
        if !head.is_empty() {
            head.copy_from_slice(&self.word(word)[skip..][..head.len()]);
            word += 1;
        }
        let mut chunks = rest.chunks_exact_mut(8);
        for chunk in &mut chunks {
            chunk.copy_from_slice(&self.word(word));
            word += 1;
        }
        let tail = chunks.into_remainder();
        tail.copy_from_slice(&self.word(word)[..tail.len()]);
    }

    /// The word with this number: SplitMix64, which needs no state but the number.
    fn word(&self, number: u64) -> [u8; 8] {
        let mut z = self.seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }

    /// The bytes of a range.
    pub fn slice(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.fill(range.start, &mut out);
        out
    }

    /// All of it. For small ones.
    pub fn bytes(&self) -> Vec<u8> {
        self.slice(0..self.len)
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        self.chunks(|_, chunk| out.write_all(chunk))
    }

    /// Writes all of it to a file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.write_to(File::create(path)?)
    }

    /// Its SHA-256, in hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        let hashed = self.chunks(|_, chunk| {
            hasher.update(chunk);
            Ok(())
        });
        debug_assert!(hashed.is_ok());
        hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Whether `from` brings exactly this content.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn check(&self, mut from: impl Read) -> Result<(), String> {
        let mut got = vec![0; CHUNK];
        let checked = self.chunks(|at, wanted| {
            let got = &mut got[..wanted.len()];
            from.read_exact(got).map_err(|error| io::Error::other(format!("at byte {at} or later: {error}")))?;
            match got.iter().zip(wanted).position(|(a, b)| a != b) {
                None => Ok(()),
                Some(i) => Err(io::Error::other(format!("wrong from byte {} on", at + i as u64))),
            }
        });
        checked.map_err(|error| error.to_string())?;
        match from.read(&mut got[..1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(format!("longer than {}", self.len)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a file holds exactly this content.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn check_file(&self, path: impl AsRef<Path>) -> Result<(), String> {
        let path = path.as_ref();
        let checked = File::open(path).map_err(|e| e.to_string()).and_then(|file| self.check(file));
        checked.map_err(|error| format!("{}: {error}", path.display()))
    }

    fn chunks(&self, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.len {
            let chunk = &mut buffer[..(self.len - at).min(CHUNK as u64) as usize];
            self.fill(at, chunk);
            each(at, chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_the_same_as_in_the_whole() {
        let content = Content::new(7, 100);
        let all = content.bytes();
        for start in 0..30 {
            for end in start..60 {
                assert_eq!(content.slice(start..end), all[start as usize..end as usize], "{start}..{end}");
            }
        }
        assert_ne!(all, Content::new(8, 100).bytes());
    }

    #[test]
    fn the_bytes_never_change() {
        // SplitMix64 with seed 0: the first outputs that its author published.
        assert_eq!(Content::new(0, 16).bytes()[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(Content::new(0, 16).bytes()[8..], 0x6e78_9e6a_a1b9_65f4_u64.to_le_bytes());
        assert_eq!(Content::new(0, 0).sha256(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_wrong_byte_is_found_and_named() {
        let content = Content::new(1, CHUNK as u64 * 2 + 3);
        let mut bytes = content.bytes();
        assert_eq!(content.check(&bytes[..]), Ok(()));
        bytes[CHUNK + 1] ^= 1;
        assert_eq!(content.check(&bytes[..]), Err(format!("wrong from byte {} on", CHUNK + 1)));
        bytes[CHUNK + 1] ^= 1;
        assert!(content.check(&bytes[..bytes.len() - 1]).unwrap_err().contains("at byte"));
        bytes.push(0);
        assert!(content.check(&bytes[..]).unwrap_err().contains("longer"));
    }
}
