//! Downloads of one file: what an earlier run left of it, or what is there without one.

use super::conductor::{Conductor, Plan};
use crate::error::{Error, Result};
use crate::event::{Event, Report};
use crate::fact::Fact;
use crate::ledger::Voice;

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
}
