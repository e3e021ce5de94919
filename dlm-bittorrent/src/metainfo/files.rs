//! The files of a torrent: safe and distinct paths, and where their bytes are.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use dlm_api::{EntryPath, Error, ErrorKind, Result};

/// The most bytes that the paths of a torrent and of its folders may have together. A torrent repeats no folder's name
/// that all its files share, so that a few megabytes of it could otherwise grow to gigabytes.
const MAX_PATHS: usize = 64 << 20;

/// The most names that are tried for files whose own is taken. Some torrents have a few of these; thousands are an attack.
const MAX_RENAMES: u32 = 2048;

/// The longest start of a name, in bytes, that a number is put behind, so that the number isn't cut off.
const MAX_STEM: usize = 160;

/// The longest extension, with its dot, that a number is put before.
const MAX_EXTENSION: usize = 32;

/// One file of a torrent. Its index among the files is the one that `so=` of a magnet link means (BEP 53).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct File {
    /// Where it goes: the torrent's name comes first if it has many files. Made safe, and unlike that of any other file
    /// that is [wanted](Self::is_wanted), on file systems without case too.
    pub path: EntryPath,
    /// Where it starts among the torrent's bytes.
    pub offset: u64,
    /// The number of bytes; 0 for a symbolic link.
    pub len: u64,
    /// It is zeros that bring the next file to the start of a piece (BEP 47): never stored, nor asked for.
    pub is_pad: bool,
    /// It is a symbolic link (BEP 47): never made, since it may lead anywhere.
    pub is_symlink: bool,
    /// It is a program (BEP 47).
    pub is_executable: bool,
    /// It should be hidden (BEP 47).
    pub is_hidden: bool,
    /// Where its path starts in the `info` dictionary; 0 if that has none of its own.
    pub(super) raw_path: u32,
}

impl File {
    /// Whether it is to be stored: neither padding nor a symbolic link.
    pub fn is_wanted(&self) -> bool {
        !self.is_pad && !self.is_symlink
    }

    /// Its bytes among the torrent's.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}

/// The files, and where in them, that hold a range of the torrent's bytes: in order, and none that is empty. Padding is
/// among them.
pub fn spans(files: &[File], range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> + '_ {
    let first = files.partition_point(|file| file.range().end <= range.start);
    files[first..].iter().enumerate().take_while(move |(_, file)| file.offset < range.end).filter_map(
        move |(i, file)| {
            let start = range.start.max(file.offset);
            let end = range.end.min(file.range().end);
            (start < end).then(|| (first + i, start - file.offset..end - file.offset))
        },
    )
}

/// One component of a path as a torrent has it, such that [`EntryPath::from_untrusted`] takes it. Names that point to a
/// folder itself or out of it become an underscore, as with libtorrent.
pub(super) fn component(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    match raw {
        b"" | b"." | b".." => "_".into(),
        _ => String::from_utf8_lossy(raw),
    }
}

/// Gives a new name to every wanted file whose name is taken: by one before it, or by a folder, and whatever its case.
/// Always the same for the same torrent: a number before the extension, the lowest that is free.
pub(super) fn make_distinct(files: &mut [File]) -> Result<()> {
    let mut budget = MAX_PATHS;
    let mut spend = |bytes: usize| {
        budget = budget.checked_sub(bytes).ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, "the paths are too long together").with("limit", MAX_PATHS)
        })?;
        Ok::<_, Error>(())
    };
    // Folders first: no file may be where one has to be.
    let mut taken = HashSet::new();
    for file in files.iter().filter(|file| file.is_wanted()) {
        spend(file.path.as_str().len())?;
        let key = fold(file.path.as_str());
        // Parents of a folder that is known are known.
        for (slash, _) in key.rmatch_indices('/') {
            if taken.contains(&key[..slash]) {
                break;
            }
            spend(slash)?;
            taken.insert(key[..slash].to_owned());
        }
    }
    let mut next_number: HashMap<String, u32> = HashMap::new();
    let mut tried = 0;
    for file in files.iter_mut().filter(|file| file.is_wanted()) {
        let key = fold(file.path.as_str());
        if !taken.contains(&key) {
            taken.insert(key);
            continue;
        }
        let number = next_number.entry(key).or_insert(1);
        loop {
            tried += 1;
            if tried > MAX_RENAMES {
                return Err(Error::new(ErrorKind::TooLarge, "too many files of the same name")
                    .with("path", &file.path)
                    .with("limit", MAX_RENAMES));
            }
            let path = numbered(&file.path, *number)?;
            *number += 1;
            if taken.insert(fold(path.as_str())) {
                file.path = path;
                break;
            }
        }
    }
    Ok(())
}

