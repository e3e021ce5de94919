//! `dlm torrent verify`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlm_api::Error;
use dlm_bittorrent::Metainfo;
use dlm_bittorrent::metainfo::File;

use super::hash::{Unread, hash, parts};
use super::{Failure, bar};
use crate::cli::args::VerifyArgs;
use crate::cli::escape::plain;
use crate::cli::exit::Exit;
use crate::cli::units::size;

/// Checks files against a torrent.
pub(super) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let torrent = super::read(&args.torrent)?;
    if let Err(error) = args.path.metadata() {
        return Err(format!("cannot read {}: {error}", args.path.display()).into());
    }
    let places = place(&torrent, &args.path);
    let findings = check(&torrent, &places, &args.path)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let wrote = report(&torrent, &findings, &mut out).and_then(|()| out.flush());
    // That something differs is to be known even if nobody reads what it is.
    if findings.iter().any(|finding| *finding != Finding::Right) {
        return Ok(Exit::Corrupt);
    }
    wrote.map_err(Failure::Output)?;
    Ok(Exit::Complete)
}

/// What was found out about a file.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Finding {
    Right,
    Missing,
    /// It is a link, or in a folder that is one: a download follows none.
    Link,
    /// It can't be read, for this reason.
    Unreadable(String),
    /// It has another length.
    Length(u64),
    /// So many of its pieces are wrong.
    Damaged(u32),
    /// It may be right, but so many of its pieces need a file that is missing, or can't be read.
    Unknown(u32),
}

/// Where each file is, if it is there: below `path`, or below the folder that `path` is in, whichever has more of them.
/// A file may be called as the torrent calls it, or as dlm does, who makes names safe.
pub(in crate::cli) fn place(torrent: &Metainfo, path: &Path) -> Vec<Option<PathBuf>> {
    let is_single = torrent.info().is_single();
    if is_single && !path.is_dir() {
        return vec![Some(path.to_owned())];
    }
    let below = |strip: usize| -> Vec<Option<PathBuf>> {
        let find = |file| names(torrent, file).into_iter().map(|name| join(path, &name[strip..])).find(|p| p.is_file());
        (0..torrent.files().len()).map(find).collect()
    };
    let inside = below(0);
    if is_single {
        return inside;
    }
    let itself = below(1);
    let count = |places: &[Option<PathBuf>]| places.iter().flatten().count();
    if count(&itself) > count(&inside) { itself } else { inside }
}

/// What a file may be called, the torrent's name first.
fn names(torrent: &Metainfo, file: usize) -> Vec<Vec<PathBuf>> {
    let Some(safe) = torrent.files().get(file).filter(|file| file.is_wanted()) else { return Vec::new() };
    let mut names = vec![safe.path.components().map(PathBuf::from).collect()];
    let raw = torrent.info().raw_path(file).and_then(|path| {
        // A separator in a name would lead to another place.
        path.iter().map(|raw| component(raw).filter(|_| !raw.contains(&b'/'))).collect::<Option<Vec<_>>>()
    });
    names.extend(raw);
    names
}

#[cfg(unix)]
fn component(raw: &[u8]) -> Option<PathBuf> {
    Some(PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(raw)))
}

#[cfg(not(unix))]
fn component(raw: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(raw).ok().filter(|raw| !raw.contains(['\\', ':'])).map(PathBuf::from)
}

fn join(folder: &Path, components: &[PathBuf]) -> PathBuf {
    std::iter::once(folder).chain(components.iter().map(PathBuf::as_path)).collect()
}

/// What is known of a piece.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Piece {
    Unknown,
    Right,
    Wrong,
}

