//! [`Ledger`]: the single truth of what is missing, leased, received, verified and durable.
//!
//! It keeps one invariant above all: **a byte is in exactly one place**. It is free, or in one lease, or sealed, or in
//! quarantine (taken back, but perhaps still claimed by a checkpoint). Only a hedge touches bytes that another lease
//! holds, and it stages them in memory. Sealed bytes never go back to a lease without having been in quarantine first.
//!
//! It is sync and pure: no I/O, no clock, no locks.

#[cfg(any(test, feature = "testkit"))]
mod check;
mod claim;
mod entries;
mod entry;
mod found;
mod keep;
mod learn;
mod lease;
mod pieces;
mod shares;
mod sources;
mod streams;
mod sums;
mod view;
mod voices;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use entry::EntryState;
use lease::LeaseState;
use pieces::Pieces;
use sources::SourceState;
use sums::Sums;

pub use claim::{Grant, NotNow};
pub use pieces::PieceId;
pub use sums::Totals;
pub use view::{LeaseView, View};
pub use voices::Voice;
pub use writes::{Admitted, Landed};

use crate::digest::Digest;
use crate::error::Error;
use crate::fact::Piece;
use crate::path::EntryPath;
use crate::runs::RangeSet;
use crate::span::{EntryId, LeaseId, SourceId, Span};

