//! What a [`FileSink`](super::FileSink) does before an entry's first byte.

use std::sync::{Arc, PoisonError};

use rustix::fs::{FileType, OFlags};

use super::part::{Opened, Part};
use super::place::{Final, Place};
use super::rest::Unwanted;
use super::{Inner, MAX_NUMBER, OnExists, being_written, exists, replaced};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::pool::Handle;
use crate::folder::{failed, stamp_of};
use crate::path::{EntryPath, PART, REST};
use crate::sink::{Entry, EntryKind, Prepared};
use crate::span::{OPEN_END, Span};
use crate::sync::lock;

impl Inner {
    pub(super) fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        if entry.len.is_some_and(|len| len > OPEN_END) {
            return Err(Error::new(ErrorKind::InvalidInput, "longer than any file").with("entry", entry.id));
        }
        let slot = self.slots.write().unwrap_or_else(PoisonError::into_inner).entry(entry.id).or_default().clone();
        let _change = lock(&slot.change);
        match slot.place() {
            Place::None | Place::Skipped(_) | Place::Padding(_) | Place::Gone => {}
            Place::Part(part) if part.asked == entry.path && entry.kind == EntryKind::File => {
                return self.ready(&part, entry);
            }
            Place::Part(part) => {
                if part.is_written() {
                    return Err(moved(entry, &part.asked));
                }
                slot.set(Place::None);
                self.drop_empty(part)?;
            }
            Place::Unwanted(unwanted) if is_place_of(&unwanted, entry) => return ready_unwanted(&unwanted, entry),
            Place::Unwanted(unwanted) => {
                if unwanted.is_written() {
                    return Err(moved(entry, &unwanted.asked));
                }
                slot.set(Place::None);
                self.rests.leave(&unwanted, unwanted.file.is_new)?;
            }
            Place::Final(file) if file.asked == entry.path && entry.is_wrong => {
                let part = Arc::new(self.take_back(&file)?);
                slot.set(Place::Part(part.clone()));
                return self.ready(&part, entry);
            }
            Place::Final(file) if file.asked == entry.path => {
                let existing = vec![Span::new(entry.id, 0..file.len)];
                return Ok(Prepared::empty()
                    .with_existing(existing)
                    .with_stamp(file.stamp)
                    .with_path(file.path.clone()));
            }
            Place::Final(file) => return Err(moved(entry, &file.asked)),
        }

