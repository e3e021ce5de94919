//! [`Sink`]: where the bytes go.

#[cfg(feature = "engine")]
mod existing;
#[cfg(feature = "engine")]
mod file;
mod memory;
pub(crate) mod padding;
mod writer;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::path::EntryPath;
use crate::span::{EntryId, Span};

#[cfg(feature = "engine")]
pub use existing::ExistingFiles;
#[cfg(feature = "engine")]
pub use file::{FileOptions, FileSink, OnExists};
pub use memory::MemorySink;
pub use writer::WriterSink;

/// Where the bytes of a download go: files, memory, a pipe, a bucket.
///
/// The pipeline calls [`prepare`](Self::prepare) before anything else for an entry, and then any number of writes,
/// reads and syncs at once, for different spans. A write whose future is dropped before it is done is carried on by the
/// pipeline, so an implementation doesn't have to think of that.
#[async_trait]
pub trait Sink: Debug + Send + Sync + 'static {
    /// What this sink can do. Always the same answer.
    fn info(&self) -> SinkInfo;

    /// Makes ready for an entry, and says what an earlier run left. Called again when the length or the path becomes
    /// known later; by then nothing was written under the old path. Space is preallocated where that is possible, so
    /// that a full disk is found before the first byte ([`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace)).
    async fn prepare(&self, entry: &Entry) -> Result<Prepared>;

    /// Writes `data`, chunk after chunk, at `offset`. A sink without random access is given every byte in order.
    async fn write(&self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()>;

    /// The bytes of `span`, which were written before. Also after [`finish`](Self::finish): a swarm is seeded from here.
    async fn read(&self, span: &Span) -> Result<Bytes>;

    /// Returns when all that was written to the entry before the call is on stable storage. After an error nothing that
    /// was written since the last good sync may be counted on, and a second call proves nothing.
    async fn sync(&self, entry: EntryId) -> Result<()>;

    /// Forgets the entry's bytes: the content is another one.
    async fn reset(&self, entry: EntryId) -> Result<()>;

    /// Everything is written and verified, and the length is known: the entry gets its final name. Syncs what needs it.
    /// Calling it again is harmless.
    async fn finish(&self, entry: &Entry) -> Result<()>;

    /// Given up for good: leaves nothing behind, but never takes away what [`finish`](Self::finish) made final.
    async fn abort(&self) -> Result<()>;

    /// The file that the entry gets, or has once it is finished; `None` before [`prepare`](Self::prepare), and where
    /// there is no file, as for padding. Returns at once.
    fn location(&self, entry: EntryId) -> Option<PathBuf>;
}

/// What a sink can do.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SinkInfo {
    /// Whether writes may come in any order. If not, they come in order, from 0, without a gap.
    pub random_access: bool,
    /// Whether [`Sink::read`] works.
    pub readable: bool,
    /// The unit in which the sink stores (an S3 part), in bytes.
    pub part_size: Option<u64>,
    /// How far ahead of the first missing byte a sink without random access lets bytes arrive, in bytes: they wait in memory.
    pub window: Option<u64>,
}

impl SinkInfo {
    /// A sink that takes bytes in any order and gives them back.
    pub const fn random_access() -> Self {
        Self { random_access: true, readable: true, part_size: None, window: None }
    }

    /// A sink that takes bytes in order only; up to `window` bytes wait in memory for their turn.
    pub const fn sequential(window: u64) -> Self {
        Self { random_access: false, readable: false, part_size: None, window: Some(window) }
    }
}

/// What becomes of an entry's bytes.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum EntryKind {
    /// They are wanted, and become a file.
    #[default]
    File,
    /// They are zeros that only fill the space between files (BEP 47), and are kept nowhere: reads give zeros, writes of
    /// zeros do nothing, and writes of anything else fail with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput).
    /// Nothing of it appears.
    Padding,
    /// They are not wanted, but some of them are needed to check a piece that they share with a wanted entry, and to pass
    /// it on. They are kept in one place for the whole download, and under no name of their own. The length must be known.
    /// [`Sink::finish`] says that they are needed no more, whether or not they were all written: with the last such entry
    /// the place goes.
    Unwanted {
        /// Where its bytes are in that place, the same in every run: where the entry starts in all entries one after the
        /// other. Entries must not overlap there.
        base: u64,
    },
}

