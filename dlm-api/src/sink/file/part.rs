//! [`Part`]: the file that an entry is while it is not complete.
//!
//! What it keeps to: nothing is written to a file that has a final name, and one that was closed meanwhile is written on only
//! if it is still the same and locked again.

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::io::{allocate, discard, look_for_space, read_at, write_at};
use super::ours::Ours;
use super::{being_written, exists, replaced};
use crate::error::{Error, ErrorKind, Result, Scope};
use crate::folder::pool::{Handle, Pool};
use crate::folder::{Folder, PUBLIC, failed, stamp_of};
use crate::path::EntryPath;
use crate::sink::Stamp;
use crate::sync::lock;

/// How often a part file may be taken away from under us, by its writer's finish, before we give up on getting it.
const MAX_OPEN_ATTEMPTS: usize = 16;

/// The file that an entry is while it is not complete.
#[derive(Debug)]
pub(super) struct Part {
    /// The path that was asked for.
    pub(super) asked: EntryPath,
    /// The path that it gets: another one, where another name had to be found.
    pub(super) path: EntryPath,
    pub(super) folder: Arc<Folder>,
    pub(super) stamp: Stamp,
    /// Whether it wasn't there before.
    pub(super) is_new: bool,
    /// Whether it was taken over under its final name.
    pub(super) is_taken_over: bool,
    /// What is added to its final name.
    suffix: &'static str,
    handle: Arc<Handle>,
    ours: Ours,
    may_write: bool,
    written: AtomicBool,
    /// Whether `stage` is [`Stage::Part`], for a look without the lock.
    is_part: AtomicBool,
    stage: Mutex<Stage>,
}

/// Which name the file has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// The final one.
    InPlace,
    /// That of a part file, but that may not be on stable storage.
    Moved,
    /// That of a part file.
    Part,
}

/// Whether the part file could be had.
pub(super) enum Opened {
    Ours(Part),
    /// Another download writes it.
    Locked,
}

/// An open and locked file.
struct Acquired {
    file: File,
    is_new: bool,
    may_write: bool,
}

impl Part {
    /// Opens, or makes, the part file of `path`, and locks it against other writers.
    pub(super) fn open(
        folder: &Arc<Folder>,
        pool: &Arc<Pool>,
        asked: EntryPath,
        path: EntryPath,
        suffix: &'static str,
    ) -> Result<Opened> {
        let name = format!("{}{suffix}", path.file_name());
        let room = pool.room();
        let acquired =
            acquire(folder, &name).map_err(|e| failed("cannot open the file", &folder.path().join(&name), e))?;
        let Some(acquired) = acquired else { return Ok(Opened::Locked) };
        Self::of(acquired, Stage::Part, folder, asked, path, suffix, |file| Handle::opened(file, &room))
    }

    /// Opens the file at `path`, which is there, and locks it against other writers.
    pub(super) fn take_over(
        folder: &Arc<Folder>,
        pool: &Arc<Pool>,
        asked: EntryPath,
        path: EntryPath,
        suffix: &'static str,
    ) -> Result<Opened> {
        let at = folder.path().join(path.file_name());
        let part = format!("{}{suffix}", path.file_name());
        if folder.kind_of(&part).map_err(|e| failed("cannot look for the file", &at, e))?.is_some() {
            return Err(Error::new(ErrorKind::Exists, "the file is there, and an unfinished one as well")
                .with("path", at.display()));
        }
        let room = pool.room();
        let acquired = acquire_final(folder, path.file_name()).map_err(|e| failed("cannot open the file", &at, e))?;
        let Some(acquired) = acquired else { return Ok(Opened::Locked) };
        Self::of(acquired, Stage::InPlace, folder, asked, path, suffix, |file| Handle::opened(file, &room))
    }

    fn of(
        Acquired { file, is_new, may_write }: Acquired,
        stage: Stage,
        folder: &Arc<Folder>,
        asked: EntryPath,
        path: EntryPath,
        suffix: &'static str,
        handle: impl FnOnce(File) -> Arc<Handle>,
    ) -> Result<Opened> {
        let at = folder.path().join(path.file_name());
        let stamp = stamp_of(&file).map_err(|e| failed("cannot look at the file", &at, e))?;
        let ours = if is_new { Some(Ours::made(stamp)) } else { Ours::claim(stamp) };
        let Some(ours) = ours else { return Ok(Opened::Locked) };
        let handle = handle(file);
        if !is_new {
            handle.unsure();
        }
        Ok(Opened::Ours(Self {
            asked,
            path,
            folder: folder.clone(),
            stamp,
            is_new,
            is_taken_over: stage == Stage::InPlace,
            suffix,
            handle,
            ours,
            may_write,
            written: AtomicBool::new(false),
            is_part: AtomicBool::new(stage == Stage::Part),
            stage: Mutex::new(stage),
        }))
    }