/// The single truth of what is missing, leased, received, verified and durable. A [`Transfer`](crate::Transfer) is the way to it;
/// it stands alone for tests and measurements.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<EntryState>,
    by_path: HashMap<EntryPath, EntryId>,
    sums: Sums,
    /// Entries that have become complete since the last look.
    completed: BTreeSet<EntryId>,
    layout_complete: bool,
    leases: BTreeMap<LeaseId, LeaseState>,
    next_lease: u64,
    pieces: Pieces,
    sources: Vec<SourceState>,
    /// Writes on their way to the sink.
    writing: Vec<(LeaseId, Span)>,
    window: Option<Span>,
    focus: Option<(EntryId, u64)>,
    exclusive: Option<SourceId>,
    restarts_wanted: BTreeMap<EntryId, String>,
    accused: Vec<(SourceId, Error)>,
    /// Sources whose bytes did not match a liar's digests.
    pardoned: BTreeSet<SourceId>,
    recheck: BTreeSet<PieceId>,
    /// Those that are being checked, and whether bytes of theirs were taken back meanwhile.
    rechecking: BTreeMap<PieceId, bool>,
    /// Pieces of which a part was sealed and not checked. Those that are whole, or of which nothing is left, are among them.
    parted: BTreeSet<PieceId>,
    /// Entries at which nobody has looked yet, and whether that has to be done before they are given out.
    unseen: BTreeSet<EntryId>,
    looks_first: bool,
    /// What stands for whoever left what was found.
    found_by: Option<SourceId>,
    /// Nothing is given out, and nothing is waited for.
    keeps: bool,
    /// The caller's pieces of the first entry, one after the other: their lengths and digests.
    template: Vec<(u64, Digest)>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a piece is.
    pub fn piece(&self, id: PieceId) -> Piece {
        self.pieces.get(id)
    }

    /// The piece that has the byte `at` of an entry.
    pub fn piece_at(&self, entry: EntryId, at: u64) -> Option<PieceId> {
        self.pieces.at(entry, at)
    }

    /// The part of the piece at `at` that lies in this entry.
    pub fn piece_range_at(&self, entry: EntryId, at: u64) -> Option<Range<u64>> {
        self.pieces.range_at(entry, at)
    }

    /// The pieces that have a byte of `span`.
    pub fn pieces_within(&self, span: &Span) -> Vec<PieceId> {
        self.pieces.overlapping(span).collect()
    }

    /// Which entries have to start again, and why, since the last call.
    pub fn take_restarts(&mut self) -> BTreeMap<EntryId, String> {
        std::mem::take(&mut self.restarts_wanted)
    }

    /// Pieces that were learned after their bytes were sealed, and have to be checked: [`rechecked`](Self::rechecked) is to be
    /// called for each.
    pub fn take_recheck(&mut self) -> Vec<PieceId> {
        let taken = std::mem::take(&mut self.recheck);
        self.rechecking.extend(taken.iter().map(|id| (*id, false)));
        taken.into_iter().collect()
    }

    /// Whether a part of a piece waits for the rest of it, to be checked with it.
    pub(super) fn has_open_parts(&self) -> bool {
        let is_open = |span: &Span| {
            let entry = &self.entries[span.entry.index()];
            entry.sealed.overlaps(&span.range) && !entry.verified.contains(&span.range)
        };
        self.parted.iter().any(|id| self.pieces.is_current(*id) && self.pieces.spans(*id).iter().any(is_open))
    }

    /// Whether no lease is out and no write is on its way.
    pub fn is_quiet(&self) -> bool {
        self.leases.is_empty() && self.writing.is_empty()
    }

    /// The number of entries.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// How far from `at` on an entry is sealed, and as right as can be told: what belongs to a piece was checked with it. `None`
    /// if not even the byte at `at` is.
    pub fn trusted_from(&self, entry: EntryId, at: u64) -> Option<u64> {
        let state = &self.entries[entry.index()];
        let (sealed, ()) = state.sealed.get(at)?;
        let mut end = at;
        while end < sealed.end {
            let verified = state.verified.get(end).map(|(run, ())| run.end);
            let piece = self.pieces.ranges_within(&Span::new(entry, end..sealed.end)).next();
            end = match (verified, piece) {
                (Some(verified), _) => verified,
                (None, Some(piece)) if piece.start <= end => break,
                (None, piece) => piece.map_or(sealed.end, |piece| piece.start),
            };
        }
        (end > at).then_some(end)
    }

    /// Whether all of a span is sealed, and as right as can be told.
    pub fn is_trusted(&self, span: &Span) -> bool {
        self.is_padding(span.entry)
            || self.trusted_from(span.entry, span.range.start).is_some_and(|end| end >= span.range.end)
    }

    /// What is sealed of an entry. A part of a piece that others have a part of, too, is before it was checked.
    pub fn sealed(&self, entry: EntryId) -> &RangeSet {
        &self.entries[entry.index()].sealed
    }

    /// What of an entry was checked against a digest.
    pub fn verified(&self, entry: EntryId) -> &RangeSet {
        &self.entries[entry.index()].verified
    }

    /// What of an entry is on stable storage and recorded.
    pub fn durable(&self, entry: EntryId) -> &RangeSet {
        &self.entries[entry.index()].durable
    }

    /// Who delivered the sealed byte `at`.
    pub fn delivered_by(&self, entry: EntryId, at: u64) -> Option<SourceId> {
        self.entries[entry.index()].by.at(at).map(|(by, _)| by)
    }

    /// A number that goes up when sealed bytes of the entry are taken back.
    pub fn version(&self, entry: EntryId) -> u64 {
        self.entries[entry.index()].version
    }

    /// One stream has to bring the whole entry from now on.
    pub fn set_solo(&mut self, entry: EntryId) {
        self.entries[entry.index()].solo = true;
    }

    /// Whether one stream has to bring the whole entry.
    pub fn is_solo(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].solo
    }

    /// Bytes that may be leased now, of a sequential sink.
    pub fn set_window(&mut self, window: Option<Span>) {
        self.window = window;
    }

    /// The bytes that may be leased now, of a sequential sink.
    pub fn window(&self) -> Option<&Span> {
        self.window.as_ref()
    }

    /// Where somebody reads.
    pub fn set_focus(&mut self, focus: Option<(EntryId, u64)>) {
        self.focus = focus;
    }

    /// What a lease has not handed over yet.
    pub fn remaining(&self, lease: LeaseId) -> Vec<Span> {
        let held = self.leases.get(&lease).into_iter().flat_map(|l| &l.held);
        held.flat_map(|h| {
            let entry = h.span.entry;
            h.admitted.gaps(h.span.range.clone()).map(move |gap| Span::new(entry, gap)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Whether the lease is a hedge.
    pub fn is_hedge(&self, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|l| l.hedge)
    }

    /// The number of leases.
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }
}

/// Every byte that an entry can have.
const OPEN: Range<u64> = 0..crate::span::OPEN_END;
