//! [`FileSink`]: files in a folder.
//!
//! What it keeps: a final name never shows anything but a finished entry, and nothing is written outside of the folder.

mod part;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FileType, OFlags};

use self::part::{Opened, Part, read_at};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::{Folder, blocking, failed, stamp_of};
use crate::path::EntryPath;
use crate::sink::{Entry, Prepared, Sink, SinkInfo, Stamp};
use crate::span::{EntryId, OPEN_END, Span};
use crate::sync::lock;

/// The most bytes that one read gives: as large as the pieces of large swarms are.
const MAX_READ: u64 = 16 << 20;

/// How many numbered names are tried under [`OnExists::Rename`]. Each costs a look at the folder.
const MAX_NUMBER: u32 = 9_999;

/// What becomes of a file that has the final name already.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum OnExists {
    /// The download fails with [`ErrorKind::Exists`], before a byte is fetched.
    #[default]
    Fail,
    /// It is replaced, in one step, once the download is complete.
    Overwrite,
    /// The download gets another name: `name.1.ext`, `name.2.ext`, ...
    Rename,
    /// It is left as it is, and nothing is fetched ([`Prepared::skip`]).
    Skip,
}

/// How a [`FileSink`] makes its files.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileOptions {
    /// What becomes of a file that has the final name already. Default: [`OnExists::Fail`].
    pub on_exists: OnExists,
    /// Whether the space for an entry is reserved, or at least looked for, before its first byte. Default: yes. A file
    /// that takes less space than its length, in a folder that compresses, may need a no.
    pub preallocate: bool,
    /// Whether a finished file gets the time at which its content was last changed. Default: yes.
    pub keep_mtime: bool,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { on_exists: OnExists::default(), preallocate: true, keep_mtime: true }
    }
}

impl FileOptions {
    /// Sets what becomes of a file that has the final name already.
    #[must_use]
    pub fn with_on_exists(mut self, on_exists: OnExists) -> Self {
        self.on_exists = on_exists;
        self
    }

    /// Sets whether space is reserved.
    #[must_use]
    pub fn with_preallocate(mut self, preallocate: bool) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// Sets whether a finished file gets its content's time.
    #[must_use]
    pub fn with_keep_mtime(mut self, keep_mtime: bool) -> Self {
        self.keep_mtime = keep_mtime;
        self
    }
}

/// Files in a folder. An entry is `NAME.part` until it is finished, and `NAME` then.
///
/// [`write`](Sink::write) and [`read`](Sink::read) block the thread they are called on for as long as the system call
/// takes, since handing the bytes to another thread costs more; a read gives at most 16 MiB; everything else that blocks is done elsewhere. No
/// symbolic link beneath the folder is followed. A `.part` is locked for as long as it is written, so that two downloads
/// never write the same one. An entry that isn't finished holds an open file; a finished one holds none.
#[derive(Clone, Debug)]
pub struct FileSink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    options: FileOptions,
    folders: Mutex<Folders>,
    slots: RwLock<HashMap<EntryId, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Folders {
    root: Option<Arc<Folder>>,
    /// The folders in use, by path.
    open: HashMap<String, Weak<Folder>>,
    /// The paths of those that this sink made, outer ones first.
    made: Vec<String>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever changes the place, from first look to last step.
    change: Mutex<()>,
    /// Held for a moment only, so that it can be asked for anywhere.
    place: RwLock<Place>,
}

#[derive(Clone, Debug, Default)]
enum Place {
    #[default]
    None,
    Part(Arc<Part>),
    Final(Arc<Final>),
    /// A file that was there before.
    Skipped(EntryPath),
}

#[derive(Debug)]
struct Final {
    asked: EntryPath,
    path: EntryPath,
    stamp: Stamp,
    len: u64,
    /// The folder, until the new name is known to be on stable storage.
    unsynced: Option<Arc<Folder>>,
}

