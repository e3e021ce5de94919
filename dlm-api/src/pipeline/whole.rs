//! [`WholeHashes`]: digests of whole entries, computed in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task;

use super::{READ_BACK, Shared};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::span::{EntryId, Span};
use crate::sync::lock;

/// How far sealed bytes may be ahead of a digest before they are read back, in bytes. Less, and a single connection's bytes
/// would be read back just before they are hashed from memory.
const LAG: u64 = 4 << 20;

/// The digests of the whole that are being computed.
#[derive(Default)]
pub(crate) struct WholeHashes(Mutex<HashMap<EntryId, Arc<Mutex<WholeHash>>>>);

struct WholeHash {
    wanted: Vec<Digest>,
    hashers: Vec<Box<dyn Hasher>>,
    /// All bytes before this one are hashed.
    frontier: u64,
    /// The ledger's version of the entry that was hashed.
    version: u64,
}

impl WholeHash {
    fn restart(&mut self, version: u64) {
        self.hashers = self.wanted.iter().map(|digest| digest.function().start()).collect();
        self.frontier = 0;
        self.version = version;
    }

    fn update(&mut self, data: &[u8]) {
        self.hashers.iter_mut().for_each(|hasher| hasher.update(data));
        self.frontier += data.len() as u64;
    }
}

impl WholeHashes {
    /// Starts to compute these digests of an entry, unless that is being done already.
    pub(crate) fn want(&self, entry: EntryId, wanted: Vec<Digest>, version: u64) {
        let mut all = lock(&self.0);
        // Asked again at the end; what was started is not started again.
        let same = all.get(&entry).is_some_and(|hash| lock(hash).wanted == wanted);
        if same || wanted.is_empty() {
            return;
        }
        let mut hash = WholeHash { wanted, hashers: Vec::new(), frontier: 0, version };
        hash.restart(version);
        all.insert(entry, Arc::new(Mutex::new(hash)));
    }

    /// Nothing is wanted any more.
    pub(crate) fn forget_all(&self) {
        lock(&self.0).clear();
    }

    fn of(&self, entry: EntryId) -> Option<Arc<Mutex<WholeHash>>> {
        lock(&self.0).get(&entry).cloned()
    }

    /// Takes bytes that were just sealed, and are still in the cache, if they are next. Never waits.
    pub(crate) fn offer(&self, entry: EntryId, offset: u64, data: &[Bytes], version: u64) {
        let Some(hash) = self.of(entry) else { return };
        // Whoever holds it comes to these bytes later.
        let Ok(mut hash) = hash.try_lock() else { return };
        if hash.version == version && hash.frontier == offset {
            data.iter().for_each(|chunk| hash.update(chunk));
        }
    }

    /// Takes bytes on their way to a sink that takes them in order. A digest that was learned after the first bytes had passed
    /// can't be checked.
    pub(crate) fn update_in_order(&self, entry: EntryId, offset: u64, data: &[Bytes]) {
        let Some(hash) = self.of(entry) else { return };
        let mut hash = lock(&hash);
        if hash.frontier == offset {
            data.iter().for_each(|chunk| hash.update(chunk));
        }
    }

    /// Reads back and hashes what is sealed at the frontier, if it is far ahead or all there is.
    pub(crate) async fn catch_up(&self, shared: &Shared, entry: EntryId) -> Result<()> {
        let Some(hash) = self.of(entry).filter(|_| shared.info.readable) else { return Ok(()) };
        loop {
            let (version, frontier) = {
                let mut hash = lock(&hash);
                let version = shared.ledger(|l| l.version(entry));
                if hash.version != version {
                    hash.restart(version);
                }
                (version, hash.frontier)
            };
            let (sealed_end, len) =
                shared.ledger(|l| (l.sealed(entry).get(frontier).map_or(frontier, |(run, ())| run.end), l.len(entry)));
            if sealed_end == frontier || (sealed_end - frontier < LAG && Some(sealed_end) != len) {
                return Ok(());
            }
            let range = frontier..sealed_end.min(frontier + READ_BACK);
            let data = shared.read(&Span::new(entry, range)).await?;
            {
                let mut hash = lock(&hash);
                let unchanged = shared.ledger(|l| l.version(entry)) == version;
                if unchanged && hash.version == version && hash.frontier == frontier {
                    hash.update(&data);
                }
            }
            task::yield_now().await;
        }
    }

    /// [`catch_up`](Self::catch_up) for every entry that has digests.
    pub(crate) async fn catch_up_all(&self, shared: &Shared) -> Result<()> {
        let entries: Vec<EntryId> = lock(&self.0).keys().copied().collect();
        for entry in entries {
            self.catch_up(shared, entry).await?;
        }
        Ok(())
    }

    /// The digests of an entry of `len` bytes, and whether it has them; none if it wasn't hashed to its end. Hashing starts
    /// again after that.
    pub(crate) fn finish(&self, entry: EntryId, len: u64) -> Vec<(Digest, bool)> {
        let Some(hash) = self.of(entry) else { return Vec::new() };
        let mut hash = lock(&hash);
        if hash.frontier != len {
            return Vec::new();
        }
        let hashers = std::mem::take(&mut hash.hashers);
        let outcomes = hash.wanted.iter().zip(hashers);
        let outcomes = outcomes.map(|(digest, hasher)| (digest.clone(), digest.matches(hasher))).collect();
        let version = hash.version;
        hash.restart(version);
        outcomes
    }
}
