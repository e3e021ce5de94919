//! [`FileSink`]: files in a folder.
//!
//! What it keeps: a final name never shows anything but a finished entry, and nothing is written outside of the folder.

mod folders;
mod io;
mod options;
mod ours;
mod part;
mod place;
mod prepare;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;

use self::folders::Folders;
use self::io::read_at;
use self::part::Part;
use self::place::{Final, Place, Slot};
use self::rest::Rests;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::pool::{Handle, Pool};
use crate::folder::{Folder, blocking, failed};
use crate::path::EntryPath;
use crate::sink::{Entry, Prepared, Sink, SinkInfo, padding};
use crate::span::{EntryId, OPEN_END, Span};
use crate::sync::lock;

pub use options::{FileOptions, OnExists};

/// The most bytes that one read gives: as large as the pieces of large swarms are.
const MAX_READ: u64 = 16 << 20;

/// How many numbered names are tried under [`OnExists::Rename`]. Each costs a look at the folder.
const MAX_NUMBER: u32 = 9_999;

/// Files in a folder. An entry is `NAME.part` until it is finished, and `NAME` then.
///
/// [`write`](Sink::write) and [`read`](Sink::read) block the thread they are called on for as long as the system call
/// takes, since handing the bytes to another thread costs more; a read gives at most 16 MiB; everything else that blocks is done elsewhere. No
/// symbolic link beneath the folder is followed.
///
/// At most [`FileOptions::open_files`] files and folders are open at a time: those that were not used for longest are closed,
/// after a sync if they were written to, and opened again when they are needed. A `.part` is locked while it is open, so that two
/// downloads never write the same one at a time. While it is closed only downloads of this process are kept from it; what
/// another process does to it then fails this download if the file is opened again and is in use, another one, or shorter. An
/// entry that is finished is opened to be read.
#[derive(Clone, Debug)]
pub struct FileSink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    options: FileOptions,
    pool: Arc<Pool>,
    folders: Mutex<Folders>,
    rests: Rests,
    slots: RwLock<HashMap<EntryId, Arc<Slot>>>,
}

impl FileSink {
    /// Files in `root`, which is made when the first entry is prepared. It is the caller's: it may be, or go through, a
    /// symbolic link.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_options(root, FileOptions::default())
    }

    /// [`new`](Self::new) with options.
    pub fn with_options(root: impl Into<PathBuf>, options: FileOptions) -> Self {
        Self(Arc::new(Inner {
            root: root.into(),
            // A file can only be opened in its folder.
            pool: Pool::new(options.open_files.max(2)),
            options,
            folders: Mutex::default(),
            rests: Rests::default(),
            slots: RwLock::default(),
        }))
    }

    /// Runs a step that blocks. It is done even if the caller stops waiting, so that its outcome is never unknown.
    async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T> + Send + 'static,
    {
        let inner = self.0.clone();
        blocking(move || work(&inner)).await
    }
}

