//! [`Info`]: the `info` dictionary, which is what the info-hash names.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dlm_api::{EntryPath, Error, ErrorKind, Result, Scope};
use url::Url;

use super::files::{File, component, make_distinct, spans};
use super::geometry::Geometry;
use super::{hybrid, text};
use crate::bencode::{Document, Items, Limits, Value};
use crate::{InfoHash, percent};

/// The number of bytes of a piece's SHA-1.
const HASH_LEN: usize = 20;

/// The name that BitComet gives to files that are padding.
const BITCOMET_PAD: &[u8] = b"_____padding_file_";

/// The `info` dictionary of a torrent (BEP 3): its files and the hashes of its pieces. Cheap to clone.
///
/// Of hybrid torrents (BEP 52) the half of BEP 3 is used. Torrents that have only the other half are
/// [`ErrorKind::Unsupported`].
#[derive(Clone)]
pub struct Info {
    bytes: Bytes,
    hash: InfoHash,
    name: String,
    raw_name: Bytes,
    geometry: Geometry,
    pieces: Bytes,
    files: Arc<[File]>,
    is_single: bool,
    is_private: bool,
    is_hybrid: bool,
    source: Option<String>,
}

/// A file as the dictionary has it.
struct Raw<'d> {
    path: Option<(usize, Items<'d>)>,
    len: u64,
    attributes: &'d [u8],
    is_pad: bool,
}

