//! Making torrents: the part that only computes. Who makes one [plans](Plan) it, hashes the pieces that the plan lays out,
//! and [encodes](Plan::encode) it with the hashes.
//!
//! ```
//! use dlm_bittorrent::metainfo::create::{NewFile, Options, Plan};
//! # fn main() -> dlm_api::Result<()> {
//! let files = vec![NewFile::new(["a.txt"], 20_000), NewFile::new(["folder", "b.txt"], 5)];
//! let options = Options::default().with_comment("two files");
//! let plan = Plan::folder("example", files, options)?;
//! assert_eq!(plan.geometry().piece_count(), 2);
//! let hashes = vec![0; 2 * 20]; // Of the bytes of all files, one after the other.
//! let torrent = plan.encode(hashes.into())?;
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};
use url::Url;

use super::geometry::{BLOCK_LEN, Geometry, MAX_PIECE_LEN};
use crate::bencode::Item;
use crate::tracker::TrackerUrl;

/// How many pieces a torrent has at most if nobody says how long they shall be, as long as these aren't longer than
/// [`LONGEST_AUTOMATIC`]: a few hundred to two thousand keep the torrent itself under 40 KiB.
const USUAL_PIECES: u64 = 2048;

/// The longest piece that is chosen without being asked for. Nothing of a piece can be passed on before all of it is
/// there, so longer ones slow swarms down.
const LONGEST_AUTOMATIC: u32 = 16 << 20;

/// The length of pieces for so many bytes: the shortest power of two from 16 KiB to 16 MiB with which there are at most
/// 2048 pieces; 16 MiB for what is longer than 32 GiB, and longer ones only where there would be too many even so.
pub fn automatic_piece_len(len: u64) -> u32 {
    let fits = |piece_len: &u32| len <= u64::from(*piece_len) * USUAL_PIECES;
    let powers = || (BLOCK_LEN.ilog2()..=MAX_PIECE_LEN.ilog2()).map(|power| 1u32 << power);
    let usual = powers().take_while(|piece_len| *piece_len <= LONGEST_AUTOMATIC).find(fits);
    let possible =
        || powers().filter(|piece_len| *piece_len >= LONGEST_AUTOMATIC).find(|l| Geometry::new(len, *l).is_ok());
    usual.or_else(possible).unwrap_or(LONGEST_AUTOMATIC)
}

/// What a torrent is to say besides its files. Of the [default](Self::default) it says nothing.
#[derive(Clone, Default)]
pub struct Options {
    piece_len: Option<u32>,
    pad_files: bool,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<Url>,
    is_private: bool,
    comment: Option<String>,
    source: Option<String>,
    created_by: Option<String>,
    creation_date: Option<u64>,
}

impl Options {
    /// The length of pieces: a power of two from 16 KiB to 256 MiB. If not said, it is [`automatic_piece_len`].
    #[must_use]
    pub fn with_piece_len(mut self, piece_len: u32) -> Self {
        self.piece_len = Some(piece_len);
        self
    }

    /// Puts padding between files (BEP 47), so that each starts with a piece and can be had without its neighbours. The
    /// padding comes out of nowhere, but clients that don't know of it download and store it.
    #[must_use]
    pub fn with_pad_files(mut self, pad_files: bool) -> Self {
        self.pad_files = pad_files;
        self
    }

    /// The trackers in their tiers (BEP 12), the first to be asked first.
    #[must_use]
    pub fn with_trackers(mut self, tiers: Vec<Vec<String>>) -> Self {
        self.trackers = tiers;
        self
    }

    /// The web seeds (BEP 19).
    #[must_use]
    pub fn with_web_seeds(mut self, seeds: Vec<Url>) -> Self {
        self.web_seeds = seeds;
        self
    }

    /// Whether peers may come from the trackers only (BEP 27).
    #[must_use]
    pub fn with_private(mut self, is_private: bool) -> Self {
        self.is_private = is_private;
        self
    }

    /// A text for people to read.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// A text that becomes a part of what is hashed, so that the same files get another info-hash.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The program that makes it.
    #[must_use]
    pub fn with_created_by(mut self, created_by: impl Into<String>) -> Self {
        self.created_by = Some(created_by.into());
        self
    }

    /// When it is made, in seconds since 1970.
    #[must_use]
    pub fn with_creation_date(mut self, creation_date: u64) -> Self {
        self.creation_date = Some(creation_date);
        self
    }
}

/// Without the trackers, which may hold secrets.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("piece_len", &self.piece_len).finish_non_exhaustive()
    }
}

