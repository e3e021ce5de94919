//! How the content is cut into pieces and blocks (BEP 3).

use std::error::Error;
use std::fmt;

use crate::wire::codec::MAX_PIECES;
use crate::wire::{BLOCK_LEN, Block};

/// How the content is cut. Every piece has the same length but the last, which may be shorter; so do a piece's blocks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    total: u64,
    piece_len: u32,
    pieces: u32,
}

impl Geometry {
    /// So many bytes in pieces of this length.
    ///
    /// # Errors
    /// If there is nothing to cut, or it makes more than [`MAX_PIECES`].
    pub fn new(total: u64, piece_len: u32) -> Result<Self, GeometryError> {
        if total == 0 || piece_len == 0 {
            return Err(GeometryError { total, piece_len });
        }
        match u32::try_from(total.div_ceil(u64::from(piece_len))) {
            Ok(pieces) if pieces <= MAX_PIECES => Ok(Self { total, piece_len, pieces }),
            _ => Err(GeometryError { total, piece_len }),
        }
    }

    /// The length of the content.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The length of every piece but the last.
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// The number of pieces, at least one.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The length of a piece; 0 if there is no such piece.
    pub fn len_of(&self, piece: u32) -> u32 {
        match self.pieces.checked_sub(piece) {
            None | Some(0) => 0,
            // Less than a piece's length by construction.
            Some(1) => (self.total - u64::from(piece) * u64::from(self.piece_len)) as u32,
            Some(_) => self.piece_len,
        }
    }

    /// How many blocks a piece has.
    pub fn blocks_of(&self, piece: u32) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// The block of a piece with this index.
    pub fn block(&self, piece: u32, index: u32) -> Block {
        let begin = index.saturating_mul(BLOCK_LEN);
        Block { piece, begin, len: self.len_of(piece).saturating_sub(begin).min(BLOCK_LEN) }
    }

    /// Whether all of these bytes exist, and are at least one.
    pub fn contains(&self, block: Block) -> bool {
        let end = block.begin.checked_add(block.len);
        block.len > 0 && end.is_some_and(|end| end <= self.len_of(block.piece))
    }
}

/// Content that can't be cut like this.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GeometryError {
    /// The length of the content.
    pub total: u64,
    /// The length of a piece.
    pub piece_len: u32,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes can't be cut into pieces of {}", self.total, self.piece_len)
    }
}

impl Error for GeometryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_and_the_last_block_are_short() {
        let cut = Geometry::new(100_000, 40_000).unwrap();
        assert_eq!(cut.pieces(), 3);
        assert_eq!([0, 1, 2, 3].map(|piece| cut.len_of(piece)), [40_000, 40_000, 20_000, 0]);
        assert_eq!([0, 1, 2, 3].map(|piece| cut.blocks_of(piece)), [3, 3, 2, 0]);
        assert_eq!(cut.block(2, 1), Block { piece: 2, begin: 16_384, len: 3_616 });
        assert_eq!(cut.block(1, 2), Block { piece: 1, begin: 32_768, len: 7_232 });
        assert_eq!(Geometry::new(80_000, 40_000).unwrap().len_of(1), 40_000);
    }

    #[test]
    fn what_can_not_be_cut_is_refused() {
        assert!(Geometry::new(0, 1).is_err());
        assert!(Geometry::new(1, 0).is_err());
        assert!(Geometry::new(u64::from(MAX_PIECES) + 1, 1).is_err());
        assert!(Geometry::new(u64::MAX, 1).is_err());
        assert!(Geometry::new(u64::from(MAX_PIECES), 1).is_ok());
    }

    #[test]
    fn only_bytes_that_exist_are_contained() {
        let cut = Geometry::new(100, 60).unwrap();
        let has = |piece, begin, len| cut.contains(Block { piece, begin, len });
        assert!(has(0, 0, 60) && has(1, 0, 40) && has(1, 39, 1));
        assert!(!has(1, 0, 41) && !has(0, 0, 0) && !has(2, 0, 1) && !has(0, u32::MAX, 2) && !has(0, 60, 0));
    }
}
