//! [`Sparse`]: files and torrents that are large and take no room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha1::{Digest, Sha1};

use crate::Content;

/// A file of zeros but for some pieces, and its torrent, for which the zeros are hashed once only. What is in the piece with the
/// number `n` is [`Content`] of the seed `n`.
#[derive(Clone, Debug)]
pub struct Sparse {
    len: u64,
    piece_len: u32,
    pieces: Vec<u32>,
}

impl Sparse {
    /// So many whole pieces, of which these are not zeros. In the order of their numbers.
    pub fn new(count: u32, piece_len: u32, pieces: impl Into<Vec<u32>>) -> Self {
        Self { len: u64::from(count) * u64::from(piece_len), piece_len, pieces: pieces.into() }
    }

    /// How many bytes are in pieces that are not zeros.
    pub fn content_len(&self) -> u64 {
        self.pieces.len() as u64 * u64::from(self.piece_len)
    }

    /// Each piece that is not zeros: where it begins, and what is in it.
    fn content(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        let len = u64::from(self.piece_len);
        self.pieces.iter().map(move |&piece| (u64::from(piece) * len, Content::new(piece.into(), len).bytes()))
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.len)?;
        self.content().try_for_each(|(at, bytes)| file.write_all_at(&bytes, at))
    }

    /// Writes the torrent of a file with this name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_torrent(&self, path: impl AsRef<Path>, name: &str) -> io::Result<()> {
        let hash = |bytes: &[u8]| <[u8; 20]>::from(Sha1::digest(bytes));
        let count = (self.len / u64::from(self.piece_len)) as usize;
        let mut hashes = vec![hash(&vec![0; self.piece_len as usize]); count];
        for (piece, (_, bytes)) in self.pieces.iter().zip(self.content()) {
            hashes[*piece as usize] = hash(&bytes);
        }
        let (len, piece_len, name_len, hashes_len) = (self.len, self.piece_len, name.len(), count * 20);
        let mut torrent =
            format!("d4:infod6:lengthi{len}e4:name{name_len}:{name}12:piece lengthi{piece_len}e6:pieces{hashes_len}:")
                .into_bytes();
        torrent.extend(hashes.as_flattened());
        torrent.extend(b"ee");
        std::fs::write(path, torrent)
    }

    /// Whether a file is as long, and has what is not zeros where it belongs. The zeros are not looked at.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn check_file(&self, path: impl AsRef<Path>) -> Result<(), String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let len = file.metadata().map_err(|e| e.to_string())?.len();
        if len != self.len {
            return Err(format!("{len} bytes instead of {}", self.len));
        }
        self.content().try_for_each(|(at, bytes)| {
            let mut got = vec![0; bytes.len()];
            file.read_exact_at(&mut got, at).map_err(|e| format!("at {at}: {e}"))?;
            if got == bytes { Ok(()) } else { Err(format!("wrong in the piece at {at}")) }
        })
    }
}
