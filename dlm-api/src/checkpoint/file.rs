//! [`FileCheckpoint`]: a checkpoint beside the files it is about.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rustix::fs::OFlags;

use super::journal::{self, Binding, HEADER, MAX_LOG, decode_log};
use super::record::{MAX_RECORD, Record};
use super::{CheckpointStore, Loaded};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::{Folder, PRIVATE, blocking, failed};
use crate::path::{CONTROL, CONTROL_TEMPORARY, EntryPath, LOG, PART};
use crate::span::EntryId;
use crate::sync::lock;

/// How many names of a folder [`FileCheckpoint::find`] looks at: enough for a full downloads folder, and done in a moment.
const MAX_NAMES: usize = 1 << 16;
/// How many bytes of records it reads in all.
const MAX_FIND: u64 = 4 * MAX_RECORD as u64;

/// A checkpoint in files beside those it is about: `NAME.part.dlm` is the record, `NAME.part.dlm-log` the log. They are the
/// owner's alone, since a record names what is downloaded. No symbolic link beneath the folder is followed.
#[derive(Clone, Debug)]
pub struct FileCheckpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    path: EntryPath,
    boot: Option<[u8; 16]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folder: Option<Arc<Folder>>,
    /// The lengths of the entries of the record that was saved.
    saved: Option<Vec<Option<u64>>>,
    /// The log that extends it, where there can be one.
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    binding: Binding,
    /// How long it is.
    len: u64,
}

impl FileCheckpoint {
    /// The checkpoint of the download that goes to `path` in `root`: of its only file, or of the folder of its files.
    pub fn new(root: impl Into<PathBuf>, path: EntryPath) -> Self {
        Self::with_boot(root, path, journal::boot())
    }

    /// [`new`](Self::new) as if in another boot of the machine, or in one that can't be told from others.
    pub(super) fn with_boot(root: impl Into<PathBuf>, path: EntryPath, boot: Option<[u8; 16]>) -> Self {
        Self(Arc::new(Inner { root: root.into(), path, boot, state: Mutex::default() }))
    }

    /// The path in `root` of an unfinished download that has a source with this [`key`](super::source_key), if its
    /// checkpoint is right in `root`, for when the name isn't known before a server is asked. Of more than one the first
    /// by name; checkpoints that can't be read are passed over. Looks at 65,536 names and reads 256 MiB at most.
    pub async fn find(root: impl Into<PathBuf>, key: &str) -> Result<Option<EntryPath>> {
        let (root, key) = (root.into(), key.to_owned());
        blocking(move || {
            let find = || -> io::Result<Option<EntryPath>> {
                let folder = Folder::existing(&root)?;
                let mut left = MAX_FIND;
                for name in folder.names(CONTROL, MAX_NAMES)? {
                    let Ok(bytes) = read(&folder, &name, left.min(MAX_RECORD as u64)) else { continue };
                    left = left.saturating_sub(bytes.len() as u64);
                    let Ok((record, _)) = Record::decode(&bytes) else { continue };
                    let path = name.strip_suffix(CONTROL).and_then(|name| EntryPath::new(name).ok());
                    let is_it =
                        record.sources.iter().any(|source| source.key == key) && is_unfinished(&folder, &record);
                    if let (Some(path), true) = (path, is_it) {
                        return Ok(Some(path));
                    }
                }
                Ok(None)
            };
            match find() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                result => result.map_err(|e| failed("cannot look through the folder", &root, e)),
            }
        })
        .await
    }

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
impl CheckpointStore for FileCheckpoint {
    async fn load(&self) -> Result<Loaded> {
        self.blocking(Inner::load).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let record = record.clone();
        self.blocking(move |inner| inner.save(&record)).await
    }

    async fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        let written = written.to_owned();
        self.blocking(move |inner| inner.append(&written)).await
    }

    async fn remove(&self) -> Result<()> {
        self.blocking(Inner::remove).await
    }
}

impl Inner {
    fn load(&self) -> Result<Loaded> {
        let mut state = lock(&self.state);
        let Some(folder) = self.folder(&mut state, false)? else { return Ok(Loaded::default()) };
        let Some(bytes) = self.read(&folder, CONTROL, MAX_RECORD)? else { return Ok(Loaded::default()) };
        let (record, generation) = Record::decode(&bytes).map_err(|e| e.with("path", self.file(CONTROL).display()))?;
        let mut loaded = Loaded::default();
        if let (Some(boot), Some(log)) = (self.boot, self.read(&folder, LOG, MAX_LOG)?) {
            let binding = Binding { boot, generation };
            loaded.is_same_boot = log.starts_with(&binding.header());
            loaded.written = decode_log(&log, &binding, &record);
        }
        loaded.record = Some(record);
        Ok(loaded)
    }

