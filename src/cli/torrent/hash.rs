//! Hashes the pieces of files on disk, several at a time.
//!
//! Each thread holds one buffer and one open file, whatever the length of a piece and the number of files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use dlm_api::{Algorithm, Error, ErrorKind, HashFunction, Hasher, Result};
use dlm_bittorrent::Geometry;
use indicatif::ProgressBar;

/// What a thread reads at once.
const BUFFER: usize = 256 << 10;

/// More threads than this only make a disk seek.
const MAX_THREADS: usize = 8;

/// The bytes of one file, or of padding.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it is; `None` for zeros that are stored nowhere.
    pub(super) path: Option<PathBuf>,
    /// Where it starts among all bytes.
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Parts one after the other.
pub(super) fn parts(all: impl IntoIterator<Item = (Option<PathBuf>, u64)>) -> Vec<Part> {
    let mut offset = 0;
    let mut part = |(path, len): (Option<PathBuf>, u64)| {
        let part = Part { path, offset, len };
        offset += len;
        part
    };
    all.into_iter().map(&mut part).collect()
}

/// A part that can't be read, by its index, and why.
pub(super) type Unread = (usize, Error);

/// Hashes each piece that is `wanted`, and tells its SHA-1 to `done`, or what of it can't be read, in any order and from several
/// threads. The parts are those of `geometry`, in order and without a gap. The first error of `done` ends it.
pub(super) fn hash(
    parts: &[Part],
    geometry: Geometry,
    bar: &ProgressBar,
    wanted: impl Fn(u32) -> bool + Sync,
    done: impl Fn(u32, Result<Vec<u8>, Unread>) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicU32::new(0);
    let work = || {
        let mut reader = Reader { parts, open: None, buffer: vec![0; BUFFER] };
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= geometry.piece_count() {
                return Ok(());
            }
            if !wanted(piece) {
                continue;
            }
            let range = geometry.piece_range(piece);
            done(piece, reader.hash(range.start, range.end, bar)).inspect_err(|_| {
                // The others find nothing left to do.
                next.store(geometry.piece_count(), Ordering::Relaxed);
            })?;
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            // A panic goes on where it would have without threads.
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })
}

struct Reader<'a> {
    parts: &'a [Part],
    /// The file that was read last, by its index.
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn hash(&mut self, mut at: u64, end: u64, bar: &ProgressBar) -> Result<Vec<u8>, Unread> {
        let mut hasher = Algorithm::Sha1.start();
        let mut index = self.parts.partition_point(|part| part.offset + part.len <= at);
        while at < end && index < self.parts.len() {
            let part = &self.parts[index];
            let until = end.min(part.offset + part.len);
            match part.path.as_deref() {
                Some(path) if at < until => self
                    .read(index, path, at - part.offset, until - at, &mut *hasher, bar)
                    .map_err(|error| (index, error))?,
                _ => self.zeros(until - at, &mut *hasher),
            }
            at = until;
            index += 1;
        }
        Ok(hasher.finish())
    }

    fn read(
        &mut self,
        index: usize,
        path: &Path,
        at: u64,
        mut left: u64,
        hasher: &mut dyn Hasher,
        bar: &ProgressBar,
    ) -> Result<()> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(path),
            _ => storage("cannot read", path, error),
        };
        let file = match &mut self.open {
            Some((open, file)) if *open == index => file,
            open => &mut open.insert((index, File::open(path).map_err(failed)?)).1,
        };
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let buffer = &mut self.buffer[..most];
            file.read_exact(buffer).map_err(failed)?;
            hasher.update(buffer);
            left -= most as u64;
            bar.inc(most as u64);
        }
        Ok(())
    }

    fn zeros(&mut self, mut left: u64, hasher: &mut dyn Hasher) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while left > 0 {
            let most = left.min(ZEROS.len() as u64);
            hasher.update(&ZEROS[..most as usize]);
            left -= most;
        }
    }
}

/// A file is not any more what it was a moment ago.
pub(super) fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Storage, "the file was changed while it was read").with("path", path.display())
}

/// What went wrong with a file.
pub(super) fn storage(what: &'static str, path: &Path, error: io::Error) -> Error {
    Error::storage(what, error).with("path", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_api::Digest;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// The hashes of the wanted pieces of these files.
    fn hashes(parts: &[Part], piece_len: u32, wanted: impl Fn(u32) -> bool + Sync) -> Result<BTreeMap<u32, Vec<u8>>> {
        let len = parts.iter().map(|part| part.len).sum();
        let all = Mutex::new(BTreeMap::new());
        let geometry = Geometry::new(len, piece_len).unwrap();
        hash(parts, geometry, &ProgressBar::hidden(), wanted, |piece, hash| {
            all.lock().unwrap().insert(piece, hash.map_err(|(_, error)| error)?);
            Ok(())
        })?;
        Ok(all.into_inner().unwrap())
    }

    #[test]
    fn pieces_go_across_files_and_padding() {
        let dir = tempfile::tempdir().unwrap();
        let contents: [Option<Vec<u8>>; 5] = [
            Some((0..100_000).map(|i| i as u8).collect()),
            None,
            Some(vec![]),
            Some(vec![7; 3]),
            Some(vec![9; 70_000]),
        ];
        let all = contents.iter().enumerate().map(|(i, content)| match content {
            Some(bytes) => {
                let path = dir.path().join(i.to_string());
                std::fs::write(&path, bytes).unwrap();
                (Some(path), bytes.len() as u64)
            }
            None => (None, 5_000),
        });
        let parts = parts(all);
        let whole: Vec<u8> = contents.into_iter().flat_map(|c| c.unwrap_or_else(|| vec![0; 5_000])).collect();
        for piece_len in [1, 1_000, 16_384, 1 << 20] {
            // One byte each would take long, so only some of them are wanted.
            let wanted = |piece: u32| piece_len > 1 || piece.is_multiple_of(1_009);
            let expected = whole.chunks(piece_len as usize).enumerate().filter(|(i, _)| wanted(*i as u32));
            let expected: BTreeMap<u32, Vec<u8>> =
                expected.map(|(i, c)| (i as u32, Digest::of(Algorithm::Sha1, c).bytes().to_vec())).collect();
            assert_eq!(hashes(&parts, piece_len, wanted).unwrap(), expected, "{piece_len}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [1; 10]).unwrap();
        let error = hashes(&parts([(Some(path), 11)]), 4, |_| true).unwrap_err();
        assert!(error.to_string().contains("changed while it was read (path"), "{error}");
    }

    #[test]
    fn what_can_not_be_read_is_named_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [1; 8]).unwrap();
        let parts = parts([(Some(path.clone()), 8), (Some(dir.path().join("missing")), 8), (Some(path), 8)]);
        let (told, geometry) = (Mutex::new(BTreeMap::new()), Geometry::new(24, 8).unwrap());
        let tell = |piece, hash: Result<Vec<u8>, Unread>| {
            told.lock().unwrap().insert(piece, hash.map_err(|(part, _)| part).map(|_| ()));
            Ok(())
        };
        hash(&parts, geometry, &ProgressBar::hidden(), |_| true, tell).unwrap();
        assert_eq!(told.into_inner().unwrap(), BTreeMap::from([(0, Ok(())), (1, Err(1)), (2, Ok(()))]));
    }
}
