//! [`EntryPath`]: a relative path that can't leave its folder.
//!
//! Names come from servers, URLs and lists, and whoever wrote them may mean harm. They are made safe once, here, for every
//! system that a folder may be shared with, and never decoded again afterwards.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The longest component in bytes: what file systems allow (255), less the longest suffix that dlm adds to it.
const MAX_COMPONENT: usize = 255 - LONGEST_SUFFIX;

/// The most components that a path may have. Real trees are far less deep; each costs an open.
const MAX_DEPTH: usize = 64;

/// The longest path in bytes, so that with the folder it goes to it stays under the usual `PATH_MAX` of 4096.
const MAX_PATH: usize = 2048;

/// What dlm adds to the name of an entry for files of its own. No entry may have a name like that.
const OWN_SUFFIXES: [&str; 5] = [PART, CONTROL, LOG, CONTROL_TEMPORARY, REST];
const LONGEST_SUFFIX: usize = REST.len();

/// The suffix of a file that is not complete.
pub(crate) const PART: &str = ".part";
/// The suffix of the record of what is durable.
pub(crate) const CONTROL: &str = ".part.dlm";
/// The suffix of the log of what was written since.
pub(crate) const LOG: &str = ".part.dlm-log";
/// The suffix of a record that is being written.
pub(crate) const CONTROL_TEMPORARY: &str = ".part.dlm-tmp";

/// The suffix of the file that has what was written of entries that are not wanted.
pub(crate) const REST: &str = ".part.dlm-rest";

/// The longest extension, with its dot, that is kept when a name is cut.
const MAX_EXTENSION: usize = 32;

/// What stands in for something that may not stay.
const PLACEHOLDER: char = '_';

/// A relative path that can't leave its folder, whatever a server called it. Checked once, when it is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(String);

impl EntryPath {
    /// A path of one component from a name that a server, a URL or a header suggests, made safe. Of a path only what
    /// follows the last separator counts. Control characters, characters that reverse or hide text, names that a file
    /// system, a shell or dlm itself treats specially are replaced; a name that is too long is cut, but keeps its
    /// extension. `None` if nothing is left of it.
    pub fn from_untrusted_name(name: &str) -> Option<Self> {
        let last = name.rsplit(['/', '\\']).next()?;
        clean(last, false).map(Self)
    }

    /// A path from the components that a list or a container gives, each made safe as
    /// [`from_untrusted_name`](Self::from_untrusted_name) does it, except that a separator inside of a component is
    /// replaced, and a dot at the start of all but the first stays: what is hidden inside of a folder of its own is no
    /// configuration of whoever downloads it. Fails with [`ErrorKind::InvalidInput`] when there is no component, when one is
    /// empty, `.` or `..`, and when there are too many.
    pub fn from_untrusted<I>(components: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut path = String::new();
        for (i, component) in components.into_iter().enumerate() {
            let component = component.as_ref();
            if matches!(component, "" | "." | "..") || i >= MAX_DEPTH {
                return Err(Error::new(ErrorKind::InvalidInput, "a path with a component that it may not have")
                    .with("component", component.escape_debug())
                    .with("at", i));
            }
            if i > 0 {
                path.push('/');
            }
            path.push_str(&clean(component, i > 0).unwrap_or_else(|| PLACEHOLDER.into()));
            if path.len() > MAX_PATH {
                return Err(Error::new(ErrorKind::InvalidInput, "the path is too long").with("limit", MAX_PATH));
            }
        }
        Self::new(&path)
    }

