//! [`Keeper`]: keeps checkpoints.
//!
//! What it keeps to: a byte is called durable only after a sync of its entry that began when the byte was sealed, and after the
//! record that says so is on stable storage itself.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::download::Kept;
use crate::checkpoint::{CheckpointStore, EntryRecord, FileCheckpoint, Loaded, Record, SourceRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fact::Fact;
use crate::ledger::{Ledger, Voice};
use crate::path::EntryPath;
use crate::pipeline::{READ_BACK, Ready, Shared, now};
use crate::runs::RangeSet;
use crate::sink::{EntryKind, Stamp};
use crate::span::{EntryId, SourceId, Span};

/// A checkpoint is made this often, or when this much is not durable, in bytes.
const EVERY: Duration = Duration::from_secs(5);
const EVERY_BYTES: u64 = 64 << 20;

/// But not more often than this: a sync waits for the disk, and what it would save is little.
const AT_MOST: Duration = Duration::from_secs(1);

/// A download shorter than this in bytes is fetched again after a kill; that is cheaper than two more files.
const WORTH: u64 = 1 << 20;

/// Keeps checkpoints of one download.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    kept: Kept,
    /// Where it is kept is known once the first entry has a path.
    store: OnceLock<Option<Arc<dyn CheckpointStore>>>,
    sources: Vec<SourceRecord>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether a record was saved, to which a log can be bound.
    begun: bool,
    /// The entries of which it says which file they are.
    known: HashSet<EntryId>,
    /// The download is over, or about to be: nothing is recorded any more.
    closed: bool,
    /// The last checkpoint, and the last record.
    last: Instant,
    last_saved: Instant,
}

impl State {
    /// A record was saved that tells of the files of these entries.
    fn saved(&mut self, known: HashSet<EntryId>) {
        self.begun = true;
        self.last_saved = now();
        self.known = known;
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, kept: Kept, sources: Vec<SourceRecord>) -> Self {
        let state =
            Mutex::new(State { begun: false, known: HashSet::new(), closed: false, last: now(), last_saved: now() });
        Self { shared, kept, store: OnceLock::new(), sources, state }
    }

    async fn store(&self) -> Option<&Arc<dyn CheckpointStore>> {
        if let Some(store) = self.store.get() {
            return store.as_ref();
        }
        let path = self.path().await?;
        self.store.get_or_init(|| self.kept.store(&path)).as_ref()
    }

    /// What the record stands beside: the file, or the folder of many.
    async fn path(&self) -> Option<EntryPath> {
        let (first, only) = self.shared.ledger(|ledger| {
            let only = ledger.is_layout_complete() && ledger.entry_count() == 1;
            (ledger.entry_count().checked_sub(1).and_then(|_| ledger.path(EntryId::FIRST)?.top()), only)
        });
        if !only {
            return first;
        }
        let prepared = self.shared.prepared.lock().await;
        let first = prepared.get(&EntryId::FIRST)?;
        // The sink may have chosen another name than it was asked for.
        first.prepared.path.as_ref().unwrap_or(&first.path).top()
    }

    /// The record of an earlier run is the one at `path`.
    pub(super) fn keep_at(&self, path: &EntryPath) {
        self.store.get_or_init(|| self.kept.store(path));
    }

    /// The path under which an earlier run began this download, if there is one.
    pub(super) async fn find(&self) -> Result<Option<EntryPath>> {
        match &self.kept {
            Kept::Folder(folder) => {
                for source in &self.sources {
                    if let Ok(Some(path)) = FileCheckpoint::find(folder, &source.key).await {
                        return Ok(Some(path));
                    }
                }
                Ok(None)
            }
            Kept::Store(Some(store)) => {
                let record = self.read(store.as_ref()).await?.and_then(|loaded| loaded.record);
                Ok(record.and_then(|record| record.entries.into_iter().next()).map(|entry| entry.path))
            }
            Kept::Store(None) => Ok(None),
        }
    }

    /// [`find`](Self::find), where what was begun is one file.
    pub(super) async fn find_one(&self) -> Result<Option<EntryPath>> {
        let Some(path) = self.find().await? else { return Ok(None) };
        let Kept::Folder(folder) = &self.kept else { return Ok(Some(path)) };
        // A record beside a folder is of what is in it, and what led there was no file.
        let loaded = FileCheckpoint::new(folder, path.clone()).load().await;
        let entries = loaded.ok().and_then(|loaded| loaded.record).map(|record| record.entries);
        Ok(Some(path).filter(|path| entries.is_some_and(|all| matches!(&*all, [one] if one.place() == path))))
    }

