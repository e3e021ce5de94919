//! [`ExistingFiles`]: files that are there, to be checked and shared, and never changed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Entry, EntryKind, Prepared, Sink, SinkInfo, Stamp, padding};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::blocking;
use crate::folder::pool::{Handle, Pool};
use crate::path::EntryPath;
use crate::span::{EntryId, Span};
use crate::sync::lock;

/// How many files are open at a time: a quarter of the 1,024 that a process may usually have.
const OPEN_FILES: usize = 256;

/// The most bytes that one read gives, as [`FileSink`](super::FileSink) has it.
const MAX_READ: u64 = 16 << 20;

/// Files that are there, to be checked and shared. Each may be anywhere, under any name. Nothing is ever written: neither to
/// them nor beside them, and they are opened to be read only. Goes with [`Download::share_only`](crate::Download::share_only).
#[derive(Clone)]
pub struct ExistingFiles(Arc<Inner>);

struct Inner {
    files: HashMap<EntryPath, PathBuf>,
    pool: Arc<Pool>,
    places: Mutex<HashMap<EntryId, Place>>,
}

/// Where an entry is.
#[derive(Clone)]
enum Place {
    File(Arc<Existing>),
    Padding(Option<u64>),
}

struct Existing {
    path: PathBuf,
    stamp: Stamp,
    handle: Arc<Handle>,
}

impl ExistingFiles {
    /// Where the files of these entries are. The others are missing.
    pub fn new(files: impl IntoIterator<Item = (EntryPath, PathBuf)>) -> Self {
        let files = files.into_iter().collect();
        Self(Arc::new(Inner { files, pool: Pool::new(OPEN_FILES), places: Mutex::default() }))
    }
}

impl Inner {
    fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        if entry.kind == EntryKind::Padding {
            lock(&self.places).insert(entry.id, Place::Padding(entry.len));
            return Ok(Prepared::empty());
        }
        let Some(path) = self.files.get(&entry.path) else { return Ok(Prepared::empty()) };
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Prepared::empty()),
            metadata => metadata.map_err(|error| failed("cannot look at the file", path, error))?,
        };
        if !metadata.is_file() {
            return Ok(Prepared::empty());
        }
        let stamp = Stamp { device: metadata.dev(), inode: metadata.ino() };
        let size = metadata.len().min(entry.len.unwrap_or(u64::MAX));
        let existing = if size > 0 { vec![Span::new(entry.id, 0..size)] } else { Vec::new() };
        let mut places = lock(&self.places);
        let is_known = matches!(places.get(&entry.id), Some(Place::File(file)) if file.stamp == stamp);
        if !is_known {
            let file = Existing { path: path.clone(), stamp, handle: Handle::closed(&self.pool) };
            places.insert(entry.id, Place::File(Arc::new(file)));
        }
        Ok(Prepared::empty().with_existing(existing).with_stamp(stamp).with_taken_over(true))
    }

    fn place(&self, entry: EntryId) -> Result<Place> {
        let missing = || Error::new(ErrorKind::NotFound, "there is no file of this entry").with("entry", entry);
        lock(&self.places).get(&entry).cloned().ok_or_else(missing)
    }
}

impl Existing {
    /// The file, which is opened if it was closed. Blocks.
    fn open(&self) -> Result<Arc<File>> {
        self.handle.get_or(|| {
            let open = || {
                let file = File::open(&self.path)?;
                let metadata = file.metadata()?;
                Ok((Stamp { device: metadata.dev(), inode: metadata.ino() } == self.stamp).then_some(file))
            };
            open().map_err(|error| failed("cannot open the file", &self.path, error))?.ok_or_else(|| {
                Error::new(ErrorKind::Storage, "the file was replaced by another one").with("path", self.path.display())
            })
        })
    }

    fn read(&self, file: &File, span: &Span) -> Result<Bytes> {
        let mut buffer = vec![0; span.len() as usize];
        let read = file.read_exact_at(&mut buffer, span.range.start);
        read.map_err(|error| failed("cannot read", &self.path, error))?;
        Ok(buffer.into())
    }
}

#[async_trait]
impl Sink for ExistingFiles {
    fn info(&self) -> SinkInfo {
        SinkInfo::random_access()
    }

    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        let (inner, entry) = (self.0.clone(), entry.clone());
        blocking(move || inner.prepare(&entry)).await
    }

    async fn write(&self, entry: EntryId, _: u64, _: Vec<Bytes>) -> Result<()> {
        Err(Error::new(ErrorKind::Denied, "the file is only to be shared").with("entry", entry))
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        if span.is_empty() || span.len() > MAX_READ {
            return Err(Error::new(ErrorKind::InvalidInput, "a read of nothing or of too much")
                .with("bytes", span.len())
                .with("limit", MAX_READ));
        }
        match self.0.place(span.entry)? {
            Place::Padding(len) => padding::read(span, len),
            // As a `FileSink` does: to hand the bytes over to another thread costs more.
            Place::File(file) => match file.handle.get() {
                Some(open) => file.read(&open, span),
                None => {
                    let span = span.clone();
                    blocking(move || file.read(&*file.open()?, &span)).await
                }
            },
        }
    }

    async fn sync(&self, _: EntryId) -> Result<()> {
        Ok(())
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        self.write(entry, 0, Vec::new()).await
    }

    async fn finish(&self, _: &Entry) -> Result<()> {
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self, entry: EntryId) -> Option<PathBuf> {
        match lock(&self.0.places).get(&entry)? {
            Place::File(file) => Some(file.path.clone()),
            Place::Padding(_) => None,
        }
    }
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> Error {
    Error::storage(what, error).with("path", path.display())
}

impl fmt::Debug for ExistingFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExistingFiles").field("files", &self.0.files.len()).finish_non_exhaustive()
    }
}