impl Info {
    /// Reads a dictionary that stands alone, as peers send it (BEP 9). It is not checked against a hash:
    /// [`parse_verified`](Self::parse_verified) does that too.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let document =
            Document::parse(&bytes, &Limits::TORRENT).map_err(|e| e.into_error(ErrorKind::InvalidInput, MALFORMED))?;
        Self::read(&bytes, document.root())
    }

    /// Reads a dictionary if it has this hash. If not, the peers who sent it are to blame: [`ErrorKind::Corrupt`].
    pub fn parse_verified(bytes: Bytes, expected: InfoHash) -> Result<Self> {
        let found = InfoHash::of(&bytes);
        if found != expected {
            return Err(Error::new(ErrorKind::Corrupt, "the metadata of a torrent is not what its info-hash says")
                .with_scope(Scope::Source)
                .with("expected", expected)
                .with("found", found));
        }
        Self::parse(bytes)
    }

    /// Reads the dictionary that stands in `file` as `info`.
    pub(super) fn read(file: &Bytes, info: Value<'_>) -> Result<Self> {
        if info.as_dict().is_none() {
            return Err(invalid("the info of a torrent is not a dictionary", info));
        }
        let has_first_half = info.get("files").is_some() || info.get("length").is_some();
        let version = info.get("meta version").and_then(Value::as_int).unwrap_or(1);
        if version > 2 || (version == 2 && !(has_first_half && info.get("pieces").is_some())) {
            return Err(Error::new(ErrorKind::Unsupported, "a torrent of version 2 only").with("version", version));
        }
        let is_hybrid = version == 2;
        if !is_hybrid && info.get("file tree").is_some() {
            return Err(invalid("a torrent with a file tree but without its version", info));
        }
        let piece_len = info.get("piece length").and_then(Value::as_int).and_then(|len| u32::try_from(len).ok());
        let piece_len = piece_len.filter(|len| *len > 0).ok_or_else(|| invalid("no valid piece length", info))?;
        let hash = InfoHash::of(info.raw());
        let name_at = name_at(info).ok_or_else(|| invalid("the torrent has no name", info))?;
        let raw_name = &file[name_at.clone()];

        let list = info.get("files").and_then(Value::as_list);
        let is_single = list.is_none();
        let raw = match list {
            Some(list) => list.map(Raw::read).collect::<Result<Vec<_>>>()?,
            None => vec![Raw::single(info)?],
        };
        let len = raw.iter().try_fold(0u64, |sum, file| sum.checked_add(file.len));
        let len = len.ok_or_else(|| invalid("the length of a torrent is more than 64 bits", info))?;
        let geometry = Geometry::new(len, piece_len)?;
        let pieces = info.get("pieces").and_then(Value::content).ok_or_else(|| invalid("no hashes of pieces", info))?;
        if pieces.len() != geometry.piece_count() as usize * HASH_LEN {
            return Err(invalid("not one hash for each piece", info)
                .with("pieces", geometry.piece_count())
                .with("bytes", pieces.len()));
        }

        // A folder without a usable name is called by its hash, a file without one is refused, as with libtorrent.
        let name = match (is_usable(raw_name), is_single) {
            (true, _) => component(raw_name),
            (false, false) => hash.to_string().into(),
            (false, true) => return Err(invalid("the torrent has no usable name", info)),
        };
        let start = info.span().start;
        let mut files = place(&raw, &name, is_single, start)?;
        make_distinct(&mut files)?;
        if is_hybrid {
            let filled = files.iter().zip(&raw).filter(|(file, _)| file.is_wanted() && file.len > 0);
            let known = filled.map(|(file, raw)| hybrid::Known {
                path: raw.path.clone().map_or(vec![raw_name], |(_, path)| path.filter_map(Value::as_bytes).collect()),
                offset: file.offset,
                len: file.len,
            });
            hybrid::check(info, piece_len, known)?;
        }
        let name = EntryPath::from_untrusted([&name])?.as_str().to_owned();
        Ok(Self {
            bytes: file.slice(info.span()),
            hash,
            name,
            raw_name: file.slice(name_at),
            geometry,
            pieces: file.slice(pieces),
            files: files.into(),
            is_single,
            is_private: info.get("private").and_then(Value::as_int).is_some_and(|flag| flag != 0),
            is_hybrid,
            source: text(info.get("source")),
        })
    }

    /// Its hash: of the bytes as they stand, never of what they would be if they were written again.
    pub fn info_hash(&self) -> InfoHash {
        self.hash
    }

    /// The dictionary as it stands: what peers are given that ask for it (BEP 9).
    pub fn info_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The torrent's name, made safe: that of its file, or of the folder that all its files are in. The info-hash for a
    /// torrent whose own is of no use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the bytes are cut into pieces and blocks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The length of every piece but the last.
    pub fn piece_len(&self) -> u32 {
        self.geometry.piece_len()
    }

    /// The number of pieces; never 0.
    pub fn piece_count(&self) -> u32 {
        self.geometry.piece_count()
    }

    /// The number of bytes of all files, padding included; never 0.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.geometry.len()
    }

    /// The SHA-1 of a piece, if there is such a piece.
    pub fn piece_hash(&self, piece: u32) -> Option<&[u8; 20]> {
        self.pieces.as_chunks().0.get(piece as usize)
    }

    /// The SHA-1 of all pieces, one after the other: a part of the input, not a copy.
    pub fn piece_hashes(&self) -> Bytes {
        self.pieces.clone()
    }

    /// All files in the order of their bytes, padding and symbolic links included.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The files, by index, and where in them, that hold a range of the torrent's bytes.
    pub fn spans(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> + '_ {
        spans(&self.files, range)
    }

    /// The files, by index, and where in them, that hold a piece.
    pub fn piece_spans(&self, piece: u32) -> impl Iterator<Item = (usize, Range<u64>)> + '_ {
        self.spans(self.geometry.piece_range(piece))
    }

    /// Whether peers may come from its trackers only (BEP 27): no DHT, no exchange of peers, no local discovery.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether it is one file, with the torrent's name, rather than a folder. One whose list has a single file is a folder.
    pub fn is_single(&self) -> bool {
        self.is_single
    }

    /// Whether it has a half of version 2 (BEP 52) too.
    pub fn is_hybrid(&self) -> bool {
        self.is_hybrid
    }

    /// What private trackers add so that the same files get another info-hash.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The path of a file as the torrent has it, the torrent's name first, before it was made safe and distinct. `None` if
    /// there is no such file, or a component would name another place: it is empty, `.` or `..`. Anything else may be in it.
    pub fn raw_path(&self, file: usize) -> Option<Vec<Bytes>> {
        let mut path = vec![self.raw_name.clone()];
        let at = self.files.get(file)?.raw_path as usize;
        if at > 0 {
            let list = Document::parse_prefix(self.bytes.get(at..)?, &Limits::TORRENT).ok()?;
            let components = list.root().as_list().into_iter().flatten().filter_map(Value::as_bytes);
            path.extend(components.map(|component| self.bytes.slice_ref(component)));
        }
        let names_another_place = |component: &Bytes| matches!(&component[..], b"" | b"." | b"..");
        (!path.iter().any(names_another_place)).then_some(path)
    }

    /// Where a web seed (BEP 19) has a file. The URL of a torrent of many files is that of the folder in which the
    /// torrent's is, whether it ends with a slash or not; that of a single file is its own, except that the name follows
    /// a slash. `None` if there is no such file, or no URL can have its name.
    ///
    /// The names are those that the torrent has, before they were made safe and distinct.
    pub fn web_seed_url(&self, seed: &Url, file: usize) -> Option<Url> {
        let components = self.raw_path(file)?;
        let mut path = seed.path().to_owned();
        if self.is_single && !path.ends_with('/') {
            return Some(seed.clone());
        }
        if !path.ends_with('/') {
            path.push('/');
        }
        for (i, component) in components.iter().enumerate() {
            if i > 0 {
                path.push('/');
            }
            percent::encode(component, &mut path);
        }
        let mut url = seed.clone();
        url.set_path(&path);
        Some(url)
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info")
            .field("hash", &self.hash)
            .field("name", &self.name)
            .field("geometry", &self.geometry)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// What is said of bytes that are not even bencoding.
pub(super) const MALFORMED: &str = "not a torrent";

pub(super) fn invalid(message: &'static str, place: Value<'_>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).with("at", place.span().start)
}

