//! [`Download::inspect`]: what there is, without fetching it.

use std::sync::Arc;

use futures::StreamExt;
use tokio::task::AbortHandle;

use super::conductor::Plan;
use super::download::Download;
use super::opening::{Opened, Opener, Origin};
use super::plane::run_on;
use crate::error::{Error, ErrorKind, Result};
use crate::fact::Fact;
use crate::ledger::Voice;
use crate::pipeline::Shared;
use crate::protocol::Resolved;
use crate::sink::{Entry, MemorySink};
use crate::source::Source;
use crate::span::EntryId;
use crate::transfer::Transfer;

impl Download {
    /// What there is, without fetching it: the files, their lengths where they are known, and when they were last changed.
    /// Dropping the future gives it up.
    ///
    /// # Errors
    ///
    /// As of a download; of several places only if none could tell.
    pub async fn inspect(self) -> Result<Vec<Entry>> {
        let (shared, plan) = self.to_memory(MemorySink::new(0)).plan();
        let plane = plan.client.0.plane.clone();
        plane.start()?;
        let (abort, result) = run_on(&plane, inspect(shared, plan));
        let _given_up = AbortOnDrop(abort);
        result.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the engine stopped unexpectedly")))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn inspect(shared: Arc<Shared>, mut plan: Plan) -> Result<Vec<Entry>> {
    if let Some(error) = plan.wrong.take() {
        return Err(error);
    }
    let opener = Opener { shared: shared.clone(), client: plan.client.clone() };
    loop {
        let opened = opener.open(&plan.origins, &mut plan.digests).await?;
        let result = ask(&shared, opened).await;
        let Some((origin, error)) = result.err() else { break };
        let found = shared.containers.take().map(|(_, container)| container);
        match (found, &mut plan.origins[origin]) {
            (Some(container), origin @ Origin::Locator(_)) => {
                if let Origin::Locator(locator) = origin {
                    *origin = Origin::Container(locator.clone(), container);
                }
                shared.forget_layout();
            }
            _ => return Err(error),
        }
    }
    let unnamed = shared.ledger(|ledger| ledger.entry_count() > 0 && ledger.path(EntryId::FIRST).is_none());
    if unnamed {
        shared.name(EntryId::FIRST);
    }
    Ok(shared.ledger(|ledger| (0..ledger.entry_count() as u32).filter_map(|i| ledger.entry(EntryId::new(i))).collect()))
}

/// Asks every source what it has; the error of the first one, with its origin, if none could tell or one has a container.
async fn ask(shared: &Arc<Shared>, opened: Vec<Opened>) -> Result<(), (usize, Error)> {
    if opened.iter().any(|o| matches!(o.resolved, Resolved::Source(_))) {
        shared.ledger(|ledger| {
            ledger.add_unnamed();
            // The caller's word on the layout is never refused.
            let _ = ledger.learn(Voice::User, Fact::LayoutComplete);
        });
    }
    let mut failed = None;
    let mut told = false;
    for Opened { origin, name, resolved } in opened {
        let result = match resolved {
            Resolved::Source(source) => resolve(shared, name, source, Some(EntryId::FIRST)).await,
            Resolved::Many(source) => resolve(shared, name, source, None).await,
            Resolved::Listing(mut listing) => loop {
                match listing.next().await {
                    Some(Ok(listed)) => {
                        let fact = Fact::Entry { path: listed.path, len: listed.len };
                        if let Err(error) = shared.ledger(|ledger| ledger.learn(Voice::User, fact)) {
                            break Err(error);
                        }
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            },
            Resolved::All(_) => unreachable!("it was taken apart when it was opened"),
        };
        match result {
            Ok(()) => told = true,
            Err(error) if shared.containers.is_found() => return Err((origin, error)),
            Err(error) => {
                failed.get_or_insert((origin, error));
            }
        }
    }
    match failed {
        Some(failed) if !told => Err(failed),
        _ => Ok(()),
    }
}

async fn resolve(shared: &Arc<Shared>, name: String, source: Arc<dyn Source>, entry: Option<EntryId>) -> Result<()> {
    let id = shared.ledger(|ledger| {
        let id = ledger.add_source(name);
        entry.into_iter().for_each(|entry| ledger.bind(id, entry));
        id
    });
    source.resolve(&Transfer::new(shared.clone(), id, entry)).await
}