/// What a sink is told about an entry.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// Where it goes, relative to the sink's root.
    pub path: EntryPath,
    /// Its length in bytes, once it is known.
    pub len: Option<u64>,
    /// When the content was last changed, where a source said so and the caller wants it kept.
    pub modified: Option<SystemTime>,
    /// The file that an earlier run had for it. If that has its final name by now, that run finished it.
    pub known: Option<Stamp>,
    /// Where an earlier run put it, if that is not its path: what is there is gone on with.
    pub placed: Option<EntryPath>,
    /// What is there is only to be told of: nothing is made for it, and [`Sink::prepare`] is called again before the first write.
    pub only_look: bool,
    /// It was finished, and turned out to be wrong: it is to be written again, and has no final name until it is finished anew.
    pub is_wrong: bool,
    /// What becomes of its bytes.
    pub kind: EntryKind,
}

impl Entry {
    /// A file of which only the path is known.
    pub fn new(id: EntryId, path: EntryPath) -> Self {
        Self {
            id,
            path,
            len: None,
            modified: None,
            known: None,
            placed: None,
            only_look: false,
            is_wrong: false,
            kind: EntryKind::File,
        }
    }

    /// Sets the length in bytes.
    #[must_use]
    pub fn with_len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }

    /// Sets the file that an earlier run had for it.
    #[must_use]
    pub fn with_known(mut self, known: Option<Stamp>) -> Self {
        self.known = known;
        self
    }

    /// Sets where an earlier run put it.
    #[must_use]
    pub fn with_placed(mut self, placed: Option<EntryPath>) -> Self {
        self.placed = placed;
        self
    }

    /// Sets whether what is there is only to be told of.
    #[must_use]
    pub fn with_only_look(mut self, only_look: bool) -> Self {
        self.only_look = only_look;
        self
    }

    /// Sets whether it was finished, and turned out to be wrong.
    #[must_use]
    pub fn with_is_wrong(mut self, is_wrong: bool) -> Self {
        self.is_wrong = is_wrong;
        self
    }

    /// Sets when the content was last changed.
    #[must_use]
    pub fn with_modified(mut self, modified: SystemTime) -> Self {
        self.modified = Some(modified);
        self
    }

    /// Sets what becomes of its bytes.
    #[must_use]
    pub fn with_kind(mut self, kind: EntryKind) -> Self {
        self.kind = kind;
        self
    }
}

/// What [`Sink::prepare`] found.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Prepared {
    /// The spans that may hold bytes of an earlier run. Only a checkpoint says which of them do.
    pub existing: Vec<Span>,
    /// What tells this file from another one of the same name, for a checkpoint to be bound to.
    pub stamp: Option<Stamp>,
    /// The path that the entry gets, where the sink may have chosen another one than it was asked for.
    pub path: Option<EntryPath>,
    /// The entry is there already and is to be left as it is: nothing of it is wanted, and it is neither written nor
    /// finished.
    pub skip: bool,
    /// An earlier run finished the entry: this is [`Entry::known`], under its final name.
    pub is_finished: bool,
    /// What [`existing`](Self::existing) names is of a file that was there under its final name, was taken over, and has that
    /// name still. It may be right, all or in part, even if no checkpoint says so: what a piece's digest proves need not be
    /// fetched. A sink that gives it another name before it changes it says so from then on: it is asked again after writes.
    pub taken_over: bool,
}

impl Prepared {
    /// Nothing was there before.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets the spans that may hold bytes of an earlier run.
    #[must_use]
    pub fn with_existing(mut self, existing: Vec<Span>) -> Self {
        self.existing = existing;
        self
    }

    /// Sets what tells this file from another one.
    #[must_use]
    pub fn with_stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// Sets the path that the entry gets.
    #[must_use]
    pub fn with_path(mut self, path: EntryPath) -> Self {
        self.path = Some(path);
        self
    }

    /// Sets whether the entry is there already and is to be left as it is.
    #[must_use]
    pub fn with_skip(mut self, skip: bool) -> Self {
        self.skip = skip;
        self
    }

    /// Sets whether an earlier run finished the entry.
    #[must_use]
    pub fn with_is_finished(mut self, is_finished: bool) -> Self {
        self.is_finished = is_finished;
        self
    }

    /// Sets whether what exists is of a file that was taken over.
    #[must_use]
    pub fn with_taken_over(mut self, taken_over: bool) -> Self {
        self.taken_over = taken_over;
        self
    }
}

/// What tells one file from another one of the same name.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Stamp {
    /// The device that the file is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}
