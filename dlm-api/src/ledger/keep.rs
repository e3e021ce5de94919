//! Bytes in doubt and bytes on stable storage: what is taken back, started again, restored and recorded.

use std::ops::Range;

use super::pieces::PieceId;
use super::voices::Voice;
use super::{Ledger, OPEN};
use crate::error::{Error, ErrorKind};
use crate::runs::RangeSet;
use crate::span::{EntryId, SourceId, Span};

impl Ledger {
    /// What a recheck came to.
    pub fn rechecked(&mut self, id: PieceId, good: bool) {
        let was_taken_back = self.rechecking.remove(&id).unwrap_or(false);
        if !self.pieces.is_current(id) {
            return;
        }
        // What was taken back meanwhile is checked when it has come again.
        if was_taken_back || !self.is_whole(id) {
            return self.recheck_if_whole(id);
        }
        let spans = self.pieces.spans(id).to_vec();
        if !good {
            return self.doubt(id, &spans);
        }
        self.parted.remove(&id);
        self.pieces.clear_failure(id);
        // Padding is in no place where it would have been sealed, unless somebody wrote it.
        let is_sealed = |s: &&Span| self.entries[s.entry.index()].sealed.contains(&s.range);
        for span in spans.iter().filter(is_sealed).cloned().collect::<Vec<_>>() {
            let said_by = self.pieces.said_by(id);
            let entry = &mut self.entries[span.entry.index()];
            for source in entry.by.within(&span.range) {
                self.sources[source.index()].proven |= said_by != Voice::Source(source);
            }
            entry.verified.insert(span.range.clone());
            self.touch(span.entry);
            self.tell_complete(span.entry);
        }
    }

    /// A sealed piece is wrong. Whose part of it is, nobody knows, where there are several: at first the parts are taken back
    /// that were never found to be right, then all. Who has a part in it again, when none of them was ever right, is accused,
    /// and first those of whom nothing else was right so far.
    fn doubt(&mut self, id: PieceId, spans: &[Span]) {
        let spans: Vec<Span> = spans.iter().filter(|s| !self.is_padding(s.entry)).cloned().collect();
        let is_verified = |s: &&Span| self.entries[s.entry.index()].verified.contains(&s.range);
        let was_right = spans.iter().any(|s| is_verified(&s));
        let all = spans.iter().all(|s| is_verified(&s)) || self.pieces.has_failed_at_all(id);
        let doubtful: Vec<Span> = spans.iter().filter(|s| all || !is_verified(s)).cloned().collect();
        self.pieces.note_doubt(id);
        let mut again = Vec::new();
        for span in doubtful {
            let sources: Vec<SourceId> = self.entries[span.entry.index()].by.within(&span.range).collect();
            // Who can deliver the piece as a whole is judged by that.
            let is_judged = |source: &SourceId| {
                let state = &self.sources[source.index()];
                !state.past && (state.bound.is_some() || spans.len() == 1)
            };
            for source in sources.into_iter().filter(is_judged).collect::<Vec<_>>() {
                if !was_right && self.pieces.has_failed(id, source) {
                    again.push(source);
                }
                self.pieces.note_failure(id, source);
            }
            // Somebody has changed it since it was finished.
            self.entries[span.entry.index()].finished = false;
            self.unseal(span);
        }
        let is_proven = |source: &SourceId| self.sources[source.index()].proven;
        if !again.iter().all(is_proven) {
            again.retain(|source| !is_proven(source));
        }
        for source in again {
            self.accuse(
                source,
                Error::new(ErrorKind::Corrupt, "a piece with a part from here does not match its digest"),
            );
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
        state.streams.add_past(&identities);
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
            let spans = self.pieces.spans(id).to_vec();
            self.settle_parts(&spans);
            self.recheck_if_whole(id);
        }
    }

    /// A part of a piece is sealed as a whole or not at all. Says which parts nothing is sealed of any more.
    pub(super) fn settle_parts(&mut self, spans: &[Span]) -> Vec<Span> {
        let is_partly_sealed = |span: &&Span| {
            let sealed = self.entries[span.entry.index()].sealed.bytes_within(span.range.clone());
            sealed > 0 && sealed < span.len()
        };
        let partly: Vec<Span> = spans.iter().filter(is_partly_sealed).cloned().collect();
        for span in &partly {
            self.unseal(span.clone());
        }
        partly
    }

    /// Whether all of a piece is sealed. Padding always is there.
    fn is_whole(&self, id: PieceId) -> bool {
        let is_there = |s: &Span| self.entries[s.entry.index()].sealed.contains(&s.range) || self.is_padding(s.entry);
        self.pieces.spans(id).iter().all(is_there)
    }

    /// A piece that is sealed without having been checked is to be checked, once it is whole.
    pub(super) fn recheck_if_whole(&mut self, id: PieceId) {
        let is_unchecked = |s: &Span| {
            let entry = &self.entries[s.entry.index()];
            entry.sealed.overlaps(&s.range) && !entry.verified.contains(&s.range)
        };
        if !self.pieces.spans(id).iter().any(is_unchecked) {
            self.parted.remove(&id);
        } else if !self.is_whole(id) {
            self.parted.insert(id);
        } else if !self.rechecking.contains_key(&id) {
            self.recheck.insert(id);
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
        if !self.rechecking.is_empty() {
            for id in self.pieces.overlapping(&span) {
                self.rechecking.entry(id).and_modify(|is_taken_back| *is_taken_back = true);
            }
        }
        let unsealed = self.entries[span.entry.index()].unseal(span.range);
        self.touch(span.entry);
        unsealed
    }

    /// Takes back what is sealed of `range`, and with it the rest of the pieces there, as far as it lies in this entry: less
    /// couldn't be checked. Says how many bytes.
    pub fn take_back(&mut self, entry: EntryId, range: Range<u64>) -> u64 {
        let span = Span::new(entry, range);
        let parts = self.pieces.ranges_within(&span).map(|range| Span::new(entry, range)).collect::<Vec<_>>();
        [span].into_iter().chain(parts).map(|span| self.unseal(span)).sum()
    }
}
