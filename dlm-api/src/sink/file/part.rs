//! [`Part`]: the file that an entry is while it is not complete.

use std::fs::{File, FileTimes};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::{Buf, Bytes};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, Scope};
use crate::folder::{Folder, PUBLIC, failed, stamp_of};
use crate::path::{EntryPath, PART};
use crate::sink::Stamp;
use crate::sync::lock;

/// The most slices in one system call. The kernel takes 1024; a merged write has far fewer, and these are on the stack.
const MAX_SLICES: usize = 64;

/// How often a part file may be taken away from under us, by its writer's finish, before we give up on getting it.
const MAX_OPEN_ATTEMPTS: usize = 16;

/// File systems on which space is not reserved, by the type that they give themselves in `statfs` (linux/magic.h). On btrfs
/// reserved space is not compressed, and what is written goes elsewhere anyway; tmpfs would fill all of it with zeros first,
/// which costs as much as writing it.
#[cfg(target_os = "linux")]
pub(super) const UNRESERVED: [u32; 2] = [0x9123_683e, 0x0102_1994];

/// The file that an entry is while it is not complete.
#[derive(Debug)]
pub(super) struct Part {
    /// The path that was asked for.
    pub(super) asked: EntryPath,
    /// The path that it gets: another one, where another name had to be found.
    pub(super) path: EntryPath,
    pub(super) folder: Arc<Folder>,
    pub(super) file: File,
    pub(super) stamp: Stamp,
    /// Whether it wasn't there before.
    pub(super) is_new: bool,
    written: AtomicBool,
    /// Whether a sync failed. Held during a sync, since the kernel tells of a failure once, to one caller.
    broken: Mutex<bool>,
}

/// Whether the part file could be had.
pub(super) enum Opened {
    Ours(Part),
    /// Another download writes it.
    Locked,
}

impl Part {
    /// Opens, or makes, the part file of `path`, and locks it against other writers.
    pub(super) fn open(folder: &Arc<Folder>, asked: EntryPath, path: EntryPath) -> Result<Opened> {
        let name = format!("{}{PART}", path.file_name());
        let at = folder.path().join(&name);
        let Some((file, is_new)) = acquire(folder, &name).map_err(|e| failed("cannot open the file", &at, e))? else {
            return Ok(Opened::Locked);
        };
        let stamp = stamp_of(&file).map_err(|e| failed("cannot look at the file", &at, e))?;
        Ok(Opened::Ours(Self {
            asked,
            path,
            folder: folder.clone(),
            file,
            stamp,
            is_new,
            written: AtomicBool::new(false),
            broken: Mutex::new(false),
        }))
    }

    /// Its name in its folder.
    pub(super) fn name(&self) -> String {
        format!("{}{PART}", self.path.file_name())
    }

    pub(super) fn location(&self) -> PathBuf {
        self.folder.path().join(self.name())
    }

    pub(super) fn failed(&self, message: &'static str, cause: io::Error) -> Error {
        failed(message, &self.location(), cause)
    }

    /// The number of bytes that may be in it.
    pub(super) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|e| self.failed("cannot look at the file", e))?;
        Ok(metadata.len())
    }

    /// Whether something was written to it in this run.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, offset: u64, data: &mut [Bytes]) -> Result<()> {
        // Looked at first, so that cores that write the same file don't take the line from each other each time.
        if !self.is_written() {
            self.written.store(true, Ordering::Relaxed);
        }
        write_at(&self.file, offset, data).map_err(|e| self.failed("cannot write", e).with("offset", offset))
    }

    /// Returns when all that was written before is on stable storage; never again after it failed once.
    pub(super) fn sync(&self) -> Result<()> {
        self.sync_by(File::sync_data)?;
        self.folder.sync().map_err(|e| failed("cannot sync the folder", self.folder.path(), e))
    }

    fn sync_by(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
        let mut broken = lock(&self.broken);
        if *broken {
            let cause = io::Error::other("an earlier sync failed, and what it covered may be lost");
            return Err(self.failed("cannot sync the file", cause));
        }
        sync(&self.file).map_err(|e| {
            *broken = true;
            self.failed("cannot sync the file", e)
        })
    }

    /// Makes it exactly `len` bytes long, which it must be already but for what was preallocated, and syncs it.
    pub(super) fn complete(&self, len: u64, modified: Option<SystemTime>) -> Result<()> {
        let size = self.len()?;
        if size < len {
            return Err(Error::new(ErrorKind::Corrupt, "the file is shorter than what was written to it")
                .with("path", self.location().display())
                .with("bytes", size)
                .with("expected", len)
                .with_scope(Scope::Download));
        }
        // Also where the size is right: what was preallocated beyond it is given back.
        self.file.set_len(len).map_err(|e| self.failed("cannot set the length", e))?;
        if let Some(modified) = modified {
            // A complete file with another date is better than none: some file systems keep no times, or refuse some.
            if let Err(e) = self.file.set_times(FileTimes::new().set_modified(modified)) {
                tracing::debug!(path = %self.location().display(), error = %e, "the time of the file was not set");
            }
        }
        // Not just the data: the length and the time are part of what is finished.
        self.sync_by(File::sync_all)
    }

    pub(super) fn reset(&self) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.failed("cannot empty the file", e))?;
        self.written.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Takes it away, if its name still is its own.
    pub(super) fn remove(&self) -> Result<()> {
        let name = self.name();
        let remove = || if self.folder.holds(&name, self.stamp)? { self.folder.remove(&name) } else { Ok(false) };
        remove().map(|_| ()).map_err(|e| self.failed("cannot remove the file", e))
    }

    /// Reserves space for `len` bytes, so that a full disk is found now. The size stays what was written.
    pub(super) fn preallocate(&self, len: u64) -> Result<()> {
        let size = self.len()?;
        allocate(&self.file, len).map_err(|e| {
            // What was allocated before the disk was full; a failure changes nothing, as the file is the same with it.
            let _ = self.file.set_len(size);
            self.failed("cannot reserve the space", e).with("bytes", len)
        })
    }
}