/// Where the name stands, preferably the one that is said to be UTF-8: the other may be in any encoding.
fn name_at(info: Value<'_>) -> Option<Range<usize>> {
    ["name.utf-8", "name"].into_iter().find_map(|key| info.get(key)?.content())
}

/// Whether anything would be left of a name.
fn is_usable(name: &[u8]) -> bool {
    !matches!(name, b"." | b"..") && !name.iter().all(|b| b.is_ascii_control() || matches!(b, b'/' | b'\\' | b' '))
}

impl<'d> Raw<'d> {
    fn read(file: Value<'d>) -> Result<Self> {
        if file.as_dict().is_none() {
            return Err(invalid("a file of the torrent is not a dictionary", file));
        }
        let mut raw = Self::single(file)?;
        let path = ["path.utf-8", "path"].into_iter().find_map(|key| {
            let value = file.get(key)?;
            Some((value.span().start, value.as_list()?))
        });
        raw.path = path.filter(|(_, components)| components.clone().next().is_some());
        match &raw.path {
            // Padding is stored nowhere, so its path doesn't matter.
            None if raw.is_pad => {}
            None => return Err(invalid("a file of the torrent has no path", file)),
            Some((_, components)) => {
                all_strings(components.clone())?;
                let last = components.clone().last().and_then(Value::as_bytes).unwrap_or_default();
                raw.is_pad |= last.starts_with(BITCOMET_PAD);
            }
        }
        if let Some(target) = file.get("symlink path").and_then(Value::as_list) {
            all_strings(target)?;
        }
        Ok(raw)
    }

    /// All but the path.
    fn single(file: Value<'d>) -> Result<Self> {
        let attributes = file.get("attr").and_then(Value::as_bytes).unwrap_or_default();
        let len = file.get("length").and_then(Value::as_int).and_then(|len| u64::try_from(len).ok());
        // A symbolic link has no bytes, whatever it says.
        let len = if attributes.contains(&b'l') { Some(0) } else { len };
        let len = len.ok_or_else(|| invalid("a file of the torrent has no valid length", file))?;
        Ok(Self { path: None, len, attributes, is_pad: attributes.contains(&b'p') })
    }
}

fn all_strings(components: Items<'_>) -> Result<()> {
    match components.into_iter().find(|component| component.as_bytes().is_none()) {
        None => Ok(()),
        Some(other) => Err(invalid("a component of a path is not a string", other)),
    }
}

/// The files one after the other, their paths made safe but not distinct.
fn place(raw: &[Raw<'_>], name: &str, is_single: bool, info_start: usize) -> Result<Vec<File>> {
    let mut files = Vec::with_capacity(raw.len());
    let pad = EntryPath::from_untrusted([name, "_pad"])?;
    let mut offset = 0;
    for file in raw {
        let has = |attribute: u8| file.attributes.contains(&attribute);
        let path = match &file.path {
            _ if file.is_pad => pad.clone(),
            None if is_single => EntryPath::from_untrusted([name])?,
            None => pad.clone(),
            Some((_, components)) => {
                let rest = components.clone().filter_map(Value::as_bytes).map(component);
                EntryPath::from_untrusted(std::iter::once(name.into()).chain(rest))?
            }
        };
        files.push(File {
            path,
            offset,
            len: file.len,
            is_pad: file.is_pad,
            is_symlink: has(b'l'),
            is_executable: has(b'x'),
            is_hidden: has(b'h'),
            raw_path: file.path.as_ref().map_or(0, |(at, _)| (at - info_start) as u32),
        });
        offset += file.len;
    }
    Ok(files)
}
