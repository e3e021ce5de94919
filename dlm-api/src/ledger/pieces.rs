//! The pieces of a download, found by offset.
//!
//! Most content is divided into pieces of one length. Such pieces are found by division, and kept as one batch of digests, so
//! that a torrent of two million of them costs little more than the digests themselves.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};

use super::voices::Voice;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fact::Piece;
use crate::runs::Grid;
use crate::span::{EntryId, SourceId, Span};

/// Fewer pieces than this are not worth a bitmap, and more are not worth the memory that a liar could make it cost.
/// The tests have few pieces, and are to meet bitmaps too.
const GRID_CELLS: Range<u32> = if cfg!(test) { 4 } else { 256 }..1 << 24;

/// A piece's number in the ledger.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PieceId(pub(super) u32);

/// Pieces with numbers in a row that somebody named.
#[derive(Debug)]
struct Batch {
    first: u32,
    by: Voice,
    layout: Layout,
    /// The first digest, for the function that all of them have.
    like: Digest,
    /// All digests, one after the other.
    digests: Vec<u8>,
}

#[derive(Debug)]
enum Layout {
    /// One after the other in one entry, all of one length.
    Even { entry: EntryId, start: u64, each: u64 },
    /// One piece that crosses entries.
    Crossing(Box<[Span]>),
}

/// Pieces of an entry, or the part of one that lies in it, one after the other, all of one length.
#[derive(Copy, Clone, Debug)]
struct Stretch {
    end: u64,
    each: u64,
    first: PieceId,
}

/// Where an entry's pieces are.
#[derive(Default, Debug)]
struct OfEntry {
    /// By their start.
    stretches: BTreeMap<u64, Stretch>,
    /// The one with the most pieces: its start, and how many there are.
    longest: (u64, u32),
}

/// The spans of a piece.
pub(super) enum Spans<'a> {
    One(Span),
    Crossing(&'a [Span]),
}

/// What a source's bytes hash to.
type Testimony = (SourceId, Box<[u8]>);

/// The pieces of a download.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    count: u32,
    batches: Vec<Batch>,
    entries: Vec<OfEntry>,
    /// Which sources delivered a piece with wrong bytes.
    failed: HashMap<PieceId, Vec<SourceId>>,
    /// What they hashed to instead, where a source named the digest.
    found: HashMap<PieceId, Vec<Testimony>>,
}

impl Deref for Spans<'_> {
    type Target = [Span];

    fn deref(&self) -> &[Span] {
        match self {
            Self::One(span) => std::slice::from_ref(span),
            Self::Crossing(spans) => spans,
        }
    }
}

impl Batch {
    /// How many there are; unknown, and taken for none, where a function that somebody brought has digests without bytes.
    fn len(&self) -> u64 {
        self.digests.len().checked_div(self.like.bytes().len()).unwrap_or(0) as u64
    }

    fn spans(&self, id: PieceId) -> Spans<'_> {
        match &self.layout {
            Layout::Even { entry, start, each } => {
                let start = start + u64::from(id.0 - self.first) * each;
                Spans::One(Span::new(*entry, start..start + each))
            }
            Layout::Crossing(spans) => Spans::Crossing(spans),
        }
    }

    fn goes_on_with(&self, piece: &Piece, by: Voice) -> bool {
        let (Layout::Even { entry, start, each }, [span]) = (&self.layout, &*piece.spans) else { return false };
        let next = start + self.len() * each;
        self.by == by && *span == Span::new(*entry, next..next + each) && self.like.is_like(&piece.digest)
    }
}

impl Stretch {
    fn count(&self, start: u64) -> u32 {
        ((self.end - start) / self.each) as u32
    }
}

impl OfEntry {
    /// The stretch that has the byte `at`, and where it starts.
    fn stretch_at(&self, at: u64) -> Option<(u64, &Stretch)> {
        let (start, stretch) = self.stretches.range(..=at).next_back()?;
        (stretch.end > at).then_some((*start, stretch))
    }

    /// Adds a piece in a place where there is none.
    fn add(&mut self, range: &Range<u64>, id: PieceId) {
        let each = range.end - range.start;
        let before = self.stretches.range_mut(..range.start).next_back();
        let (start, count) = match before {
            Some((start, s)) if s.end == range.start && s.each == each && s.first.0 + s.count(*start) == id.0 => {
                s.end = range.end;
                (*start, s.count(*start))
            }
            _ => {
                self.stretches.insert(range.start, Stretch { end: range.end, each, first: id });
                (range.start, 1)
            }
        };
        if count > self.longest.1 {
            self.longest = (start, count);
        }
    }