    fn part_name(&self) -> String {
        format!("{}{}", self.path.file_name(), self.suffix)
    }

    fn name_at(&self, stage: Stage) -> String {
        if stage == Stage::InPlace { self.path.file_name().to_owned() } else { self.part_name() }
    }

    /// Its name in its folder.
    pub(super) fn name(&self) -> String {
        self.name_at(*lock(&self.stage))
    }

    pub(super) fn location(&self) -> PathBuf {
        self.folder.path().join(self.name())
    }

    pub(super) fn failed(&self, message: &'static str, cause: io::Error) -> Error {
        failed(message, &self.location(), cause)
    }

    /// The file, if it is open. Never waits.
    pub(super) fn get(&self) -> Option<Arc<File>> {
        self.handle.get()
    }

    /// The file, if it is open and may be written as it is. Never waits.
    pub(super) fn get_to_write(&self) -> Option<Arc<File>> {
        if self.is_part.load(Ordering::Acquire) { self.handle.get() } else { None }
    }

    /// The file, which is opened again if it was closed. Blocks.
    pub(super) fn file(&self) -> Result<Arc<File>> {
        self.handle.get_or(|| self.open_again())
    }

    /// While it was closed it was not locked, except against sinks of this process. So whoever had it meanwhile may have
    /// changed it: that is an error if he has it still, if it is another file by now, or if it is shorter, as it is after
    /// somebody began anew. Its times are not compared, since file servers correct them later.
    fn open_again(&self) -> Result<File> {
        // It keeps its name until it is open.
        let stage = lock(&self.stage);
        let name = self.name_at(*stage);
        let at = self.folder.path().join(&name);
        let access = if self.may_write { OFlags::RDWR } else { OFlags::RDONLY };
        let open = || -> io::Result<Option<(File, Claim)>> {
            let file = match self.folder.open(&name, access) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            let claim = claim(&self.folder, &name, &file)?;
            if *stage != Stage::InPlace {
                refuse_links(&file)?;
            }
            let is_same = stamp_of(&file)? == self.stamp && file.metadata()?.len() >= self.handle.len_when_closed();
            Ok((is_same || claim == Claim::Locked).then_some((file, claim)))
        };
        match open().map_err(|e| failed("cannot open the file again", &at, e))? {
            Some((_, Claim::Locked)) => Err(being_written(&at)),
            Some((file, Claim::Ours)) if self.ours.holds() => Ok(file),
            _ => Err(replaced(&at)),
        }
    }

    /// The number of bytes that may be in it.
    pub(super) fn len(&self) -> Result<u64> {
        let metadata = self.file()?.metadata().map_err(|e| self.failed("cannot look at the file", e))?;
        Ok(metadata.len())
    }

    /// Whether something was written to it in this run.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether it still has the final name under which it was taken over.
    pub(super) fn is_in_place(&self) -> bool {
        *lock(&self.stage) == Stage::InPlace
    }

    /// Writes to the file, which [`get_to_write`](Self::get_to_write) or [`open_to_write`](Self::open_to_write) gave.
    pub(super) fn write(&self, file: &File, offset: u64, data: &mut [Bytes]) -> Result<()> {
        // Looked at first, so that cores that write the same file don't take the line from each other each time.
        if !self.is_written() {
            self.written.store(true, Ordering::Relaxed);
        }
        let result = write_at(file, offset, data);
        // Also after a failure: some of it may have been written.
        self.handle.changed();
        result.map_err(|e| self.failed("cannot write", e).with("offset", offset))
    }

