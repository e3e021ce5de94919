//! [`SimDisk`]: a sink and its checkpoints on a disk that loses what was not synced.
//!
//! The model is that of a page cache over stable storage. A write goes to the cache. A sync takes to stable storage what was
//! written before it was called. When the power goes, each page that was not synced may be there or not; when only the
//! process dies, the cache stays. A sync that fails drops its pages, and the next one succeeds without them, as it is on
//! Linux.

mod model;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time;

use self::model::Model;
use crate::checkpoint::{CheckpointStore, Loaded, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Entry, EntryKind, Prepared, Sink, SinkInfo};
use crate::span::{EntryId, Span};
use crate::sync::lock;

/// The longest that one operation takes.
const SLOWEST: Duration = Duration::from_millis(30);

/// How a run ends early.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Crash {
    /// The power goes.
    Power,
    /// The process is killed.
    Kill,
}

/// A simulated disk: a sink, and the store of its checkpoints. Cheap to clone; all clones are the same disk.
///
/// At every record that is saved it compares what the record calls durable with what is on stable storage, and at every
/// finish the file with what it must be. What is not so is a [violation](Self::violations).
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Mutex<Model>,
    crashed: watch::Sender<bool>,
}

/// What an operation is, as far as a crash is concerned.
enum Op {
    /// It takes time, in which others go on.
    Slow,
    Quick,
}

impl SimDisk {
    /// An empty disk, on which entry after entry must become `contents`. Everything that is left to chance is decided by
    /// the seed.
    pub fn new(seed: u64, contents: impl IntoIterator<Item = Bytes>) -> Self {
        Self::over(Model::new(seed, contents.into_iter().collect()))
    }

    fn over(model: Model) -> Self {
        Self(Arc::new(Inner { model: Mutex::new(model), crashed: watch::Sender::new(false) }))
    }

    /// The run ends with the operation of this number, which is done by half or not at all; nothing gets an answer after it.
    #[must_use]
    pub fn crashing_at(self, operation: u64) -> Self {
        lock(&self.0.model).crash_at = Some(operation);
        self
    }

    /// The sync of this number fails, and what it covered is lost in silence.
    #[must_use]
    pub fn failing_sync(self, number: u64) -> Self {
        lock(&self.0.model).fail_sync_at = Some(number);
        self
    }

    /// Returns when the run has ended early.
    pub async fn crashed(&self) {
        // The sender lives as long as this does.
        let _ = self.0.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    /// The disk as the next run finds it. Whatever still holds on to this one gets no answer any more.
    #[must_use]
    pub fn restarted(&self, crash: Crash) -> Self {
        let mut model = lock(&self.0.model);
        model.crashed = true;
        self.0.crashed.send_replace(true);
        Self::over(model.restarted(crash))
    }

    /// What was promised and is not so.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.0.model).violations.clone()
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        lock(&self.0.model).operations
    }

    /// How many bytes the record calls durable.
    pub fn recorded(&self) -> u64 {
        lock(&self.0.model).recorded()
    }

    /// A finished entry.
    pub fn finished(&self, entry: EntryId) -> Option<Bytes> {
        lock(&self.0.model).finished(entry)
    }

    /// One operation: it takes its time, and the crash may come before it or in its middle.
    async fn operate<T>(&self, op: Op, work: impl FnOnce(&mut Model) -> Result<T>) -> Result<T> {
        let wait = match op {
            Op::Slow => SLOWEST.mul_f64(lock(&self.0.model).random.f64()),
            Op::Quick => Duration::ZERO,
        };
        if !wait.is_zero() {
            time::sleep(wait).await;
        }
        let result = {
            let mut model = lock(&self.0.model);
            model.operations += 1;
            if model.crash_at.is_some_and(|at| model.operations >= at) {
                // It may have been done, but nobody is told.
                if !model.crashed && model.random.bool() {
                    let _ = work(&mut model);
                }
                model.crashed = true;
            } else if !model.crashed {
                return work(&mut model);
            }
            drop(model);
            self.0.crashed.send_replace(true);
            std::future::pending()
        };
        result.await
    }
}

#[async_trait]
impl Sink for SimDisk {
    fn info(&self) -> SinkInfo {
        SinkInfo::random_access()
    }

    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        self.operate(Op::Quick, |model| Ok(model.prepare(entry))).await
    }

    async fn write(&self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()> {
        let data = data.concat();
        // In two halves, so that a crash can come between them.
        let (first, second) = data.split_at(data.len() / 2);
        self.operate(Op::Slow, |model| model.write(entry, offset, first)).await?;
        self.operate(Op::Quick, |model| model.write(entry, offset + first.len() as u64, second)).await
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        self.operate(Op::Quick, |model| model.read(span)).await
    }

    async fn sync(&self, entry: EntryId) -> Result<()> {
        if lock(&self.0.model).is_padding(entry) {
            return Ok(());
        }
        self.operate(Op::Quick, |model| model.sync_begins(entry)).await?;
        self.operate(Op::Slow, |model| model.sync_ends(entry)).await
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        self.operate(Op::Quick, |model| model.reset(entry)).await
    }

    async fn finish(&self, entry: &Entry) -> Result<()> {
        let is_done = {
            let model = lock(&self.0.model);
            model.is_padding(entry.id) || model.finished(entry.id).is_some()
        };
        if is_done {
            return Ok(());
        }
        if entry.kind == EntryKind::File {
            self.sync(entry.id).await?;
        }
        self.operate(Op::Quick, |model| model.finish(entry)).await
    }

    async fn abort(&self) -> Result<()> {
        self.operate(Op::Quick, |model| {
            model.abort();
            Ok(())
        })
        .await
    }

    fn location(&self, _entry: EntryId) -> Option<PathBuf> {
        None
    }
}

#[async_trait]
impl CheckpointStore for SimDisk {
    async fn load(&self) -> Result<Loaded> {
        self.operate(Op::Quick, |model| Ok(model.load())).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.operate(Op::Slow, |model| model.save(record)).await
    }

    async fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        self.operate(Op::Quick, |model| model.append(written)).await
    }

    async fn remove(&self) -> Result<()> {
        self.operate(Op::Quick, |model| {
            model.remove();
            Ok(())
        })
        .await
    }
}

fn unprepared(entry: EntryId) -> Error {
    Error::new(ErrorKind::InvalidInput, "the entry is not open for writing").with("entry", entry)
}
