//! [`Sums`]: what would take too long to find out by looking at each entry.

use std::collections::BTreeSet;

use super::Ledger;
use super::entry::EntryState;
use crate::span::EntryId;

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

/// Sums over all entries, and which of them have something to say. A download can have hundreds of thousands of entries.
#[derive(Default, Debug)]
pub(super) struct Sums {
    /// Lengths that sources make up can be of any size, but there are not so many of them.
    len: u128,
    of_unknown_len: usize,
    incomplete: usize,
    sealed: u64,
    verified: u64,
    durable: u64,
    pub(super) free: BTreeSet<EntryId>,
    pub(super) quarantine: BTreeSet<EntryId>,
    pub(super) dirty: BTreeSet<EntryId>,
    pub(super) unlogged: BTreeSet<EntryId>,
}

/// What of an entry is in the sums. As it is at first, it adds nothing to them.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Counted {
    len: u64,
    is_of_unknown_len: bool,
    is_incomplete: bool,
    sealed: u64,
    verified: u64,
    durable: u64,
    free: bool,
    quarantine: bool,
    dirty: bool,
    unlogged: bool,
}

impl Counted {
    fn of(entry: &EntryState) -> Self {
        if !entry.wanted {
            // What comes of it with the rest of a piece has to be recorded all the same.
            return Self {
                quarantine: !entry.quarantine.is_empty(),
                dirty: !entry.dirty.is_empty(),
                unlogged: !entry.unlogged.is_empty(),
                ..Self::default()
            };
        }
        Self {
            len: entry.len.unwrap_or(0),
            is_of_unknown_len: entry.len.is_none(),
            is_incomplete: !entry.is_complete(),
            sealed: entry.sealed.bytes(),
            verified: entry.verified.bytes(),
            durable: entry.durable.bytes(),
            free: !entry.free.is_empty(),
            quarantine: !entry.quarantine.is_empty(),
            dirty: !entry.dirty.is_empty(),
            unlogged: !entry.unlogged.is_empty(),
        }
    }
}

impl Sums {
    /// Counts an entry as it is now.
    pub(super) fn count(&mut self, id: EntryId, entry: &mut EntryState) {
        let now = Counted::of(entry);
        let before = std::mem::replace(&mut entry.counted, now);
        self.replace(id, &before, &now);
    }

    fn replace(&mut self, entry: EntryId, before: &Counted, now: &Counted) {
        self.len = self.len - u128::from(before.len) + u128::from(now.len);
        self.of_unknown_len =
            self.of_unknown_len - usize::from(before.is_of_unknown_len) + usize::from(now.is_of_unknown_len);
        self.incomplete = self.incomplete - usize::from(before.is_incomplete) + usize::from(now.is_incomplete);
        self.sealed = self.sealed - before.sealed + now.sealed;
        self.verified = self.verified - before.verified + now.verified;
        self.durable = self.durable - before.durable + now.durable;
        for (set, was, is) in [
            (&mut self.free, before.free, now.free),
            (&mut self.quarantine, before.quarantine, now.quarantine),
            (&mut self.dirty, before.dirty, now.dirty),
            (&mut self.unlogged, before.unlogged, now.unlogged),
        ] {
            match (was, is) {
                (false, true) => drop(set.insert(entry)),
                (true, false) => drop(set.remove(&entry)),
                _ => {}
            }
        }
    }
}

impl Ledger {
    /// Brings the sums up to date after an entry has changed.
    pub(super) fn touch(&mut self, entry: EntryId) {
        let state = &mut self.entries[entry.index()];
        let was_incomplete = state.counted.is_incomplete;
        self.sums.count(entry, state);
        match (was_incomplete, state.counted.is_incomplete) {
            (true, false) => drop(self.completed.insert(entry)),
            (_, true) => drop(self.completed.remove(&entry)),
            _ => {}
        }
    }

    /// An entry that was complete already is proven now: it is looked at once more.
    pub(super) fn tell_complete(&mut self, entry: EntryId) {
        if !self.entries[entry.index()].counted.is_incomplete {
            self.completed.insert(entry);
        }
    }

    /// Panics if a change of an entry was forgotten.
    #[cfg(any(test, feature = "testkit"))]
    pub(super) fn check_sums(&self) {
        let mut sums = Sums::default();
        for (i, entry) in self.entries.iter().enumerate() {
            let (id, now) = (EntryId::new(i as u32), Counted::of(entry));
            assert_eq!(entry.counted, now, "{id}: it has changed since it was counted");
            sums.replace(id, &Counted::default(), &now);
        }
        assert_eq!(format!("{sums:?}"), format!("{:?}", self.sums));
    }

    /// Whether all is sealed, and all there is is known.
    pub fn is_complete(&self) -> bool {
        let is_all = self.keeps || (self.sums.incomplete == 0 && !self.has_open_parts());
        self.layout_complete && !self.is_checking() && self.restarts_wanted.is_empty() && is_all
    }

    /// Whether anything could be leased.
    pub fn has_free(&self) -> bool {
        !self.sums.free.is_empty()
    }

    /// Whether anything is in quarantine.
    pub fn has_quarantine(&self) -> bool {
        !self.sums.quarantine.is_empty()
    }

    /// Bytes that are sealed, verified and durable, and bytes that are in the sink but wait for their piece.
    pub fn totals(&self) -> Totals {
        let Sums { len, of_unknown_len, sealed, verified, durable, .. } = self.sums;
        let is_known = self.layout_complete && of_unknown_len == 0;
        let held = self.leases.values().filter(|l| !l.hedge).flat_map(|l| &l.held);
        Totals {
            len: is_known.then(|| u64::try_from(len).unwrap_or(u64::MAX)),
            sealed,
            verified,
            durable,
            landed: held.map(|h| h.landed.bytes()).sum(),
        }
    }
}
