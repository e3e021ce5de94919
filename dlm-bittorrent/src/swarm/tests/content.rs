//! What is downloaded, and who keeps track of it.

use std::collections::{BTreeSet, HashMap};

use super::*;

/// Bytes that differ from block to block.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) geometry: Geometry,
    bytes: Bytes,
}

impl Content {
    /// The last piece is short by a few bytes.
    pub(crate) fn new(pieces: u32, piece_len: u32) -> Self {
        let total = u64::from(pieces) * u64::from(piece_len) - 1000;
        let mut bytes = vec![0; total as usize];
        for (n, chunk) in bytes.chunks_mut(1000).enumerate() {
            chunk.fill(n as u8);
            chunk[0] = (n >> 8) as u8;
        }
        Self { geometry: Geometry::new(total, piece_len).unwrap(), bytes: bytes.into() }
    }

    pub(crate) fn block(&self, block: Block) -> Bytes {
        let start = block.piece as usize * self.geometry.piece_len() as usize + block.begin as usize;
        self.bytes.slice(start..start + block.len as usize)
    }
}

/// A hash is not what is tested here: that no two blocks of a test have the same one is enough.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.chunks(500).fold(bytes.len() as u64, |sum, chunk| {
        let (first, last) = (chunk[0], chunk[chunk.len() - 1]);
        sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(first) ^ u64::from(last) << 8
    })
}

/// A ledger that grants everything, but for what it is told.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) claimed: BTreeSet<u32>,
    pub(crate) busy: BTreeSet<u32>,
    pub(crate) elsewhere: BTreeSet<u32>,
    pub(crate) released: Vec<u32>,
    pub(crate) failed: u32,
    pub(crate) rivals: bool,
    /// Blocks of which nothing is known when their piece is judged.
    pub(crate) forgotten: BTreeSet<u32>,
    blocks: HashMap<u32, HashMap<u32, Bytes>>,
}

impl Claims for Ledger {
    fn claim(&mut self, piece: u32) -> Claim {
        if self.busy.contains(&piece) {
            return Claim::Busy;
        }
        if self.elsewhere.contains(&piece) {
            return Claim::Done;
        }
        assert!(self.claimed.insert(piece), "{piece} is claimed twice");
        Claim::Granted
    }

    fn release(&mut self, piece: u32) {
        assert!(self.claimed.remove(&piece), "{piece} was not claimed");
        self.blocks.remove(&piece);
        self.released.push(piece);
    }

    fn has_rivals(&self) -> bool {
        self.rivals
    }
}

impl Ledger {
    /// Writes what came, and says what became of a piece that is whole.
    pub(crate) fn receive(&mut self, now: Instant, swarm: &mut Swarm, content: &Content, received: &Received) {
        let Received::Block { piece, begin, data, last } = received else { return };
        assert!(self.claimed.contains(piece), "a block of a piece that is not claimed");
        let blocks = self.blocks.entry(*piece).or_default();
        assert!(blocks.insert(begin / BLOCK_LEN, data.clone()).is_none(), "a block is given out once");
        let all = blocks.len() as u32 == content.geometry.blocks_of(*piece);
        assert_eq!(all, *last);
        if !all {
            return;
        }
        self.claimed.remove(piece);
        let blocks = self.blocks.remove(piece).unwrap_or_default();
        let good = blocks.iter().all(|(index, data)| *data == content.block(content.geometry.block(*piece, *index)));
        let forgotten = &self.forgotten;
        let mut hash = |index: u32| (!forgotten.contains(&index)).then(|| fingerprint(&blocks[&index]));
        if good {
            swarm.piece_done(now, *piece, &mut hash);
        } else {
            self.failed += 1;
            swarm.piece_failed(*piece, &mut hash);
        }
    }
}