    /// The pieces that have a byte of `range`, and their parts in this entry.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (PieceId, Range<u64>)> + '_ {
        let Range { start, end } = range;
        let first = self.stretch_at(start).map_or(start, |(first, _)| first);
        let stretches = (start < end).then(|| self.stretches.range(first..end)).into_iter().flatten();
        stretches.flat_map(move |(&at, &Stretch { end: stretch_end, each, first })| {
            let from = start.saturating_sub(at) / each;
            let to = (end.min(stretch_end) - at).div_ceil(each);
            (from..to).map(move |i| (PieceId(first.0 + i as u32), at + i * each..at + (i + 1) * each))
        })
    }
}

impl Pieces {
    /// Adds a piece, unless it is known or part of its range has another piece. Says whether it is new.
    pub(super) fn add(&mut self, piece: &Piece, by: Voice) -> Result<bool> {
        for span in &piece.spans {
            if self.entries.len() <= span.entry.index() {
                self.entries.resize_with(span.entry.index() + 1, OfEntry::default);
            }
        }
        if let Some(id) = piece.spans.first().and_then(|span| self.at(span.entry, span.range.start)) {
            let same_bytes = *self.spans(id) == *piece.spans;
            let digest = self.digest(id);
            if same_bytes && digest == piece.digest {
                return Ok(false);
            }
            if same_bytes && digest.function().name() == piece.digest.function().name() {
                return Err(Error::new(ErrorKind::Changed, "a piece is said to have another digest")
                    .with("span", format_args!("{:?}", piece.spans[0])));
            }
        }
        // Another division of the same bytes is no contradiction, but one is enough.
        if piece.spans.iter().any(|span| self.overlapping(span).next().is_some()) {
            return Ok(false);
        }
        let id = PieceId(self.count);
        self.count += 1;
        for span in &piece.spans {
            self.entries[span.entry.index()].add(&span.range, id);
        }
        match self.batches.last_mut() {
            Some(last) if last.goes_on_with(piece, by) => last.digests.extend_from_slice(piece.digest.bytes()),
            _ => self.batches.push(Batch {
                first: id.0,
                by,
                layout: match &*piece.spans {
                    [Span { entry, range }] => {
                        Layout::Even { entry: *entry, start: range.start, each: range.end - range.start }
                    }
                    spans => Layout::Crossing(spans.into()),
                },
                like: piece.digest.clone(),
                digests: piece.digest.bytes().to_vec(),
            }),
        }
        Ok(true)
    }

    /// Forgets what sources said of these bytes, for the caller's word to take its place; says where that was.
    pub(super) fn make_way(&mut self, spans: &[Span]) -> Vec<Span> {
        let of_sources = |id: PieceId| matches!(self.said_by(id), Voice::Source(_));
        if !spans.iter().any(|span| self.overlapping(span).any(of_sources)) {
            return Vec::new();
        }
        let overlaps = |s: &Span| spans.iter().any(|t| s.overlaps(t));
        self.forget(|by, spans| matches!(by, Voice::Source(_)) && spans.iter().any(overlaps))
    }

    pub(super) fn get(&self, id: PieceId) -> Piece {
        Piece { spans: self.spans(id).to_vec().into(), digest: self.digest(id) }
    }

