//! [`Layout`]: where a torrent's bytes are among the entries of a download.

use std::ops::Range;

use dlm_api::{Algorithm, Digest, EntryId, EntryPath, Error, ErrorKind, Fact, Piece, Result, Scope, Span, Transfer};

use crate::magnet::Selection;
use crate::metainfo::Info;

/// How many pieces are told at once: few enough for what is told to stay small, many enough to be quick.
const TOLD_AT_ONCE: usize = 4096;

/// Where a torrent's bytes are among the entries of a download.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    info: Info,
    /// Of each file that has bytes.
    entries: Vec<Option<EntryId>>,
}

impl Layout {
    /// Tells which files and pieces there are, and remembers the entries' numbers. Of the files only those are wanted that
    /// `selection` has.
    pub(crate) fn learn(info: &Info, selection: &Selection, transfer: &Transfer) -> Result<Self> {
        let mut entries = Vec::with_capacity(info.files().len());
        for (index, file) in info.files().iter().enumerate() {
            if !file.is_wanted() && file.len == 0 {
                entries.push(None);
                continue;
            }
            // Several may have one name, and no file is called so: made safe, no name begins with a dot.
            let path = if file.is_pad { EntryPath::new(&format!(".pad/{}", file.offset))? } else { file.path.clone() };
            transfer.learn(Fact::Entry { path: path.clone(), len: Some(file.len) })?;
            let entry = transfer.entry_at(&path);
            if let (Some(entry), true) = (entry, file.is_pad) {
                transfer.learn(Fact::Padding(entry))?;
            }
            if let (Some(entry), false) = (entry, selection.has(index)) {
                transfer.leave_out(entry);
            }
            entries.push(entry);
        }
        if !selection.is_all() && !entries.iter().flatten().any(|entry| transfer.is_wanted(*entry)) {
            let error = Error::new(ErrorKind::InvalidInput, "the magnet link selects none of the torrent's files");
            return Err(error.with_scope(Scope::Download));
        }
        let layout = Self { info: info.clone(), entries };
        let mut pieces = Vec::with_capacity(TOLD_AT_ONCE);
        for piece in 0..info.piece_count() {
            let Some(hash) = info.piece_hash(piece) else { break };
            let digest = Digest::new(Algorithm::Sha1, &hash[..])?;
            pieces.push(Piece { spans: layout.piece(piece).into(), digest });
            if pieces.len() == TOLD_AT_ONCE {
                transfer.learn(Fact::Pieces(std::mem::replace(&mut pieces, Vec::with_capacity(TOLD_AT_ONCE))))?;
            }
        }
        transfer.learn(Fact::Pieces(pieces))?;
        transfer.learn(Fact::LayoutComplete)?;
        Ok(layout)
    }

    /// Where a piece is.
    pub(super) fn piece(&self, piece: u32) -> Vec<Span> {
        self.spans(self.info.geometry().piece_range(piece))
    }

    /// The piece that has this byte; `None` if there is no such byte.
    pub(super) fn piece_at(&self, entry: EntryId, at: u64) -> Option<u32> {
        let file = self.entries.iter().position(|known| *known == Some(entry))?;
        let file = self.info.files().get(file).filter(|file| at < file.len)?;
        u32::try_from((file.offset + at) / u64::from(self.info.piece_len())).ok()
    }

    /// Where a range of the torrent's bytes is.
    pub(super) fn spans(&self, range: Range<u64>) -> Vec<Span> {
        let parts = self.info.spans(range);
        parts.filter_map(|(file, range)| Some(Span::new(self.entries[file]?, range))).collect()
    }

    /// Whether somebody wants a byte of the piece.
    pub(super) fn is_wanted(&self, transfer: &Transfer, piece: u32) -> bool {
        self.piece(piece).iter().any(|span| transfer.is_wanted(span.entry))
    }

    /// Says so if longer pieces that somebody else told of hold in place of the torrent's: what has one digest is given out as
    /// one, and a swarm brings it piece by piece.
    ///
    /// # Errors
    /// If that is so for every file that is wanted, so that nothing can be fetched.
    pub(super) fn check_division(&self, transfer: &Transfer) -> Result<()> {
        let len = |spans: &[Span]| spans.iter().map(Span::len).sum::<u64>();
        let (mut fits, mut is_cut_otherwise) = (false, false);
        for (file, entry) in self.info.files().iter().zip(&self.entries) {
            if file.len == 0 || !entry.is_some_and(|entry| transfer.is_wanted(entry)) {
                continue;
            }
            let first = self.piece((file.offset / u64::from(self.info.piece_len())) as u32);
            let is_same = len(&transfer.grown_to_pieces(&first)) == len(&first);
            fits |= is_same;
            is_cut_otherwise |= !is_same;
        }
        let message = "the pieces that are known are not the torrent's";
        match (fits, is_cut_otherwise) {
            (false, true) => Err(Error::new(ErrorKind::Unsupported, message).with_scope(Scope::Source)),
            (true, true) => {
                transfer.warn(format!("{message}: some files can't come from its peers"));
                Ok(())
            }
            (_, false) => Ok(()),
        }
    }

    /// How many bytes somebody wants.
    pub(super) fn wanted_len(&self, transfer: &Transfer) -> u64 {
        let files = self.info.files().iter().zip(&self.entries);
        let wanted = files.filter(|(file, entry)| !file.is_pad && entry.is_some_and(|entry| transfer.is_wanted(entry)));
        wanted.map(|(file, _)| file.len).sum()
    }

    /// Whether the piece is here.
    pub(super) fn is_sealed(&self, transfer: &Transfer, piece: u32) -> bool {
        self.piece(piece).iter().all(|span| transfer.is_sealed(span))
    }
}
