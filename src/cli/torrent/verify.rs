//! `dlm torrent verify`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dlm_bittorrent::Metainfo;

use super::hash::{hash, parts, storage};
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
    let findings = check(&torrent, &places)?;
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
    /// It has another length.
    Length(u64),
    /// So many of its pieces are wrong.
    Damaged(u32),
    /// It may be right, but so many of its pieces need a file that is missing.
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

/// What is to be said of each file of the torrent.
fn check(torrent: &Metainfo, places: &[Option<PathBuf>]) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![Finding::Right; torrent.files().len()];
    for ((file, place), finding) in torrent.files().iter().zip(places).zip(&mut findings) {
        if !file.is_wanted() {
            continue;
        }
        match place {
            None => *finding = Finding::Missing,
            Some(path) => {
                let len = fs::metadata(path).map_err(|error| storage("cannot read", path, error))?.len();
                if len != file.len {
                    *finding = Finding::Length(len);
                }
            }
        }
    }
    let files_of = |piece: u32| torrent.info().piece_spans(piece).map(|(file, _)| file);
    let can_be_read = |piece: u32| files_of(piece).all(|file| findings[file] == Finding::Right);

    let whole =
        torrent.files().iter().zip(places).map(|(file, place)| (place.clone().filter(|_| !file.is_pad), file.len));
    let parts = parts(whole);
    let wrong = Mutex::new(BTreeSet::new());
    let bar = bar(torrent.len());
    let hashed = hash(&parts, torrent.geometry(), &bar, can_be_read, |piece, hash| {
        if torrent.piece_hash(piece).is_none_or(|expected| expected != hash) {
            wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(piece);
        }
    });
    bar.finish_and_clear();
    hashed?;

    let wrong = wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut counts = vec![(0, 0); findings.len()];
    for piece in 0..torrent.piece_count() {
        let (is_wrong, is_unknown) = (wrong.contains(&piece), !can_be_read(piece));
        for file in files_of(piece).filter(|_| is_wrong || is_unknown) {
            counts[file].0 += u32::from(is_wrong);
            counts[file].1 += u32::from(is_unknown);
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
    Ok(findings)
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
