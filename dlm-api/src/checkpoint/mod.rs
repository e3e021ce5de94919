//! Checkpoints: what is durable, recorded so that a restart believes it.
//!
//! There are two parts. The [`Record`] says what is on stable storage and is replaced whole, after the data was synced.
//! Between two records a log says what was `written` since, without a sync: that survives the death of the process, as
//! what it wrote is in the kernel's cache, but not the death of the machine.

mod file;
mod journal;
mod memory;
mod record;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;

pub use self::file::FileCheckpoint;
#[doc(hidden)]
pub use self::journal::{Binding, decode_log};
pub use self::memory::MemoryCheckpoint;
pub use self::record::{EntryRecord, Generation, Record, SourceRecord, source_key};
use crate::error::Result;
use crate::sink::Prepared;
use crate::span::{EntryId, OPEN_END};

/// Where the checkpoint of one download is kept.
///
/// One task uses it at a time: what is appended while a record is saved may be in neither. The order is: collect what was
/// written, [`append`](Self::append) it; and, less often, sync the sink, [`save`](Self::save) a record of what is durable
/// by that, which is at least all that was appended before. The first save is right after the entries were prepared, with
/// nothing durable: a small file, to which the log is bound, so that a download which is killed at once keeps its bytes.
#[async_trait]
pub trait CheckpointStore: Debug + Send + Sync + 'static {
    /// What an earlier run left. A record that is damaged is [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), one of a
    /// later version [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported); the log is believed up to where it is damaged.
    async fn load(&self) -> Result<Loaded>;

    /// Replaces the record, in one step and on stable storage, and starts an empty log that extends it. What the record
    /// calls durable must be so before the call.
    async fn save(&self, record: &Record) -> Result<()>;

    /// Adds spans that were written to the log. Cheap: one write, no sync. Entries are numbered as in the record that was
    /// saved last; without one, or with an entry that it doesn't have, it fails with
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput). A log that is full takes no more until the next save,
    /// and that is no error: what it left out is fetched again if the process dies.
    async fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()>;

    /// Takes the record and the log away: the download is finished, or given up. Calling it again is harmless.
    async fn remove(&self) -> Result<()>;
}

/// What a [`CheckpointStore`] has kept.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Loaded {
    /// What was durable. `None` if there is no checkpoint.
    pub record: Option<Record>,
    /// What was written after that, in the order in which it was logged; empty unless the machine has run without a
    /// break since. **It counts only once a sync of the entry ([`Sink::sync`](crate::Sink::sync)) has succeeded in this
    /// run**, and is to be in the next record that is saved, since that empties the log.
    pub written: Vec<(EntryId, Range<u64>)>,
    /// Whether the record was saved since the machine was started.
    pub is_same_boot: bool,
}

impl Loaded {
    /// What of an entry may be believed, given what the sink found: nothing if the file is another one than that which the
    /// record is about, and nothing that lies beyond its end.
    pub fn believed(&self, entry: EntryId, prepared: &Prepared) -> Believed {
        let Some(recorded) = self.record.as_ref().and_then(|record| record.entries.get(entry.index())) else {
            return Believed::default();
        };
        let is_same_file = match (recorded.stamp, prepared.stamp) {
            // Devices get new numbers when the machine starts. While it runs, another number means that the device was
            // taken away, perhaps with bytes still in the cache.
            (Some(then), Some(now)) => then.inode == now.inode && (then.device == now.device || !self.is_same_boot),
            (then, now) => then == now,
        };
        if !is_same_file {
            return Believed::default();
        }
        let there: Vec<Range<u64>> =
            prepared.existing.iter().filter(|span| span.entry == entry).map(|span| span.range.clone()).collect();
        let written: Vec<Range<u64>> =
            self.written.iter().filter(|(id, _)| *id == entry).map(|(_, range)| range.clone()).collect();
        Believed {
            durable: intersect(&recorded.durable, &there),
            verified: intersect(&recorded.verified, &there),
            written: intersect(&written, &there),
        }
    }
}

/// What of an entry may be believed.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Believed {
    /// On stable storage.
    pub durable: Vec<Range<u64>>,
    /// Of that, what was checked against a digest.
    pub verified: Vec<Range<u64>>,
    /// Written later, and to be believed after a sync. May overlap with itself and with `durable`.
    pub written: Vec<Range<u64>>,
}

/// What is in both, in the order of `these`.
fn intersect(these: &[Range<u64>], those: &[Range<u64>]) -> Vec<Range<u64>> {
    these
        .iter()
        .flat_map(|a| those.iter().map(|b| a.start.max(b.start)..a.end.min(b.end)))
        .filter(|range| !range.is_empty())
        .collect()
}

/// Whether a range can be of an entry of this length.
fn fits(range: &Range<u64>, len: Option<u64>) -> bool {
    !range.is_empty() && range.end <= len.unwrap_or(OPEN_END)
}

#[cfg(test)]
mod tests;