impl FileSink {
    /// Files in `root`, which is made when the first entry is prepared. It is the caller's: it may be, or go through, a
    /// symbolic link.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_options(root, FileOptions::default())
    }

    /// [`new`](Self::new) with options.
    pub fn with_options(root: impl Into<PathBuf>, options: FileOptions) -> Self {
        let inner =
            Inner { root: root.into(), options, folders: Mutex::default(), slots: RwLock::new(HashMap::default()) };
        Self(Arc::new(inner))
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
        self.0.part(entry)?.write(offset, &mut data)
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        self.0.read(span)
    }

    async fn sync(&self, entry: EntryId) -> Result<()> {
        let part = self.0.part(entry)?;
        blocking(move || part.sync()).await
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        let part = self.0.part(entry)?;
        blocking(move || part.reset()).await
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
            Place::None => return None,
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

    fn part(&self, entry: EntryId) -> Result<Arc<Part>> {
        match self.place(entry) {
            Place::Part(part) => Ok(part),
            _ => Err(Error::new(ErrorKind::InvalidInput, "the entry is not open for writing").with("entry", entry)),
        }
    }

    fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        if entry.len.is_some_and(|len| len > OPEN_END) {
            return Err(Error::new(ErrorKind::InvalidInput, "longer than any file").with("entry", entry.id));
        }
        let slot = self.slots.write().unwrap_or_else(PoisonError::into_inner).entry(entry.id).or_default().clone();
        let _change = lock(&slot.change);
        match slot.place() {
            Place::None => {}
            Place::Part(part) if part.asked == entry.path => return self.ready(&part, entry),
            Place::Part(part) => {
                if part.is_written() {
                    return Err(moved(entry, &part.asked));
                }
                slot.set(Place::None);
                self.drop_empty(part)?;
            }
            Place::Final(file) if file.asked == entry.path => {
                let existing = vec![Span::new(entry.id, 0..file.len)];
                return Ok(Prepared::empty()
                    .with_existing(existing)
                    .with_stamp(file.stamp)
                    .with_path(file.path.clone()));
            }
            Place::Final(file) => return Err(moved(entry, &file.asked)),
            Place::Skipped(_) => slot.set(Place::None),
        }

        if let Some(file) = self.finished_before(entry)? {
            let prepared = Prepared::empty()
                .with_existing(vec![Span::new(entry.id, 0..file.len)])
                .with_stamp(file.stamp)
                .with_path(file.path.clone())
                .with_is_finished(true);
            slot.set(Place::Final(Arc::new(file)));
            return Ok(prepared);
        }
        let Some(part) = self.open(&entry.path)?.map(Arc::new) else {
            slot.set(Place::Skipped(entry.path.clone()));
            return Ok(Prepared::empty().with_skip(true).with_path(entry.path.clone()));
        };
        match self.ready(&part, entry) {
            Ok(prepared) => {
                slot.set(Place::Part(part));
                Ok(prepared)
            }
            Err(e) => {
                // What couldn't begin leaves nothing. The reason why it couldn't says more than a failure to clean up.
                let _ = self.drop_empty(part);
                Err(e)
            }
        }
    }

    /// The file that an earlier run gave its final name.
    fn finished_before(&self, entry: &Entry) -> Result<Option<Final>> {
        let (Some(known), Some(len)) = (entry.known, entry.len) else { return Ok(None) };
        let folder = self.folder(&entry.path, true)?;
        let at = folder.path().join(entry.path.file_name());
        let look = || -> std::io::Result<bool> {
            // It was there a moment ago, or never.
            if folder.kind_of(entry.path.file_name())? != Some(FileType::RegularFile) {
                return Ok(false);
            }
            let file = folder.open(entry.path.file_name(), OFlags::RDONLY)?;
            let now = stamp_of(&file)?;
            Ok(now.inode == known.inode && file.metadata()?.len() == len)
        };
        let is_it = look().map_err(|e| failed("cannot look at the file", &at, e))?;
        let (asked, path) = (entry.path.clone(), entry.path.clone());
        Ok(is_it.then_some(Final { asked, path, stamp: known, len, unsynced: None }))
    }

    /// The part file under the first name that may be used; `None` if the file is there and is to be left as it is.
    fn open(&self, asked: &EntryPath) -> Result<Option<Part>> {
        let folder = self.folder(asked, true)?;
        let mut path = asked.clone();
        for number in 1..=MAX_NUMBER {
            let at = folder.path().join(path.file_name());
            let kind = folder.kind_of(path.file_name()).map_err(|e| failed("cannot look for the file", &at, e))?;
            let free = match (kind, self.options.on_exists) {
                (None, _) => true,
                (Some(FileType::Directory), OnExists::Overwrite | OnExists::Skip) => {
                    return Err(Error::new(ErrorKind::Exists, "a folder has that name").with("path", at.display()));
                }
                (Some(_), OnExists::Overwrite) => true,
                (Some(_), OnExists::Rename) => false,
                (Some(_), OnExists::Skip) => return Ok(None),
                (Some(_), OnExists::Fail) => return Err(exists(&at)),
            };
            if free {
                match Part::open(&folder, asked.clone(), path)? {
                    Opened::Ours(part) => return Ok(Some(part)),
                    Opened::Locked if self.options.on_exists == OnExists::Rename => {}
                    Opened::Locked => {
                        return Err(Error::new(ErrorKind::Exists, "another download is writing this file")
                            .with("path", at.display()));
                    }
                }
            }
            path = asked.numbered(number);
        }
        Err(Error::new(ErrorKind::Exists, "no free name was found for the file")
            .with("path", asked)
            .with("tried", MAX_NUMBER))
    }

    fn ready(&self, part: &Part, entry: &Entry) -> Result<Prepared> {
        if let Some(len) = entry.len.filter(|_| self.options.preallocate) {
            part.preallocate(len)?;
        }
        let size = part.len()?.min(entry.len.unwrap_or(OPEN_END));
        let existing = if size > 0 { vec![Span::new(entry.id, 0..size)] } else { Vec::new() };
        Ok(Prepared::empty().with_existing(existing).with_stamp(part.stamp).with_path(part.path.clone()))
    }

    fn read(&self, span: &Span) -> Result<Bytes> {
        if span.is_empty() || span.len() > MAX_READ {
            return Err(Error::new(ErrorKind::InvalidInput, "a read of nothing or of too much")
                .with("bytes", span.len())
                .with("limit", MAX_READ));
        }
        let (start, len) = (span.range.start, span.len() as usize);
        match self.place(span.entry) {
            Place::Part(part) => read_at(&part.file, start, len).map_err(|e| part.failed("cannot read", e)),
            Place::Final(file) => {
                let folder = self.folder(&file.path, false)?;
                let at = folder.path().join(file.path.file_name());
                let file_there = folder.open(file.path.file_name(), OFlags::RDONLY);
                let opened = file_there.map_err(|e| failed("cannot open the file", &at, e))?;
                if stamp_of(&opened).map_err(|e| failed("cannot look at the file", &at, e))? != file.stamp {
                    return Err(replaced(&at));
                }
                read_at(&opened, start, len).map_err(|e| failed("cannot read", &at, e))
            }
            Place::None | Place::Skipped(_) => {
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
            Place::Skipped(_) => return Ok(()),
            Place::Final(file) => file,
            Place::Part(part) => {
                // A file of an earlier run may be longer than this content is.
                let len = entry.len.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, "the length of the entry is not known").with("entry", entry.id)
                })?;
                part.complete(len, entry.modified.filter(|_| self.options.keep_mtime))?;
                let file = Arc::new(Final {
                    path: self.rename(&part)?,
                    asked: part.asked.clone(),
                    stamp: part.stamp,
                    len,
                    unsynced: Some(part.folder.clone()),
                });
                slot.set(Place::Final(file.clone()));
                file
            }
        };
        let Some(folder) = &file.unsynced else { return Ok(()) };
        folder.sync().map_err(|e| failed("cannot sync the folder", folder.path(), e))?;
        let Final { asked, path, stamp, len, .. } = &*file;
        let synced = Final { asked: asked.clone(), path: path.clone(), stamp: *stamp, len: *len, unsynced: None };
        slot.set(Place::Final(Arc::new(synced)));
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
            if let Place::Part(part) = slot.place() {
                slot.set(Place::None);
                // One that can't be removed doesn't keep the others.
                outcome = outcome.and(part.remove());
            }
        }
        self.remove_folders();
        outcome
    }

    /// Lets go of a part file to which nothing was written; it stays only if an earlier run wrote to it.
    fn drop_empty(&self, part: Arc<Part>) -> Result<()> {
        if part.is_new {
            part.remove()?;
            drop(part);
            self.remove_folders();
        }
        Ok(())
    }

    /// The open folder of `path`.
    fn folder(&self, path: &EntryPath, make: bool) -> Result<Arc<Folder>> {
        let mut folders = lock(&self.folders);
        let mut folder = match &folders.root {
            Some(root) => root.clone(),
            None => {
                let root = Folder::root(&self.root).map_err(|e| failed("cannot open the folder", &self.root, e))?;
                folders.root.insert(root).clone()
            }
        };
        let parent = path.parent();
        let ends = parent.match_indices('/').map(|(at, _)| at).chain((!parent.is_empty()).then_some(parent.len()));
        for end in ends {
            let path = &parent[..end];
            if let Some(open) = folders.open.get(path).and_then(Weak::upgrade) {
                folder = open;
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or_default();
            let at = folder.path().join(name);
            let result = if make { folder.make(name) } else { Ok(false) };
            if result.map_err(|e| failed("cannot make the folder", &at, e))? {
                folders.made.push(path.to_owned());
            }
            folder = folder.child(name).map_err(|e| failed("cannot open the folder", &at, e))?;
            folders.open.insert(path.to_owned(), Arc::downgrade(&folder));
        }
        Ok(folder)
    }

    /// Removes the folders that this sink made and in which there is nothing, but for those that are in use.
    fn remove_folders(&self) {
        let mut folders = lock(&self.folders);
        let Folders { root: Some(root), open, made } = &mut *folders else { return };
        let mut kept = Vec::new();
        for path in made.drain(..).rev() {
            if open.get(&path).is_some_and(|folder| folder.strong_count() > 0) {
                kept.push(path);
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match root.descend(parent).and_then(|parent| parent.remove_folder(name)) {
                Ok(_) => drop(open.remove(&path)),
                // Most likely something is in it.
                Err(_) => kept.push(path),
            }
        }
        kept.reverse();
        *made = kept;
    }
}

impl Slot {
    fn place(&self) -> Place {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, place: Place) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

fn exists(path: &std::path::Path) -> Error {
    Error::new(ErrorKind::Exists, "the file is there already").with("path", path.display())
}

fn replaced(path: &std::path::Path) -> Error {
    Error::new(ErrorKind::Storage, "the file was replaced by another one").with("path", path.display())
}

fn moved(entry: &Entry, old: &EntryPath) -> Error {
    Error::new(ErrorKind::InvalidInput, "the entry was written under another name already")
        .with("path", &entry.path)
        .with("written", old)
}