    /// Whether these bytes are there already, under the final name: then the file need not be changed to have them. Blocks.
    pub(super) fn has_in_place(&self, offset: u64, data: &[Bytes]) -> Result<bool> {
        if !self.is_in_place() {
            return Ok(false);
        }
        let (file, len, mut at) = (self.file()?, self.len()?, offset);
        for chunk in data {
            let end = at + chunk.len() as u64;
            if end > len || read_at(&file, at, chunk.len()).map_err(|e| self.failed("cannot read", e))? != *chunk {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// The file as a part file, to be changed. Blocks.
    pub(super) fn open_to_write(&self) -> Result<Arc<File>> {
        let file = self.file()?;
        if self.is_part.load(Ordering::Acquire) {
            return Ok(file);
        }
        let (name, part) = (self.name_at(Stage::InPlace), self.part_name());
        let at = self.folder.path().join(&name);
        if !self.may_write {
            return Err(Error::new(ErrorKind::Denied, "the file has to be changed, and may not be written")
                .with("path", at.display()));
        }
        let mut stage = lock(&self.stage);
        if *stage == Stage::InPlace {
            refuse_links(&file).map_err(|e| failed("cannot change the file", &at, e))?;
            if !self.folder.holds(&name, self.stamp).map_err(|e| failed("cannot look at the file", &at, e))? {
                return Err(replaced(&at));
            }
            match self.folder.rename_new(&name, &part) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(exists(&self.folder.path().join(&part)));
                }
                result => result.map_err(|e| failed("cannot rename the file", &at, e))?,
            }
            *stage = Stage::Moved;
        }
        // Before the first write: else the power could go, and the final name be back on a file that was changed.
        self.sync_folder()?;
        *stage = Stage::Part;
        self.is_part.store(true, Ordering::Release);
        Ok(file)
    }

    /// Returns when all that was written before is on stable storage; never again after it failed once.
    pub(super) fn sync(&self) -> Result<()> {
        self.sync_by(File::sync_data)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<()> {
        self.folder.sync().map_err(|e| failed("cannot sync the folder", self.folder.path(), e))
    }

    fn sync_by(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
        let failed = |e| self.failed("cannot sync the file", e);
        // Not opened for nothing: what was closed is synced.
        if self.handle.is_synced().map_err(failed)? {
            return Ok(());
        }
        self.handle.sync(&*self.file()?, sync).map_err(failed)
    }

    /// Whether it is as long as the content without a change.
    pub(super) fn is_exactly(&self, len: u64) -> Result<bool> {
        Ok(self.len()? == len)
    }

    /// Makes it exactly `len` bytes long, which it must be already but for what was preallocated, and syncs it.
    pub(super) fn complete(&self, len: u64, modified: Option<SystemTime>) -> Result<()> {
        let file = self.open_to_write()?;
        let size = self.len()?;
        if size < len {
            return Err(Error::new(ErrorKind::Corrupt, "the file is shorter than what was written to it")
                .with("path", self.location().display())
                .with("bytes", size)
                .with("expected", len)
                .with_scope(Scope::Download));
        }
        // Also where the size is right: what was preallocated beyond it is given back.
        let result = file.set_len(len);
        self.handle.changed();
        result.map_err(|e| self.failed("cannot set the length", e))?;
        if let Some(modified) = modified {
            // A complete file with another date is better than none: some file systems keep no times, or refuse some.
            if let Err(e) = file.set_times(FileTimes::new().set_modified(modified)) {
                tracing::debug!(path = %self.location().display(), error = %e, "the time of the file was not set");
            }
            self.handle.changed();
        }
        // Not just the data: the length and the time are part of what is finished.
        self.sync_by(File::sync_all)
    }

    pub(super) fn reset(&self) -> Result<()> {
        let file = self.open_to_write()?;
        let result = file.set_len(0);
        self.handle.changed();
        result.map_err(|e| self.failed("cannot empty the file", e))?;
        self.written.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets the bytes of a range, of which nobody says any more that they are right.
    pub(super) fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let file = self.open_to_write()?;
        discard(&file, offset, len);
        self.handle.changed();
        Ok(())
    }

    /// Takes it away, if its name still is its own.
    pub(super) fn remove(&self) -> Result<()> {
        let name = self.name();
        let remove = || if self.folder.holds(&name, self.stamp)? { self.folder.remove(&name) } else { Ok(false) };
        remove().map(|_| ()).map_err(|e| self.failed("cannot remove the file", e))
    }

    /// Reserves space for `len` bytes, so that a full disk is found now. The size stays what was written. What is in place is
    /// not changed.
    pub(super) fn preallocate(&self, len: u64) -> Result<()> {
        let file = self.file()?;
        let no_space = |e| self.failed("cannot reserve the space", e).with("bytes", len);
        if self.is_in_place() {
            return look_for_space(&file, len).map_err(no_space);
        }
        let size = self.len()?;
        allocate(&file, len).map_err(|e| {
            // What was allocated before the disk was full; a failure changes nothing, as the file is the same with it.
            let _ = file.set_len(size);
            no_space(e)
        })
    }
}

/// The open and locked part file; `None` if another download has it.
fn acquire(folder: &Folder, name: &str) -> io::Result<Option<Acquired>> {
    for _ in 0..MAX_OPEN_ATTEMPTS {
        let (file, is_new) = match folder.create(name, PUBLIC) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match folder.open(name, OFlags::RDWR) {
                Ok(file) => (file, false),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        };
        match claim(folder, name, &file)? {
            Claim::Ours => {
                refuse_links(&file)?;
                if !is_new {
                    // An earlier run may have made it, and died before it was on stable storage.
                    folder.may_be_changed();
                }
                return Ok(Some(Acquired { file, is_new, may_write: true }));
            }
            Claim::Locked => return Ok(None),
            Claim::Gone => {}
        }
    }
    Err(io::Error::other("the file is taken away again and again"))
}

/// The open and locked file of a final name, which is there; `None` if another download has it. One that may only be read
/// can still be the right one.
fn acquire_final(folder: &Folder, name: &str) -> io::Result<Option<Acquired>> {
    use io::ErrorKind::{ExecutableFileBusy, PermissionDenied, ReadOnlyFilesystem};
    let (file, may_write) = match folder.open(name, OFlags::RDWR) {
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem | ExecutableFileBusy) => {
            (folder.open(name, OFlags::RDONLY)?, false)
        }
        result => (result?, true),
    };
    match claim(folder, name, &file)? {
        Claim::Ours => {
            folder.may_be_changed();
            Ok(Some(Acquired { file, is_new: false, may_write }))
        }
        Claim::Locked => Ok(None),
        Claim::Gone => Err(io::Error::other("the file is taken away just now")),
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Claim {
    Ours,
    Locked,
    /// It doesn't have its name any more.
    Gone,
}

/// Locks the open file against other writers.
fn claim(folder: &Folder, name: &str, file: &File) -> io::Result<Claim> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Claim::Locked),
        // A file system without locks, or without them on what is only read.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF) => {}
        Err(e) => return Err(e.into()),
    }
    // Between the open and the lock the one who had it may have finished it: then this is a final file now.
    Ok(if folder.holds(name, stamp_of(file)?)? { Claim::Ours } else { Claim::Gone })
}

