//! Who delivers, and who was found to be wrong.

use std::time::{Duration, Instant};

use super::voices::Voice;
use super::{Ledger, PieceId};
use crate::error::{Error, ErrorKind};
use crate::path::EntryPath;
use crate::span::{EntryId, LeaseId, SourceId};

/// A piece is left to a source that may have it for so long after it was given work last. It may have lost all its peers.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct SourceState {
    pub(super) name: String,
    /// It delivered verified bytes.
    pub(super) proven: bool,
    /// When it was given a lease last: it is not one that finds nobody to fetch from.
    pub(super) active: Option<Instant>,
    pub(super) benched: bool,
    /// The only entry of which it can deliver.
    pub(super) bound: Option<EntryId>,
    /// It stands for an earlier run.
    pub(super) past: bool,
    /// What it calls the only entry.
    pub(super) alias: Option<EntryPath>,
}

impl Ledger {
    /// Adds a source. The name has no secrets in it.
    pub fn add_source(&mut self, name: impl Into<String>) -> SourceId {
        self.sources.push(SourceState {
            name: name.into(),
            proven: false,
            active: None,
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

    /// Who else is in use and can deliver bytes of this entry. Of those who can't be expected to have every entry, as a swarm may
    /// have no peers, only such as have begun to deliver.
    pub(super) fn others_of(&self, source: SourceId, entry: EntryId, now: Instant) -> impl Iterator<Item = SourceId> {
        let is_active =
            move |s: &SourceState| s.active.is_some_and(|at| now.saturating_duration_since(at) < LEFT_TO_OTHERS);
        let can = move |s: &SourceState| !s.benched && s.bound.map_or(is_active(s), |bound| bound == entry);
        let all = (0..).map(SourceId::new).zip(&self.sources);
        all.filter(move |(id, s)| *id != source && can(s)).map(|(id, _)| id)
    }

    /// The source delivers bytes of this entry only.
    pub fn bind(&mut self, source: SourceId, entry: EntryId) {
        self.sources[source.index()].bound = Some(entry);
    }

    /// Nobody but this source is given leases.
    pub fn set_exclusive(&mut self, source: Option<SourceId>) {
        self.exclusive = source;
    }

    /// How many sources delivered what is sealed of an entry, not counting an earlier run.
    pub fn sources_of(&self, entry: EntryId) -> usize {
        self.shares(entry).iter().filter(|(source, _)| !self.sources[source.index()].past).count()
    }

    /// Whether an earlier run left something of an entry that counts.
    pub fn has_past(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].by.iter().any(|(by, _)| self.sources[by.index()].past)
    }

    /// How many sealed bytes of an entry each source delivered, the greatest first.
    pub fn shares(&self, entry: EntryId) -> Vec<(SourceId, u64)> {
        let shares = self.entries[entry.index()].by.iter().map(|(by, set)| (by, set.bytes()));
        let mut shares: Vec<_> = shares.collect();
        shares.sort_by_key(|(by, bytes)| (std::cmp::Reverse(*bytes), *by));
        shares
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

    /// Somebody is found to be wrong. The engine takes it from [`take_accused`](Self::take_accused).
    pub fn accuse(&mut self, source: SourceId, error: Error) {
        if !self.accused.iter().any(|(s, _)| *s == source) {
            self.accused.push((source, error));
        }
    }

    /// Whether what this source delivered of the entry is about to be taken back. Not of one that is benched already: what
    /// stands of it stands, as do the bytes of an earlier run.
    pub fn is_in_doubt(&self, entry: EntryId, source: SourceId) -> bool {
        let is_accused = self.accused.iter().any(|(accused, _)| *accused == source);
        is_accused || self.restarts_wanted.contains_key(&entry)
    }

    /// Who was found to be wrong since the last call.
    pub fn take_accused(&mut self) -> Vec<(SourceId, Error)> {
        std::mem::take(&mut self.accused)
    }
}
