//! [`FileOptions`]: how a [`FileSink`](super::FileSink) makes its files.

use crate::path::EntryPath;

/// How many files a sink has open at a time: enough for the pieces that many peers send at once, and a quarter of the 1,024
/// that a process may usually have, so that some downloads go on side by side, with their connections.
const OPEN_FILES: usize = 256;

/// What becomes of a file that has the final name already.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum OnExists {
    /// The download fails with [`ErrorKind::Exists`](crate::ErrorKind::Exists), before a byte is fetched.
    #[default]
    Fail,
    /// It is replaced, in one step, once the download is complete.
    Overwrite,
    /// The download gets another name: `name.1.ext`, `name.2.ext`, ...
    Rename,
    /// It is left as it is, and nothing is fetched ([`Prepared::skip`](crate::Prepared::skip)).
    Skip,
    /// It is taken over: its bytes may be the right ones ([`Prepared::taken_over`](crate::Prepared::taken_over)). What the
    /// digests of its pieces, or one of the whole that the caller gave, prove to be right is not fetched; without either all of
    /// it is. If all are right, nothing is written, and it stays where it is. Before the first write that changes it, and before a reset, it
    /// becomes the `.part`, so that the final name never shows what is not finished. What was taken over is not removed when the download is given
    /// up. If there is a `.part` as well, the download fails with [`ErrorKind::Exists`](crate::ErrorKind::Exists), since nobody
    /// can say which of the two is meant.
    Check,
}

/// How a [`FileSink`](super::FileSink) makes its files.
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
    /// How many files and folders are open at a time, besides the outermost folder and what is in use at the moment.
    /// Default: 256. One that is needed while it is closed is opened again.
    pub open_files: usize,
    /// The path of the download, beside which the bytes of entries that are not wanted are kept, in `PATH.part.dlm-rest`.
    /// Default: the first component of such an entry's path, which is the same for all where a download has a folder of its
    /// own.
    pub rest: Option<EntryPath>,
}

impl Default for FileOptions {
    fn default() -> Self {
        let on_exists = OnExists::default();
        Self { on_exists, preallocate: true, keep_mtime: true, open_files: OPEN_FILES, rest: None }
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

    /// Sets how many files and folders are open at a time: at least two, a file and its folder.
    #[must_use]
    pub fn with_open_files(mut self, open_files: usize) -> Self {
        self.open_files = open_files;
        self
    }

    /// Sets the path of the download, beside which the bytes of entries that are not wanted are kept.
    #[must_use]
    pub fn with_rest(mut self, path: EntryPath) -> Self {
        self.rest = Some(path);
        self
    }
}
