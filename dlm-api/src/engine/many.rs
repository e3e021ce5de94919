//! Downloads of many files: what an earlier run left of them, and each finished as soon as it is complete.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::conductor::{Conductor, Plan};
use super::keeper::Keeper;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fact::Fact;
use crate::ledger::{Ledger, Voice};
use crate::pipeline::{Ready, Shared};
use crate::sink::EntryKind;
use crate::span::{EntryId, Span};
use crate::transfer::Task;

/// How many entries are finished at once: their syncs wait for the same disk.
const FINISH_AT_ONCE: usize = 8;

/// How many entries are finished one after the other under one record, while others are still on their way.
const FINISHED_TOGETHER: usize = 64;

/// Entries that were given their final names.
pub(super) type Finished = Result<Vec<EntryId>>;

impl Conductor {
    /// What an earlier run left of a download of many files. Which these are its record tells, before a source does.
    pub(super) async fn take_over_many(&mut self, plan: &Plan) -> Result<()> {
        let Some(path) = self.keeper.find().await? else {
            self.began_empty = true;
            return Ok(());
        };
        self.keeper.keep_at(&path);
        if !plan.resume {
            // What it claims is about to be replaced.
            return self.keeper.remove().await;
        }
        let Some(loaded) = self.keeper.load().await? else { return Ok(()) };
        let Some(record) = &loaded.record else { return Ok(()) };
        self.is_taking_over = true;
        for entry in &record.entries {
            let fact = Fact::Entry { path: entry.path.clone(), len: entry.len };
            self.shared.learn(Voice::Record, fact)?;
            if let Some(id) = self.shared.ledger(|ledger| ledger.entry_at(Voice::Record, &entry.path))
                && entry.left_out
            {
                self.shared.leave_out(id);
            }
        }
        for (i, _) in record.entries.iter().enumerate().filter(|(_, entry)| entry.is_padding) {
            self.shared.learn(Voice::Record, Fact::Padding(EntryId::new(i as u32)))?;
        }
        let by = self.past();
        for (i, recorded) in record.entries.iter().enumerate() {
            let id = EntryId::new(i as u32);
            let is_logged = loaded.written.iter().any(|(entry, _)| *entry == id);
            // Of one without a file nothing can be there, but for padding, which is everywhere.
            if recorded.stamp.is_none() && !is_logged && !recorded.is_padding {
                continue;
            }
            // A file that was only looked at has its final name, and may be anything.
            let known = recorded.stamp.filter(|_| !recorded.in_place);
            let mut ready = self.shared.prepare_known(id, known, recorded.placed.clone()).await?;
            if recorded.is_padding {
                ready.prepared.existing = vec![Span::new(id, 0..recorded.len.unwrap_or(0))];
            }
            if ready.prepared.is_finished {
                self.resumed += self.keeper.restore_finished(recorded, id, by)?;
            } else {
                self.resumed += self.keeper.restore(&loaded, id, &ready, by).await?;
            }
        }
        if self.resumed > 0 {
            self.keeper.settle().await?;
            self.shared.send(Event::Resumed { bytes: self.resumed });
        }
        self.is_taking_over = false;
        Ok(())
    }

    /// Gives entries of many that are complete and proven their final names, while others are still on their way.
    pub(super) fn finish_some(&mut self) {
        // What is kept as it is has its name, or is to have none.
        if !self.shared.info.random_access || self.shared.setup.keep_as_is {
            return;
        }
        let completed = self.shared.ledger(|ledger| {
            let is_only = ledger.is_layout_complete() && ledger.entry_count() == 1;
            if is_only { Vec::new() } else { ledger.take_completed() }
        });
        self.unfinished.extend(completed);
        if !self.finishing.is_empty() {
            return;
        }
        let (mut group, mut later) = (Vec::new(), VecDeque::new());
        self.shared.ledger(|ledger| {
            while group.len() < FINISHED_TOGETHER
                && let Some(id) = self.unfinished.pop_front()
            {
                if is_to_be_checked(ledger, id) {
                    later.push_back(id);
                } else if is_proven(ledger, id) && ledger.freeze(id) {
                    // What was complete a moment ago may have been taken back since; from here on it isn't.
                    group.push(id);
                }
            }
        });
        self.unfinished.append(&mut later);
        if !group.is_empty() {
            self.finishing.push(self.finish_group(group));
        }
    }

