//! [`Folder`]: an open folder, and what is done to the names in it.
//!
//! Everything is relative to an open descriptor, one component at a time, and a symbolic link is never followed: whoever
//! can write to the folder can't lead a write out of it. As components hold no separator and are never `..`, that keeps
//! all beneath the root without help from newer kernels, and there is one way to do it rather than two.

pub(crate) mod pool;

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::pool::{Handle, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Stamp;

/// What a new file may be, less the umask: everyone may read and write it.
pub(crate) const PUBLIC: Mode = Mode::from_raw_mode(0o666);
/// A new file that is the owner's alone.
pub(crate) const PRIVATE: Mode = Mode::from_raw_mode(0o600);
/// Why a folder that was opened again is not used.
const REPLACED: &str = "the folder was replaced by another one";
/// What a new folder may be, less the umask.
const FOLDER: Mode = Mode::from_raw_mode(0o777);

/// A folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: Arc<Handle>,
    path: PathBuf,
    parent: Option<Parent>,
    /// What the folders beneath it share, if they are not to be open all the time.
    pool: Option<Arc<Pool>>,
}

/// Where a folder is opened again.
#[derive(Debug)]
struct Parent {
    folder: Arc<Folder>,
    name: String,
    stamp: Stamp,
}

impl Folder {
    /// Opens the folder that all others are relative to, and makes it if it isn't there. The path is the user's: it may
    /// go through symbolic links. It stays open, and so do those beneath it, unless they share a `pool`.
    pub(crate) fn root(path: &Path, pool: Option<&Arc<Pool>>) -> io::Result<Arc<Self>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).count();
        fs::create_dir_all(path)?;
        for made in path.ancestors().take(missing) {
            let parent = made.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A parent that may not be read can't be synced. If a power cut takes the folder, its records go with it.
            if let Ok(parent) = File::open(parent) {
                parent.sync_all()?;
            }
        }
        Self::open_root(path, pool)
    }

    /// Opens a folder that exists, without making it: for a look at what is there.
    pub(crate) fn existing(path: &Path) -> io::Result<Arc<Self>> {
        Self::open_root(if path.as_os_str().is_empty() { Path::new(".") } else { path }, None)
    }

    fn open_root(path: &Path, pool: Option<&Arc<Pool>>) -> io::Result<Arc<Self>> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let handle = Handle::pinned(file.into());
        Ok(Arc::new(Self { handle, path: path.to_owned(), parent: None, pool: pool.cloned() }))
    }

    /// Opens the folder `name` in this one.
    pub(crate) fn child(self: &Arc<Self>, name: &str) -> io::Result<Arc<Self>> {
        // Before it is opened, so that there is a descriptor to be had.
        let room = self.pool.as_ref().map(|pool| pool.room());
        let file = self.open_child(name)?;
        let stamp = stamp_of(&file)?;
        let handle = match room {
            Some(room) => Handle::opened(file, &room),
            None => Handle::pinned(file),
        };
        let parent = Parent { folder: self.clone(), name: name.to_owned(), stamp };
        Ok(Arc::new(Self { handle, path: self.path.join(name), parent: Some(parent), pool: self.pool.clone() }))
    }

    fn open_child(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&*self.file()?, name, flags, Mode::empty())?.into())
    }

    /// The open folder. It is opened again if it was closed, and then it must still be the same.
    fn file(&self) -> io::Result<Arc<File>> {
        self.handle.get_or(|| match &self.parent {
            Some(Parent { folder, name, stamp }) => {
                let file = folder.open_child(name)?;
                if stamp_of(&file)? == *stamp { Ok(file) } else { Err(io::Error::other(REPLACED)) }
            }
            None => Err(io::Error::other("the folder is not open")),
        })
    }

    /// Makes the folder `name` in this one; whether it wasn't there before.
    pub(crate) fn make(&self, name: &str) -> io::Result<bool> {
        let folder = self.file()?;
        let is_new = match rustix::fs::mkdirat(&*folder, name, FOLDER) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e.into()),
        };
        if is_new {
            self.changed();
        } else {
            // An earlier run may have made it, and died before it was on stable storage.
            self.may_be_changed();
        }
        Ok(is_new)
    }

    /// Opens the folder at the end of `path`, which is relative to this one, or this one if it is empty.
    pub(crate) fn descend(self: &Arc<Self>, path: &str) -> io::Result<Arc<Self>> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(self.clone(), |folder, name| folder.child(name))
    }

    /// Where it is, as it was opened. For people and for messages only.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the regular file `name`, which must exist.
    pub(crate) fn open(&self, name: &str, access: OFlags) -> io::Result<File> {
        // A pipe would block the open without `NONBLOCK`; to a regular file it means nothing.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&*self.file()?, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
    }

    /// Makes the file `name`, which must not exist, to be read and written.
    pub(crate) fn create(&self, name: &str, mode: Mode) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.file()?;
        let file = rustix::fs::openat(&*folder, name, flags, mode)?;
        self.changed();
        Ok(file.into())
    }

    /// What `name` is, a symbolic link being one; `None` if there is nothing.
    pub(crate) fn kind_of(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&*self.file()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether `name` is still the file with this stamp.
    pub(crate) fn holds(&self, name: &str, stamp: Stamp) -> io::Result<bool> {
        match rustix::fs::statat(&*self.file()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Stamp { device: stat.st_dev, inode: stat.st_ino } == stamp),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives `from` the name `to`, in place of what had it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = self.file()?;
        rustix::fs::renameat(&*folder, from, &*folder, to)?;
        self.changed();
        Ok(())
    }

    /// Gives `from` the name `to`; fails with `AlreadyExists` if something has it.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = self.file()?;
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        match rustix::fs::renameat_with(&*folder, from, &*folder, to, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.changed();
                return Ok(());
            }
            // A file system, a kernel or a sandbox that doesn't know how.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
        self.link_new(from, to)
    }

    /// [`rename_new`](Self::rename_new) where the file system can't do it in one step.
    fn link_new(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = self.file()?;
        match rustix::fs::linkat(&*folder, from, &*folder, to, AtFlags::empty()) {
            Ok(()) => {
                self.changed();
                self.remove(from).map(|_| ())
            }
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => self.look_and_rename(from, to),
            Err(e) => Err(e.into()),
        }
    }

    /// [`rename_new`](Self::rename_new) where there are no hard links either. There is a moment between look and rename, but
    /// refusing would be worse.
    fn look_and_rename(&self, from: &str, to: &str) -> io::Result<()> {
        match self.kind_of(to)? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => self.rename(from, to),
        }
    }

    /// Removes the file `name`; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes the folder `name`, which must be empty; whether it was there.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<bool> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> io::Result<bool> {
        let folder = self.file()?;
        match rustix::fs::unlinkat(&*folder, name, flags) {
            Ok(()) => {
                self.changed();
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The names in it that end in `suffix`, sorted. Looks at `limit` names at most.
    pub(crate) fn names(&self, suffix: &str, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in Dir::read_from(&*self.file()?)?.take(limit) {
            let item = item?;
            if let Some(name) = utf8(item.file_name()).filter(|name| name.ends_with(suffix)) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Says that a name in it may not be on stable storage, so that the next sync is not left out. The folder is held
    /// open from before the change, so that it is not closed between the two.
    fn changed(&self) {
        self.handle.changed();
    }

    /// The same of a change that an earlier run may have made.
    pub(crate) fn may_be_changed(&self) {
        self.handle.unsure();
    }

    /// Returns when every name that was changed before the call is on stable storage, those of the folder itself and of
    /// the folders around it among them.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if let Some(parent) = &self.parent {
            parent.folder.sync()?;
        }
        if self.handle.is_synced()? { Ok(()) } else { self.handle.sync(&*self.file()?, File::sync_all) }
    }
}

/// What tells this file from another one.
pub(crate) fn stamp_of(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok(Stamp { device: metadata.dev(), inode: metadata.ino() })
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "not a regular file")
}