/// What file systems without case take for the same.
fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    // Upper case first, since some lower case letters share one capital.
    path.to_uppercase().to_lowercase()
}

/// The same path with a number before its extension.
fn numbered(path: &EntryPath, number: u32) -> Result<EntryPath> {
    let name = path.file_name();
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    };
    let mut end = stem.len().min(MAX_STEM);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let name = format!("{}.{number}{extension}", &stem[..end]);
    let mut components: Vec<&str> = path.components().collect();
    components.pop();
    components.push(&name);
    EntryPath::from_untrusted(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, offset: u64, len: u64) -> File {
        File {
            path: EntryPath::new(path).unwrap(),
            offset,
            len,
            is_pad: false,
            is_symlink: false,
            is_executable: false,
            is_hidden: false,
            raw_path: 0,
        }
    }

    fn distinct(paths: &[&str]) -> Vec<String> {
        let mut files: Vec<_> = paths.iter().map(|path| file(path, 0, 0)).collect();
        make_distinct(&mut files).unwrap();
        files.iter().map(|file| file.path.as_str().to_owned()).collect()
    }

    #[test]
    fn names_that_are_taken_get_numbers() {
        assert_eq!(distinct(&["t/a.txt", "t/b.txt"]), ["t/a.txt", "t/b.txt"]);
        assert_eq!(distinct(&["t/a.txt", "t/a.txt", "t/a.txt"]), ["t/a.txt", "t/a.1.txt", "t/a.2.txt"]);
        // Case doesn't tell them apart.
        assert_eq!(distinct(&["t/A.txt", "T/a.TXT", "t/Ä", "t/ä"]), ["t/A.txt", "T/a.1.TXT", "t/Ä", "t/ä.1"]);
        assert_eq!(distinct(&["t/ς", "t/σ", "t/ß", "t/SS"]), ["t/ς", "t/σ.1", "t/ß", "t/SS.1"]);
        // A name given is taken too.
        assert_eq!(distinct(&["a", "a", "a.1"]), ["a", "a.1", "a.1.1"]);
        assert_eq!(distinct(&["a.1", "a", "a"]), ["a.1", "a", "a.2"]);
        // No file is where a folder has to be, whichever comes first.
        assert_eq!(distinct(&["t/a", "t/A/b", "t/a/b/c"]), ["t/a.1", "t/A/b.1", "t/a/b/c"]);
        assert_eq!(distinct(&["t/a/b", "t/a"]), ["t/a/b", "t/a.1"]);
    }

    #[test]
    fn a_long_name_keeps_its_number_and_extension() {
        let long = format!("t/{}.tar", "x".repeat(200));
        let paths = distinct(&[&long, &long]);
        assert!(paths[1].ends_with("xxx.1.tar") && paths[1].len() < long.len(), "{paths:?}");
    }

    #[test]
    fn there_are_bounds() {
        let same: Vec<_> = (0..MAX_RENAMES + 1).map(|_| file("t/a", 0, 0)).collect();
        make_distinct(&mut same.clone()).unwrap();
        let mut more = [&same[..], &same[..1]].concat();
        assert_eq!(make_distinct(&mut more).unwrap_err().kind(), ErrorKind::TooLarge);
        let long: Vec<_> = (0..8).map(|_| "y".repeat(200)).collect();
        let mut files: Vec<_> = (0..MAX_PATHS / 1600).map(|i| file(&format!("{}/{i}", long.join("/")), 0, 0)).collect();
        assert_eq!(make_distinct(&mut files).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn bytes_are_found_in_their_files() {
        let files = [file("a", 0, 10), file("b", 10, 0), file("c", 10, 5), file("d", 15, 0), file("e", 15, 1)];
        let of = |range| spans(&files, range).collect::<Vec<_>>();
        assert_eq!(of(0..16), [(0, 0..10), (2, 0..5), (4, 0..1)]);
        assert_eq!(of(9..11), [(0, 9..10), (2, 0..1)]);
        assert_eq!(of(10..12), [(2, 0..2)]);
        assert_eq!(of(15..99), [(4, 0..1)]);
        assert_eq!(of(3..3), []);
        assert_eq!(of(16..20), []);
    }
}