    /// The file at `path` and its length, if it is the one that an earlier run finished just before it was killed: it has its
    /// final name, which it got after everything was checked and synced, but its record is still there.
    pub(super) async fn finished_before(&self, path: &EntryPath) -> Option<(PathBuf, u64)> {
        let Kept::Folder(folder) = &self.kept else { return None };
        let store = FileCheckpoint::new(folder, path.clone());
        let record = store.load().await.ok()?.record?;
        if !self.is_ours(&record) {
            return None;
        }
        let [entry] = &*record.entries else { return None };
        if *entry.place() != *path || entry.in_place {
            return None;
        }
        let file = folder.join(path.as_str());
        let looked_at = file.clone();
        let there = tokio::task::spawn_blocking(move || looked_at.symlink_metadata()).await.ok()?.ok()?;
        let is_same = entry.stamp == Some(Stamp { device: there.dev(), inode: there.ino() });
        if !is_same || entry.len != Some(there.len()) {
            return None;
        }
        store.remove().await.ok()?;
        Some((file, there.len()))
    }

    /// Whether a record is of a download that has a source in common with this one.
    pub(super) fn is_ours(&self, record: &Record) -> bool {
        record.sources.iter().any(|theirs| self.sources.iter().any(|ours| ours.key == theirs.key))
    }

    /// What an earlier run left. A damaged record is told, and not believed.
    pub(super) async fn load(&self) -> Result<Option<Loaded>> {
        match self.store().await {
            Some(store) => self.read(store.as_ref()).await,
            None => Ok(None),
        }
    }

