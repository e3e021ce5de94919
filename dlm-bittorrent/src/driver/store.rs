//! [`Store`]: blocks on their way into the leases of their pieces.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Flow, Lease, NotNow, Result, Transfer, Want};
use tokio::sync::Mutex as AsyncMutex;

use super::layout::Layout;
use crate::piece::Geometry;
use crate::swarm::{Claim, Claims};
use crate::wire::BLOCK_LEN;

/// How many bytes of pieces that are not whole yet are kept in memory, to find out whose block was wrong if one is. A piece that
/// doesn't fit any more is fetched again from one peer at a time in that case.
const MAX_KEPT: usize = 24 << 20;

/// Blocks on their way into the leases of their pieces.
#[derive(Debug)]
pub(super) struct Store {
    transfer: Transfer,
    layout: Layout,
    geometry: Geometry,
    leases: Mutex<HashMap<u32, Arc<AsyncMutex<Partial>>>>,
    /// Bytes of blocks that are kept.
    kept: Arc<AtomicUsize>,
    /// So that nobody can make a block whose fingerprint is that of another one.
    key: RandomState,
}

/// A piece that is being fetched.
#[derive(Debug)]
pub(super) struct Partial {
    lease: Lease,
    blocks: Kept,
}

/// The blocks of a piece, for as long as there is room for them.
#[derive(Debug)]
struct Kept {
    blocks: Option<HashMap<u32, Bytes>>,
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Kept {
    fn push(&mut self, block: u32, data: &Bytes) {
        let Some(blocks) = &mut self.blocks else { return };
        if self.all.fetch_add(data.len(), Ordering::Relaxed) > MAX_KEPT {
            self.all.fetch_sub(data.len(), Ordering::Relaxed);
            self.blocks = None;
            return;
        }
        self.bytes += data.len();
        blocks.insert(block, data.clone());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What came of a piece.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is not whole yet.
    More,
    /// It is right.
    Done(Fingerprints),
    /// It is wrong.
    Failed(Fingerprints),
    /// What came of it is lost.
    Lost,
}

/// The fingerprints of a piece's blocks, by their index; 0 for one that was not kept.
#[derive(Default, Debug)]
pub(super) struct Fingerprints {
    blocks: HashMap<u32, Bytes>,
    key: RandomState,
}

impl Fingerprints {
    pub(super) fn of(&self, block: u32) -> u64 {
        self.blocks.get(&block).map_or(0, |data| self.key.hash_one(data))
    }
}

impl Store {
    pub(super) fn new(transfer: Transfer, layout: Layout, geometry: Geometry) -> Self {
        Self { transfer, layout, geometry, leases: Mutex::default(), kept: Arc::default(), key: RandomState::new() }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<AsyncMutex<Partial>>>> {
        // Nothing is half done when somebody panics with it.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the piece's lease is held, and the lease.
    pub(super) fn partial(&self, piece: u32) -> Option<Arc<AsyncMutex<Partial>>> {
        self.lock().get(&piece).cloned()
    }

    /// Writes a block of a piece.
    pub(super) async fn write(&self, partial: &mut Partial, piece: u32, begin: u32, data: Bytes) -> Result<Outcome> {
        let len = data.len() as u64;
        let start = u64::from(piece) * u64::from(self.geometry.piece_len()) + u64::from(begin);
        partial.blocks.push(begin / BLOCK_LEN, &data);
        let mut at = 0;
        let mut flow = Flow::More;
        for span in self.layout.spans(start..start + len) {
            let part = data.slice(at..at + span.len() as usize);
            at += part.len();
            flow = match partial.lease.write(span.entry, span.range.start, part).await {
                Ok(flow) => flow,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return Ok(Outcome::Failed(self.fingerprints(partial)));
                }
                Err(error) => return Err(error),
            };
        }
        if flow == Flow::More {
            return Ok(Outcome::More);
        }
        if self.layout.is_sealed(&self.transfer, piece) {
            return Ok(Outcome::Done(self.fingerprints(partial)));
        }
        // Taken from us in the middle, by somebody who was faster.
        Ok(Outcome::Lost)
    }

    /// Gives up the piece's lease, if it is this one. Only one of those who hold it learns so that it was: what became of the
    /// piece is told once.
    pub(super) fn forget(&self, piece: u32, partial: &Arc<AsyncMutex<Partial>>) -> bool {
        let mut leases = self.lock();
        let is_it = leases.get(&piece).is_some_and(|held| Arc::ptr_eq(held, partial));
        is_it && leases.remove(&piece).is_some()
    }

    fn fingerprints(&self, partial: &mut Partial) -> Fingerprints {
        Fingerprints { blocks: partial.blocks.blocks.take().unwrap_or_default(), key: self.key.clone() }
    }
}

/// The ledger, as a swarm sees it.
impl Claims for &Store {
    fn claim(&mut self, piece: u32) -> Claim {
        match self.transfer.claim(Want::Exactly(self.layout.piece(piece)), None) {
            Ok(lease) => {
                let blocks = Kept { blocks: Some(HashMap::new()), bytes: 0, all: self.kept.clone() };
                self.lock().insert(piece, Arc::new(AsyncMutex::new(Partial { lease, blocks })));
                Claim::Granted
            }
            // When the download is complete nothing is given out either, and what nobody wanted is not there.
            Err(NotNow::Wait | NotNow::Done) if self.layout.is_sealed(&self.transfer, piece) => Claim::Done,
            Err(NotNow::Wait | NotNow::Done) => Claim::Busy,
        }
    }

    fn release(&mut self, piece: u32) {
        self.lock().remove(&piece);
    }

    fn has_rivals(&self) -> bool {
        self.transfer.live_sources() > 1
    }
}

/// An error that ends the whole, not only one connection.
pub(super) fn is_fatal(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Protocol)
}
