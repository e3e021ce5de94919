//! Entries of a download of many: which are wanted, complete and finished.

use super::Ledger;
use crate::span::EntryId;

impl Ledger {
    /// Whether the download isn't complete without this entry.
    pub fn is_wanted(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].wanted
    }

    /// Says whether the download is complete without this entry. Of one that isn't wanted only what shares a piece with
    /// others is fetched.
    pub fn set_wanted(&mut self, entry: EntryId, wanted: bool) {
        self.entries[entry.index()].wanted = wanted;
        self.touch(entry);
    }

    /// What was asked for names other entries, and not this one.
    pub fn leave_out(&mut self, entry: EntryId) {
        self.entries[entry.index()].left_out = true;
        self.set_wanted(entry, false);
    }

    /// Whether it was [left out](Self::leave_out).
    pub fn is_left_out(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].left_out
    }

    /// An entry is left as it is: nothing of it is leased any more.
    pub fn skip(&mut self, entry: EntryId) {
        self.set_wanted(entry, false);
        self.leases.values_mut().for_each(|lease| lease.carve(entry, &super::OPEN));
    }

    /// [`skip`](Self::skip), unless the entry is all there is: says whether it isn't.
    pub fn skip_one_of_many(&mut self, entry: EntryId) -> bool {
        let is_only = self.layout_complete && self.entries.len() == 1;
        if !is_only {
            self.skip(entry);
        }
        !is_only
    }

    /// The entry is about to get its final name: from here on it doesn't change. Says whether it is complete, and that wasn't
    /// done before.
    pub fn freeze(&mut self, entry: EntryId) -> bool {
        let state = &mut self.entries[entry.index()];
        let is_ready = state.wanted && !state.finished && state.is_complete();
        state.finished |= is_ready;
        is_ready
    }

    /// The entry has its final name, and is on stable storage.
    pub fn set_finished(&mut self, entry: EntryId) {
        let state = &mut self.entries[entry.index()];
        state.finished = true;
        for run in state.sealed.ranges().collect::<Vec<_>>() {
            state.dirty.remove(run.clone());
            state.unlogged.remove(run.clone());
            state.durable.insert(run);
        }
        self.touch(entry);
    }

    /// Whether the entry has its final name.
    pub fn is_finished(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].finished
    }

    /// Wanted entries that have become complete since the last call.
    pub fn take_completed(&mut self) -> Vec<EntryId> {
        let completed = std::mem::take(&mut self.completed);
        completed.into_iter().filter(|id| self.entries[id.index()].wanted).collect()
    }

    /// Whether no further entry will be learned.
    pub fn is_layout_complete(&self) -> bool {
        self.layout_complete
    }

    /// No further entry will be learned: what only an earlier run knew of is not there any more.
    pub(super) fn complete_layout(&mut self) {
        self.layout_complete = true;
        for i in 0..self.entries.len() {
            if self.entries[i].recorded_only {
                self.skip(EntryId::new(i as u32));
            }
        }
    }
}
