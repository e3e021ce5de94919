//! [`MemoryCheckpoint`]: a checkpoint that lives as long as the program.

use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;

use super::journal;
use super::{CheckpointStore, Loaded, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::span::EntryId;
use crate::sync::lock;

/// A checkpoint in memory, for tests and for downloads that nobody goes on with.
#[derive(Debug, Default)]
pub struct MemoryCheckpoint(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The record as it would be stored, so that one that can't be is found here, too.
    record: Option<Vec<u8>>,
    lens: Vec<Option<u64>>,
    written: Vec<(EntryId, Range<u64>)>,
    is_rebooted: bool,
}

impl MemoryCheckpoint {
    /// A store without a checkpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what a start of the machine makes worthless: the log.
    pub fn reboot(&self) {
        let mut state = lock(&self.0);
        state.written.clear();
        state.is_rebooted = true;
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoint {
    async fn load(&self) -> Result<Loaded> {
        let state = lock(&self.0);
        let Some(bytes) = &state.record else { return Ok(Loaded::default()) };
        let (record, _) = Record::decode(bytes)?;
        Ok(Loaded { record: Some(record), written: state.written.clone(), is_same_boot: !state.is_rebooted })
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let (bytes, _) = record.encode()?;
        let lens = record.entries.iter().map(|entry| entry.len).collect();
        *lock(&self.0) = State { record: Some(bytes), lens, ..State::default() };
        Ok(())
    }

    async fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        let mut state = lock(&self.0);
        if state.record.is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "no record was saved that the log could extend"));
        }
        journal::check(&state.lens, written)?;
        if state.written.len() + written.len() <= journal::MAX_SPANS {
            state.written.extend_from_slice(written);
        }
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        *lock(&self.0) = State::default();
        Ok(())
    }
}