        slot.set(Place::None);
        if entry.only_look && entry.kind != EntryKind::Padding && !self.is_there(entry)? {
            return Ok(Prepared::empty());
        }
        let (place, prepared) = match entry.kind {
            EntryKind::File => self.prepare_file(entry)?,
            EntryKind::Padding => (Place::Padding(entry.len), Prepared::empty()),
            EntryKind::Unwanted { base } => self.prepare_unwanted(entry, base)?,
        };
        slot.set(place);
        Ok(prepared)
    }

    fn prepare_file(&self, entry: &Entry) -> Result<(Place, Prepared)> {
        if let Some(file) = self.finished_before(entry)? {
            let prepared = Prepared::empty()
                .with_existing(vec![Span::new(entry.id, 0..file.len)])
                .with_stamp(file.stamp)
                .with_path(file.path.clone())
                .with_is_finished(true);
            return Ok((Place::Final(Arc::new(file)), prepared));
        }
        let Some(part) = self.open(entry)?.map(Arc::new) else {
            let prepared = Prepared::empty().with_skip(true).with_path(entry.path.clone());
            return Ok((Place::Skipped(entry.path.clone()), prepared));
        };
        match self.ready(&part, entry) {
            Ok(prepared) => Ok((Place::Part(part), prepared)),
            Err(e) => {
                // What couldn't begin leaves nothing. The reason why it couldn't says more than a failure to clean up.
                let _ = self.drop_empty(part);
                Err(e)
            }
        }
    }

    /// Whether there is a file of an entry, finished or not. Makes nothing.
    fn is_there(&self, entry: &Entry) -> Result<bool> {
        if entry.kind != EntryKind::File {
            return Ok(false);
        }
        let path = entry.placed.as_ref().unwrap_or(&entry.path);
        let folder = match self.folder(path, false) {
            Err(error) if is_missing(&error) => return Ok(false),
            folder => folder?,
        };
        let is_there = |name: &str| {
            let kind =
                folder.kind_of(name).map_err(|e| failed("cannot look for the file", &folder.path().join(name), e));
            kind.map(|kind| kind.is_some())
        };
        Ok(is_there(path.file_name())? || is_there(&format!("{}{PART}", path.file_name()))?)
    }

    /// A finished file is to be written again: it is a part file from here on.
    fn take_back(&self, file: &Final) -> Result<Part> {
        let folder = self.folder(&file.path, false)?;
        let at = folder.path().join(file.path.file_name());
        match Part::take_over(&folder, &self.pool, file.asked.clone(), file.path.clone(), PART)? {
            Opened::Ours(part) if part.stamp == file.stamp => {
                part.open_to_write()?;
                Ok(part)
            }
            Opened::Ours(_) => Err(replaced(&at)),
            Opened::Locked => Err(being_written(&at)),
        }
    }

    /// The file that an earlier run gave its final name.
    fn finished_before(&self, entry: &Entry) -> Result<Option<Final>> {
        let (Some(known), Some(len)) = (entry.known, entry.len) else { return Ok(None) };
        let path = entry.placed.as_ref().unwrap_or(&entry.path).clone();
        let folder = self.folder(&path, true)?;
        let at = folder.path().join(path.file_name());
        let look = || -> std::io::Result<bool> {
            // It was there a moment ago, or never.
            if folder.kind_of(path.file_name())? != Some(FileType::RegularFile) {
                return Ok(false);
            }
            let file = folder.open(path.file_name(), OFlags::RDONLY)?;
            Ok(stamp_of(&file)?.inode == known.inode && file.metadata()?.len() == len)
        };
        let is_it = look().map_err(|e| failed("cannot look at the file", &at, e))?;
        let asked = entry.path.clone();
        let handle = Handle::closed(&self.pool);
        Ok(is_it.then_some(Final { asked, path, stamp: known, len, handle, unsynced: None }))
    }

    /// The part file under the first name that may be used; `None` if the file is there and is to be left as it is.
    fn open(&self, entry: &Entry) -> Result<Option<Part>> {
        let asked = &entry.path;
        if let Some(part) = self.open_placed(entry)? {
            return Ok(Some(part));
        }
        let folder = self.folder(asked, true)?;
        let mut path = asked.clone();
        for number in 1..=MAX_NUMBER {
            let at = folder.path().join(path.file_name());
            let kind = folder.kind_of(path.file_name()).map_err(|e| failed("cannot look for the file", &at, e))?;
            let open_part = || Part::open(&folder, &self.pool, asked.clone(), path.clone(), PART);
            let opened = match (kind, self.options.on_exists) {
                (None, _) => Some(open_part()?),
                (Some(FileType::Directory), OnExists::Overwrite | OnExists::Skip | OnExists::Check) => {
                    return Err(Error::new(ErrorKind::Exists, "a folder has that name").with("path", at.display()));
                }
                (Some(_), OnExists::Overwrite) => Some(open_part()?),
                (Some(_), OnExists::Check) => {
                    Some(Part::take_over(&folder, &self.pool, asked.clone(), path.clone(), PART)?)
                }
                (Some(_), OnExists::Rename) => None,
                (Some(_), OnExists::Skip) => return Ok(None),
                (Some(_), OnExists::Fail) => return Err(exists(&at)),
            };
            match opened {
                Some(Opened::Ours(part)) => return Ok(Some(part)),
                Some(Opened::Locked) if self.options.on_exists != OnExists::Rename => return Err(being_written(&at)),
                Some(Opened::Locked) | None => {}
            }
            path = asked.numbered(number);
        }
        Err(Error::new(ErrorKind::Exists, "no free name was found for the file")
            .with("path", asked)
            .with("tried", MAX_NUMBER))
    }

    /// The part file where an earlier run put the entry, if it is still there.
    fn open_placed(&self, entry: &Entry) -> Result<Option<Part>> {
        let Some(path) = entry.placed.as_ref().filter(|_| self.options.on_exists == OnExists::Rename) else {
            return Ok(None);
        };
        let folder = self.folder(path, true)?;
        let part = format!("{}{PART}", path.file_name());
        let look = || Ok::<_, std::io::Error>((folder.kind_of(path.file_name())?, folder.kind_of(&part)?));
        let there = look().map_err(|e| failed("cannot look for the file", &folder.path().join(&part), e))?;
        if !matches!(there, (None, Some(FileType::RegularFile))) {
            return Ok(None);
        }
        match Part::open(&folder, &self.pool, entry.path.clone(), path.clone(), PART)? {
            Opened::Ours(part) => Ok(Some(part)),
            Opened::Locked => Ok(None),
        }
    }

    fn ready(&self, part: &Part, entry: &Entry) -> Result<Prepared> {
        if let Some(len) = entry.len.filter(|_| self.options.preallocate) {
            part.preallocate(len)?;
        }
        let size = part.len()?.min(entry.len.unwrap_or(OPEN_END));
        let existing = if size > 0 { vec![Span::new(entry.id, 0..size)] } else { Vec::new() };
        Ok(Prepared::empty()
            .with_existing(existing)
            .with_stamp(part.stamp)
            .with_path(part.path.clone())
            .with_taken_over(part.is_in_place()))
    }

    fn prepare_unwanted(&self, entry: &Entry, base: u64) -> Result<(Place, Prepared)> {
        let invalid = |what| Error::new(ErrorKind::InvalidInput, what).with("entry", entry.id);
        let len = entry.len.ok_or_else(|| invalid("the length of an entry that is not wanted must be known"))?;
        if base.checked_add(len).is_none_or(|end| end > OPEN_END) {
            return Err(invalid("the place of an entry that is not wanted is beyond any file"));
        }
        let path = match &self.options.rest {
            Some(path) => path.clone(),
            None => EntryPath::new(entry.path.components().next().unwrap_or_default())?,
        };
        let unwanted = self.rests.join(&path, (&entry.path, base, len), || {
            let folder = self.folder(&path, true)?;
            match Part::open(&folder, &self.pool, path.clone(), path.clone(), REST)? {
                Opened::Ours(file) => Ok(Arc::new(file)),
                Opened::Locked => Err(being_written(&folder.path().join(path.file_name()))),
            }
        })?;
        let unwanted = Arc::new(unwanted);
        match ready_unwanted(&unwanted, entry) {
            Ok(prepared) => Ok((Place::Unwanted(unwanted), prepared)),
            Err(e) => {
                // As above.
                let _ = self.rests.leave(&unwanted, unwanted.file.is_new);
                Err(e)
            }
        }
    }

    /// Lets go of a part file to which nothing was written; it stays only if an earlier run wrote to it.
    fn drop_empty(&self, part: Arc<Part>) -> Result<()> {
        if part.is_new {
            part.remove()?;
            drop(part);
            lock(&self.folders).remove_empty();
        }
        Ok(())
    }
}

/// Whether what was to be opened is not there.
fn is_missing(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

fn is_place_of(unwanted: &Unwanted, entry: &Entry) -> bool {
    entry.kind == EntryKind::Unwanted { base: unwanted.base }
        && entry.len == Some(unwanted.len)
        && entry.path == unwanted.asked
}

fn ready_unwanted(unwanted: &Unwanted, entry: &Entry) -> Result<Prepared> {
    let size = unwanted.file.len()?.saturating_sub(unwanted.base).min(unwanted.len);
    let existing = if size > 0 { vec![Span::new(entry.id, 0..size)] } else { Vec::new() };
    Ok(Prepared::empty().with_existing(existing).with_stamp(unwanted.file.stamp))
}

fn moved(entry: &Entry, old: &EntryPath) -> Error {
    Error::new(ErrorKind::InvalidInput, "the entry was written under another name, or in another way, already")
        .with("path", &entry.path)
        .with("written", old)
}