#[async_trait]
impl Sink for FileSink {
    fn info(&self) -> SinkInfo {
        SinkInfo::random_access()
    }

    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        let entry = entry.clone();
        self.blocking(move |inner| inner.prepare(&entry)).await
    }

    async fn write(&self, entry: EntryId, offset: u64, mut data: Vec<Bytes>) -> Result<()> {
        let len: u64 = data.iter().map(|chunk| chunk.len() as u64).sum();
        if offset.checked_add(len).is_none_or(|end| end > OPEN_END) {
            return Err(Error::new(ErrorKind::InvalidInput, "a write past the end of any file").with("offset", offset));
        }
        let (part, at) = match self.0.place(entry) {
            Place::Part(part) => (part, offset),
            Place::Unwanted(unwanted) => {
                let at = unwanted.place(entry, offset, len)?;
                unwanted.writes();
                (unwanted.file.clone(), at)
            }
            Place::Padding(len) => return padding::write(entry, len, offset, &data),
            Place::None | Place::Final(_) | Place::Skipped(_) | Place::Gone => return Err(not_open(entry)),
        };
        if let Some(file) = part.get_to_write() {
            return part.write(&file, at, &mut data);
        }
        // Another may have to be synced and closed first, so not on this thread.
        let write = move || {
            // The rest of a piece that crosses may be right where it is: its file keeps its name.
            if part.has_in_place(at, &data)? { Ok(()) } else { part.write(&*part.open_to_write()?, at, &mut data) }
        };
        blocking(write).await
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        if span.is_empty() || span.len() > MAX_READ {
            return Err(Error::new(ErrorKind::InvalidInput, "a read of nothing or of too much")
                .with("bytes", span.len())
                .with("limit", MAX_READ));
        }
        let place = self.0.place(span.entry);
        // Held, so that it is still open when it is read.
        let held = place.get();
        if held.is_some() || !place.has_file() {
            return self.0.read(&place, span);
        }
        let span = span.clone();
        self.blocking(move |inner| inner.read_opening(&place, &span)).await
    }

    async fn sync(&self, entry: EntryId) -> Result<()> {
        let part = match self.0.place(entry) {
            Place::Part(part) => part,
            Place::Unwanted(unwanted) => unwanted.file.clone(),
            // Before it got its final name it was synced.
            Place::Padding(_) | Place::Skipped(_) | Place::Final(_) => return Ok(()),
            Place::None | Place::Gone => return Err(not_open(entry)),
        };
        blocking(move || part.sync()).await
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        match self.0.place(entry) {
            Place::Part(part) => blocking(move || part.reset()).await,
            Place::Unwanted(unwanted) => blocking(move || unwanted.reset()).await,
            Place::Padding(_) | Place::Skipped(_) => Ok(()),
            Place::None | Place::Final(_) | Place::Gone => Err(not_open(entry)),
        }
    }

    async fn finish(&self, entry: &Entry) -> Result<()> {
        let entry = entry.clone();
        self.blocking(move |inner| inner.finish(&entry)).await
    }

    async fn abort(&self) -> Result<()> {
        self.blocking(Inner::abort).await
    }

    fn location(&self, entry: EntryId) -> Option<PathBuf> {
        let path = match self.0.place(entry) {
            Place::None | Place::Padding(_) | Place::Unwanted(_) | Place::Gone => return None,
            Place::Part(part) => part.path.clone(),
            Place::Final(file) => file.path.clone(),
            Place::Skipped(path) => path,
        };
        Some(self.0.root.join(path.as_str()))
    }
}

