//! What was there before the download began, and that nobody vouches for: bytes count once the digest of their piece says so.

use super::{Ledger, PieceId};
use crate::runs::RangeSet;
use crate::span::{EntryId, SourceId, Span};

impl Ledger {
    /// Nothing of an entry that is learned from here on is given out before [`seen`](Self::seen) is called for it.
    pub fn look_first(&mut self) {
        self.looks_first = true;
    }

    /// Nothing is given out any more, and nothing is waited for: what is missing stays so.
    pub fn keep_as_is(&mut self) {
        self.keeps = true;
    }

    /// Whether what is missing stays so.
    pub fn is_kept_as_is(&self) -> bool {
        self.keeps
    }

    /// Whether the caller has said what the pieces of the only entry hash to.
    pub fn has_template(&self) -> bool {
        !self.template.is_empty()
    }

    /// Some of the entries that have to be looked at, at most `most`.
    pub fn unseen(&self, most: usize) -> Vec<EntryId> {
        self.unseen.iter().take(most).copied().collect()
    }

    /// What was found of an entry, which may be nothing. Pieces that are all found, and that nobody has leased, are to be checked; of what is in no
    /// piece nothing is believed. From here on the rest is given out.
    pub fn seen(&mut self, entry: EntryId, found: RangeSet, by: SourceId) {
        if self.unseen.remove(&entry) {
            self.entries[entry.index()].blocked = false;
        }
        if !found.is_empty() {
            self.entries[entry.index()].found = found;
            self.found_by = Some(by);
        } else if !self.is_padding(entry) {
            self.touch(entry);
            return;
        }
        self.touch(entry);
        self.adopt_all_of(entry);
    }

    /// What was found of an entry counts for now: a digest of the whole will say whether it is right.
    pub fn adopt_unproven(&mut self, entry: EntryId) {
        let Some(by) = self.found_by else { return };
        let state = &mut self.entries[entry.index()];
        let end = state.end();
        let all = state.found.ranges().map(|r| r.start..r.end.min(end)).filter(|r| !r.is_empty());
        let adopted: Vec<_> = all.filter(|range| state.free.contains(range)).collect();
        if !adopted.is_empty() {
            // No validator is known that it came under: a later run, which may have no digest, must not believe that one of
            // a response is that of all.
            state.streams.add(&[]);
        }
        for range in adopted {
            state.free.remove(range.clone());
            state.seal(range, by, false);
        }
        self.touch(entry);
    }

    /// Whether there are entries that have to be looked at.
    pub fn is_looking(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Whether what was there has to be looked at or checked yet.
    pub fn is_checking(&self) -> bool {
        !self.unseen.is_empty() || !self.recheck.is_empty() || !self.rechecking.is_empty()
    }

    /// Whether nothing of what is sealed here waits for its check.
    pub fn is_checked(&self, span: &Span) -> bool {
        let entry = &self.entries[span.entry.index()];
        let is_in_piece = |gap| self.pieces.overlapping(&Span::new(span.entry, gap)).next().is_some();
        entry.sealed.within(span.range.clone()).all(|(run, ())| !entry.verified.gaps(run).any(is_in_piece))
    }

    /// How many pieces there are, and how many of them are checked and right.
    pub fn count_pieces(&self) -> (u64, u64) {
        let (mut all, mut right) = (0, 0);
        for i in 0..self.entries.len() {
            let entry = EntryId::new(i as u32);
            for id in self.pieces.overlapping(&Span::new(entry, super::OPEN)) {
                let spans = self.pieces.spans(id);
                // One that goes across entries is counted with the first.
                if spans[0].entry == entry {
                    all += 1;
                    let is_right = |s: &Span| {
                        self.is_padding(s.entry) || self.entries[s.entry.index()].verified.contains(&s.range)
                    };
                    right += u64::from(spans.iter().all(is_right));
                }
            }
        }
        (all, right)
    }

    pub(super) fn adopt_all_of(&mut self, entry: EntryId) {
        if self.found_by.is_none() {
            return;
        }
        let pieces: Vec<PieceId> = self.pieces_within(&Span::new(entry, super::OPEN));
        for id in pieces {
            let spans = self.pieces.spans(id).to_vec();
            self.adopt(&spans);
        }
    }

    /// The piece in these spans is to be checked, if all of it was found and is free.
    pub(super) fn adopt(&mut self, spans: &[Span]) {
        let Some(by) = self.found_by else { return };
        let is_found = |span: &Span| {
            let entry = &self.entries[span.entry.index()];
            // Padding is nowhere, and always there.
            let is_there = entry.found.contains(&span.range) || self.is_padding(span.entry);
            is_there && !entry.blocked && entry.free.contains(&span.range)
        };
        if !spans.iter().all(is_found) {
            return;
        }
        for span in spans {
            let entry = &mut self.entries[span.entry.index()];
            entry.free.remove(span.range.clone());
            entry.seal(span.range.clone(), by, false);
            self.touch(span.entry);
        }
        self.recheck.extend(self.pieces.at(spans[0].entry, spans[0].range.start));
    }
}