/// The error of something that was done to `path`.
pub(crate) fn failed(message: &'static str, path: &Path, cause: io::Error) -> Error {
    let is_link = [Errno::LOOP, Errno::NOTDIR].iter().any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()));
    let error = Error::storage(message, cause).with("path", path.display());
    if !is_link {
        return error;
    }
    // The message of the cause speaks of levels of symbolic links, when there is one.
    let refused = "a symbolic link, or not a folder, where a file or folder should be";
    Error::new(ErrorKind::Denied, refused).with("path", path.display()).with_scope(error.scope()).with_source(error)
}

/// Runs what blocks on a thread that may block. It is run to its end even if the caller stops waiting.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => {
            Err(Error::new(ErrorKind::Cancelled, "the runtime was shut down during work on a file").with_source(e))
        }
    }
}

fn utf8(name: &CStr) -> Option<&str> {
    name.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    #[test]
    fn every_way_to_rename_refuses_to_replace() {
        type Rename = fn(&Folder, &str, &str) -> io::Result<()>;
        for rename in [Folder::rename_new as Rename, Folder::link_new, Folder::look_and_rename] {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::root(dir.path(), None).unwrap();
            write(&dir.path().join("a"), "new");
            write(&dir.path().join("b"), "old");
            assert_eq!(rename(&folder, "a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "old");
            // Not even a link that leads nowhere is replaced.
            symlink("nowhere", dir.path().join("c")).unwrap();
            assert_eq!(rename(&folder, "a", "c").unwrap_err().kind(), io::ErrorKind::AlreadyExists);

            rename(&folder, "a", "d").unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("d")).unwrap(), "new");
            assert!(!dir.path().join("a").exists());
        }
    }

    #[test]
    fn a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        write(&other.path().join("f"), "theirs");
        symlink(other.path(), dir.path().join("sub")).unwrap();
        symlink(other.path().join("f"), dir.path().join("f")).unwrap();
        let folder = Folder::root(dir.path(), None).unwrap();

        let refused = |e: io::Error| failed("cannot", dir.path(), e).kind();
        assert_eq!(refused(folder.descend("sub").unwrap_err()), ErrorKind::Denied);
        assert_eq!(refused(folder.open("f", OFlags::RDWR).unwrap_err()), ErrorKind::Denied);
        assert!(!folder.make("sub").unwrap());
    }

    #[test]
    fn a_root_is_made_and_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        Folder::root(&deep, None).unwrap();
        assert!(deep.is_dir());
        symlink(&deep, dir.path().join("link")).unwrap();
        Folder::root(&dir.path().join("link"), None).unwrap().create("f", PUBLIC).unwrap();
        assert!(deep.join("f").is_file());
    }

    #[test]
    fn a_failed_sync_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::root(dir.path(), None).unwrap();
        folder.create("a", PUBLIC).unwrap();
        folder.sync().unwrap();
        folder.make("sub").unwrap();
        let failure = |_: &File| Err(io::Error::from(Errno::IO));
        folder.handle.sync(&folder.file().unwrap(), failure).unwrap_err();
        assert!(folder.sync().is_err());
        assert!(folder.child("sub").unwrap().sync().is_err());
    }

    #[test]
    fn a_folder_that_was_closed_must_still_be_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::new(1);
        let root = Folder::root(dir.path(), Some(&pool)).unwrap();
        for name in ["a", "b"] {
            root.make(name).unwrap();
        }
        let a = root.child("a").unwrap();
        a.create("f", PUBLIC).unwrap();
        // Closes the first one.
        let b = root.child("b").unwrap();
        assert!(a.handle.get().is_none() && b.handle.get().is_some());
        a.create("g", PUBLIC).unwrap();
        assert!(dir.path().join("a/g").is_file() && b.handle.get().is_none());

        fs::rename(dir.path().join("b"), dir.path().join("moved")).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        assert_eq!(b.create("f", PUBLIC).unwrap_err().to_string(), REPLACED);
        fs::remove_dir(dir.path().join("b")).unwrap();
        symlink("moved", dir.path().join("b")).unwrap();
        assert_eq!(failed("cannot", dir.path(), b.create("f", PUBLIC).unwrap_err()).kind(), ErrorKind::Denied);
    }
}