    async fn read(&self, store: &dyn CheckpointStore) -> Result<Option<Loaded>> {
        match store.load().await {
            Ok(loaded) => Ok(loaded.record.is_some().then_some(loaded)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.shared.send(Event::Warning(format!("{}; starting again from nothing", error.chain())));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes over what an earlier run left of an entry. What it wrote without a sync counts only if a sync succeeds now.
    pub(super) async fn restore(&self, loaded: &Loaded, entry: EntryId, ready: &Ready, by: SourceId) -> Result<u64> {
        let Some(recorded) = loaded.record.as_ref().and_then(|r| r.entries.get(entry.index())) else { return Ok(0) };
        if ready.prepared.taken_over {
            // Under its final name it is the user's, who may have changed it since: it is looked at anew.
            return Ok(0);
        }
        let believed = loaded.believed(entry, &ready.prepared);
        let mut durable: RangeSet = believed.durable.into_iter().collect();
        let written: RangeSet = believed.written.into_iter().collect();
        if !written.is_empty() && self.write_again(entry, &written, &durable).await.is_ok() {
            written.ranges().for_each(|range| durable.insert(range));
        }
        if durable.is_empty() {
            return Ok(0);
        }
        let verified: RangeSet = believed.verified.into_iter().collect();
        self.shared.ledger(|ledger| {
            self.restore_facts(ledger, recorded, entry)?;
            ledger.restore(entry, &durable, &verified, by);
            Ok::<_, Error>(())
        })?;
        Ok(durable.bytes())
    }

    /// All that an earlier run left was taken over. All of it is durable now, and from here on it is this run that says what is:
    /// not before, since a record of a part of it would forget the rest.
    pub(super) async fn settle(&self) -> Result<()> {
        if let Some(store) = self.store().await {
            self.save_record(store.as_ref(), &mut *self.state.lock().await).await?;
        }
        self.shared.guard_fronts().await
    }

    /// Takes over an entry that an earlier run finished.
    pub(super) fn restore_finished(&self, recorded: &EntryRecord, entry: EntryId, by: SourceId) -> Result<u64> {
        let len = recorded.len.unwrap_or(0);
        let whole = RangeSet::from_iter((len > 0).then_some(0..len));
        self.shared.ledger(|ledger| {
            self.restore_facts(ledger, recorded, entry)?;
            let verified = RangeSet::from_iter(recorded.verified.iter().cloned());
            ledger.restore(entry, &whole, &verified, by);
            ledger.set_finished(entry);
            Ok(len)
        })
    }

    fn restore_facts(&self, ledger: &mut Ledger, recorded: &EntryRecord, entry: EntryId) -> Result<()> {
        if let Some(len) = recorded.len {
            ledger.learn(Voice::Record, Fact::Len(entry, len))?;
        }
        for identity in &recorded.identities {
            ledger.learn(Voice::Record, Fact::Identity(entry, identity.clone()))?;
        }
        if let Some(modified) = recorded.modified {
            ledger.learn(Voice::Record, Fact::Modified(entry, modified))?;
        }
        Ok(())
    }

    /// Makes what the log has durable. It is written again first: if the process died just after a sync had failed, the
    /// cache holds bytes that it believes to be on the disk, and a sync alone would succeed without them.
    async fn write_again(&self, entry: EntryId, written: &RangeSet, durable: &RangeSet) -> Result<()> {
        let sink = &self.shared.sink;
        for gap in written.ranges().flat_map(|range| durable.gaps(range).collect::<Vec<_>>()) {
            for start in gap.clone().step_by(READ_BACK as usize) {
                let span = Span::new(entry, start..gap.end.min(start + READ_BACK));
                let data = sink.read(&span).await?;
                sink.write(entry, start, vec![data]).await?;
            }
        }
        sink.sync(entry).await
    }

    /// Whether there is enough to be lost.
    fn is_worth_it(&self) -> bool {
        let totals = self.shared.ledger(|ledger| ledger.totals());
        totals.sealed > 0 && totals.len.unwrap_or(totals.sealed) >= WORTH
    }

    /// Adds what was written since the last time to the log.
    pub(super) async fn log(&self) -> Result<()> {
        let Some(store) = self.store().await.filter(|_| self.is_worth_it()) else { return Ok(()) };
        let mut state = self.state.lock().await;
        if state.closed {
            return Ok(());
        }
        let mut written = self.shared.ledger(|ledger| ledger.take_unlogged());
        let is_known = written.iter().all(|span| state.known.contains(&span.entry));
        let is_due = !state.begun || now().saturating_duration_since(state.last_saved) >= AT_MOST;
        if !is_known && is_due {
            // It says that nothing more is durable yet, and which files there are: what the log is bound to. What it doesn't
            // say that of would not be believed.
            self.save_record(store.as_ref(), &mut state).await?;
            written = self.shared.ledger(|ledger| ledger.take_unlogged());
        }
        let unknown: Vec<Span> = written.extract_if(.., |span| !state.known.contains(&span.entry)).collect();
        self.shared.ledger(|ledger| ledger.log_later(unknown));
        if !written.is_empty() {
            let written: Vec<_> = written.into_iter().map(|span| (span.entry, span.range)).collect();
            store.append(&written).await?;
        }
        Ok(())
    }

    /// Makes a checkpoint if it is time for one.
    pub(super) async fn checkpoint_if_due(&self) -> Result<()> {
        if self.store().await.is_none() || !self.is_worth_it() {
            return Ok(());
        }
        let totals = self.shared.ledger(|ledger| ledger.totals());
        let dirty = totals.sealed - totals.durable;
        let since = now().saturating_duration_since(self.state.lock().await.last);
        if dirty > 0 && (since >= EVERY || (dirty >= EVERY_BYTES && since >= AT_MOST)) {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Makes all that is sealed durable, and records it.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        let Some(store) = self.store().await else { return Ok(()) };
        let versions = |ledger: &Ledger, dirty: &[(EntryId, RangeSet)]| -> Vec<u64> {
            dirty.iter().map(|(entry, _)| ledger.version(*entry)).collect()
        };
        let (mut dirty, before) = self.shared.ledger(|ledger| {
            let dirty = ledger.dirty();
            let before = versions(ledger, &dirty);
            (dirty, before)
        });
        for (entry, _) in &dirty {
            if self.state.lock().await.closed {
                return Ok(());
            }
            if let Err(error) = self.shared.sink.sync(*entry).await {
                self.distrust().await;
                return Err(error);
            }
        }
        let mut state = self.state.lock().await;
        if state.closed {
            return Ok(());
        }
        // Where bytes were taken back meanwhile, others may have been written in their place, after the sync.
        let after = self.shared.ledger(|ledger| versions(ledger, &dirty));
        let mut changed = before.into_iter().zip(after).map(|(before, now)| before != now);
        dirty.retain(|_| changed.next() == Some(false));
        // Recorded first, called durable afterwards.
        let (record, known) = self.record(&dirty).await;
        store.save(&record).await?;
        state.saved(known);
        state.last = now();
        self.shared.ledger(|ledger| {
            dirty.iter().for_each(|(entry, ranges)| ledger.set_durable(*entry, ranges));
            // The log is empty now; what was sealed since the sync has to be in it.
            ledger.log_again();
        });
        Ok(())
    }

    /// The sink failed. What was written since the last good sync may be lost, and a second sync could claim the contrary. The
    /// log claims these bytes, so it goes; where even that fails, all that is recorded.
    pub(super) async fn distrust(&self) {
        self.shared.ledger(|ledger| {
            let count = ledger.entry_count() as u32;
            (0..count).for_each(|i| ledger.lose_dirty(EntryId::new(i)));
        });
        let Some(store) = self.store().await else { return };
        let mut state = self.state.lock().await;
        if !state.begun {
            return;
        }
        if let Err(error) = self.save_record(store.as_ref(), &mut state).await {
            self.shared.send(Event::Warning(error.chain()));
            // What can't be corrected must not be believed.
            if let Err(error) = store.remove().await {
                self.shared.send(Event::Warning(error.chain()));
            }
        }
    }

    /// Saves a record that knows the files of all that is prepared.
    pub(super) async fn begin(&self) -> Result<()> {
        let Some(store) = self.store().await else { return Ok(()) };
        let mut state = self.state.lock().await;
        if !state.closed {
            self.save_record(store.as_ref(), &mut state).await?;
        }
        Ok(())
    }

    /// From here on nothing is recorded: every byte is checked, and the entries get their final names.
    pub(super) async fn close(&self) {
        self.state.lock().await.closed = true;
    }

    /// Saves what is durable as it stands: called when something was taken back.
    pub(super) async fn save(&self) -> Result<()> {
        let Some(store) = self.store().await else { return Ok(()) };
        let mut state = self.state.lock().await;
        if state.begun && !state.closed {
            self.save_record(store.as_ref(), &mut state).await?;
        }
        Ok(())
    }

    async fn save_record(&self, store: &dyn CheckpointStore, state: &mut State) -> Result<()> {
        let (record, known) = self.record(&[]).await;
        store.save(&record).await?;
        state.saved(known);
        self.shared.ledger(|ledger| ledger.log_again());
        Ok(())
    }

    /// The record of what is durable, with `more` that is about to be; and the entries of whose files it tells.
    async fn record(&self, more: &[(EntryId, RangeSet)]) -> (Record, HashSet<EntryId>) {
        let prepared = self.shared.prepared.lock().await;
        let entries: Vec<EntryRecord> = self.shared.ledger(|ledger| {
            // Numbers in the record are places in it, so that an entry without a file yet has one too, if it has a path.
            let ids = (0..ledger.entry_count() as u32).map(EntryId::new);
            let record_of = |id: EntryId| {
                let Some(ready) = prepared.get(&id) else {
                    let mut entry = EntryRecord::new(ledger.path(id).cloned()?);
                    // The log may soon tell of bytes of it, and what nobody wants is kept by its length.
                    entry.len = ledger.len(id);
                    entry.left_out = ledger.is_left_out(id);
                    return Some(entry);
                };
                let mut durable = ledger.durable(id).clone();
                let added = more.iter().filter(|(entry, _)| *entry == id).flat_map(|(_, ranges)| ranges.ranges());
                // What was taken back meanwhile is not sealed any more.
                added.for_each(|range| {
                    let still: Vec<_> = ledger.sealed(id).within(range).collect();
                    still.into_iter().for_each(|(run, ())| durable.insert(run));
                });
                let verified = durable
                    .ranges()
                    .flat_map(|run| ledger.verified(id).within(run).map(|(r, ())| r).collect::<Vec<_>>());
                let mut entry = EntryRecord::new(ready.path.clone());
                entry.placed = ready.prepared.path.clone().filter(|path| *path != ready.path);
                entry.is_padding = ready.kind == EntryKind::Padding;
                entry.in_place = ready.prepared.taken_over && !ledger.is_finished(id);
                entry.verified = verified.collect();
                entry.durable = durable.ranges().collect();
                entry.len = ledger.len(id);
                entry.stamp = ready.prepared.stamp;
                entry.identities = ledger.common_identities(id);
                entry.modified = ledger.modified(id);
                entry.left_out = ledger.is_left_out(id);
                Some(entry)
            };
            ids.map_while(record_of).collect()
        });
        let known = prepared.keys().copied().filter(|id| id.index() < entries.len()).collect();
        (Record { entries, sources: self.sources.clone() }, known)
    }

    /// The download is given up: nothing is recorded any more, whoever is still at work on it.
    pub(super) async fn give_up(&self) -> Result<()> {
        self.close().await;
        self.remove().await
    }

    /// What was recorded goes: it is not true, or no longer needed.
    pub(super) async fn remove(&self) -> Result<()> {
        let Some(store) = self.store().await else { return Ok(()) };
        let mut state = self.state.lock().await;
        state.begun = false;
        store.remove().await
    }
}

#[cfg(test)]
mod tests;
