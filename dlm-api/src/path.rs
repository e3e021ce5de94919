//! [`EntryPath`]: a relative path that can't leave its folder.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// A relative path that can't leave its folder, whatever a server called it. Checked once, when it is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(String);

impl EntryPath {
    /// A path of one component from a name that a server, a URL or a header suggests, made safe: separators, control
    /// characters and names that a file system treats specially are replaced. `None` if nothing is left of it.
    pub fn from_untrusted_name(name: &str) -> Option<Self> {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        Self::new(last).ok()
    }

    /// A path that must be safe as it stands, its components separated by `/`.
    pub fn new(path: &str) -> Result<Self> {
        let safe = !path.is_empty()
            && path
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']));
        if !safe {
            return Err(
                Error::new(ErrorKind::InvalidInput, "not a safe relative path").with("path", path.escape_debug())
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// The path, its components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; never empty.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.components().next_back().unwrap_or_default()
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
