//! [`Ledger`]: the single truth of what is missing, leased, received, verified and durable.
//!
//! It keeps one invariant above all: **a byte is in exactly one place**. It is free, or in one lease, or sealed, or in
//! quarantine (taken back, but perhaps still claimed by a checkpoint). Only a hedge touches bytes that another lease
//! holds, and it stages them in memory. Sealed bytes never go back to a lease without having been in quarantine first.
//!
//! It is sync and pure: no I/O, no clock, no locks.

mod claim;
mod entry;
mod learn;
mod lease;
mod pieces;
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

use crate::error::{Error, ErrorKind};
use crate::fact::{Identity, Piece, Strength};
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
    recheck: Vec<PieceId>,
}

#[derive(Debug)]
struct SourceState {
    name: String,
    /// It delivered verified bytes.
    proven: bool,
    benched: bool,
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
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source. The name has no secrets in it.
    pub fn add_source(&mut self, name: impl Into<String>) -> SourceId {
        self.sources.push(SourceState { name: name.into(), proven: false, benched: false, past: false, alias: None });
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

    /// How many sources are in use.
    pub fn live_sources(&self) -> usize {
        self.sources.iter().filter(|s| !s.benched).count()
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

    /// A write of admitted bytes begins. Until [`landed`](Self::landed) or [`write_failed`](Self::write_failed) nobody else is
    /// given these bytes, even when the lease is gone.
    pub fn write_begins(&mut self, lease: LeaseId, span: Span) {
        self.writing.push((lease, span));
    }

    /// The write is in the sink.
    pub fn landed(&mut self, lease: LeaseId, span: &Span) -> Landed {
        self.end_write(lease, span);
        let Some(state) = self.leases.get_mut(&lease) else { return Landed::default() };
        let source = state.source;
        // A lease can have shrunk while the write was on its way; what it lost is somebody else's now.
        let mut parts = Vec::new();
        for held in state.held.iter_mut().filter(|h| h.span.entry == span.entry) {
            let part = span.range.start.max(held.span.range.start)..span.range.end.min(held.span.range.end);
            if !part.is_empty() {
                held.landed.insert(part.clone());
                parts.push(Span::new(span.entry, part));
            }
        }
        let mut landed = Landed::default();
        for part in &parts {
            landed.pieces.extend(self.pieces.overlapping(part));
            landed.sealed += self.seal_between(lease, part, source);
        }
        landed.pieces.dedup();
        let state = &self.leases[&lease];
        landed.pieces.retain(|id| self.pieces.get(*id).spans.iter().all(|s| s.is_empty() || state.has_landed(s)));
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
        if !self.leases.contains_key(&lease) {
            self.give_back(span.entry, span.range.clone());
        }
    }

    /// Whether a write into any of these spans is on its way.
    pub fn is_writing(&self, spans: &[Span]) -> bool {
        self.writing.iter().any(|(_, w)| {
            spans.iter().any(|s| s.entry == w.entry && s.range.start < w.range.end && w.range.start < s.range.end)
        })
    }

    /// What a piece is.
    pub fn piece(&self, id: PieceId) -> &Piece {
        self.pieces.get(id)
    }

    /// The piece that has the byte `at` of an entry.
    pub fn piece_at(&self, entry: EntryId, at: u64) -> Option<PieceId> {
        self.pieces.at(entry, at)
    }

    /// The pieces that have a byte of `span`.
    pub fn pieces_within(&self, span: &Span) -> Vec<PieceId> {
        self.pieces.overlapping(span).collect()
    }

    /// The piece's digest matched: it is sealed, if the lease still holds it. Says whether it is, and whether it had been wrong before.
    pub fn seal_piece(&mut self, lease: LeaseId, id: PieceId) -> (bool, bool) {
        let spans = self.pieces.get(id).spans.clone();
        let Some(state) = self.leases.get_mut(&lease) else { return (false, false) };
        if !spans.iter().all(|span| state.has_landed(span)) {
            return (false, false);
        }
        let source = state.source;
        for span in &spans {
            if let Some(held) = state.held_at(span.entry, span.range.start) {
                held.landed.remove(span.range.clone());
            }
        }
        for span in &spans {
            self.entries[span.entry.index()].seal(span.range.clone(), source, true);
        }
        self.sources[source.index()].proven = true;
        (true, self.pieces.clear_failure(id))
    }

    /// The piece's digest did not match: its bytes are free again, and the source is remembered. Where several sources
    /// agree on other bytes than a source's digest, it is that source that lies.
    pub fn fail_piece(&mut self, lease: LeaseId, id: PieceId) {
        let spans = self.pieces.get(id).spans.clone();
        let Some(state) = self.leases.get_mut(&lease) else { return };
        let (source, hedge) = (state.source, state.hedge);
        for span in &spans {
            state.carve(span.entry, &span.range);
        }
        if !hedge {
            spans.iter().for_each(|span| self.give_back(span.entry, span.range.clone()));
        }
        let failures = self.pieces.note_failure(id, source);
        if let Voice::Source(author) = self.pieces.said_by(id)
            && failures > 1
            && !self.sources[author.index()].proven
        {
            self.accuse(author, Error::new(ErrorKind::Corrupt, "its digest fits nobody's bytes"));
        }
    }

    /// A hedge has this piece, checked: everyone else loses it. Its bytes are the hedge's as if it had leased them.
    /// Says whether it may go on; it may not where the piece is sealed already.
    pub fn take_over(&mut self, hedge: LeaseId, id: PieceId) -> bool {
        let spans = self.pieces.get(id).spans.clone();
        let gone = |span: &Span| {
            let entry = &self.entries[span.entry.index()];
            entry.blocked || entry.sealed.overlaps(&span.range)
        };
        if !self.leases.contains_key(&hedge) || spans.iter().any(gone) {
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
        let mut back: RangeSet = [range.clone()].into_iter().collect();
        let state = &self.entries[entry.index()];
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

    /// What a recheck came to.
    pub fn rechecked(&mut self, id: PieceId, good: bool) {
        for span in self.pieces.get(id).spans.clone() {
            let entry = &mut self.entries[span.entry.index()];
            if good && entry.sealed.contains(&span.range) {
                entry.verified.insert(span.range.clone());
            } else if !good {
                entry.unseal(span.range.clone());
            }
        }
    }

    /// What this source said is forgotten, and what it delivered without a digest goes into quarantine.
    pub fn disown(&mut self, source: SourceId) {
        self.withdraw_facts(Voice::Source(source));
        for entry in &mut self.entries {
            let unproven: Vec<Range<u64>> = entry
                .by
                .iter()
                .filter(|(_, by)| *by == source)
                .flat_map(|(run, _)| entry.verified.gaps(run).collect::<Vec<_>>())
                .collect();
            unproven.into_iter().for_each(|run| {
                entry.unseal(run);
            });
        }
    }

    /// Of an entry whose digest is wrong, everything that this source did not deliver goes into quarantine. Says how many bytes.
    pub fn keep_only(&mut self, entry: EntryId, source: SourceId) -> u64 {
        let state = &mut self.entries[entry.index()];
        let others: Vec<Range<u64>> = {
            let own: RangeSet = state.by.iter().filter(|(_, by)| *by == source).map(|(run, _)| run).collect();
            state.sealed.ranges().flat_map(|run| own.gaps(run).collect::<Vec<_>>()).collect()
        };
        others.into_iter().map(|run| state.unseal(run)).sum()
    }

    /// A response begins to deliver bytes of an entry, under these validators.
    pub fn count_stream(&mut self, entry: EntryId, identities: &[Identity]) {
        self.entries[entry.index()].streams.add(identities);
    }

    /// Of the response that ended now nobody can tell whether it was cut off.
    pub fn doubt_end(&mut self, entry: EntryId) {
        self.entries[entry.index()].streams.endless = true;
    }

    /// Whether all that came of an entry is known to be of one content: one response brought it, or all had the same strong
    /// validator.
    pub fn is_one_content(&self, entry: EntryId) -> bool {
        let streams = &self.entries[entry.index()].streams;
        let one_response = streams.count <= 1 && self.sources_of(entry) <= 1;
        !streams.endless && (one_response || !streams.common.is_empty())
    }

    /// What an entry's content is, for a later run: a validator counts as strong only if all that is here came under it.
    pub fn common_identities(&self, entry: EntryId) -> Vec<Identity> {
        let streams = &self.entries[entry.index()].streams;
        let mut identities = self.identities(entry);
        identities
            .iter_mut()
            .filter(|identity| streams.count > 0 && !streams.common.contains(identity))
            .for_each(|identity| identity.strength = Strength::Weak);
        identities
    }

    /// How many sources delivered what is sealed of an entry, not counting an earlier run.
    pub fn sources_of(&self, entry: EntryId) -> usize {
        self.shares(entry).iter().filter(|(source, _)| !self.sources[source.index()].past).count()
    }

    /// The first bytes that are sealed without a digest, at most `most`, where what comes before them is missing, and who
    /// delivered them.
    pub fn first_after_gap(&self, entry: EntryId, most: u64) -> Option<(Range<u64>, SourceId)> {
        let state = &self.entries[entry.index()];
        let (run, by) = state.by.next_from(0).filter(|(run, _)| run.start > 0)?;
        let range = run.start..run.end.min(run.start + most);
        (!state.verified.overlaps(&range)).then_some((range, by))
    }

    /// Takes back sealed bytes, to have them fetched again.
    pub fn take_back(&mut self, span: &Span) {
        self.entries[span.entry.index()].unseal(span.range.clone());
    }

    /// How many sealed bytes of an entry each source delivered, the greatest first.
    pub fn shares(&self, entry: EntryId) -> Vec<(SourceId, u64)> {
        let mut shares = BTreeMap::new();
        for (run, by) in self.entries[entry.index()].by.iter() {
            *shares.entry(by).or_insert(0) += run.end - run.start;
        }
        let mut shares: Vec<_> = shares.into_iter().collect();
        shares.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        shares
    }

    /// Whether anything is in quarantine.
    pub fn has_quarantine(&self) -> bool {
        self.entries.iter().any(|e| !e.quarantine.is_empty())
    }

    /// No record claims what is in quarantine any more: it is free.
    pub fn end_quarantine(&mut self) {
        for i in 0..self.entries.len() {
            let ranges: Vec<_> = std::mem::take(&mut self.entries[i].quarantine).ranges().collect();
            ranges.into_iter().for_each(|range| self.give_back(EntryId::new(i as u32), range));
        }
    }

    /// An entry is about to start again: its leases end, and nothing is given out.
    pub fn block(&mut self, entry: EntryId) {
        let len = OPEN;
        self.entries[entry.index()].blocked = true;
        self.leases.values_mut().for_each(|lease| lease.carve(entry, &len));
    }

    /// The sink has forgotten the entry: everything is free. The caller has waited for the writes.
    pub fn restart(&mut self, entry: EntryId, solo: bool) {
        let state = &mut self.entries[entry.index()];
        state.restart();
        state.blocked = false;
        state.solo |= solo;
        self.apply_len(entry);
        self.touch(entry);
    }

    /// What an earlier run left counts.
    pub fn restore(&mut self, entry: EntryId, durable: &RangeSet, verified: &RangeSet, by: SourceId) {
        let identities = self.identities(entry);
        let state = &mut self.entries[entry.index()];
        state.streams.add(&identities);
        let end = state.end();
        for range in durable.ranges().map(|r| r.start..r.end.min(end)).filter(|r| !r.is_empty()) {
            state.free.remove(range.clone());
            state.sealed.insert(range.clone());
            state.durable.insert(range.clone());
            state.by.set(range.clone(), by);
            verified.within(range).for_each(|(run, ())| state.verified.insert(run));
        }
        self.touch(entry);
    }

    /// Everything sealed that no record has: what the next checkpoint has to sync.
    pub fn dirty(&self) -> Vec<(EntryId, RangeSet)> {
        let dirty = |(i, e): (usize, &EntryState)| (EntryId::new(i as u32), e.dirty.clone());
        self.entries.iter().enumerate().filter(|(_, e)| !e.dirty.is_empty()).map(dirty).collect()
    }

    /// These bytes are on stable storage and recorded. Bytes that were taken back since are left out.
    pub fn set_durable(&mut self, entry: EntryId, ranges: &RangeSet) {
        let state = &mut self.entries[entry.index()];
        let still: Vec<Range<u64>> =
            ranges.ranges().flat_map(|r| state.sealed.within(r).map(|(run, ())| run).collect::<Vec<_>>()).collect();
        for run in still {
            state.dirty.remove(run.clone());
            state.durable.insert(run);
        }
    }

    /// A sync failed: what no record has may be gone, and is fetched again.
    pub fn lose_dirty(&mut self, entry: EntryId) {
        let state = &mut self.entries[entry.index()];
        let dirty: Vec<_> = state.dirty.ranges().collect();
        dirty.into_iter().for_each(|run| {
            state.unseal(run);
        });
    }

    /// What was sealed since the last call.
    pub fn take_unlogged(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (i, entry) in self.entries.iter_mut().enumerate() {
            let ranges = std::mem::take(&mut entry.unlogged);
            spans.extend(ranges.ranges().map(|range| Span::new(EntryId::new(i as u32), range)));
        }
        spans
    }

    /// The log of what was written is empty: what no record has belongs in it again.
    pub fn log_again(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.unlogged = entry.dirty.clone());
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
        self.entries[entry.index()].by.get(at).map(|(_, by)| by)
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
            totals.len = totals.len.zip(entry.len).map(|(sum, len)| sum + len);
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
