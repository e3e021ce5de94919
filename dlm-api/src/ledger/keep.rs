//! Bytes in doubt and bytes on stable storage: what is taken back, started again, restored and recorded.

use std::ops::Range;

use super::entry::EntryState;
use super::pieces::PieceId;
use super::voices::Voice;
use super::{Ledger, OPEN};
use crate::runs::RangeSet;
use crate::span::{EntryId, SourceId, Span};

impl Ledger {
    /// What a recheck came to.
    pub fn rechecked(&mut self, id: PieceId, good: bool) {
        self.rechecking = self.rechecking.saturating_sub(1);
        if !self.pieces.is_current(id) {
            return;
        }
        for span in self.pieces.spans(id).to_vec() {
            let entry = &mut self.entries[span.entry.index()];
            if good && entry.sealed.contains(&span.range) {
                entry.verified.insert(span.range.clone());
                self.touch(span.entry);
            } else if !good {
                // Somebody has changed it since it was finished.
                self.entries[span.entry.index()].finished = false;
                self.unseal(span.clone());
            }
        }
    }

    /// What this source said is forgotten, and what it delivered without a digest, or with a digest of its own, goes into
    /// quarantine.
    pub fn disown(&mut self, source: SourceId) {
        self.withdraw_facts(Voice::Source(source));
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            let own = entry.by.iter().filter(|(by, _)| *by == source).flat_map(|(_, set)| set.ranges());
            let unproven: Vec<Range<u64>> = own.flat_map(|run| entry.verified.gaps(run)).collect();
            unproven.into_iter().for_each(|run| {
                self.take_back(EntryId::new(i as u32), run);
            });
        }
    }

    /// Of an entry whose digest is wrong, everything that this source did not deliver goes into quarantine. Says how many bytes.
    pub fn keep_only(&mut self, entry: EntryId, source: SourceId) -> u64 {
        let others = self.entries[entry.index()].by.iter().filter(|(by, _)| *by != source);
        let others: Vec<Range<u64>> = others.flat_map(|(_, set)| set.ranges()).collect();
        others.into_iter().map(|run| self.take_back(entry, run)).sum()
    }

    /// No record claims what is in quarantine any more: it is free.
    pub fn end_quarantine(&mut self) {
        for id in self.sums.quarantine.clone() {
            let ranges: Vec<_> = std::mem::take(&mut self.entries[id.index()].quarantine).ranges().collect();
            ranges.into_iter().for_each(|range| self.give_back(id, range));
            self.touch(id);
        }
    }

    /// An entry is about to start again: its leases end, and nothing is given out.
    pub fn block(&mut self, entry: EntryId) {
        let len = OPEN;
        self.entries[entry.index()].blocked = true;
        self.leases.values_mut().for_each(|lease| lease.carve(entry, &len));
        self.touch(entry);
    }

    /// The sink has forgotten the entry: everything is free, but for what is still being written.
    pub fn restart(&mut self, entry: EntryId, solo: bool) {
        // The rest of a piece that it shares with other entries is fetched again with it.
        self.take_back(entry, OPEN);
        let state = &mut self.entries[entry.index()];
        state.restart();
        state.blocked = false;
        state.solo |= solo;
        for (_, span) in self.writing.iter().filter(|(_, span)| span.entry == entry) {
            state.free.remove(span.range.clone());
        }
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
            state.by.remove(&range);
            state.by.add(range.clone(), by, state.grid);
            verified.within(range).for_each(|(run, ())| state.verified.insert(run));
        }
        self.touch(entry);
        let restored: Vec<Range<u64>> = self.entries[entry.index()].sealed.ranges().collect();
        for run in restored {
            self.settle_pieces(&Span::new(entry, run));
        }
    }

    /// Pieces that are sealed without having been checked: whole ones are to be checked, the others are taken back.
    fn settle_pieces(&mut self, span: &Span) {
        for id in self.pieces_within(span) {
            let spans = self.pieces.spans(id);
            let all = |set: fn(&EntryState) -> &RangeSet| {
                spans.iter().all(|s| set(&self.entries[s.entry.index()]).contains(&s.range))
            };
            if !all(|entry| &entry.sealed) {
                let Span { entry, range } = spans[0].clone();
                self.take_back(entry, range);
            } else if !all(|entry| &entry.verified) {
                self.recheck.push(id);
            }
        }
    }

    /// Everything sealed that no record has: what the next checkpoint has to sync.
    pub fn dirty(&self) -> Vec<(EntryId, RangeSet)> {
        self.sums.dirty.iter().map(|id| (*id, self.entries[id.index()].dirty.clone())).collect()
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
        self.touch(entry);
    }

    /// A sync failed: what no record has may be gone, and is fetched again.
    pub fn lose_dirty(&mut self, entry: EntryId) {
        let dirty: Vec<_> = self.entries[entry.index()].dirty.ranges().collect();
        dirty.into_iter().for_each(|run| {
            self.take_back(entry, run);
        });
    }

    /// What was sealed since the last call.
    pub fn take_unlogged(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        for id in self.sums.unlogged.clone() {
            let ranges = std::mem::take(&mut self.entries[id.index()].unlogged);
            spans.extend(ranges.ranges().map(|range| Span::new(id, range)));
            self.touch(id);
        }
        spans
    }

    /// These spans could not be logged: the next [`take_unlogged`](Self::take_unlogged) gives what is still sealed of them again.
    pub fn log_later(&mut self, spans: Vec<Span>) {
        for Span { entry, range } in spans {
            let state = &mut self.entries[entry.index()];
            let still: Vec<Range<u64>> = state.sealed.within(range).map(|(run, ())| run).collect();
            still.into_iter().for_each(|run| state.unlogged.insert(run));
            self.touch(entry);
        }
    }

    /// The log of what was written is empty: what no record has belongs in it again.
    pub fn log_again(&mut self) {
        let changed: Vec<EntryId> = self.sums.dirty.union(&self.sums.unlogged).copied().collect();
        for id in changed {
            let entry = &mut self.entries[id.index()];
            entry.unlogged = entry.dirty.clone();
            self.touch(id);
        }
    }

    /// Takes back what is sealed of `span`. Says how many bytes that were.
    pub(super) fn unseal(&mut self, span: Span) -> u64 {
        let unsealed = self.entries[span.entry.index()].unseal(span.range);
        self.touch(span.entry);
        unsealed
    }

    /// Takes back what is sealed of `range`, and with it the rest of the pieces there: a part of a piece can't be fetched
    /// alone, as it couldn't be checked. Says how many bytes.
    pub fn take_back(&mut self, entry: EntryId, range: Range<u64>) -> u64 {
        let span = Span::new(entry, range);
        let inside = |s: &Span| s.entry == entry && span.range.start <= s.range.start && s.range.end <= span.range.end;
        let mut rest = Vec::new();
        for id in self.pieces.overlapping(&span) {
            rest.extend(self.pieces.spans(id).iter().filter(|s| !inside(s)).cloned());
        }
        [span].into_iter().chain(rest).map(|s| self.unseal(s)).sum()
    }
}
