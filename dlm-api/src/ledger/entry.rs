//! What the ledger knows of an entry.

use std::ops::Range;
use std::time::SystemTime;

use super::shares::Shares;
use super::streams::Streams;
use super::sums::Counted;
use super::voices::{Verdict, Voice, Voices};
use crate::digest::Digest;
use crate::fact::{Identity, Strength};
use crate::path::EntryPath;
use crate::runs::{Grid, RangeSet};
use crate::span::{OPEN_END, SourceId};

use super::OPEN;

/// One entry. Each byte of `0..len` is in one place only: `free`, `sealed`, `quarantine`, a lease, or a write that
/// outlived its lease.
#[derive(Debug)]
pub(super) struct EntryState {
    pub(super) path: Option<EntryPath>,
    pub(super) len: Option<u64>,
    pub(super) free: RangeSet,
    pub(super) sealed: RangeSet,
    /// Sealed, but found to be in doubt. Becomes free when no record claims it any more.
    pub(super) quarantine: RangeSet,
    /// The part of `sealed` that was checked against a digest.
    pub(super) verified: RangeSet,
    /// The part of `sealed` that is on stable storage and recorded.
    pub(super) durable: RangeSet,
    /// `sealed` without `durable`.
    pub(super) dirty: RangeSet,
    /// The part of `sealed` that is not in the log of what was written yet.
    pub(super) unlogged: RangeSet,
    /// Who delivered what is sealed.
    pub(super) by: Shares,
    /// What was there before, and may be right.
    pub(super) found: RangeSet,
    /// The pieces, for sets that get as many runs as there are pieces.
    pub(super) grid: Option<Grid>,
    /// Goes up when sealed bytes are taken back, so that a digest over them starts again.
    pub(super) version: u64,
    /// Nothing is leased: the entry is about to start again.
    pub(super) blocked: bool,
    /// Whether the download isn't complete without it.
    pub(super) wanted: bool,
    /// What was asked for names other entries, and not this one.
    pub(super) left_out: bool,
    /// It has its final name, and changes no more.
    pub(super) finished: bool,
    /// Only the record of an earlier run tells of it so far.
    pub(super) recorded_only: bool,
    /// One lease at a time, from the first missing byte to the end.
    pub(super) solo: bool,
    pub(super) streams: Streams,
    pub(super) facts: EntryFacts,
    /// What of it is in the ledger's sums.
    pub(super) counted: Counted,
}

#[derive(Default, Debug)]
pub(super) struct EntryFacts {
    pub(super) len: Voices<u64>,
    pub(super) name: Voices<String>,
    pub(super) modified: Voices<SystemTime>,
    pub(super) padding: Voices<()>,
    digests: Vec<(String, Voices<Digest>)>,
    identities: Vec<(Identity, Voices<String>)>,
}

