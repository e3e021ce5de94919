//! The pieces of a download, found by offset.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::voices::Voice;
use crate::error::{Error, ErrorKind, Result};
use crate::fact::Piece;
use crate::span::{EntryId, SourceId, Span};

/// A piece's number in the ledger.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PieceId(pub(super) u32);

#[derive(Debug)]
struct Known {
    piece: Piece,
    by: Voice,
}

/// What a source's bytes hash to.
type Testimony = (SourceId, Box<[u8]>);

/// The pieces of a download.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    known: Vec<Known>,
    /// For each entry, where its pieces' spans start.
    starts: Vec<BTreeMap<u64, (u64, PieceId)>>,
    /// Which sources delivered a piece with wrong bytes.
    failed: HashMap<PieceId, Vec<SourceId>>,
    /// What they hashed to instead, where a source named the digest.
    found: HashMap<PieceId, Vec<Testimony>>,
}

impl Pieces {
    /// Adds a piece, unless it is known or part of its range has another piece. Says whether it is new.
    pub(super) fn add(&mut self, piece: Piece, by: Voice) -> Result<bool> {
        for span in &piece.spans {
            if self.starts.len() <= span.entry.index() {
                self.starts.resize_with(span.entry.index() + 1, BTreeMap::new);
            }
        }
        if let Some(id) = piece.spans.first().and_then(|span| self.at(span.entry, span.range.start)) {
            let other = &self.known[id.0 as usize];
            if other.piece == piece {
                return Ok(false);
            }
            let same_bytes = other.piece.spans == piece.spans;
            if same_bytes && other.piece.digest.function().name() == piece.digest.function().name() {
                return Err(Error::new(ErrorKind::Changed, "a piece is said to have another digest")
                    .with("span", format_args!("{:?}", piece.spans[0])));
            }
        }
        // Another division of the same bytes is no contradiction, but one is enough.
        if piece.spans.iter().any(|span| self.overlapping(span).next().is_some()) {
            return Ok(false);
        }
        let id = PieceId(self.known.len() as u32);
        for span in &piece.spans {
            self.starts[span.entry.index()].insert(span.range.start, (span.range.end, id));
        }
        self.known.push(Known { piece, by });
        Ok(true)
    }

    /// Forgets what sources said of these bytes, for the caller's word to take its place; says where that was.
    pub(super) fn make_way(&mut self, spans: &[Span]) -> Vec<Span> {
        let of_sources = |id: PieceId| matches!(self.said_by(id), Voice::Source(_));
        if !spans.iter().any(|span| self.overlapping(span).any(of_sources)) {
            return Vec::new();
        }
        let overlaps = |s: &Span| {
            spans.iter().any(|t| s.entry == t.entry && s.range.start < t.range.end && t.range.start < s.range.end)
        };
        self.forget(|known| matches!(known.by, Voice::Source(_)) && known.piece.spans.iter().any(overlaps))
    }

    pub(super) fn get(&self, id: PieceId) -> &Piece {
        &self.known[id.0 as usize].piece
    }

    pub(super) fn said_by(&self, id: PieceId) -> Voice {
        self.known[id.0 as usize].by
    }

    /// The piece that has the byte `at`.
    pub(super) fn at(&self, entry: EntryId, at: u64) -> Option<PieceId> {
        let (_, &(end, id)) = self.starts.get(entry.index())?.range(..=at).next_back()?;
        (end > at).then_some(id)
    }

    /// The part of the piece at `at` that lies in this entry.
    pub(super) fn range_at(&self, entry: EntryId, at: u64) -> Option<Range<u64>> {
        let (&start, &(end, _)) = self.starts.get(entry.index())?.range(..=at).next_back()?;
        (end > at).then_some(start..end)
    }

