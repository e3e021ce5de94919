//! [`Geometry`]: how a torrent's bytes are cut into pieces and blocks.

use std::ops::Range;

use dlm_api::{Error, ErrorKind, Result};

/// What is asked for at once (BEP 3): the size that peers serve; most drop whoever asks for more.
pub const BLOCK_LEN: u32 = 16 << 10;

/// The most pieces: the limit of libtorrent. Their hashes take 40 MiB.
pub const MAX_PIECES: u32 = 1 << 21;

/// The longest piece: the limit of libtorrent, whose blocks are counted in 15 bits. A piece is checked as a whole, so
/// that longer ones would be of no use to anyone.
pub const MAX_PIECE_LEN: u32 = 32_767 * BLOCK_LEN;

/// How a torrent's bytes, its files one after the other, are cut into pieces, and these into blocks of [`BLOCK_LEN`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    len: u64,
    piece_len: u32,
    pieces: u32,
}

/// A part of a piece, as it is asked for.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::exhaustive_structs)] // The request on the wire has these three.
pub struct Block {
    /// The piece.
    pub piece: u32,
    /// Where it starts in the piece.
    pub offset: u32,
    /// The number of bytes; never 0.
    pub len: u32,
}

impl Geometry {
    /// Of so many bytes in pieces of this length. Fails with [`ErrorKind::InvalidInput`] if there is nothing, and with
    /// [`ErrorKind::TooLarge`] for pieces too long or too many.
    pub fn new(len: u64, piece_len: u32) -> Result<Self> {
        if len == 0 || piece_len == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a torrent without bytes").with("piece_len", piece_len));
        }
        if piece_len > MAX_PIECE_LEN {
            return Err(Error::new(ErrorKind::TooLarge, "the pieces are too long")
                .with("piece_len", piece_len)
                .with("limit", MAX_PIECE_LEN));
        }
        match u32::try_from(len.div_ceil(piece_len.into())) {
            Ok(pieces) if pieces <= MAX_PIECES => Ok(Self { len, piece_len, pieces }),
            _ => Err(Error::new(ErrorKind::TooLarge, "the torrent has too many pieces")
                .with("len", len)
                .with("piece_len", piece_len)
                .with("limit", MAX_PIECES)),
        }
    }

    /// The number of bytes.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The length of every piece but the last.
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// The number of pieces; never 0.
    pub fn piece_count(&self) -> u32 {
        self.pieces
    }

    /// The bytes of a piece; empty for one that there is not.
    pub fn piece_range(&self, piece: u32) -> Range<u64> {
        let start = (u64::from(piece) * u64::from(self.piece_len)).min(self.len);
        start..(start + u64::from(self.piece_len)).min(self.len)
    }

    /// The length of this piece: the last one may be shorter.
    pub fn piece_size(&self, piece: u32) -> u32 {
        let range = self.piece_range(piece);
        (range.end - range.start) as u32
    }

    /// The piece that this byte is in, if there is such a byte.
    pub fn piece_at(&self, offset: u64) -> Option<u32> {
        (offset < self.len).then(|| (offset / u64::from(self.piece_len)) as u32)
    }

    /// The pieces that these bytes touch. Bytes beyond the end don't count.
    pub fn pieces_of(&self, range: Range<u64>) -> Range<u32> {
        let end = range.end.min(self.len);
        if range.start >= end {
            return 0..0;
        }
        let piece = u64::from(self.piece_len);
        (range.start / piece) as u32..end.div_ceil(piece) as u32
    }

    /// The number of blocks in a piece.
    pub fn block_count(&self, piece: u32) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_LEN)
    }

    /// The blocks of a piece, in order.
    pub fn blocks(&self, piece: u32) -> impl ExactSizeIterator<Item = Block> + DoubleEndedIterator + use<> {
        let size = self.piece_size(piece);
        (0..size.div_ceil(BLOCK_LEN)).map(move |block| {
            let offset = block * BLOCK_LEN;
            Block { piece, offset, len: BLOCK_LEN.min(size - offset) }
        })
    }

    /// Whether these bytes are in one piece: whether a peer may ask for them.
    pub fn contains(&self, block: Block) -> bool {
        block.len > 0 && u64::from(block.offset) + u64::from(block.len) <= u64::from(self.piece_size(block.piece))
    }

    /// Where a block is among the torrent's bytes. Only for one that it [contains](Self::contains).
    pub fn block_range(&self, block: Block) -> Range<u64> {
        let start = u64::from(block.piece) * u64::from(self.piece_len) + u64::from(block.offset);
        start..start + u64::from(block.len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_piece_and_block_are_what_is_left() {
        let geometry = Geometry::new(100_001, 40_000).unwrap();
        assert_eq!((geometry.piece_count(), geometry.piece_size(1), geometry.piece_size(2)), (3, 40_000, 20_001));
        assert_eq!(geometry.piece_range(2), 80_000..100_001);
        let blocks: Vec<_> = geometry.blocks(2).map(|block| (block.offset, block.len)).collect();
        assert_eq!(blocks, [(0, 16_384), (16_384, 3617)]);
        assert_eq!((geometry.block_count(0), geometry.block_count(2), geometry.block_count(3)), (3, 2, 0));
        assert_eq!(
            (geometry.piece_at(79_999), geometry.piece_at(100_000), geometry.piece_at(100_001)),
            (Some(1), Some(2), None)
        );
        assert_eq!(geometry.pieces_of(39_999..40_001), 0..2);
        assert_eq!(geometry.pieces_of(40_000..80_000), 1..2);
        assert_eq!(geometry.pieces_of(5..5), 0..0);
        assert_eq!(geometry.pieces_of(90_000..u64::MAX), 2..3);
    }

    #[test]
    fn what_a_peer_may_ask_for() {
        let geometry = Geometry::new(100, 40).unwrap();
        let contains = |piece, offset, len| geometry.contains(Block { piece, offset, len });
        assert!(contains(0, 0, 40) && contains(2, 19, 1));
        assert!(!contains(0, 0, 0) && !contains(0, 1, 40) && !contains(2, 0, 40) && !contains(3, 0, 1));
        assert!(!contains(0, u32::MAX, u32::MAX) && !contains(u32::MAX, 0, 1));
        assert_eq!(geometry.block_range(Block { piece: 2, offset: 3, len: 4 }), 83..87);
    }

    #[test]
    fn limits() {
        let kind = |len, piece_len| Geometry::new(len, piece_len).map(|g| g.piece_count()).map_err(|e| e.kind());
        assert_eq!(kind(0, 1), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(1, 0), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(u64::from(MAX_PIECES), 1), Ok(MAX_PIECES));
        assert_eq!(kind(u64::from(MAX_PIECES) + 1, 1), Err(ErrorKind::TooLarge));
        assert_eq!(kind(1, MAX_PIECE_LEN), Ok(1));
        assert_eq!(kind(1, MAX_PIECE_LEN + 1), Err(ErrorKind::TooLarge));
        assert_eq!(kind(u64::MAX, MAX_PIECE_LEN), Err(ErrorKind::TooLarge));
    }

    proptest! {
        #[test]
        fn blocks_cover_every_byte_once(len in 1u64..300_000, piece_len in 1u32..70_000) {
            let geometry = Geometry::new(len, piece_len);
            prop_assume!(geometry.is_ok());
            let geometry = geometry.unwrap();
            let mut at = 0;
            for piece in 0..geometry.piece_count() {
                prop_assert_eq!(geometry.piece_range(piece).start, at);
                for block in geometry.blocks(piece) {
                    prop_assert!(geometry.contains(block) && block.len <= BLOCK_LEN);
                    prop_assert_eq!(geometry.block_range(block).start, at);
                    prop_assert_eq!(geometry.piece_at(at), Some(piece));
                    at += u64::from(block.len);
                }
                prop_assert_eq!(geometry.piece_range(piece).end, at);
            }
            prop_assert_eq!(at, len);
        }
    }
}