impl Inner {
    fn slot(&self, entry: EntryId) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&entry).cloned()
    }

    fn place(&self, entry: EntryId) -> Place {
        self.slot(entry).map_or(Place::None, |slot| slot.place())
    }

    /// [`read`](Self::read) of what may be closed.
    fn read_opening(&self, place: &Place, span: &Span) -> Result<Bytes> {
        let result = self.read(place, span);
        // It may have been finished just before it was to be opened: then it is not where it was.
        if let (Err(_), Place::Part(_), Some(slot)) = (&result, place, self.slot(span.entry)) {
            let _change = lock(&slot.change);
            let place = slot.place();
            if matches!(place, Place::Final(_)) {
                return self.read(&place, span);
            }
        }
        result
    }

    fn read(&self, place: &Place, span: &Span) -> Result<Bytes> {
        let (start, len) = (span.range.start, span.len() as usize);
        let read = |part: &Part, at| read_at(&*part.file()?, at, len).map_err(|e| part.failed("cannot read", e));
        match place {
            Place::Part(part) => read(part, start),
            Place::Unwanted(unwanted) => read(&unwanted.file, unwanted.place(span.entry, start, span.len())?),
            Place::Final(file) => {
                let opened = file.file(&self.root, || self.folder(&file.path, false))?;
                read_at(&opened, start, len).map_err(|e| failed("cannot read", &self.root.join(file.path.as_str()), e))
            }
            Place::Padding(len) => padding::read(span, *len),
            Place::None | Place::Skipped(_) | Place::Gone => {
                Err(Error::new(ErrorKind::InvalidInput, "nothing of the entry was written").with("entry", span.entry))
            }
        }
    }

    fn finish(&self, entry: &Entry) -> Result<()> {
        let unprepared = || Error::new(ErrorKind::InvalidInput, "the entry was not prepared").with("entry", entry.id);
        let slot = self.slot(entry.id).ok_or_else(unprepared)?;
        let _change = lock(&slot.change);
        let file = match slot.place() {
            Place::None => return Err(unprepared()),
            Place::Skipped(_) | Place::Padding(_) | Place::Gone => return Ok(()),
            Place::Unwanted(unwanted) => {
                slot.set(Place::Gone);
                return self.rests.leave(&unwanted, true);
            }
            Place::Final(file) => file,
            Place::Part(part) => {
                // A file of an earlier run may be longer than this content is.
                let len = entry.len.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, "the length of the entry is not known").with("entry", entry.id)
                })?;
                let path = if part.is_in_place() && part.is_exactly(len)? {
                    part.sync()?;
                    part.path.clone()
                } else {
                    part.complete(len, entry.modified.filter(|_| self.options.keep_mtime))?;
                    self.rename(&part)?
                };
                let file = Arc::new(Final {
                    path,
                    asked: part.asked.clone(),
                    stamp: part.stamp,
                    len,
                    // Not that of the part, which is locked.
                    handle: Handle::closed(&self.pool),
                    unsynced: Some(part.folder.clone()),
                });
                slot.set(Place::Final(file.clone()));
                file
            }
        };
        let Some(folder) = &file.unsynced else { return Ok(()) };
        folder.sync().map_err(|e| failed("cannot sync the folder", folder.path(), e))?;
        slot.set(Place::Final(Arc::new(Final { unsynced: None, ..(*file).clone() })));
        Ok(())
    }

    /// Gives the complete part file its final name, and says which.
    fn rename(&self, part: &Part) -> Result<EntryPath> {
        let name = part.name();
        if !part.folder.holds(&name, part.stamp).map_err(|e| part.failed("cannot look at the file", e))? {
            return Err(replaced(&part.location()));
        }
        let mut path = part.path.clone();
        for number in 1..=MAX_NUMBER {
            let result = match self.options.on_exists {
                OnExists::Overwrite => part.folder.rename(&name, path.file_name()),
                _ => part.folder.rename_new(&name, path.file_name()),
            };
            match (result, self.options.on_exists) {
                (Ok(()), _) => return Ok(path),
                (Err(e), OnExists::Rename) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    path = part.asked.numbered(number);
                }
                (Err(e), _) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Err(exists(&part.folder.path().join(path.file_name())));
                }
                (Err(e), _) => return Err(part.failed("cannot rename the file", e)),
            }
        }
        Err(exists(&part.location()).with("tried", MAX_NUMBER))
    }

    fn abort(&self) -> Result<()> {
        let slots: Vec<_> = self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut outcome = Ok(());
        for slot in slots {
            let _change = lock(&slot.change);
            let removed = match slot.place() {
                // It was somebody's, and is no worse for it than it was to be. If nothing of it was changed, it has its name.
                Place::Part(part) if part.is_taken_over => Ok(()),
                Place::Part(part) => part.remove(),
                Place::Unwanted(unwanted) => self.rests.leave(&unwanted, true),
                Place::None | Place::Final(_) | Place::Skipped(_) | Place::Padding(_) | Place::Gone => continue,
            };
            slot.set(Place::None);
            // One that can't be removed doesn't keep the others.
            outcome = outcome.and(removed);
        }
        lock(&self.folders).remove_empty();
        outcome
    }

    /// The folder of `path`.
    fn folder(&self, path: &EntryPath, make: bool) -> Result<Arc<Folder>> {
        lock(&self.folders).of(path, make, &self.root, &self.pool)
    }
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::Exists, "the file is there already").with("path", path.display())
}

fn being_written(path: &Path) -> Error {
    Error::new(ErrorKind::Exists, "another download is writing this file").with("path", path.display())
}

fn replaced(path: &Path) -> Error {
    Error::new(ErrorKind::Storage, "the file was replaced by another one").with("path", path.display())
}

fn not_open(entry: EntryId) -> Error {
    Error::new(ErrorKind::InvalidInput, "the entry is not open for writing").with("entry", entry)
}