/// What is to be said of each file of the torrent, which is below `root` or is that itself.
fn check(torrent: &Metainfo, places: &[Option<PathBuf>], root: &Path) -> Result<Vec<Finding>, Failure> {
    let mut findings: Vec<_> =
        torrent.files().iter().zip(places).map(|(file, place)| look(file, place.as_deref(), root)).collect();
    let files_of = |piece: u32| torrent.info().piece_spans(piece).map(|(file, _)| file);
    // Of a file that is too long it can still be told whether its start is right, and so of its neighbours.
    let is_long_enough = |file: usize| match &findings[file] {
        Finding::Right => true,
        Finding::Length(len) => *len > torrent.files()[file].len,
        _ => false,
    };
    let unreadable: Mutex<BTreeMap<usize, String>> = Mutex::default();
    let can_be_read =
        |piece: u32| files_of(piece).all(|file| is_long_enough(file) && !lock(&unreadable).contains_key(&file));

    let whole =
        torrent.files().iter().zip(places).map(|(file, place)| (place.clone().filter(|_| !file.is_pad), file.len));
    let pieces = Mutex::new(vec![Piece::Unknown; torrent.piece_count() as usize]);
    let bar = bar(torrent.len());
    let hashed = hash(&parts(whole), torrent.geometry(), &bar, can_be_read, |piece, hash: Result<Vec<u8>, Unread>| {
        match hash {
            Ok(hash) => {
                let is_right = torrent.piece_hash(piece).is_some_and(|expected| hash == expected);
                lock(&pieces)[piece as usize] = if is_right { Piece::Right } else { Piece::Wrong };
            }
            Err((file, error)) => {
                lock(&unreadable).entry(file).or_insert_with(|| reason(&error));
            }
        }
        Ok(())
    });
    bar.finish_and_clear();
    hashed?;

    let mut counts = vec![(0, 0); findings.len()];
    for (piece, state) in (0..).zip(lock(&pieces).iter()).filter(|(_, state)| **state != Piece::Right) {
        for file in files_of(piece) {
            counts[file].0 += u32::from(*state == Piece::Wrong);
            counts[file].1 += u32::from(*state == Piece::Unknown);
        }
    }
    for ((finding, (wrong, unknown)), file) in findings.iter_mut().zip(counts).zip(torrent.files()) {
        if *finding == Finding::Right && file.is_wanted() {
            *finding = match (wrong, unknown) {
                (0, 0) => Finding::Right,
                (0, unknown) => Finding::Unknown(unknown),
                (wrong, _) => Finding::Damaged(wrong),
            };
        }
    }
    for (file, reason) in lock(&unreadable).iter() {
        findings[*file] = Finding::Unreadable(reason.clone());
    }
    Ok(findings)
}

/// What can be said of a file without reading it.
fn look(file: &File, place: Option<&Path>, root: &Path) -> Finding {
    if !file.is_wanted() {
        return Finding::Right;
    }
    let Some(path) = place else { return Finding::Missing };
    // What the user named may be a link.
    let mut below = path.ancestors().take_while(|part| *part != root);
    if below.any(Path::is_symlink) {
        return Finding::Link;
    }
    match fs::metadata(path) {
        Err(error) => Finding::Unreadable(error.to_string()),
        Ok(metadata) if metadata.len() != file.len => Finding::Length(metadata.len()),
        Ok(_) => Finding::Right,
    }
}

/// Why a file can't be read; which one is said beside it.
fn reason(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.message().to_owned(), ToString::to_string)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line for each file that differs, and one for all.
fn report(torrent: &Metainfo, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let (mut files, mut differ) = (0, 0);
    for (file, finding) in torrent.files().iter().zip(findings).filter(|(file, _)| file.is_wanted()) {
        files += 1;
        differ += usize::from(*finding != Finding::Right);
        let path = plain(file.path.as_str());
        let pieces = torrent.geometry().pieces_of(file.range()).len();
        match finding {
            Finding::Right => {}
            Finding::Missing => writeln!(out, "missing: {path}")?,
            Finding::Link => writeln!(out, "a link: {path}")?,
            Finding::Unreadable(reason) => writeln!(out, "cannot be read: {path}: {}", plain(reason))?,
            Finding::Length(len) => writeln!(out, "wrong length: {path}: {len} bytes instead of {}", file.len)?,
            Finding::Damaged(wrong) => writeln!(out, "damaged: {path}: {wrong} of {pieces} pieces")?,
            Finding::Unknown(unknown) => {
                writeln!(out, "not known: {path}: {unknown} of {pieces} pieces lie across files that differ")?;
            }
        }
    }
    match differ {
        0 => writeln!(out, "all right: {}, files: {files}", size(torrent.len())),
        _ => writeln!(out, "files that differ: {differ} of {files}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_api::{Algorithm, Digest};
    use dlm_bittorrent::metainfo::create::{NewFile, Options, Plan};

    /// One that can be opened but not read, as a disk with a fault would have it.
    #[test]
    fn what_can_not_be_read_is_told_and_the_rest_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        fs::write(&good, vec![7; 16 << 10]).unwrap();
        fs::create_dir(&bad).unwrap();
        let files = vec![NewFile::new(["good"], 16 << 10), NewFile::new(["bad"], 10)];
        let plan = Plan::folder("top", files, Options::default().with_piece_len(16 << 10)).unwrap();
        let hashes: Vec<u8> = [vec![7; 16 << 10], vec![0; 10]]
            .iter()
            .flat_map(|b| Digest::of(Algorithm::Sha1, b).bytes().to_vec())
            .collect();
        let torrent = Metainfo::parse(plan.encode(hashes.into()).unwrap()).unwrap();
        let findings = check(&torrent, &[Some(good), Some(bad)], dir.path()).unwrap();
        assert_eq!(findings[0], Finding::Right);
        let Finding::Unreadable(reason) = &findings[1] else { panic!("{findings:?}") };
        assert!(reason.contains("directory"), "{reason}");
        let mut out = Vec::new();
        report(&torrent, &findings, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("cannot be read: top/bad: "));
    }
}
