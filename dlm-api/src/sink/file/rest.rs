//! [`Rests`]: where the bytes of entries are that are not wanted.
//!
//! One sparse file for all of them, in which each has its place. Only what is written takes space.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::part::Part;
use crate::error::{Error, ErrorKind, Result};
use crate::path::EntryPath;
use crate::span::EntryId;
use crate::sync::lock;

/// The files that have what was written of entries that are not wanted, by the paths that they are beside.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<HashMap<EntryPath, Rest>>);

#[derive(Debug)]
struct Rest {
    file: Arc<Part>,
    /// How many entries have a place in it.
    users: usize,
}

/// An entry that is not wanted.
#[derive(Debug)]
pub(super) struct Unwanted {
    pub(super) asked: EntryPath,
    pub(super) file: Arc<Part>,
    pub(super) base: u64,
    pub(super) len: u64,
    written: AtomicBool,
}

impl Rests {
    /// Gives an entry its place in the file beside `path`, which `open` opens for the first one.
    pub(super) fn join(
        &self,
        path: &EntryPath,
        (asked, base, len): (&EntryPath, u64, u64),
        open: impl FnOnce() -> Result<Arc<Part>>,
    ) -> Result<Unwanted> {
        let mut all = lock(&self.0);
        let file = match all.get_mut(path) {
            Some(rest) => {
                rest.users += 1;
                rest.file.clone()
            }
            None => {
                let file = open()?;
                all.insert(path.clone(), Rest { file: file.clone(), users: 1 });
                file
            }
        };
        Ok(Unwanted { asked: asked.clone(), file, base, len, written: AtomicBool::new(false) })
    }

    /// An entry gives up its place. With the last one the file goes, if it is to.
    pub(super) fn leave(&self, entry: &Unwanted, remove: bool) -> Result<()> {
        let mut all = lock(&self.0);
        let path = &entry.file.path;
        let Some(rest) = all.get_mut(path) else { return Ok(()) };
        rest.users -= 1;
        if rest.users > 0 {
            return Ok(());
        }
        all.remove(path);
        if remove { entry.file.remove() } else { Ok(()) }
    }
}

impl Unwanted {
    /// Where these bytes are in the file. Never in the place of another entry.
    pub(super) fn place(&self, entry: EntryId, offset: u64, len: u64) -> Result<u64> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::new(ErrorKind::InvalidInput, "past the end of an entry that is not wanted")
                .with("entry", entry)
                .with("offset", offset));
        }
        Ok(self.base + offset)
    }

    /// Says that something is written to it.
    pub(super) fn writes(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether something was written to it in this run.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Forgets its bytes.
    pub(super) fn reset(&self) -> Result<()> {
        self.file.discard(self.base, self.len)?;
        self.written.store(false, Ordering::Relaxed);
        Ok(())
    }
}