/// The open and locked part file, and whether it is new; `None` if another download has it.
fn acquire(folder: &Folder, name: &str) -> io::Result<Option<(File, bool)>> {
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
                // Also if it was there: an earlier run may have made it, and died before it was on stable storage.
                folder.changed();
                return Ok(Some((file, is_new)));
            }
            Claim::Locked => return Ok(None),
            Claim::Gone => {}
        }
    }
    Err(io::Error::other("the file is taken away again and again"))
}

#[derive(PartialEq, Eq, Debug)]
enum Claim {
    Ours,
    Locked,
    /// It doesn't have its name any more.
    Gone,
}

/// Locks the open part file against other writers.
fn claim(folder: &Folder, name: &str, file: &File) -> io::Result<Claim> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Claim::Locked),
        // A file system without locks.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(e) => return Err(e.into()),
    }
    // Between the open and the lock the one who had it may have finished it: then this is a final file now.
    if !folder.holds(name, stamp_of(file)?)? {
        return Ok(Claim::Gone);
    }
    // Written through one of its names it would change under the other, too.
    if file.metadata()?.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file has another hard link"));
    }
    Ok(Claim::Ours)
}

/// Writes all of `data` at `offset`, without a copy and without an allocation.
pub(super) fn write_at(file: &File, mut offset: u64, data: &mut [Bytes]) -> io::Result<()> {
    let mut done = 0;
    loop {
        done += data[done..].iter().take_while(|chunk| chunk.is_empty()).count();
        let left = &mut data[done..];
        if left.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = left.len().min(MAX_SLICES);
        for (slice, chunk) in slices.iter_mut().zip(left.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = match rustix::io::pwritev(file, &slices[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        offset += written as u64;
        for chunk in left {
            let taken = written.min(chunk.len());
            chunk.advance(taken);
            written -= taken;
            if written == 0 {
                break;
            }
        }
    }
}

/// Reads `len` bytes at `offset`.
pub(super) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

/// Reserves space, where the file system can; otherwise only looks whether there is enough.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    let space = rustix::fs::fstatvfs(file)?;
    // `blocks` counts in 512 bytes whatever the file system's block is (stat(2)).
    let wanted = len.saturating_sub(file.metadata()?.blocks().saturating_mul(512));
    // Looked at first, since a failing `fallocate` fills the disk for everyone before it gives the space back.
    if wanted > space.f_bfree.saturating_mul(space.f_frsize) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    #[cfg(target_os = "linux")]
    if len > 0 && !UNRESERVED.contains(&(rustix::fs::fstatfs(file)?.f_type as u32)) {
        loop {
            match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
    // Without the blocks that are kept for root.
    let available = space.f_bavail.saturating_mul(space.f_frsize);
    if wanted > available { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(count: usize) -> Vec<Bytes> {
        (0..count).map(|i| Bytes::from(vec![i as u8; i % 7])).collect()
    }

    #[test]
    fn any_number_of_chunks_is_written_in_order() {
        for count in [0, 1, MAX_SLICES - 1, MAX_SLICES, MAX_SLICES + 1, 3000] {
            let file = tempfile::tempfile().unwrap();
            let mut data = chunks(count);
            let wanted = data.concat();
            write_at(&file, 5, &mut data).unwrap();
            assert_eq!(read_at(&file, 5, wanted.len()).unwrap(), wanted, "{count}");
            assert_eq!(file.metadata().unwrap().len(), if wanted.is_empty() { 0 } else { 5 + wanted.len() as u64 });
        }
    }

    #[test]
    fn a_full_device_is_no_space() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = Error::storage("x", write_at(&full, 0, &mut [Bytes::from_static(b"x")]).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn a_failed_sync_spoils_every_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::root(dir.path()).unwrap();
        let path = EntryPath::new("f").unwrap();
        let Opened::Ours(part) = Part::open(&folder, path.clone(), path).unwrap() else { panic!("locked") };
        part.sync().unwrap();
        let failure = |_: &File| Err(io::Error::from(Errno::IO));
        assert_eq!(part.sync_by(failure).unwrap_err().kind(), ErrorKind::Storage);
        assert_eq!(part.sync().unwrap_err().kind(), ErrorKind::Storage);
        part.reset().unwrap();
        assert!(part.sync().is_err() && part.complete(0, None).is_err());
    }

    #[test]
    fn a_file_that_was_finished_before_it_could_be_locked_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::root(dir.path()).unwrap();
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
