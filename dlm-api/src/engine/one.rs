//! Downloads of one file: what an earlier run left of it, or what is there without one.

use super::conductor::{Conductor, Plan};
use crate::error::{Error, Result};
use crate::event::{Event, Report};
use crate::fact::Fact;
use crate::ledger::Voice;
use crate::span::EntryId;

impl Conductor {
    /// A download of one file: what an earlier run left of it, or a finished file that is to be left as it is.
    pub(super) async fn take_over(&mut self, plan: &mut Plan) -> Result<Option<Report>> {
        if plan.path.is_none() && plan.resume {
            plan.path = self.keeper.find_one().await?;
        }
        let entry = self.shared.ledger(|ledger| {
            let entry = ledger.add_unnamed();
            if let Some(path) = &plan.path {
                ledger.set_path(entry, path.clone());
            }
            ledger.set_pieces(plan.pieces.clone());
            for digest in &plan.digests {
                ledger.learn(Voice::User, Fact::Digest(entry, digest.clone()))?;
            }
            ledger.learn(Voice::User, Fact::LayoutComplete)?;
            Ok::<_, Error>(entry)
        })?;
        self.want_digests();
        let Some(path) = plan.path.clone() else {
            self.began_empty = true;
            return Ok(None);
        };
        self.shared.send(Event::Named { entry, path: path.clone() });
        let ready = match self.shared.prepare(entry).await {
            Err(error) if plan.resume => {
                return match self.there_before(&error).await? {
                    Some(report) => Ok(Some(report)),
                    None => Err(error),
                };
            }
            ready => ready?,
        };
        if ready.prepared.skip {
            return self.skipped().await;
        }
        let loaded = if plan.resume { self.keeper.load().await? } else { None };
        if let Some(loaded) = loaded {
            let by = self.past();
            self.resumed_from_elsewhere = !loaded.record.as_ref().is_some_and(|record| self.keeper.is_ours(record));
            self.resumed = self.keeper.restore(&loaded, entry, &ready, by).await?;
            if self.resumed > 0 {
                self.keeper.settle().await?;
            }
        }
        if self.resumed == 0 {
            // Whatever is there, nobody knows what it is; and no record is to claim that somebody did. It goes when there is
            // something to take its place.
            self.keeper.remove().await?;
            self.began_empty = ready.prepared.existing.is_empty();
            let is_looked_at = self.shared.setup.look_first;
            if let Some(ready) = self.shared.prepared.lock().await.get_mut(&entry) {
                // What is looked at may be right.
                ready.is_stale = !self.began_empty && !is_looked_at;
            }
        }
        self.found(entry, &ready);
        if self.resumed > 0 {
            self.shared.send(Event::Resumed { bytes: self.resumed });
        }
        Ok(None)
    }

    /// What is there may be right, and the place has yet to say what its name is: it is asked before anything is fetched, since
    /// what was fetched would take the place of what is there.
    pub(super) async fn find_by_name(&mut self) -> Result<Option<Report>> {
        let entry = EntryId::FIRST;
        let is_to_be_asked = self.shared.setup.look_first
            && self.shared.ledger(|l| l.path(entry).is_none() && (l.has_user_digest(entry) || l.has_template()));
        if !is_to_be_asked || !self.ask_for_name().await? {
            return Ok(None);
        }
        let ready = self.shared.prepare(entry).await?;
        if ready.prepared.skip {
            return self.skipped().await;
        }
        self.began_empty = ready.prepared.existing.is_empty();
        self.found(entry, &ready);
        Ok(None)
    }

    /// Whether a place has answered. Of one that doesn't its run says why.
    async fn ask_for_name(&mut self) -> Result<bool> {
        let places: Vec<_> = self.runners.iter().map(|r| (r.source.clone(), r.transfer.clone())).collect();
        for (source, transfer) in places {
            let answer = loop {
                tokio::select! {
                    biased;
                    () = self.wait_for_command() => {}
                    answer = source.resolve(&transfer) => break answer,
                }
                self.obey().await?;
            };
            match answer {
                Ok(()) => return Ok(true),
                // It is of another download.
                Err(error) if self.shared.containers.is_found() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(false)
    }
}
