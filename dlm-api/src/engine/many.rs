//! Downloads of many files: what an earlier run left of them, and each finished as soon as it is complete.

use futures::FutureExt;

use super::conductor::{Conductor, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fact::Fact;
use crate::ledger::Voice;
use crate::pipeline::Ready;
use crate::sink::EntryKind;
use crate::span::EntryId;
use crate::transfer::Task;

/// How many entries are finished at once: their syncs wait for the same disk.
pub(super) const FINISH_AT_ONCE: usize = 8;

/// An entry that was given its final name, or was not.
pub(super) type Finished = (EntryId, Result<()>);

impl Conductor {
    /// What an earlier run left of a download of many files. Which these are its record tells, before a source does.
    pub(super) async fn take_over_many(&mut self, plan: &Plan) -> Result<()> {
        let Some(path) = (if plan.resume { self.keeper.find().await? } else { None }) else { return Ok(()) };
        self.keeper.keep_at(&path);
        let Some(loaded) = self.keeper.load().await? else { return Ok(()) };
        let Some(record) = &loaded.record else { return Ok(()) };
        for entry in &record.entries {
            let fact = Fact::Entry { path: entry.path.clone(), len: entry.len };
            self.shared.learn(Voice::Record, fact)?;
        }
        let by = self.shared.ledger(|ledger| ledger.add_past());
        for (i, recorded) in record.entries.iter().enumerate() {
            let id = EntryId::new(i as u32);
            let is_logged = loaded.written.iter().any(|(entry, _)| *entry == id);
            if recorded.durable.is_empty() && !is_logged {
                continue;
            }
            let ready = self.shared.prepare_known(id, recorded.stamp).await?;
            if ready.prepared.is_finished {
                self.resumed += self.keeper.restore_finished(recorded, id, by)?;
            } else {
                self.resumed += self.keeper.restore(&loaded, id, &ready, by).await?;
            }
        }
        if self.resumed > 0 {
            self.shared.send(Event::Resumed { bytes: self.resumed });
        }
        Ok(())
    }

    /// Gives entries of many that are complete and proven their final names, while others are still on their way.
    pub(super) fn finish_some(&mut self) {
        if !self.shared.info.random_access {
            return;
        }
        let completed = self.shared.ledger(|ledger| {
            let is_only = ledger.is_layout_complete() && ledger.entry_count() == 1;
            if is_only { Vec::new() } else { ledger.take_completed() }
        });
        for id in completed {
            let is_proven = self.shared.ledger(|ledger| {
                let is_verified = ledger.len(id) == Some(ledger.verified(id).bytes());
                !ledger.is_finished(id) && ledger.digests(id).is_empty() && (is_verified || ledger.is_one_content(id))
            });
            if is_proven {
                self.unfinished.push_back(id);
            }
        }
        while self.finishing.len() < FINISH_AT_ONCE
            && let Some(id) = self.unfinished.pop_front()
        {
            self.finishing.push(self.finish_one(id));
        }
    }

    /// On its own: it holds what the conductor may wait for.
    fn finish_one(&self, id: EntryId) -> Task<Finished> {
        let shared = self.shared.clone();
        let finish = async move {
            // An empty one was never written to.
            shared.prepare(id).await?;
            shared.finish(id).await
        };
        Task::new(&self.shared.setup.spawner, finish.map(move |result| (id, result)))
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

    /// An entry has its final name.
    pub(super) fn finished_one(&mut self, finished: Option<Finished>) -> Result<()> {
        let gone = || Error::new(ErrorKind::Internal, "the task that finishes a file is gone");
        let (id, result) = finished.ok_or_else(gone)?;
        result.map_err(|error| match self.shared.ledger(|ledger| ledger.path(id).cloned()) {
            Some(path) => error.with("file", path),
            None => error,
        })?;
        self.shared.ledger(|ledger| ledger.set_finished(id));
        self.shared.notify();
        Ok::<_, Error>(())
    }
}
