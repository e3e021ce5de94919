//! One bit for each piece.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// A set of pieces: one bit each. It knows its size, so counting costs nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// The first piece is the highest bit of the first word, as on the wire.
    words: Box<[u64]>,
    len: u32,
    ones: u32,
}

impl Bitfield {
    /// No piece out of `len`.
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize].into(), len, ones: 0 }
    }

    /// Every piece out of `len`.
    pub fn full(len: u32) -> Self {
        let mut all = Self::new(len);
        all.words.fill(u64::MAX);
        if let (Some(last), 1..) = (all.words.last_mut(), len % 64) {
            *last <<= 64 - len % 64;
        }
        all.ones = len;
        all
    }

    /// Reads the payload of a bitfield message (BEP 3).
    ///
    /// # Errors
    /// If it is not exactly as long as `len` pieces need, or names pieces that do not exist.
    pub fn from_wire(len: u32, bytes: &[u8]) -> Result<Self, BitfieldError> {
        if bytes.len() != len.div_ceil(8) as usize {
            return Err(BitfieldError);
        }
        let mut words = vec![0; len.div_ceil(64) as usize].into_boxed_slice();
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_be_bytes(whole);
        }
        let spare = match (words.last(), len % 64) {
            (Some(last), used @ 1..) => last << used,
            _ => 0,
        };
        if spare != 0 {
            return Err(BitfieldError);
        }
        let ones = words.iter().map(|word| word.count_ones()).sum();
        Ok(Self { words, len, ones })
    }

    /// The payload of a bitfield message.
    pub fn to_wire(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.words.len() * 8);
        self.words.iter().for_each(|word| bytes.put_u64(*word));
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes.freeze()
    }

    /// How many pieces there are, in the set or not.
    pub fn size(&self) -> u32 {
        self.len
    }

    /// Whether no piece is in it.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Whether every piece is in it.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// How many pieces are in it.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether this piece is in it.
    #[inline]
    pub fn has(&self, piece: u32) -> bool {
        self.words.get(piece as usize / 64).is_some_and(|word| word & bit(piece) != 0)
    }

    /// Adds a piece; whether it is new. One that doesn't exist is not.
    pub fn insert(&mut self, piece: u32) -> bool {
        if piece >= self.len || self.has(piece) {
            return false;
        }
        self.words[piece as usize / 64] |= bit(piece);
        self.ones += 1;
        true
    }

    /// Takes a piece out; whether it was in it.
    pub fn remove(&mut self, piece: u32) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.words[piece as usize / 64] &= !bit(piece);
        self.ones -= 1;
        true
    }

    /// How many pieces are in both.
    pub fn count_common(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// The pieces in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| ones(at, *word))
    }

    /// The pieces in both, in order, beginning with the first one that is at least `from`, rounded down to a multiple of 64.
    pub fn iter_common<'a>(&'a self, other: &'a Self, from: u32) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.iter().zip(&other.words).enumerate().skip(from as usize / 64);
        words.flat_map(|(at, (a, b))| ones(at, a & b))
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

/// A bitfield that doesn't fit the torrent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BitfieldError;

impl fmt::Display for BitfieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bitfield is not one of this torrent")
    }
}

impl Error for BitfieldError {}

const fn bit(piece: u32) -> u64 {
    1 << (63 - piece % 64)
}

/// The pieces in one word.
fn ones(at: usize, word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let next = rest.leading_zeros();
        rest &= !bit(next % 64);
        (next < 64).then(|| at as u32 * 64 + next)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let mut bits = Bitfield::new(10);
        assert!(bits.insert(0) && bits.insert(9) && !bits.insert(9) && !bits.insert(10));
        assert_eq!(&bits.to_wire()[..], [0x80, 0x40]);
        assert_eq!(Bitfield::from_wire(10, &[0x80, 0x40]), Ok(bits));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Bitfield::from_wire(10, &[0xff, 0xc0]).is_ok());
        assert!(Bitfield::from_wire(10, &[0xff, 0xe0]).is_err(), "there is no piece 10");
        assert!(Bitfield::from_wire(10, &[0xff]).is_err());
        assert!(Bitfield::from_wire(10, &[0xff, 0, 0]).is_err());
        assert!(Bitfield::from_wire(64, &[0xff; 8]).unwrap().is_full());
    }

    proptest! {
        #[test]
        fn it_is_a_set(len in 1..200u32, ops in prop::collection::vec((any::<bool>(), 0..220u32), 0..100)) {
            let (mut bits, mut model) = (Bitfield::new(len), BTreeSet::new());
            for (insert, piece) in ops {
                if insert {
                    prop_assert_eq!(bits.insert(piece), piece < len && model.insert(piece));
                } else {
                    prop_assert_eq!(bits.remove(piece), model.remove(&piece));
                }
            }
            prop_assert_eq!(bits.count() as usize, model.len());
            prop_assert!(bits.iter().eq(model.iter().copied()));
            prop_assert_eq!(Bitfield::from_wire(len, &bits.to_wire()), Ok(bits.clone()));
            prop_assert!(bits.iter_common(&Bitfield::full(len), 0).eq(model.iter().copied()));
            prop_assert_eq!(bits.count_common(&Bitfield::full(len)), bits.count());
        }
    }
}
