//! [`Place`]: where an entry is.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::OFlags;

use super::part::Part;
use super::replaced;
use super::rest::Unwanted;
use crate::error::Result;
use crate::folder::pool::Handle;
use crate::folder::{Folder, failed, stamp_of};
use crate::path::EntryPath;
use crate::sink::Stamp;

/// What a sink knows of an entry.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Held by whoever changes the place, from first look to last step.
    pub(super) change: Mutex<()>,
    /// Held for a moment only, so that it can be asked for anywhere.
    place: RwLock<Place>,
}

/// Where an entry is.
#[derive(Clone, Debug, Default)]
pub(super) enum Place {
    #[default]
    None,
    Part(Arc<Part>),
    Final(Arc<Final>),
    /// A file that was there before.
    Skipped(EntryPath),
    /// Nowhere, with its length if that is known.
    Padding(Option<u64>),
    Unwanted(Arc<Unwanted>),
    /// It was not wanted, and is needed no more.
    Gone,
}

/// A finished file.
#[derive(Clone, Debug)]
pub(super) struct Final {
    pub(super) asked: EntryPath,
    pub(super) path: EntryPath,
    pub(super) stamp: Stamp,
    pub(super) len: u64,
    /// For reads.
    pub(super) handle: Arc<Handle>,
    /// The folder, until the new name is known to be on stable storage.
    pub(super) unsynced: Option<Arc<Folder>>,
}

impl Slot {
    pub(super) fn place(&self) -> Place {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, place: Place) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

impl Place {
    /// The open file, if a read would need one that is open. Never waits.
    pub(super) fn get(&self) -> Option<Arc<File>> {
        match self {
            Self::Part(part) => part.get(),
            Self::Final(file) => file.handle.get(),
            Self::Unwanted(entry) => entry.file.get(),
            Self::None | Self::Skipped(_) | Self::Padding(_) | Self::Gone => None,
        }
    }

    /// Whether there is a file to be read.
    pub(super) fn has_file(&self) -> bool {
        matches!(self, Self::Part(_) | Self::Final(_) | Self::Unwanted(_))
    }
}

impl Final {
    /// The file, which is opened if it was closed. Blocks.
    pub(super) fn file(&self, root: &Path, folder: impl FnOnce() -> Result<Arc<Folder>>) -> Result<Arc<File>> {
        self.handle.get_or(|| {
            let at = root.join(self.path.as_str());
            let opened = folder()?.open(self.path.file_name(), OFlags::RDONLY);
            let file = opened.map_err(|e| failed("cannot open the file", &at, e))?;
            let stamp = stamp_of(&file).map_err(|e| failed("cannot look at the file", &at, e))?;
            if stamp == self.stamp { Ok(file) } else { Err(replaced(&at)) }
        })
    }
}