    /// A path that must be right as it stands, its components separated by `/`: one that the user chose, or that was
    /// made safe before. Fails with [`ErrorKind::InvalidInput`] for anything that could leave the folder, doesn't fit
    /// into a file system, or is like a name that dlm gives to files of its own.
    pub fn new(path: &str) -> Result<Self> {
        match fault(path) {
            None => Ok(Self(path.to_owned())),
            Some(why) => {
                let shown: String = path.chars().take(MAX_COMPONENT).collect();
                Err(Error::new(ErrorKind::InvalidInput, why).with("path", shown.escape_debug()))
            }
        }
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

    /// The first component, alone.
    #[cfg(feature = "engine")]
    pub(crate) fn top(&self) -> Option<Self> {
        self.components().next().map(|top| Self(top.to_owned()))
    }

    /// The folder that it is in: a path, or nothing for the folder that everything is relative to.
    #[cfg(feature = "engine")]
    pub(crate) fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// The same path with a number before its extension: `a/b.1.iso` for `a/b.iso`.
    #[cfg(feature = "engine")]
    pub(crate) fn numbered(&self, number: u32) -> Self {
        let (stem, extension) = split_extension(self.file_name());
        let number = format!(".{number}");
        let folder = &self.0[..self.0.len() - self.file_name().len()];
        let room = MAX_COMPONENT.min(MAX_PATH - folder.len());
        let stem = cut(stem, room.saturating_sub(number.len() + extension.len()));
        Self(format!("{folder}{stem}{number}{extension}"))
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

/// Why a path isn't right as it stands.
fn fault(path: &str) -> Option<&'static str> {
    if path.len() > MAX_PATH {
        return Some("the path is too long");
    }
    if path.split('/').count() > MAX_DEPTH {
        return Some("the path has too many components");
    }
    path.split('/').find_map(|component| {
        if matches!(component, "" | "." | "..") || component.contains('\\') {
            Some("not a safe relative path")
        } else if component.chars().any(char::is_control) {
            Some("a path with control characters")
        } else if component.len() > MAX_COMPONENT {
            Some("a name in the path is too long")
        } else if own_suffix(component).is_some() {
            Some("a name in the path ends like the files that dlm keeps for itself")
        } else {
            None
        }
    })
}

/// One component made safe; `None` if nothing is left of it.
fn clean(component: &str, may_be_hidden: bool) -> Option<String> {
    let text: String = component.chars().map(|c| if is_harmful(c) { PLACEHOLDER } else { c }).collect();
    // Windows drops dots and spaces at the end, so that `x.` would be another name for `x`.
    let text = text.trim_start().trim_end_matches(is_dropped_at_end);
    let first = text.chars().next()?;
    // A dash makes an option of it, a dot hides it, and a tilde is a home folder to a shell.
    let mut name = match first {
        '.' if may_be_hidden => text.to_owned(),
        '-' | '.' | '~' => format!("{PLACEHOLDER}{}", &text[1..]),
        _ => text.to_owned(),
    };
    shorten(&mut name);
    if name.is_empty() {
        return None;
    }
    // Last, since cutting can leave the name of a device.
    if is_device(&name) {
        name.insert(0, PLACEHOLDER);
        shorten(&mut name);
    }
    if let Some(dot) = own_suffix(&name) {
        name.replace_range(dot..=dot, "_");
    }
    Some(name)
}

/// Cuts a name that is too long, so that it keeps its extension.
fn shorten(name: &mut String) {
    if name.len() > MAX_COMPONENT {
        let (stem, extension) = split_extension(name);
        let stem = cut(stem, MAX_COMPONENT - extension.len());
        *name = format!("{stem}{extension}");
        name.truncate(name.trim_end_matches(is_dropped_at_end).len());
    }
}

/// What no name should hold: separators and what else Windows forbids, control characters, and characters that reverse or
/// hide the text around them. The joiners U+200C and U+200D stay, since words of some scripts need them.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn is_dropped_at_end(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$") {
        return true;
    }
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let mut rest = port.unwrap_or_default().chars();
    matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
}

/// Where one of dlm's own suffixes starts in the name, if it has one. Case doesn't count: it doesn't on some file systems.
fn own_suffix(name: &str) -> Option<usize> {
    OWN_SUFFIXES.iter().find_map(|suffix| {
        let start = name.len().checked_sub(suffix.len())?;
        name.get(start..)?.eq_ignore_ascii_case(suffix).then_some(start)
    })
}

/// The name up to its extension, and the extension with its dot; none where it is too long to be one.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// The longest start of `text` that is whole characters and at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