impl EntryFacts {
    pub(super) fn say_digest(&mut self, who: Voice, digest: Digest, weight: impl Fn(Voice) -> u32) -> Verdict {
        let name = digest.function().name();
        let i = self.digests.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            self.digests.push((name.to_owned(), Voices::default()));
            self.digests.len() - 1
        });
        self.digests[i].1.say(who, digest, weight)
    }

    pub(super) fn say_identity(&mut self, who: Voice, identity: Identity, weight: impl Fn(Voice) -> u32) -> Verdict {
        let value = identity.value.clone();
        let i = self.identities.iter().position(|(known, _)| known.is_comparable(&identity)).unwrap_or_else(|| {
            self.identities.push((identity, Voices::default()));
            self.identities.len() - 1
        });
        self.identities[i].1.say(who, value, weight)
    }

    pub(super) fn digests(&self, weight: impl Fn(Voice) -> u32) -> Vec<Digest> {
        let of_user: Vec<Digest> = self.digests.iter().filter_map(|(_, v)| v.of(Voice::User).cloned()).collect();
        if !of_user.is_empty() {
            // What the caller knows is enough, and a source that says more can only spoil it.
            return of_user;
        }
        self.digests.iter().filter_map(|(_, voices)| voices.value(&weight).cloned()).collect()
    }

    pub(super) fn has_user_digest(&self) -> bool {
        self.digests.iter().any(|(_, voices)| voices.of(Voice::User).is_some())
    }

    pub(super) fn has_live_identity(&self, strength: Strength, weight: impl Fn(Voice) -> u32) -> bool {
        let is_live = |(known, voices): &(Identity, Voices<String>)| {
            known.strength == strength && voices.value(&weight).is_some_and(|value| voices.is_said_by_a_source(value))
        };
        self.identities.iter().any(is_live)
    }

    pub(super) fn identities(&self, weight: impl Fn(Voice) -> u32) -> Vec<Identity> {
        let held = |(known, voices): &(Identity, Voices<String>)| {
            let value = voices.value(&weight)?.clone();
            Some(Identity { value, ..known.clone() })
        };
        self.identities.iter().filter_map(held).collect()
    }

    pub(super) fn withdraw(&mut self, who: Voice) {
        self.len.withdraw(who);
        self.name.withdraw(who);
        self.modified.withdraw(who);
        self.padding.withdraw(who);
        self.digests.iter_mut().for_each(|(_, voices)| voices.withdraw(who));
        self.identities.iter_mut().for_each(|(_, voices)| voices.withdraw(who));
    }
}

impl EntryState {
    pub(super) fn new(path: Option<EntryPath>) -> Self {
        Self {
            path,
            len: None,
            free: RangeSet::from_iter([OPEN]),
            sealed: RangeSet::new(),
            quarantine: RangeSet::new(),
            verified: RangeSet::new(),
            durable: RangeSet::new(),
            dirty: RangeSet::new(),
            unlogged: RangeSet::new(),
            found: RangeSet::new(),
            by: Shares::default(),
            grid: None,
            version: 0,
            blocked: false,
            wanted: true,
            left_out: false,
            finished: false,
            recorded_only: false,
            solo: false,
            streams: Streams::default(),
            facts: EntryFacts::default(),
            counted: Counted::default(),
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.len.unwrap_or(OPEN_END)
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.wanted || self.len.is_some_and(|len| self.sealed.bytes() == len && !self.blocked)
    }

    /// The entry is divided into pieces of one length. What is to be recorded is recorded soon, and needs no bitmap.
    pub(super) fn lay_grid(&mut self, grid: Grid) {
        self.grid = Some(grid);
        for set in [&mut self.free, &mut self.sealed, &mut self.verified, &mut self.durable] {
            set.lay_grid(grid);
        }
        self.by.lay_grid(grid);
    }

    pub(super) fn seal(&mut self, range: Range<u64>, by: SourceId, verified: bool) {
        self.sealed.insert(range.clone());
        self.dirty.insert(range.clone());
        self.unlogged.insert(range.clone());
        self.by.add(range.clone(), by, self.grid);
        if verified {
            self.verified.insert(range);
        }
    }

    /// Takes back what is sealed of `range`; says how many bytes that were.
    pub(super) fn unseal(&mut self, range: Range<u64>) -> u64 {
        let there: Vec<Range<u64>> = self.sealed.within(range.clone()).map(|(run, ())| run).collect();
        if there.is_empty() || self.finished {
            return 0;
        }
        for set in [&mut self.sealed, &mut self.verified, &mut self.durable, &mut self.dirty, &mut self.unlogged] {
            set.remove(range.clone());
        }
        self.by.remove(&range);
        self.version += 1;
        there.into_iter().map(|run| (run.end - run.start, self.quarantine.insert(run)).0).sum()
    }

    /// Everything is free again.
    pub(super) fn restart(&mut self) {
        let facts = std::mem::take(&mut self.facts);
        let (fresh, grid) = (Self::new(self.path.take()), self.grid);
        let Self { solo, blocked, wanted, left_out, recorded_only, counted, version, .. } = *self;
        let version = version + 1;
        *self = Self { version, solo, blocked, wanted, left_out, recorded_only, facts, counted, ..fresh };
        grid.into_iter().for_each(|grid| self.lay_grid(grid));
    }
}