    fn save(&self, record: &Record) -> Result<()> {
        let (bytes, generation) = record.encode()?;
        let mut state = lock(&self.state);
        // Whatever happens, what is written from here on extends no record before this one.
        (state.log, state.saved) = (None, None);
        let Some(folder) = self.folder(&mut state, true)? else {
            return Err(Error::new(ErrorKind::NotFound, "the folder is gone").with("path", self.root.display()));
        };

        let (temporary, control, log) = (self.name(CONTROL_TEMPORARY), self.name(CONTROL), self.name(LOG));
        let replace = || -> io::Result<()> {
            folder.remove(&temporary)?;
            let mut file = folder.create(&temporary, PRIVATE)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            folder.rename(&temporary, &control)?;
            folder.sync()
        };
        if let Err(e) = replace() {
            // What is left of it means nothing, and the error says more than a failure to clean up.
            let _ = folder.remove(&temporary);
            return Err(failed("cannot write the control file", &self.file(CONTROL), e));
        }

        state.saved = Some(record.entries.iter().map(|entry| entry.len).collect());
        let Some(boot) = self.boot else { return Ok(()) };
        let binding = Binding { boot, generation };
        let start = || -> io::Result<File> {
            folder.remove(&log)?;
            let file = folder.create(&log, PRIVATE)?;
            file.write_all_at(&binding.header(), 0)?;
            Ok(file)
        };
        let file = start().map_err(|e| failed("cannot start the log", &self.file(LOG), e))?;
        state.log = Some(Log { file, binding, len: HEADER as u64 });
        Ok(())
    }

    fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        let mut state = lock(&self.state);
        let State { saved, log, .. } = &mut *state;
        let Some(saved) = saved else {
            return Err(Error::new(ErrorKind::InvalidInput, "no record was saved that the log could extend"));
        };
        journal::check(saved, written)?;
        let Some(log) = log else { return Ok(()) };
        let bytes = log.binding.encode(journal::count(log.len), written)?;
        if log.len + bytes.len() as u64 > MAX_LOG as u64 {
            return Ok(());
        }
        // At its place, not at the end: what a write left that failed half-way is written over.
        log.file.write_all_at(&bytes, log.len).map_err(|e| failed("cannot write the log", &self.file(LOG), e))?;
        log.len += bytes.len() as u64;
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let mut state = lock(&self.state);
        (state.log, state.saved) = (None, None);
        let Some(folder) = self.folder(&mut state, false)? else { return Ok(()) };
        // The log first: without its record it means nothing.
        for suffix in [LOG, CONTROL_TEMPORARY, CONTROL] {
            folder
                .remove(&self.name(suffix))
                .map_err(|e| failed("cannot remove the control file", &self.file(suffix), e))?;
        }
        Ok(())
    }

    /// The folder that the files are in; `None` if it isn't there and is not to be made.
    fn folder(&self, state: &mut State, make: bool) -> Result<Option<Arc<Folder>>> {
        if let Some(folder) = &state.folder {
            return Ok(Some(folder.clone()));
        }
        let open = || -> io::Result<Arc<Folder>> {
            let mut folder = if make { Folder::root(&self.root, None)? } else { Folder::existing(&self.root)? };
            for name in self.path.parent().split('/').filter(|name| !name.is_empty()) {
                if make {
                    folder.make(name)?;
                }
                folder = folder.child(name)?;
            }
            Ok(folder)
        };
        match open() {
            Ok(folder) => Ok(Some(state.folder.insert(folder).clone())),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !make => Ok(None),
            Err(e) => Err(failed("cannot open the folder", &self.file(CONTROL), e)),
        }
    }

    fn read(&self, folder: &Folder, suffix: &str, max: usize) -> Result<Option<Vec<u8>>> {
        match read(folder, &self.name(suffix), max as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("cannot read the control file", &self.file(suffix), e)),
        }
    }

    fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.path.file_name())
    }

    /// For messages.
    fn file(&self, suffix: &str) -> PathBuf {
        self.root.join(format!("{}{suffix}", self.path))
    }
}

/// The file, or one byte more than `max` of it, so that a longer one is seen to be longer.
fn read(folder: &Folder, name: &str, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    folder.open(name, OFlags::RDONLY)?.take(max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether there is an entry of which the part file is there; of many, those that were begun may all be finished.
fn is_unfinished(root: &Arc<Folder>, record: &Record) -> bool {
    let is_one = record.entries.len() == 1;
    record.entries.iter().any(|entry| {
        let name = entry.place().file_name();
        let is_there = |folder: &Arc<Folder>, name: &str| folder.kind_of(name).is_ok_and(|kind| kind.is_some());
        root.descend(entry.place().parent())
            .is_ok_and(|folder| is_there(&folder, &format!("{name}{PART}")) || (!is_one && is_there(&folder, name)))
    })
}
