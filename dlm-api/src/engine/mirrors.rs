//! Mirrors of a download whose files another source tells of: which file each of them has.

use std::sync::Arc;

use super::Client;
use super::conductor::Conductor;
use super::runner::RunnerState;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::ledger::Ledger;
use crate::locator::Locator;
use crate::path::EntryPath;
use crate::protocol::Resolved;
use crate::source::Source;
use crate::span::EntryId;

/// A source of one file, beside one that tells which files there are.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) origin: usize,
    pub(super) name: String,
    /// Where it is, unless the caller made it.
    pub(super) locator: Option<Locator>,
    pub(super) source: Arc<dyn Source>,
}

impl Conductor {
    /// Whether the source that tells which files there are may still tell.
    pub(super) fn is_layout_awaited(&self) -> bool {
        let may_tell = |state: &RunnerState| !matches!(state, RunnerState::Done | RunnerState::Benched(_));
        let is_principal = |origin: Option<usize>| origin.is_some() && origin == self.principal;
        !self.shared.ledger(|ledger| ledger.is_layout_complete())
            && self.runners.iter().any(|r| is_principal(r.origin) && may_tell(&r.state))
    }

    /// Gives mirrors their files, once it is known which there are. A mirror of many files is the folder that has them.
    pub(super) async fn place_mirrors(&mut self, client: &Client) {
        if self.mirrors.is_empty() || self.is_layout_awaited() || self.has_listings() {
            return;
        }
        let files = self.shared.ledger(|ledger| files(ledger));
        for mirror in std::mem::take(&mut self.mirrors) {
            if let Err(error) = self.place(&mirror, &files, client).await {
                let (source, kind) = (mirror.name, error.kind());
                self.shared.send(Event::SourceBenched { source, kind, reason: error.chain() });
            }
        }
    }

    async fn place(&mut self, mirror: &Mirror, files: &Files, client: &Client) -> Result<()> {
        let Mirror { origin, name, locator, source } = mirror;
        let is_folder = |locator: &&Locator| files.of_many || locator.url().path().ends_with('/');
        let Some(folder) = locator.as_ref().filter(is_folder) else {
            return match files.all.first() {
                Some((entry, _)) if !files.of_many => {
                    self.add(name.clone(), source.clone(), Some(*entry), Some(*origin));
                    Ok(())
                }
                _ => Err(Error::new(ErrorKind::InvalidInput, "there are several files, and it has one")),
            };
        };
        for (entry, path) in &files.all {
            let at = folder.below(path)?;
            match client.0.registry.open(&at).await? {
                Resolved::Source(source) => self.add(at.to_string(), source, Some(*entry), None),
                _ => return Err(Error::new(ErrorKind::Unsupported, "what is there is no file").with("url", at)),
            }
        }
        Ok(())
    }
}

/// What a mirror can have.
struct Files {
    /// Those that have bytes. One that isn't wanted may share a piece with one that is.
    all: Vec<(EntryId, EntryPath)>,
    /// They are in a folder.
    of_many: bool,
}

fn files(ledger: &Ledger) -> Files {
    let all = (0..ledger.entry_count() as u32).map(EntryId::new);
    let real: Vec<EntryId> = all.filter(|id| !ledger.is_padding(*id)).collect();
    let of_many = real.len() > 1 || real.iter().any(|id| ledger.path(*id).is_some_and(|p| p.components().count() > 1));
    let has_bytes = real.into_iter().filter(|id| ledger.len(*id) != Some(0));
    Files { all: has_bytes.filter_map(|id| Some((id, ledger.path(id)?.clone()))).collect(), of_many }
}
