//! [`Folders`]: the folders of a [`FileSink`](super::FileSink).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::error::Result;
use crate::folder::pool::Pool;
use crate::folder::{Folder, failed};
use crate::path::EntryPath;

/// The folders of a sink.
#[derive(Debug, Default)]
pub(super) struct Folders {
    root: Option<Arc<Folder>>,
    /// The folders in use, by path.
    pub(super) used: HashMap<String, Weak<Folder>>,
    /// The paths of those that this sink made, outer ones first.
    made: Vec<String>,
}

impl Folders {
    /// The folder of `path` beneath `root`.
    pub(super) fn of(&mut self, path: &EntryPath, make: bool, root: &Path, pool: &Arc<Pool>) -> Result<Arc<Folder>> {
        let mut folder = match &self.root {
            Some(root) => root.clone(),
            None => {
                let opened = Folder::root(root, Some(pool)).map_err(|e| failed("cannot open the folder", root, e))?;
                self.root.insert(opened).clone()
            }
        };
        let parent = path.parent();
        let ends = parent.match_indices('/').map(|(at, _)| at).chain((!parent.is_empty()).then_some(parent.len()));
        for end in ends {
            let path = &parent[..end];
            if let Some(used) = self.used.get(path).and_then(Weak::upgrade) {
                folder = used;
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or_default();
            let at = folder.path().join(name);
            let result = if make { folder.make(name) } else { Ok(false) };
            if result.map_err(|e| failed("cannot make the folder", &at, e))? {
                self.made.push(path.to_owned());
            }
            folder = folder.child(name).map_err(|e| failed("cannot open the folder", &at, e))?;
            self.used.insert(path.to_owned(), Arc::downgrade(&folder));
        }
        Ok(folder)
    }

    /// Removes the folders that this sink made and in which there is nothing, but for those that are in use.
    pub(super) fn remove_empty(&mut self) {
        let Some(root) = &self.root else { return };
        let mut kept = Vec::new();
        for path in self.made.drain(..).rev() {
            if self.used.get(&path).is_some_and(|folder| folder.strong_count() > 0) {
                kept.push(path);
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match root.descend(parent).and_then(|parent| parent.remove_folder(name)) {
                Ok(_) => drop(self.used.remove(&path)),
                // Most likely something is in it.
                Err(_) => kept.push(path),
            }
        }
        kept.reverse();
        self.made = kept;
    }
}
