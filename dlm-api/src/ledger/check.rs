//! The ledger's invariants, for tests and fuzzing.

use super::Ledger;
use super::entry::EntryState;
use crate::runs::RangeSet;
use crate::span::{EntryId, LeaseId, Span};

impl Ledger {
    /// Panics if the ledger contradicts itself. Costs as much as there is in it.
    #[doc(hidden)]
    pub fn check(&self) {
        for (i, state) in self.entries.iter().enumerate() {
            let id = EntryId::new(i as u32);
            self.check_places(id, state);
            check_sets(state);
        }
        self.check_sums();
        self.leases.keys().for_each(|id| self.check_lease(*id));
        self.check_pieces();
    }

    /// Every byte is in one place.
    fn check_places(&self, id: EntryId, state: &EntryState) {
        let mut places = RangeSet::new();
        let mut put = |what: &str, set: &RangeSet| {
            for run in set.ranges() {
                assert!(!places.overlaps(&run), "{id}: {what} {run:?} is in another place, too: {places:?}");
                places.insert(run);
            }
        };
        put("sealed", &state.sealed);
        put("quarantine", &state.quarantine);
        put("free", &state.free);
        let mut held = RangeSet::new();
        for span in self.leases.values().filter(|l| !l.hedge).flat_map(|l| &l.held).map(|h| &h.span) {
            if span.entry == id {
                assert!(!held.overlaps(&span.range), "{span:?} is leased twice");
                held.insert(span.range.clone());
            }
        }
        // A lease keeps the span of what it sealed.
        let mut waiting = held.clone();
        for run in state.sealed.ranges().chain(state.quarantine.ranges()) {
            waiting.remove(run);
        }
        put("leased", &waiting);
        let mut orphans: RangeSet =
            self.writing.iter().filter(|(_, s)| s.entry == id).map(|(_, s)| s.range.clone()).collect();
        for run in held.ranges().chain(state.sealed.ranges()).chain(state.quarantine.ranges()) {
            orphans.remove(run);
        }
        put("being written", &orphans);
        // What is still being written may lie behind an end that was learned since.
        let end = state.end();
        let gaps: Vec<_> = places.gaps(0..end).collect();
        assert!(gaps.is_empty() || state.blocked, "{id}: {gaps:?} are in no place");
        let beyond = [&state.free, &state.sealed, &held].into_iter().any(|set| set.next_from(end).is_some());
        assert!(!beyond || self.restarts_wanted.contains_key(&id) || state.blocked, "{id}: bytes after its end");
    }

    fn check_lease(&self, id: LeaseId) {
        let lease = &self.leases[&id];
        let mut remaining = self.remaining(id).into_iter();
        for held in &lease.held {
            let Span { entry, range } = held.span.clone();
            assert!(!range.is_empty());
            let inside = |set: &RangeSet| set.ranges().all(|r| range.start <= r.start && r.end <= range.end);
            assert!(inside(&held.admitted) && inside(&held.landed), "{held:?}");
            assert!(is_within(&held.landed, &held.admitted), "landed, but not admitted: {held:?}");
            let sealed = &self.entries[entry.index()].sealed;
            assert!(held.landed.ranges().all(|r| !sealed.overlaps(&r)), "sealed, and waiting for it: {held:?}");
            assert!(!lease.hedge || held.landed.is_empty(), "a hedge writes");
            let left: Vec<_> = held.admitted.gaps(range.clone()).map(|gap| Span::new(entry, gap)).collect();
            let said: Vec<_> = remaining.by_ref().take(left.len()).collect();
            assert_eq!(said, left);
            assert_eq!(held.is_admitted(), left.is_empty());
        }
        assert_eq!(remaining.next(), None);
    }

    /// A part of a piece is sealed as a whole or not at all; a piece that is sealed was checked, or is about to be.
    fn check_pieces(&self) {
        for (i, _) in self.entries.iter().enumerate() {
            let whole = Span::new(EntryId::new(i as u32), super::OPEN);
            let mut at = 0;
            for range in self.pieces.ranges_within(&whole) {
                assert!(at <= range.start && !range.is_empty(), "pieces overlap");
                at = range.end;
            }
            for id in self.pieces.overlapping(&whole) {
                let spans = self.pieces.spans(id);
                let bytes = |set: fn(&EntryState) -> &RangeSet, s: &Span| {
                    set(&self.entries[s.entry.index()]).bytes_within(s.range.clone())
                };
                for span in spans.iter() {
                    let (sealed, verified) = (bytes(|e| &e.sealed, span), bytes(|e| &e.verified, span));
                    let restarts = self.restarts_wanted.contains_key(&span.entry);
                    assert!(
                        (sealed == 0 || sealed == span.len() || restarts) && (verified == 0 || verified == sealed),
                        "a bit of {span:?} is sealed"
                    );
                }
                let of_all = |set: fn(&EntryState) -> &RangeSet| spans.iter().all(|s| bytes(set, s) == s.len());
                assert!(
                    !of_all(|e| &e.sealed)
                        || of_all(|e| &e.verified)
                        || self.recheck.contains(&id)
                        || self.rechecking.contains_key(&id),
                    "{:?} is sealed without a check",
                    &*spans
                );
            }
        }
    }
}

/// What follows from one set to the other.
fn check_sets(state: &EntryState) {
    let (sealed, durable) = (&state.sealed, &state.durable);
    assert!(is_within(&state.verified, sealed), "verified, but not sealed");
    assert!(is_within(durable, sealed), "durable, but not sealed");
    assert!(is_within(&state.unlogged, sealed), "to be logged, but not sealed");
    let mut dirty = sealed.clone();
    durable.ranges().for_each(|run| {
        dirty.remove(run);
    });
    assert_eq!(state.dirty, dirty, "dirty is what is sealed but not durable");
    let by: RangeSet = state.by.iter().flat_map(|(_, set)| set.ranges()).collect();
    let sum: u64 = state.by.iter().map(|(_, set)| set.bytes()).sum();
    assert_eq!(sum, by.bytes(), "delivered by two");
    assert_eq!(&by, sealed, "who delivered what");
    for set in [sealed, durable, &state.verified, &state.dirty, &state.free, &state.quarantine] {
        let runs: Vec<_> = set.ranges().collect();
        assert!(runs.windows(2).all(|w| w[0].end < w[1].start), "more runs than needed");
        assert_eq!(set.bytes(), runs.iter().map(|r| r.end - r.start).sum::<u64>());
    }
}

fn is_within(inner: &RangeSet, outer: &RangeSet) -> bool {
    inner.ranges().all(|run| outer.contains(&run))
}