/// A file of a new torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NewFile {
    /// The components of its path, below the torrent's folder.
    pub path: Vec<String>,
    /// The number of bytes.
    pub len: u64,
    /// It is a program (BEP 47).
    pub is_executable: bool,
    /// It should be hidden (BEP 47).
    pub is_hidden: bool,
    /// It is zeros, and stored nowhere (BEP 47). A plan puts these in where it is told to.
    pub is_pad: bool,
}

impl NewFile {
    /// A file with this path and length.
    pub fn new<C: Into<String>>(path: impl IntoIterator<Item = C>, len: u64) -> Self {
        let path = path.into_iter().map(Into::into).collect();
        Self { path, len, is_executable: false, is_hidden: false, is_pad: false }
    }

    /// The same, said to be a program or not.
    #[must_use]
    pub fn with_executable(mut self, is_executable: bool) -> Self {
        self.is_executable = is_executable;
        self
    }

    fn pad(len: u64) -> Self {
        Self { is_pad: true, ..Self::new([".pad".to_owned(), len.to_string()], len) }
    }

    fn attributes(&self) -> String {
        let all = [('h', self.is_hidden), ('p', self.is_pad), ('x', self.is_executable)];
        all.into_iter().filter(|(_, set)| *set).map(|(attribute, _)| attribute).collect()
    }
}

/// A torrent that only lacks the hashes of its pieces.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    files: Vec<NewFile>,
    is_single: bool,
    geometry: Geometry,
    options: Options,
}

impl Plan {
    /// A torrent of one file, which has its name. Fails with [`ErrorKind::InvalidInput`] for what nobody could use: no
    /// bytes, a name that can't be one, a piece length that is not allowed, a tracker that is none.
    pub fn single(name: &str, len: u64, options: Options) -> Result<Self> {
        Self::new(name, vec![NewFile::new([name], len)], true, options)
    }

    /// A torrent of a folder, which has its name, and of the files below it, in this order. Fails as
    /// [`single`](Self::single) does, and for files of the same path.
    pub fn folder(name: &str, files: Vec<NewFile>, options: Options) -> Result<Self> {
        Self::new(name, files, false, options)
    }

    fn new(name: &str, files: Vec<NewFile>, is_single: bool, options: Options) -> Result<Self> {
        let bad = |message: &'static str| Error::new(ErrorKind::InvalidInput, message);
        check_component(name)?;
        let mut paths = HashSet::new();
        for file in &files {
            file.path.iter().try_for_each(|component| check_component(component))?;
            if file.path.is_empty() || !paths.insert(&file.path) {
                return Err(bad("two files of the same path, or one without").with("path", file.path.join("/")));
            }
        }
        for tracker in options.trackers.iter().flatten() {
            TrackerUrl::parse(tracker)?;
        }
        let len = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.len));
        let len = len.ok_or_else(|| bad("the files are too long"))?;
        let piece_len = options.piece_len.unwrap_or_else(|| automatic_piece_len(len));
        if !piece_len.is_power_of_two() || piece_len < BLOCK_LEN {
            return Err(bad("a piece length must be a power of two from 16 KiB").with("piece_len", piece_len));
        }
        let files = if options.pad_files && !is_single { padded(files, piece_len) } else { files };
        let len = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.len));
        let geometry = Geometry::new(len.ok_or_else(|| bad("the files are too long"))?, piece_len)?;
        Ok(Self { name: name.to_owned(), files, is_single, geometry, options })
    }

    /// How the bytes of the files, one after the other, are cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The files in order, padding included.
    pub fn files(&self) -> &[NewFile] {
        &self.files
    }

    /// The torrent, in canonical form. `pieces` are the SHA-1 of all pieces, one after the other.
    pub fn encode(&self, pieces: Bytes) -> Result<Bytes> {
        if pieces.len() != self.geometry.piece_count() as usize * 20 {
            return Err(Error::new(ErrorKind::InvalidInput, "not one hash for each piece")
                .with("pieces", self.geometry.piece_count())
                .with("bytes", pieces.len()));
        }
        let options = &self.options;
        let mut info = vec![
            ("name", Item::from(self.name.as_str())),
            ("piece length", Item::Int(self.geometry.piece_len().into())),
            ("pieces", Item::Bytes(pieces)),
        ];
        if self.is_single {
            info.push(("length", integer(self.geometry.len())?));
        } else {
            info.push(("files", Item::List(self.files.iter().map(file_item).collect::<Result<_>>()?)));
        }
        if options.is_private {
            info.push(("private", Item::Int(1)));
        }
        info.extend(options.source.as_deref().map(|source| ("source", Item::from(source))));

        let mut root = vec![("info", Item::dict(info))];
        let tiers: Vec<&Vec<String>> = options.trackers.iter().filter(|tier| !tier.is_empty()).collect();
        root.extend(tiers.first().and_then(|tier| tier.first()).map(|url| ("announce", Item::from(url.as_str()))));
        if tiers.iter().map(|tier| tier.len()).sum::<usize>() > 1 {
            let lists = tiers.iter().map(|tier| Item::list(tier.iter().map(String::as_str)));
            root.push(("announce-list", Item::List(lists.collect())));
        }
        if !options.web_seeds.is_empty() {
            root.push(("url-list", Item::list(options.web_seeds.iter().map(Url::as_str))));
        }
        root.extend(options.comment.as_deref().map(|comment| ("comment", Item::from(comment))));
        root.extend(options.created_by.as_deref().map(|by| ("created by", Item::from(by))));
        if let Some(date) = options.creation_date {
            root.push(("creation date", integer(date)?));
        }
        Item::dict(root).encode()
    }
}

