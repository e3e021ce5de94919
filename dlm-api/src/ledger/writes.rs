//! The way of a byte: handed over, written, landed, sealed or given back.

use std::ops::Range;
use std::time::Instant;

use super::voices::Voice;
use super::{Ledger, PieceId};
use crate::runs::RangeSet;
use crate::span::{EntryId, LeaseId, OPEN_END, SourceId, Span};

/// How much of a handed-over chunk a lease may still write.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Bytes at the start that are not wanted.
    pub skip: u64,
    /// Bytes after these that are. What follows must be asked about again.
    pub take: u64,
    /// Whether the lease wants nothing more after this.
    pub last: bool,
}

/// What a write that reached the sink made complete.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Landed {
    /// Bytes that have no digest of their own and are sealed now.
    pub sealed: u64,
    /// Pieces that are whole now and wait for their digest to be checked.
    pub pieces: Vec<PieceId>,
    /// The entry's [version](Ledger::version) when that was so.
    pub version: u64,
}

impl Ledger {
    /// How much of `range`, which the source hands over, the lease may write.
    pub fn admit(&mut self, lease: LeaseId, entry: EntryId, range: Range<u64>, now: Instant) -> Admitted {
        let nothing = Admitted { skip: range.end - range.start, take: 0, last: false };
        let Some(state) = self.leases.get_mut(&lease) else { return Admitted { last: true, ..nothing } };
        state.meter.add(range.end - range.start, now);
        let mut admitted = nothing;
        let fresh = state.held.iter_mut().filter_map(|h| Some((h.fresh(entry, &range)?, h)));
        if let Some((gap, held)) = fresh.min_by_key(|(gap, _)| gap.start) {
            admitted = Admitted { skip: gap.start - range.start, take: gap.end - gap.start, last: false };
            held.admitted.insert(gap);
        }
        admitted.last = state.is_admitted();
        admitted
    }

    /// A write of admitted bytes begins: of the first part of `span` that the lease still holds, since it can have lost bytes
    /// after they were admitted, and somebody else's may be there by now. Until [`landed`](Self::landed) or
    /// [`write_failed`](Self::write_failed) nobody else is given this part, even when the lease is gone.
    pub fn write_begins(&mut self, lease: LeaseId, span: &Span) -> Option<Span> {
        let state = self.leases.get(&lease).filter(|l| !l.hedge)?;
        let part = state.parts_of(span).min_by_key(|part| part.range.start)?;
        self.writing.push((lease, part.clone()));
        Some(part)
    }

    /// The write is in the sink.
    pub fn landed(&mut self, lease: LeaseId, span: &Span) -> Landed {
        self.end_write(lease, span);
        let Some(state) = self.leases.get_mut(&lease) else { return Landed::default() };
        let source = state.source;
        // A lease can have shrunk while the write was on its way; what it lost is somebody else's now.
        let parts: Vec<Span> = state.parts_of(span).collect();
        for part in &parts {
            if let Some(held) = state.held_at(part.entry, part.range.start) {
                held.landed.insert(part.range.clone());
            }
        }
        let mut landed = Landed { version: self.version(span.entry), ..Landed::default() };
        for part in &parts {
            landed.pieces.extend(self.pieces.overlapping(part));
            landed.sealed += self.seal_between(lease, part, source);
        }
        landed.pieces.dedup();
        let mut parted = Vec::new();
        let state = &self.leases[&lease];
        landed.pieces.retain(|id| {
            let spans = self.pieces.spans(*id);
            if spans.len() == 1 {
                return state.has_landed(&spans[0]);
            }
            // A piece can have thousands of parts, and then each write is of one of them: whoever has just as many spans of just
            // as many bytes has leased this piece alone.
            let len: u64 = spans.iter().map(Span::len).sum();
            let is_alone = state.held.len() == spans.len() && state.bytes() == len;
            if !is_alone && (state.held.len() < spans.len() || !spans.iter().all(|s| state.holds(s))) {
                parted.push(*id);
                return false;
            }
            state.landed_bytes() >= len && spans.iter().all(|s| state.has_landed(s))
        });
        parted.into_iter().for_each(|id| self.seal_parts(lease, id, source));
        landed
    }

