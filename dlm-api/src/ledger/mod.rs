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
mod entry;
mod keep;
mod learn;
mod lease;
mod pieces;
mod shares;
mod streams;
mod view;
mod voices;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Instant;

use entry::EntryState;
use lease::LeaseState;
use pieces::Pieces;

pub use claim::{Grant, NotNow};
pub use pieces::PieceId;
pub use view::{LeaseView, View};
pub use voices::Voice;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
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
    with_free: BTreeSet<EntryId>,
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
    recheck: Vec<PieceId>,
    /// The caller's pieces of the first entry, one after the other: their lengths and digests.
    template: Vec<(u64, Digest)>,
}

#[derive(Debug)]
struct SourceState {
    name: String,
    /// It delivered verified bytes.
    proven: bool,
    benched: bool,
    /// The only entry of which it can deliver.
    bound: Option<EntryId>,
    /// It stands for an earlier run.
    past: bool,
    /// What it calls the only entry.
    alias: Option<EntryPath>,
}

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
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source. The name has no secrets in it.
    pub fn add_source(&mut self, name: impl Into<String>) -> SourceId {
        self.sources.push(SourceState {
            name: name.into(),
            proven: false,
            benched: false,
            bound: None,
            past: false,
            alias: None,
        });
        SourceId::new(self.sources.len() as u32 - 1)
    }

    /// Adds what stands for an earlier run: it delivered, and does no more.
    pub fn add_past(&mut self) -> SourceId {
        let id = self.add_source("an earlier run");
        self.sources[id.index()].past = true;
        self.sources[id.index()].benched = true;
        id
    }

    /// The name of a source.
    pub fn source_name(&self, source: SourceId) -> &str {
        &self.sources[source.index()].name
    }

    /// The source is not used any more: its leases return, and it is given no new ones.
    pub fn bench(&mut self, source: SourceId) {
        self.sources[source.index()].benched = true;
        let of_source: Vec<LeaseId> =
            self.leases.iter().filter(|(_, l)| l.source == source).map(|(id, _)| *id).collect();
        of_source.into_iter().for_each(|id| self.release(id));
    }

    /// The source is used again.
    pub fn unbench(&mut self, source: SourceId) {
        self.sources[source.index()].benched = false;
    }

    /// Whether the source is benched.
    pub fn is_benched(&self, source: SourceId) -> bool {
        self.sources[source.index()].benched
    }

    /// How many sources are in use that can deliver bytes of this entry; of any entry for `None`.
    pub fn live_sources(&self, entry: Option<EntryId>) -> usize {
        let can = |bound: Option<EntryId>| entry.is_none() || bound.is_none() || bound == entry;
        self.sources.iter().filter(|s| !s.benched && can(s.bound)).count()
    }

    /// The source delivers bytes of this entry only.
    pub fn bind(&mut self, source: SourceId, entry: EntryId) {
        self.sources[source.index()].bound = Some(entry);
    }

    /// Nobody but this source is given leases.
    pub fn set_exclusive(&mut self, source: Option<SourceId>) {
        self.exclusive = source;
    }

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
        let state = &self.leases[&lease];
        landed.pieces.retain(|id| self.pieces.spans(*id).iter().all(|s| s.is_empty() || state.has_landed(s)));
        landed
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
        for span in spans.iter() {
            self.entries[span.entry.index()].seal(span.range.clone(), source, true);
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
        state.carve(entry, &(range.end..crate::span::OPEN_END));
        self.give_back(entry, range.end..self.entries[entry.index()].end());
    }

    /// What the bytes hash to that this source delivered for a piece, and that are not what its digest says. Where others
    /// agree on bytes that a source's digest doesn't fit, it is that source that lies. That they all fail says nothing:
    /// several may lie, each for itself.
    pub fn testify(&mut self, source: SourceId, id: PieceId, found: &[u8]) {
        let Voice::Source(author) = self.pieces.said_by(id) else { return };
        if author == source {
            return;
        }
        let agree = self.pieces.testify(id, source, found);
        if agree.len() > 1 && !self.sources[author.index()].proven {
            self.accuse(author, Error::new(ErrorKind::Corrupt, "others agree on bytes that its digest doesn't fit"));
            self.pardoned.extend(agree);
        }
    }

    /// Whether the source is to be used again although its bytes did not match a digest, since that was the lie. Once.
    pub fn pardon(&mut self, source: SourceId) -> bool {
        self.pardoned.remove(&source)
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
    fn give_back(&mut self, entry: EntryId, range: Range<u64>) {
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

    fn touch(&mut self, entry: EntryId) {
        if self.entries[entry.index()].free.is_empty() {
            self.with_free.remove(&entry);
        } else {
            self.with_free.insert(entry);
        }
    }

    /// Somebody is found to be wrong. The engine takes it from [`take_accused`](Self::take_accused).
    pub fn accuse(&mut self, source: SourceId, error: Error) {
        if !self.accused.iter().any(|(s, _)| *s == source) {
            self.accused.push((source, error));
        }
    }

    /// Who was found to be wrong since the last call.
    pub fn take_accused(&mut self) -> Vec<(SourceId, Error)> {
        std::mem::take(&mut self.accused)
    }

    /// Which entries have to start again, and why, since the last call.
    pub fn take_restarts(&mut self) -> BTreeMap<EntryId, String> {
        std::mem::take(&mut self.restarts_wanted)
    }

    /// Pieces that were learned after their bytes were sealed, and have to be checked.
    pub fn take_recheck(&mut self) -> Vec<PieceId> {
        std::mem::take(&mut self.recheck)
    }

    /// How many sources delivered what is sealed of an entry, not counting an earlier run.
    pub fn sources_of(&self, entry: EntryId) -> usize {
        self.shares(entry).iter().filter(|(source, _)| !self.sources[source.index()].past).count()
    }

    /// How many sealed bytes of an entry each source delivered, the greatest first.
    pub fn shares(&self, entry: EntryId) -> Vec<(SourceId, u64)> {
        let shares = self.entries[entry.index()].by.iter().map(|(by, set)| (by, set.bytes()));
        let mut shares: Vec<_> = shares.collect();
        shares.sort_by_key(|(by, bytes)| (std::cmp::Reverse(*bytes), *by));
        shares
    }

    /// Whether anything could be leased.
    pub fn has_free(&self) -> bool {
        !self.with_free.is_empty()
    }

    /// Whether no lease is out and no write is on its way.
    pub fn is_quiet(&self) -> bool {
        self.leases.is_empty() && self.writing.is_empty()
    }

    /// Whether all is sealed, and all there is is known.
    pub fn is_complete(&self) -> bool {
        self.layout_complete
            && self.recheck.is_empty()
            && self.restarts_wanted.is_empty()
            && self.entries.iter().all(EntryState::is_complete)
    }

    /// The number of entries.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// What is sealed of an entry.
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

    /// Bytes that are sealed, verified and durable, and bytes that are in the sink but wait for their piece.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for entry in &self.entries {
            totals.sealed += entry.sealed.bytes();
            totals.verified += entry.verified.bytes();
            totals.durable += entry.durable.bytes();
            // Lengths that sources make up can be of any size.
            totals.len = totals.len.zip(entry.len).map(|(sum, len)| sum.saturating_add(len));
        }
        totals.len = totals.len.filter(|_| self.layout_complete);
        let held = self.leases.values().filter(|l| !l.hedge).flat_map(|l| &l.held);
        totals.landed = held.map(|h| h.landed.bytes()).sum();
        totals
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

/// Sums over all entries, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Totals {
    /// The length of all entries, once it is known.
    pub len: Option<u64>,
    /// Bytes that are sealed.
    pub sealed: u64,
    /// Of these, how many were checked.
    pub verified: u64,
    /// Of these, how many are on stable storage.
    pub durable: u64,
    /// Bytes that are in the sink and wait for their piece to be whole.
    pub landed: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { len: Some(0), sealed: 0, verified: 0, durable: 0, landed: 0 }
    }
}