    /// On its own: it holds what the conductor may wait for.
    fn finish_group(&self, group: Vec<EntryId>) -> Task<Finished> {
        let (shared, keeper) = (self.shared.clone(), self.keeper.clone());
        Task::new(&self.shared.setup.spawner, async move {
            prepare_all(&shared, &keeper, &group).await?;
            finish_all(&shared, &group).await.map(|()| group)
        })
    }

    /// What came of files that nobody wanted, with pieces that they share with others, is of no use any more.
    pub(super) async fn drop_unwanted(&mut self) -> Result<()> {
        let prepared = self.shared.prepared.lock().await;
        let is_unwanted = |ready: &Ready| matches!(ready.kind, EntryKind::Unwanted { .. });
        let unwanted: Vec<EntryId> =
            prepared.iter().filter(|(_, ready)| is_unwanted(ready)).map(|(id, _)| *id).collect();
        drop(prepared);
        for id in unwanted {
            self.shared.finish(id).await?;
        }
        Ok(())
    }

    /// Entries have their final names.
    pub(super) fn finished_some(&mut self, finished: Option<Finished>) -> Result<()> {
        let gone = || Err(Error::new(ErrorKind::Internal, "the task that finishes files is gone"));
        let group = finished.unwrap_or_else(gone)?;
        self.shared.ledger(|ledger| group.into_iter().for_each(|id| ledger.set_finished(id)));
        self.shared.notify();
        Ok(())
    }
}

/// Whether pieces of an entry may still be learned, or are being checked: what an earlier run left of it is not known to be
/// right by its word alone.
fn is_to_be_checked(ledger: &Ledger, id: EntryId) -> bool {
    let is_waited_for = !ledger.is_layout_complete() && ledger.has_past(id);
    is_waited_for || !ledger.is_checked(&Span::new(id, 0..ledger.len(id).unwrap_or(0)))
}

/// Whether an entry needs no other entry, and no digest of the whole, to be known to be right.
fn is_proven(ledger: &Ledger, id: EntryId) -> bool {
    let Some(len) = ledger.len(id) else { return false };
    let is_trusted = len == 0 || ledger.trusted_from(id, 0) == Some(len);
    ledger.digests(id).is_empty() && is_trusted && (ledger.verified(id).bytes() == len || ledger.is_one_content(id))
}

/// Gets entries ready for their final names. Before the first of them gets its own, the record says which files they are: a
/// later run knows by that which of them this one has finished, wherever it ends.
pub(super) async fn prepare_all(shared: &Arc<Shared>, keeper: &Keeper, entries: &[EntryId]) -> Result<()> {
    for &id in entries {
        // An empty one was never written to.
        shared.prepare(id).await.map_err(|error| named(shared, error, id))?;
    }
    if entries.len() > 1 || !shared.ledger(|ledger| ledger.is_layout_complete() && ledger.entry_count() == 1) {
        keeper.begin().await?;
    }
    Ok(())
}

fn named(shared: &Shared, error: Error, id: EntryId) -> Error {
    match shared.ledger(|ledger| ledger.path(id).cloned()) {
        Some(path) => error.with("file", path),
        None => error,
    }
}

/// Gives entries their final names.
pub(super) async fn finish_all(shared: &Arc<Shared>, entries: &[EntryId]) -> Result<()> {
    let finish = |&id: &EntryId| {
        let shared = shared.clone();
        async move { shared.finish(id).await.map_err(|error| (id, error)) }
    };
    // Collected first: a closure over borrowed parts would tie the stream to them.
    let finishes: Vec<_> = entries.iter().map(finish).collect();
    let all = stream::iter(finishes).buffer_unordered(FINISH_AT_ONCE).try_collect::<()>().await;
    all.map_err(|(id, error)| named(shared, error, id))
}
