//! [`Store`]: blocks on their way into the leases of their pieces.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Flow, Lease, NotNow, Result, Transfer, Want};
use foldhash::quality::RandomState;
use tokio::sync::Mutex as AsyncMutex;

use super::layout::Layout;
use crate::piece::Geometry;
use crate::swarm::{Claim, Claims};
use crate::wire::BLOCK_LEN;

/// Blocks on their way into the leases of their pieces.
#[derive(Debug)]
pub(super) struct Store {
    transfer: Transfer,
    layout: Layout,
    geometry: Geometry,
    leases: Mutex<HashMap<u32, Arc<AsyncMutex<Partial>>>>,
    /// What fingerprints depend on, so that nobody can make a block whose fingerprint is that of another one. It is no
    /// cryptographic hash, which would cost as much as the digest of the piece; this costs a thirtieth.
    key: RandomState,
}

/// A piece that is being fetched.
#[derive(Debug)]
pub(super) struct Partial {
    lease: Lease,
    prints: Fingerprints,
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

/// The fingerprints of those of a piece's blocks that came, by their index.
#[derive(Default, Debug)]
pub(super) struct Fingerprints(Vec<Option<NonZeroU64>>);

impl Fingerprints {
    fn insert(&mut self, block: u32, print: u64) {
        let at = block as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        // Half of the 64 bits would do.
        self.0[at] = Some(NonZeroU64::MIN | print);
    }

    /// That of a block, if it came.
    pub(super) fn of(&self, block: u32) -> Option<u64> {
        self.0.get(block as usize).copied().flatten().map(NonZeroU64::get)
    }
}

impl Store {
    pub(super) fn new(transfer: Transfer, layout: Layout, geometry: Geometry) -> Self {
        Self { transfer, layout, geometry, leases: Mutex::default(), key: RandomState::default() }
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
        let mut hasher = self.key.build_hasher();
        hasher.write(&data);
        partial.prints.insert(begin / BLOCK_LEN, hasher.finish());
        let mut at = 0;
        let mut flow = Flow::More;
        for span in self.layout.spans(start..start + len) {
            let part = data.slice(at..at + span.len() as usize);
            at += part.len();
            flow = match partial.lease.write(span.entry, span.range.start, part).await {
                Ok(flow) => flow,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return Ok(Outcome::Failed(std::mem::take(&mut partial.prints)));
                }
                Err(error) => return Err(error),
            };
        }
        if flow == Flow::More {
            return Ok(Outcome::More);
        }
        if self.layout.is_sealed(&self.transfer, piece) {
            return Ok(Outcome::Done(std::mem::take(&mut partial.prints)));
        }
        // Taken from us in the middle, by somebody who was faster.
        Ok(Outcome::Lost)
    }

    /// Gives up the piece's lease, if there is one.
    pub(super) fn forget_all(&self, piece: u32) {
        self.lock().remove(&piece);
    }

    /// Gives up the piece's lease, if it is this one. Only one of those who hold it learns so that it was: what became of the
    /// piece is told once.
    pub(super) fn forget(&self, piece: u32, partial: &Arc<AsyncMutex<Partial>>) -> bool {
        let mut leases = self.lock();
        let is_it = leases.get(&piece).is_some_and(|held| Arc::ptr_eq(held, partial));
        is_it && leases.remove(&piece).is_some()
    }
}

/// The ledger, as a swarm sees it.
impl Claims for &Store {
    fn claim(&mut self, piece: u32) -> Claim {
        match self.transfer.claim(Want::Exactly(self.layout.piece(piece)), None) {
            Ok(lease) => {
                let partial = Partial { lease, prints: Fingerprints::default() };
                self.lock().insert(piece, Arc::new(AsyncMutex::new(partial)));
                Claim::Granted
            }
            // When the download is complete nothing is given out either, and what nobody wanted is not there.
            Err(NotNow::Wait | NotNow::Done) if self.layout.is_sealed(&self.transfer, piece) => Claim::Done,
            Err(NotNow::Wait | NotNow::Done) => Claim::Busy,
        }
    }

    fn release(&mut self, piece: u32) {
        self.forget_all(piece);
    }

    fn has_rivals(&self) -> bool {
        self.transfer.live_sources() > 1
    }
}

/// An error that ends the whole, not only one connection.
pub(super) fn is_fatal(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_did_not_come_has_no_fingerprint() {
        let mut prints = Fingerprints::default();
        prints.insert(2, 0);
        prints.insert(0, 6);
        assert_eq!([0, 1, 2, 3].map(|block| prints.of(block)), [Some(7), None, Some(1), None]);
    }
}