/// Written through one of its names a file would change under the other, too.
fn refuse_links(file: &File) -> io::Result<()> {
    if file.metadata()?.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file has another hard link"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::PART;

    #[test]
    fn a_failed_sync_spoils_every_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::root(dir.path(), None).unwrap();
        let path = EntryPath::new("f").unwrap();
        let opened = Part::open(&folder, &Pool::new(1), path.clone(), path, PART).unwrap();
        let Opened::Ours(part) = opened else { panic!("locked") };
        part.sync().unwrap();
        part.write(&part.file().unwrap(), 0, &mut [Bytes::from_static(b"x")]).unwrap();
        let failure = |_: &File| Err(io::Error::from(Errno::IO));
        assert_eq!(part.sync_by(failure).unwrap_err().kind(), ErrorKind::Storage);
        assert_eq!(part.sync().unwrap_err().kind(), ErrorKind::Storage);
        part.reset().unwrap();
        assert!(part.sync().is_err() && part.complete(0, None).is_err());
    }

    #[test]
    fn a_file_that_was_finished_before_it_could_be_locked_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::root(dir.path(), None).unwrap();
        let theirs = folder.create("f.part", PUBLIC).unwrap();
        assert_eq!(claim(&folder, "f.part", &theirs).unwrap(), Claim::Ours);
        let ours = folder.open("f.part", OFlags::RDWR).unwrap();
        assert_eq!(claim(&folder, "f.part", &ours).unwrap(), Claim::Locked);

        folder.rename_new("f.part", "f").unwrap();
        drop(theirs);
        assert_eq!(claim(&folder, "f.part", &ours).unwrap(), Claim::Gone);
        folder.create("f.part", PUBLIC).unwrap();
        assert_eq!(claim(&folder, "f.part", &ours).unwrap(), Claim::Gone);
    }
}