fn file_item(file: &NewFile) -> Result<Item> {
    let mut entries = vec![("length", integer(file.len)?), ("path", Item::list(file.path.iter().map(String::as_str)))];
    let attributes = file.attributes();
    if !attributes.is_empty() {
        entries.push(("attr", attributes.into()));
    }
    Ok(Item::dict(entries))
}

fn integer(number: u64) -> Result<Item> {
    let number = i64::try_from(number).map_err(|_| Error::new(ErrorKind::InvalidInput, "a number over 63 bits"))?;
    Ok(Item::Int(number))
}

fn check_component(component: &str) -> Result<()> {
    if matches!(component, "" | "." | "..") || component.contains(['/', '\\', '\0']) {
        return Err(Error::new(ErrorKind::InvalidInput, "not the name of a file or folder")
            .with("name", component.escape_debug()));
    }
    Ok(())
}

/// With padding before every file that has bytes and wouldn't start with a piece.
fn padded(files: Vec<NewFile>, piece_len: u32) -> Vec<NewFile> {
    let mut all = Vec::with_capacity(files.len() * 2);
    let mut over = 0;
    for file in files {
        if over > 0 && file.len > 0 {
            all.push(NewFile::pad(u64::from(piece_len) - over));
            over = 0;
        }
        over = (over + file.len % u64::from(piece_len)) % u64::from(piece_len);
        all.push(file);
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metainfo::Metainfo;

    fn hashes(plan: &Plan) -> Bytes {
        (0..plan.geometry().piece_count() * 20).map(|i| i as u8).collect()
    }

    #[test]
    fn pieces_are_as_long_as_the_rule_says() {
        const KIB: u64 = 1 << 10;
        const GIB: u64 = 1 << 30;
        for (len, piece_len) in [
            (0, 16 * KIB),
            (1, 16 * KIB),
            (32 << 20, 16 * KIB),
            ((32 << 20) + 1, 32 * KIB),
            (GIB, 512 * KIB),
            (32 * GIB, 16 << 20),
            (1 << 45, 16 << 20),
            ((1 << 45) + 1, 32 << 20),
        ] {
            assert_eq!(u64::from(automatic_piece_len(len)), piece_len, "{len}");
        }
    }

    #[test]
    fn what_is_made_is_read() {
        let tracker = |n: u8| format!("http://t{n}.example/announce");
        let options = Options::default()
            .with_trackers(vec![vec![tracker(1), tracker(2)], vec![], vec![tracker(3)]])
            .with_web_seeds(vec!["https://seed.example/pub/".parse().unwrap()])
            .with_private(true)
            .with_comment("ein Kömmentar")
            .with_source("somewhere")
            .with_created_by("dlm")
            .with_creation_date(1_700_000_000)
            .with_piece_len(32 << 10);
        let files = vec![
            NewFile::new(["b", "c"], 40_000).with_executable(true),
            NewFile::new(["empty"], 0),
            NewFile::new(["a"], 5),
        ];
        let plan = Plan::folder("some folder", files, options).unwrap();
        let torrent = Metainfo::parse(plan.encode(hashes(&plan)).unwrap()).unwrap();
        assert_eq!(torrent.trackers(), [vec![tracker(1), tracker(2)], vec![tracker(3)]]);
        assert_eq!(torrent.web_seeds()[0].as_str(), "https://seed.example/pub/");
        assert_eq!((torrent.comment(), torrent.created_by()), (Some("ein Kömmentar"), Some("dlm")));
        assert_eq!((torrent.source(), torrent.creation_date()), (Some("somewhere"), Some(1_700_000_000)));
        assert!(torrent.is_private() && !torrent.info().is_single());
        assert_eq!(torrent.geometry(), plan.geometry());
        assert_eq!(torrent.piece_hashes(), hashes(&plan));
        let seen: Vec<_> = torrent.files().iter().map(|f| (f.path.as_str(), f.len, f.is_executable)).collect();
        assert_eq!(
            seen,
            [("some folder/b/c", 40_000, true), ("some folder/empty", 0, false), ("some folder/a", 5, false)]
        );
    }

    #[test]
    fn a_plain_file_says_nothing_else() {
        let plan = Plan::single("a", 3, Options::default()).unwrap();
        let torrent = plan.encode(Bytes::from_static(&[b'x'; 20])).unwrap();
        assert_eq!(torrent, "d4:infod6:lengthi3e4:name1:a12:piece lengthi16384e6:pieces20:xxxxxxxxxxxxxxxxxxxxee");
        assert_eq!(plan.encode(Bytes::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn padding_brings_files_to_the_start_of_a_piece() {
        const PIECE: u64 = 16 << 10;
        let files = [5, 0, PIECE, 1, 0, 7, 0].iter().enumerate().map(|(i, len)| NewFile::new([i.to_string()], *len));
        let options = Options::default().with_pad_files(true).with_piece_len(PIECE as u32);
        let plan = Plan::folder("f", files.collect(), options).unwrap();
        let pads: Vec<_> = plan.files().iter().map(|f| f.is_pad.then_some(f.len)).collect();
        assert_eq!(pads, [None, None, Some(PIECE - 5), None, None, None, Some(PIECE - 1), None, None]);
        let torrent = Metainfo::parse(plan.encode(hashes(&plan)).unwrap()).unwrap();
        for file in torrent.files().iter().filter(|f| f.is_wanted() && f.len > 0) {
            assert_eq!(file.offset % PIECE, 0, "{file:?}");
        }
        assert_eq!(torrent.files().iter().filter(|f| f.is_pad).count(), 2);
    }

    #[test]
    fn what_nobody_could_use_is_not_made() {
        let kind = |plan: Result<Plan>| plan.map(|_| ()).map_err(|e| e.kind());
        let folder = |name, paths: &[&[&str]], options| {
            kind(Plan::folder(name, paths.iter().map(|p| NewFile::new(p.iter().copied(), 1)).collect(), options))
        };
        let none = Options::default;
        assert_eq!(folder("a", &[&["b"], &["c"]], none()), Ok(()));
        for (name, paths) in [
            ("", &[&["b"][..]][..]),
            ("..", &[&["b"]]),
            ("a/b", &[&["b"]]),
            ("a", &[&["b"], &["b"]]),
            ("a", &[&[]]),
            ("a", &[&["b", ".."]]),
            ("a", &[]),
        ] {
            assert_eq!(folder(name, paths, none()), Err(ErrorKind::InvalidInput), "{name} {paths:?}");
        }
        for piece_len in [0, 1, 8192, 16383, 40_000] {
            let plan = Plan::single("a", 1, none().with_piece_len(piece_len));
            assert_eq!(kind(plan), Err(ErrorKind::InvalidInput), "{piece_len}");
        }
        assert_eq!(kind(Plan::single("a", 0, none())), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(Plan::single("a", 1, none().with_piece_len(1 << 31))), Err(ErrorKind::TooLarge));
        let options = none().with_trackers(vec![vec!["ftp://x".into()]]);
        assert_eq!(kind(Plan::single("a", 1, options)), Err(ErrorKind::Unsupported));
    }

    proptest! {
        #[test]
        fn whatever_is_planned_is_read(lens in prop::collection::vec(0u64..100_000, 1..8), pad: bool, power in 14u32..18) {
            prop_assume!(lens.iter().any(|len| *len > 0));
            let files = lens.iter().enumerate().map(|(i, len)| NewFile::new(["d".to_owned(), i.to_string()], *len));
            let options = Options::default().with_pad_files(pad).with_piece_len(1 << power);
            let plan = Plan::folder("n", files.collect(), options).unwrap();
            let torrent = Metainfo::parse(plan.encode(hashes(&plan)).unwrap()).unwrap();
            let seen: Vec<_> = torrent.files().iter().map(|file| (file.len, file.is_pad)).collect();
            let planned: Vec<_> = plan.files().iter().map(|file| (file.len, file.is_pad)).collect();
            prop_assert_eq!(seen, planned);
            let wanted: Vec<_> = torrent.files().iter().filter(|file| file.is_wanted()).map(|file| file.len).collect();
            prop_assert_eq!(wanted, lens);
        }
    }
}
