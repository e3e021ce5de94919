//! Which responses delivered, and whether they belong together.

use std::ops::Range;

use super::Ledger;
use crate::fact::{Identity, Strength};
use crate::span::{EntryId, SourceId};

/// The responses that delivered bytes of an entry. An earlier run counts as one if a strong validator says that all of its bytes
/// belong together, and as several if not.
#[derive(Default, Debug)]
pub(super) struct Streams {
    count: u32,
    /// Strong validators that every one of them had: these prove that all are of one content.
    common: Vec<Identity>,
    /// Of one of them nobody can tell whether it came to its end.
    endless: bool,
}

impl Streams {
    pub(super) fn add(&mut self, identities: &[Identity]) {
        if self.count == 0 {
            self.common = identities.iter().filter(|i| i.strength == Strength::Strong).cloned().collect();
        } else {
            self.common.retain(|identity| identities.contains(identity));
        }
        self.count += 1;
    }

    pub(super) fn add_past(&mut self, identities: &[Identity]) {
        self.add(identities);
        if self.common.is_empty() {
            self.count += 1;
        }
    }
}

impl Ledger {
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

    /// The first bytes that are sealed without a digest, at most `most`, where what comes before them is missing, and who
    /// delivered them.
    pub fn first_after_gap(&self, entry: EntryId, most: u64) -> Option<(Range<u64>, SourceId)> {
        let state = &self.entries[entry.index()];
        let (first, ()) = state.sealed.next_from(0).filter(|(run, ())| run.start > 0)?;
        let (by, run) = state.by.at(first.start)?;
        let range = run.start..run.end.min(run.start + most);
        (!state.verified.overlaps(&range)).then_some((range, by))
    }
}