    /// Seals what a lease has of a piece that crosses entries and of which others have the rest. It is checked once it is whole.
    fn seal_parts(&mut self, lease: LeaseId, id: PieceId, source: SourceId) {
        let spans = self.pieces.spans(id).to_vec();
        for span in &spans {
            let Some(state) = self.leases.get_mut(&lease).filter(|state| state.has_landed(span)) else { continue };
            if let Some(held) = state.held_at(span.entry, span.range.start) {
                held.landed.remove(span.range.clone());
            }
            self.entries[span.entry.index()].seal(span.range.clone(), source, false);
            self.touch(span.entry);
        }
        self.recheck_if_whole(id);
    }

    /// Seals the bytes of `span` that belong to no piece.
    fn seal_between(&mut self, lease: LeaseId, span: &Span, source: SourceId) -> u64 {
        let pieces: Vec<Range<u64>> = self.pieces.ranges_within(span).collect();
        let mut sealed = 0;
        let mut at = span.range.start;
        for piece in pieces {
            sealed += self.seal_unchecked(lease, Span::new(span.entry, at..piece.start), source);
            at = at.max(piece.end);
        }
        sealed + self.seal_unchecked(lease, Span::new(span.entry, at..span.range.end), source)
    }

    fn seal_unchecked(&mut self, lease: LeaseId, span: Span, source: SourceId) -> u64 {
        if span.is_empty() {
            return 0;
        }
        let entry = &mut self.entries[span.entry.index()];
        entry.seal(span.range.clone(), source, false);
        self.touch(span.entry);
        if let Some(held) = self.leases.get_mut(&lease).and_then(|l| l.held_at(span.entry, span.range.start)) {
            held.landed.remove(span.range.clone());
        }
        span.len()
    }

    /// The write came to nothing.
    pub fn write_failed(&mut self, lease: LeaseId, span: &Span) {
        self.end_write(lease, span);
        let held = self.leases.get_mut(&lease).into_iter().flat_map(|l| &mut l.held);
        held.filter(|h| h.span.entry == span.entry).for_each(|h| {
            h.admitted.remove(span.range.clone());
        });
    }

    fn end_write(&mut self, lease: LeaseId, span: &Span) {
        if let Some(i) = self.writing.iter().position(|(l, s)| *l == lease && s == span) {
            self.writing.swap_remove(i);
        }
        // As long as the write was on its way, nobody was given what the lease lost of it.
        if !self.leases.get(&lease).is_some_and(|l| !l.hedge && l.holds(span)) {
            self.give_back(span.entry, span.range.clone());
        }
    }

    /// Whether a write into any of these spans is on its way.
    pub fn is_writing(&self, spans: &[Span]) -> bool {
        self.writing.iter().any(|(_, write)| spans.iter().any(|span| span.overlaps(write)))
    }

    /// The piece's digest matched: it is sealed, if the lease still holds it. Says whether it is, and whether it had been wrong before.
    pub fn seal_piece(&mut self, lease: LeaseId, id: PieceId) -> (bool, bool) {
        let spans = self.pieces.spans(id);
        let Some(state) = self.leases.get_mut(&lease) else { return (false, false) };
        if !self.pieces.is_current(id) || !spans.iter().all(|span| state.has_landed(span)) {
            return (false, false);
        }
        let source = state.source;
        for span in spans.iter() {
            if let Some(held) = state.held_at(span.entry, span.range.start) {
                held.landed.remove(span.range.clone());
            }
        }
        for span in &spans.to_vec() {
            self.entries[span.entry.index()].seal(span.range.clone(), source, true);
            self.touch(span.entry);
        }
        // Bytes that fit a source's own digest prove nothing.
        if self.pieces.said_by(id) != Voice::Source(source) {
            self.sources[source.index()].proven = true;
        }
        (true, self.pieces.clear_failure(id))
    }