    pub(super) fn spans(&self, id: PieceId) -> Spans<'_> {
        batch(&self.batches, id).spans(id)
    }

    pub(super) fn said_by(&self, id: PieceId) -> Voice {
        batch(&self.batches, id).by
    }

    fn digest(&self, id: PieceId) -> Digest {
        let batch = batch(&self.batches, id);
        let len = batch.like.bytes().len();
        let at = (id.0 - batch.first) as usize * len;
        batch.like.with_bytes(&batch.digests[at..at + len])
    }

    /// The piece that has the byte `at`.
    pub(super) fn at(&self, entry: EntryId, at: u64) -> Option<PieceId> {
        let (start, stretch) = self.entries.get(entry.index())?.stretch_at(at)?;
        Some(PieceId(stretch.first.0 + ((at - start) / stretch.each) as u32))
    }

    /// The part of the piece at `at` that lies in this entry.
    pub(super) fn range_at(&self, entry: EntryId, at: u64) -> Option<Range<u64>> {
        let (start, stretch) = self.entries.get(entry.index())?.stretch_at(at)?;
        let start = at - (at - start) % stretch.each;
        Some(start..start + stretch.each)
    }

    /// The pieces that have a byte of `span`.
    pub(super) fn overlapping(&self, span: &Span) -> impl Iterator<Item = PieceId> + '_ {
        self.parts(span).map(|(id, _)| id)
    }

    /// The parts of pieces, in this entry, that have a byte of `span`.
    pub(super) fn ranges_within(&self, span: &Span) -> impl Iterator<Item = Range<u64>> + '_ {
        self.parts(span).map(|(_, range)| range)
    }

    fn parts(&self, span: &Span) -> impl Iterator<Item = (PieceId, Range<u64>)> + '_ {
        let range = span.range.clone();
        self.entries.get(span.entry.index()).into_iter().flat_map(move |of| of.parts(range.clone()))
    }

    /// Whether a piece has bytes of this entry.
    pub(super) fn has_any(&self, entry: EntryId) -> bool {
        self.entries.get(entry.index()).is_some_and(|of| !of.stretches.is_empty())
    }

    /// Whether every byte of `0..len` belongs to a piece.
    pub(super) fn cover(&self, entry: EntryId, len: u64) -> bool {
        let Some(of) = self.entries.get(entry.index()) else { return len == 0 };
        let mut at = 0;
        of.stretches.iter().all(|(&start, s)| std::mem::replace(&mut at, s.end) == start) && at >= len
    }

    /// The cells of an entry, where it has enough pieces of one length for a bitmap.
    pub(super) fn grid(&self, entry: EntryId) -> Option<Grid> {
        let of = self.entries.get(entry.index())?;
        let (origin, count) = of.longest;
        let stretch = of.stretches.get(&origin).filter(|_| count >= GRID_CELLS.start)?;
        Some(Grid { origin, cell: stretch.each, cells: count.min(GRID_CELLS.end) as usize })
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

    /// The piece is wrong, whoever's fault that is.
    pub(super) fn note_doubt(&mut self, id: PieceId) {
        self.failed.entry(id).or_default();
    }

    pub(super) fn has_failed_at_all(&self, id: PieceId) -> bool {
        self.failed.contains_key(&id)
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
        let first = &self.spans(id)[0];
        self.at(first.entry, first.range.start) == Some(id)
    }

    /// Where the last piece of this entry ends.
    pub(super) fn end(&self, entry: EntryId) -> u64 {
        let last = self.entries.get(entry.index()).and_then(|of| of.stretches.last_key_value());
        last.map_or(0, |(_, stretch)| stretch.end)
    }

    /// Forgets the pieces that `voice` named, and says where they were. Their numbers stay taken.
    pub(super) fn withdraw(&mut self, voice: Voice) -> Vec<Span> {
        if self.batches.iter().all(|batch| batch.by != voice) {
            return Vec::new();
        }
        self.forget(|by, _| by == voice)
    }

    /// Forgets the pieces that don't fit an entry of this length, and says where they were: those that reach beyond its end,
    /// and those that go on in another entry before it.
    pub(super) fn cut(&mut self, entry: EntryId, len: u64) -> Vec<Span> {
        if matches!(self.end(entry), end if end == 0 || end == len) {
            return Vec::new();
        }
        self.forget(|_, spans| {
            let last = spans.last().map(|s| s.entry);
            let of_entry = spans.iter().find(|s| s.entry == entry);
            of_entry.is_some_and(|s| s.range.end > len || (s.range.end < len && last != Some(entry)))
        })
    }

    fn forget(&mut self, is_gone: impl Fn(Voice, &[Span]) -> bool) -> Vec<Span> {
        let Self { batches, entries, failed, found, .. } = self;
        let is_gone = |id: PieceId| {
            let batch = batch(batches, id);
            is_gone(batch.by, &batch.spans(id))
        };
        let mut gone = Vec::new();
        for (i, of) in entries.iter_mut().enumerate() {
            let before = std::mem::take(of);
            for (id, range) in before.parts(0..u64::MAX) {
                if is_gone(id) {
                    gone.push(Span::new(EntryId::new(i as u32), range));
                } else {
                    of.add(&range, id);
                }
            }
        }
        failed.retain(|id, _| !is_gone(*id));
        found.retain(|id, _| !is_gone(*id));
        gone
    }
}

/// The batch that a piece is in.
fn batch(batches: &[Batch], id: PieceId) -> &Batch {
    &batches[batches.partition_point(|batch| batch.first <= id.0) - 1]
}
