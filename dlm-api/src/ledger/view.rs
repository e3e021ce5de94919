//! [`View`]: what a scheduler sees of the ledger.

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use super::Ledger;
use super::lease::LeaseState;
use crate::span::{EntryId, LeaseId, SourceId, Span};

/// What a scheduler sees of the ledger.
pub struct View<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) now: Instant,
}

/// What a scheduler sees of a lease.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LeaseView {
    /// Its number.
    pub id: LeaseId,
    /// Who has it.
    pub source: SourceId,
    /// Whether it is a hedge, which holds nothing exclusively.
    pub hedge: bool,
    /// What it has not delivered yet, at its end; of several spans, of the one where this is most. Only these bytes can be stolen.
    pub tail: Span,
    /// All its bytes, delivered or not.
    pub bytes: u64,
    /// Its rate in bytes a second; `None` while it is too young to tell.
    pub rate: Option<u64>,
    /// When it was given out.
    pub since: Instant,
}

impl View<'_> {
    /// Whether the length of an entry is known.
    pub fn len(&self, entry: EntryId) -> Option<u64> {
        self.ledger.entries.get(entry.index())?.len
    }

    /// The first free bytes of an entry at or after `from`.
    pub fn free_from(&self, entry: EntryId, from: u64) -> Option<Range<u64>> {
        let entry = self.ledger.entries.get(entry.index()).filter(|e| !e.blocked)?;
        entry.free.next_from(from).map(|(run, ())| run)
    }

    /// The entries that have free bytes, from `entry` on, in their order.
    pub fn entries_with_free(&self, from: EntryId) -> impl Iterator<Item = EntryId> + '_ {
        self.ledger.sums.free.range(from..).copied()
    }

    /// Whether every byte of the span is free.
    pub fn is_free(&self, span: &Span) -> bool {
        let entry = self.ledger.entries.get(span.entry.index());
        entry.is_some_and(|e| !e.blocked && e.free.contains(&span.range))
    }

    /// Whether every byte of the span is sealed.
    pub fn is_sealed(&self, span: &Span) -> bool {
        self.ledger.entries.get(span.entry.index()).is_some_and(|e| e.sealed.contains(&span.range))
    }

    /// The spans of the piece that has the byte `at`, and `None` where there are no pieces.
    pub fn piece_at(&self, entry: EntryId, at: u64) -> Option<Vec<Span>> {
        let id = self.ledger.pieces.at(entry, at)?;
        Some(self.ledger.pieces.spans(id).to_vec())
    }

    /// The part of the piece at `at` that lies in this entry.
    pub fn piece_range_at(&self, entry: EntryId, at: u64) -> Option<Range<u64>> {
        self.ledger.pieces.range_at(entry, at)
    }

    /// Whether this source delivered wrong bytes for the piece that has the byte `at`.
    pub fn has_failed(&self, source: SourceId, entry: EntryId, at: u64) -> bool {
        self.ledger.pieces.at(entry, at).is_some_and(|id| self.ledger.pieces.has_failed(id, source))
    }

    /// Whether this source delivered wrong bytes for the piece that has the byte `at`, and another one, which may still deliver
    /// it, did not.
    pub fn is_for_others(&self, source: SourceId, entry: EntryId, at: u64) -> bool {
        let has_failed = |id, source| self.ledger.pieces.has_failed(id, source);
        let piece = self.ledger.pieces.at(entry, at).filter(|id| has_failed(*id, source));
        piece.is_some_and(|id| self.ledger.others_of(source, entry, self.now).any(|other| !has_failed(id, other)))
    }

    /// Whether any source delivered wrong bytes for a piece that is still missing.
    pub fn has_failures(&self) -> bool {
        self.ledger.pieces.has_failures()
    }

    /// How many sources are in use that can deliver bytes of this entry; of any entry for `None`.
    pub fn live_sources(&self, entry: Option<EntryId>) -> usize {
        self.ledger.live_sources(entry)
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = LeaseView> + '_ {
        self.ledger.leases.iter().filter_map(|(id, lease)| Some(self.lease(*id, lease, lease.tail()?)))
    }

    /// The lease that has all of `span` in a part of it that has not been delivered; this part is its `tail` here.
    pub fn holder(&self, span: &Span) -> Option<LeaseView> {
        let held = self.ledger.leases.iter().filter(|(_, lease)| !lease.hedge);
        held.filter_map(|(id, lease)| Some(self.lease(*id, lease, lease.tail_with(span)?))).next()
    }

    fn lease(&self, id: LeaseId, lease: &LeaseState, tail: Span) -> LeaseView {
        LeaseView {
            id,
            source: lease.source,
            hedge: lease.hedge,
            tail,
            bytes: lease.held.iter().map(|h| h.span.len()).sum(),
            rate: lease.meter.rate(self.now),
            since: lease.since,
        }
    }

    /// The bytes of a sequential sink's entry that may be leased now. Nothing else is granted, except to
    /// the lease that starts at its first byte.
    pub fn window(&self) -> Option<&Span> {
        self.ledger.window.as_ref()
    }

    /// Where somebody reads: what comes next from there is wanted first.
    pub fn focus(&self) -> Option<(EntryId, u64)> {
        self.ledger.focus
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("now", &self.now).finish_non_exhaustive()
    }
}