    /// The pieces that have a byte of `span`.
    pub(super) fn overlapping(&self, span: &Span) -> impl Iterator<Item = PieceId> + '_ {
        let Range { start, end } = span.range.clone();
        let first = self.range_at(span.entry, start).map_or(start, |r| r.start);
        let of_entry = self.starts.get(span.entry.index()).filter(|_| first < end);
        of_entry.into_iter().flat_map(move |starts| starts.range(first..end)).map(|(_, &(_, id))| id)
    }

    /// The parts of pieces, in this entry, that have a byte of `span`.
    pub(super) fn ranges_within(&self, span: &Span) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = span.range.clone();
        let first = self.range_at(span.entry, start).map_or(start, |r| r.start);
        let of_entry = self.starts.get(span.entry.index()).filter(|_| first < end);
        of_entry.into_iter().flat_map(move |starts| starts.range(first..end)).map(|(&start, &(end, _))| start..end)
    }

    /// Whether a piece has bytes of this entry.
    pub(super) fn has_any(&self, entry: EntryId) -> bool {
        self.starts.get(entry.index()).is_some_and(|starts| !starts.is_empty())
    }

    /// Whether every byte of `0..len` belongs to a piece.
    pub(super) fn cover(&self, entry: EntryId, len: u64) -> bool {
        let Some(starts) = self.starts.get(entry.index()) else { return len == 0 };
        let mut at = 0;
        starts.iter().all(|(&start, &(end, _))| std::mem::replace(&mut at, end) == start) && at >= len
    }

    pub(super) fn note_failure(&mut self, id: PieceId, source: SourceId) {
        let failed = self.failed.entry(id).or_default();
        if !failed.contains(&source) {
            failed.push(source);
        }
    }

    /// Notes what a source's bytes hash to, in place of what it said before, and gives who says the same.
    pub(super) fn testify(&mut self, id: PieceId, source: SourceId, found: &[u8]) -> Vec<SourceId> {
        let all = self.found.entry(id).or_default();
        all.retain(|(by, _)| *by != source);
        all.push((source, found.into()));
        all.iter().filter(|(_, bytes)| **bytes == *found).map(|(by, _)| *by).collect()
    }

    pub(super) fn has_failed(&self, id: PieceId, source: SourceId) -> bool {
        self.failed.get(&id).is_some_and(|sources| sources.contains(&source))
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(super) fn clear_failure(&mut self, id: PieceId) -> bool {
        self.found.remove(&id);
        self.failed.remove(&id).is_some()
    }

    /// Whether the piece was not withdrawn.
    pub(super) fn is_current(&self, id: PieceId) -> bool {
        let first = &self.get(id).spans[0];
        self.starts[first.entry.index()].get(&first.range.start).is_some_and(|(_, there)| *there == id)
    }

    /// Where the last piece of this entry ends.
    pub(super) fn end(&self, entry: EntryId) -> u64 {
        let last = self.starts.get(entry.index()).and_then(|starts| starts.last_key_value());
        last.map_or(0, |(_, &(end, _))| end)
    }

    /// Forgets the pieces that `voice` named, and says where they were. Their numbers stay taken.
    pub(super) fn withdraw(&mut self, voice: Voice) -> Vec<Span> {
        self.forget(|known| known.by == voice)
    }

    /// Forgets the pieces that don't fit an entry of this length, and says where they were: those that reach beyond its end,
    /// and those that go on in another entry before it.
    pub(super) fn cut(&mut self, entry: EntryId, len: u64) -> Vec<Span> {
        if matches!(self.end(entry), end if end == 0 || end == len) {
            return Vec::new();
        }
        self.forget(|known| {
            let last = known.piece.spans.last().map(|s| s.entry);
            let of_entry = known.piece.spans.iter().find(|s| s.entry == entry);
            of_entry.is_some_and(|s| s.range.end > len || (s.range.end < len && last != Some(entry)))
        })
    }

    fn forget(&mut self, is_gone: impl Fn(&Known) -> bool) -> Vec<Span> {
        let known = &self.known;
        let mut gone = Vec::new();
        for (i, starts) in self.starts.iter_mut().enumerate() {
            starts.retain(|&start, &mut (end, id)| {
                let stays = !is_gone(&known[id.0 as usize]);
                if !stays {
                    gone.push(Span::new(EntryId::new(i as u32), start..end));
                }
                stays
            });
        }
        self.failed.retain(|id, _| !is_gone(&known[id.0 as usize]));
        self.found.retain(|id, _| !is_gone(&known[id.0 as usize]));
        gone
    }
}
