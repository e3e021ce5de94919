//! What the caller wants while a download's places are being opened: nothing was begun yet.

use super::conductor::{Conductor, Plan, stopped};
use super::handle::Command;
use super::opening::{Opened, Opener};
use crate::error::{ErrorKind, Result};
use crate::event::State;

impl Conductor {
    /// Opens the places, for as long as the caller wants it: a server may never answer. In a pause nothing connects; what was
    /// given up for it is opened anew after it.
    pub(super) async fn open(&mut self, opener: &Opener, plan: &mut Plan) -> Result<Vec<Opened>> {
        loop {
            let mut digests = plan.digests.clone();
            tokio::select! {
                biased;
                () = self.wait_for_command() => {}
                opened = opener.open(&plan.origins, &mut digests) => {
                    plan.digests = digests;
                    return opened;
                }
            }
            self.obey_early(plan).await?;
        }
    }

    /// Nothing runs that would have to end, and nothing may be recorded: what an earlier run left was not looked at.
    async fn obey_early(&mut self, plan: &mut Plan) -> Result<()> {
        loop {
            let command = *self.command.borrow_and_update();
            match command {
                Command::Run => {
                    self.set_state(State::Starting);
                    return Ok(());
                }
                Command::Pause => {
                    self.set_state(State::Paused);
                }
                Command::Stop => return Err(stopped()),
                Command::Remove => {
                    self.remove_earlier(plan).await?;
                    return Err(stopped());
                }
            }
            if self.command.changed().await.is_err() {
                // Nobody can resume it any more.
                return Err(stopped());
            }
        }
    }

    /// Removes what an earlier run left of this download. What nobody knows to be of it stays.
    async fn remove_earlier(&mut self, plan: &mut Plan) -> Result<()> {
        let Some(path) = plan.path.take() else {
            plan.resume = true;
            self.take_over_many(plan).await?;
            self.shared.sink.abort().await?;
            return self.keeper.remove().await;
        };
        let entry = self.shared.ledger(|ledger| {
            let entry = ledger.add_unnamed();
            ledger.set_path(entry, path);
            entry
        });
        let ready = match self.shared.prepare(entry).await {
            // A file has the final name and is to stay.
            Err(error) if error.kind() == ErrorKind::Exists => return Ok(()),
            ready => ready?,
        };
        let loaded = self.keeper.load().await?;
        let is_ours = loaded.and_then(|loaded| loaded.record).is_some_and(|record| self.keeper.is_ours(&record));
        if is_ours || ready.prepared.existing.is_empty() {
            self.shared.sink.abort().await?;
        }
        if is_ours {
            self.keeper.remove().await?;
        }
        Ok(())
    }
}