    /// The piece's digest did not match: its bytes are free again, and the source is remembered.
    ///
    /// Nothing happens, and the answer is `false`, if the lease has lost the piece meanwhile: what was checked may have been
    /// somebody else's bytes.
    pub fn fail_piece(&mut self, lease: LeaseId, id: PieceId) -> bool {
        let spans = self.pieces.spans(id);
        let Some(state) = self.leases.get_mut(&lease) else { return false };
        let (source, hedge) = (state.source, state.hedge);
        // A hedge has its bytes in memory.
        let has = if hedge { state.holds_just(&spans) } else { spans.iter().all(|span| state.has_landed(span)) };
        if !has || !self.pieces.is_current(id) {
            return false;
        }
        for span in spans.iter() {
            state.carve(span.entry, &span.range);
        }
        if !hedge {
            let spans = spans.to_vec();
            spans.into_iter().for_each(|span| self.give_back(span.entry, span.range));
            self.cut_to_window(lease);
        }
        self.pieces.note_failure(id, source);
        true
    }

    /// A lease that has lost the bytes which a sequential sink waits for keeps no more than the window allows others.
    fn cut_to_window(&mut self, lease: LeaseId) {
        let Some(Span { entry, range }) = self.window.clone() else { return };
        let Some(state) = self.leases.get_mut(&lease) else { return };
        if state.held.iter().any(|h| h.span.entry == entry && h.span.range.contains(&range.start)) {
            return;
        }
        state.carve(entry, &(range.end..OPEN_END));
        self.give_back(entry, range.end..self.entries[entry.index()].end());
    }

    /// A hedge has this piece, checked: everyone else loses it. Its bytes are the hedge's as if it had leased them.
    /// Says whether it may go on; it may not where the piece is sealed already, or a record still claims its bytes.
    pub fn take_over(&mut self, hedge: LeaseId, id: PieceId) -> bool {
        let spans = self.pieces.spans(id).to_vec();
        let gone = |span: &Span| {
            let entry = &self.entries[span.entry.index()];
            entry.blocked || entry.sealed.overlaps(&span.range) || entry.quarantine.overlaps(&span.range)
        };
        // Its piece may have been withdrawn, and these bytes been divided in another way.
        let holds = self.leases.get(&hedge).is_some_and(|l| l.holds_just(&spans));
        if !holds || spans.iter().any(gone) {
            return false;
        }
        for span in &spans {
            for (other, lease) in &mut self.leases {
                if *other != hedge && !lease.hedge {
                    lease.carve(span.entry, &span.range);
                }
            }
            self.entries[span.entry.index()].free.remove(span.range.clone());
            self.touch(span.entry);
        }
        // From here on it is a lease like any other.
        if let Some(lease) = self.leases.get_mut(&hedge) {
            lease.hedge = false;
        }
        true
    }

    /// The lease ends: what it didn't seal is free again, except what is still being written.
    pub fn release(&mut self, lease: LeaseId) {
        let Some(state) = self.leases.remove(&lease) else { return };
        if state.hedge {
            return;
        }
        for held in state.held {
            self.give_back(held.span.entry, held.span.range);
        }
    }

    /// Makes free what of `range` is in no other place.
    pub(super) fn give_back(&mut self, entry: EntryId, range: Range<u64>) {
        let state = &self.entries[entry.index()];
        // The common case: a lease ends that has sealed all it had.
        if state.sealed.contains(&range) {
            return;
        }
        let mut back: RangeSet = [range.clone()].into_iter().collect();
        for set in [&state.sealed, &state.quarantine] {
            set.within(range.clone()).for_each(|(run, ())| {
                back.remove(run);
            });
        }
        for (_, span) in self.writing.iter().filter(|(_, span)| span.entry == entry) {
            back.remove(span.range.clone());
        }
        for held in self.leases.values().filter(|l| !l.hedge).flat_map(|l| &l.held) {
            if held.span.entry == entry {
                back.remove(held.span.range.clone());
            }
        }
        let state = &mut self.entries[entry.index()];
        let end = state.end();
        back.ranges().filter(|r| r.start < end).for_each(|r| state.free.insert(r.start..r.end.min(end)));
        self.touch(entry);
    }
}
