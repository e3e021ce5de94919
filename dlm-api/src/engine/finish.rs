//! Turns of the conductor: what is in doubt, what has to start again, and the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio::time;

use super::conductor::Conductor;
use super::many::{finish_all, prepare_all};
use super::runner::{Runner, RunnerState};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result, Scope};
use crate::event::{EntryReport, Event, Report, SourceReport, State, Verification};
use crate::ledger::{Ledger, Voice};
use crate::path::EntryPath;
use crate::span::{EntryId, SourceId};

/// How often an entry may start again because its content is another one. A file that changes more often than it can be
/// fetched is not worth fetching.
const MAX_RESTARTS: u32 = 3;

/// How often all sources may end in a row, content, although bytes are missing.
const MAX_IDLE_ROUNDS: u32 = 5;

/// How many times the length of a file may be fetched again to find out whose bytes are wrong.
const REPAIR_BUDGET: u64 = 2;

/// The search for the source whose bytes spoil a digest of the whole.
#[derive(Default, Debug)]
pub(super) struct Repair {
    /// Sources whose bytes alone were tried, the last one being tried now.
    tried: Vec<SourceId>,
    active: bool,
    refetched: u64,
    /// Who had delivered what was replaced.
    suspects: Vec<SourceId>,
}

impl Repair {
    /// The only source that may deliver now.
    pub(super) fn exclusive(&self) -> Option<SourceId> {
        self.tried.last().copied().filter(|_| self.active)
    }
}

impl Conductor {
    /// Looks at everything that may have come up. `Some` when the download is complete.
    pub(super) async fn turn(&mut self) -> Result<Option<Report>> {
        let (accused, restarts) = self.shared.ledger(|ledger| (ledger.take_accused(), ledger.take_restarts()));
        for (source, error) in accused {
            // What it delivered without proof is in doubt with it.
            self.shared.ledger(|ledger| ledger.disown(source));
            self.shared.seams.forget_source(source);
            self.shared.guard_fronts().await?;
            if let Some(i) = self.runners.iter().position(|r| r.id == source) {
                self.bench(i, error);
            }
        }
        self.pardon();
        // What has its final name was proven by something better than what somebody says of it now.
        let is_open = |(id, _): &(EntryId, String)| self.shared.ledger(|ledger| !ledger.is_finished(*id));
        let restarts: Vec<(EntryId, String)> = restarts.into_iter().filter(is_open).collect();
        if !restarts.is_empty() {
            let (entries, reasons): (Vec<_>, Vec<_>) = restarts.into_iter().unzip();
            self.restart(&entries, &reasons[0]).await?;
        }
        self.look().await?;
        self.recheck();
        self.tell_checked()?;
        if self.shared.ledger(|ledger| ledger.has_quarantine()) {
            // First no record claims these bytes any more, then somebody may write others there.
            self.keeper.save().await?;
            self.shared.ledger(|ledger| ledger.end_quarantine());
            self.shared.notify();
            self.rouse();
        }
        if self.shared.ledger(|ledger| ledger.entry_count() > 0 && ledger.is_complete()) {
            if self.shared.setup.keep_as_is {
                // What was learned a moment ago is told of in the next turn.
                return Ok(if self.is_checked { Some(self.report().await) } else { None });
            }
            return self.finish().await;
        }
        let waiting = |state: &RunnerState| !matches!(state, RunnerState::Done | RunnerState::Benched(_));
        let exclusive = self.repair.exclusive();
        let anybody = self.runners.iter().any(|r| waiting(&r.state) && exclusive.is_none_or(|only| only == r.id));
        if !anybody && !self.has_listings() && self.mirrors.is_empty() && self.rechecks.is_empty() {
            self.nobody_left().await?;
        }
        Ok(None)
    }

    /// Sources that were benched by a liar's digests are used again.
    fn pardon(&mut self) {
        let corrupt = |state: &RunnerState| matches!(state, RunnerState::Benched(e) if e.kind() == ErrorKind::Corrupt);
        for runner in self.runners.iter_mut().filter(|runner| corrupt(&runner.state)) {
            let pardoned = self.shared.ledger(|ledger| {
                let pardoned = ledger.pardon(runner.id);
                if pardoned {
                    ledger.unbench(runner.id);
                }
                pardoned
            });
            if pardoned {
                runner.state = RunnerState::Idle;
            }
        }
    }

    /// Sources that were done may have something to do again.
    fn rouse(&mut self) {
        self.runners.iter_mut().for_each(Runner::rouse);
    }

    /// Entries start again from nothing: their content is another one. The second time one stream has to bring it all.
    async fn restart(&mut self, entries: &[EntryId], reason: &str) -> Result<()> {
        if self.restarts >= MAX_RESTARTS {
            return Err(Error::new(ErrorKind::Changed, "the content changes faster than it can be fetched")
                .with_scope(Scope::Download)
                .with("restarts", self.restarts));
        }
        self.restarts += 1;
        entries.iter().for_each(|entry| self.shared.ledger(|ledger| ledger.block(*entry)));
        self.halt().await;
        for &entry in entries {
            // Nobody runs, so nothing is leased before the sink has forgotten it.
            self.shared.ledger(|ledger| ledger.restart(entry, self.restarts > 1));
        }
        // First no record claims the old bytes any more.
        self.keeper.save().await?;
        for &entry in entries {
            self.shared.reset(entry).await?;
            self.shared.send(Event::Restarted { entry, reason: reason.to_owned() });
        }
        self.shared.note(format!("started again: {reason}"));
        self.rouse();
        Ok(())
    }

    /// No source is left that could deliver.
    async fn nobody_left(&mut self) -> Result<()> {
        if self.repair.active {
            return self.next_repair().await;
        }
        let transferred = self.shared.counters.transferred.load(Ordering::Relaxed);
        if transferred > std::mem::replace(&mut self.idle_at, transferred) {
            self.idle_rounds = 0;
        }
        let done = self.runners.iter().any(|r| matches!(r.state, RunnerState::Done));
        if done && self.idle_rounds < MAX_IDLE_ROUNDS {
            self.idle_rounds += 1;
            time::sleep(Duration::from_millis(20) * self.idle_rounds).await;
            self.rouse();
            return Ok(());
        }
        // Those who disagreed with what was known may be the ones who are right.
        if self.restarts < MAX_RESTARTS && self.runners.iter().any(Runner::has_disagreed) {
            self.shared.ledger(|ledger| {
                ledger.withdraw_facts(Voice::Record);
                self.runners.iter().for_each(|r| ledger.withdraw_facts(Voice::Source(r.id)));
            });
            let mut reason = String::new();
            for runner in self.runners.iter_mut().filter(|r| r.has_disagreed()) {
                if let RunnerState::Benched(error) = &runner.state {
                    reason = error.chain();
                }
                runner.state = RunnerState::Idle;
                self.shared.ledger(|ledger| ledger.unbench(runner.id));
            }
            let count = self.shared.ledger(|ledger| ledger.entry_count());
            let all = (0..count as u32).map(EntryId::new);
            let entries: Vec<EntryId> =
                self.shared.ledger(|ledger| all.filter(|id| !ledger.is_finished(*id)).collect());
            return self.restart(&entries, &reason).await;
        }
        Err(self.no_source())
    }

    /// Why no source is left: what happened to the first one.
    fn no_source(&mut self) -> Error {
        let several = self.runners.len() > 1;
        let failed = self.runners.iter_mut().find_map(|runner| match &mut runner.state {
            RunnerState::Benched(_) => match std::mem::replace(&mut runner.state, RunnerState::Done) {
                RunnerState::Benched(error) if several => Some(error.with("source", &runner.name)),
                RunnerState::Benched(error) => Some(error),
                _ => None,
            },
            _ => None,
        });
        let error =
            failed.unwrap_or_else(|| Error::new(ErrorKind::Protocol, "the sources ended before all bytes had come"));
        error.with_scope(Scope::Download)
    }

    /// All bytes are here. `None` if they turn out to be wrong and more has to be fetched.
    async fn finish(&mut self) -> Result<Option<Report>> {
        // Whoever is killed from here on has nothing to fetch again.
        self.keeper.log().await?;
        self.set_state(State::Finishing);
        if let Err(error) = self.shared.check_seams().await {
            return self.go_on(error);
        }
        self.want_digests();
        // Those on their way come to their end first.
        while let Some(finished) = self.finishing.next().await {
            self.finished_some(finished)?;
        }
        self.unfinished.clear();
        let entries = self.shared.ledger(|ledger| {
            let ids = (0..ledger.entry_count() as u32).map(EntryId::new);
            ids.filter(|id| ledger.is_wanted(*id) && !ledger.is_finished(*id)).collect::<Vec<_>>()
        });
        for &entry in &entries {
            // What was sealed just before its source ended was not passed on.
            self.shared.drain(entry).await?;
            // This can take minutes, and the caller may not want to wait for it.
            let shared = self.shared.clone();
            tokio::select! {
                hashed = shared.whole.catch_up(&shared, entry) => hashed?,
                _ = self.wait_for_command() => {
                    self.obey().await?;
                    return Ok(None);
                }
            }
            let len = self.shared.ledger(|ledger| ledger.len(entry)).unwrap_or(0);
            let outcomes = self.shared.whole.finish(entry, len);
            if outcomes.is_empty() && self.shared.ledger(|ledger| ledger.has_user_digest(entry)) {
                return Err(Error::new(ErrorKind::Corrupt, "the checksum could not be computed"));
            }
            let wrong: Vec<Digest> = outcomes.iter().filter(|(_, good)| !good).map(|(d, _)| d.clone()).collect();
            if !wrong.is_empty() {
                return self.wrong_digest(entry, &wrong).await;
            }
            self.checked.extend(outcomes.iter().map(|(digest, _)| (entry, digest.function().name().to_owned())));
        }
        self.shared.ledger(|ledger| ledger.set_exclusive(None));
        self.name_culprits();
        prepare_all(&self.shared, &self.keeper, &entries).await?;
        self.keeper.close().await;
        finish_all(&self.shared, &entries).await?;
        self.keeper.remove().await?;
        Ok(Some(self.report().await))
    }

    /// Bytes contradict each other; who is accused of it is dealt with in the next turn.
    fn go_on(&mut self, error: Error) -> Result<Option<Report>> {
        if error.kind() != ErrorKind::Changed {
            return Err(error);
        }
        self.set_state(State::Running);
        self.shared.notify();
        Ok(None)
    }

    /// The digest of the whole is wrong. If several sources delivered, one of them lied: each in turn is made to deliver it all.
    async fn wrong_digest(&mut self, entry: EntryId, wrong: &[Digest]) -> Result<Option<Report>> {
        self.repair.active = true;
        if self.shared.info.random_access && self.begin_repair(entry).await? {
            self.set_state(State::Running);
            return Ok(None);
        }
        // What is there is wrong: a later run must not go on with it.
        self.halt().await;
        self.shared.sink.abort().await?;
        self.keeper.remove().await?;
        let names: Vec<String> = wrong.iter().map(Digest::to_string).collect();
        Err(Error::new(ErrorKind::Corrupt, "the content does not match its checksum")
            .with_scope(Scope::Download)
            .with("expected", names.join(", ")))
    }

    async fn next_repair(&mut self) -> Result<()> {
        let count = self.shared.ledger(|ledger| ledger.entry_count());
        for entry in (0..count as u32).map(EntryId::new) {
            if self.begin_repair(entry).await? {
                return Ok(());
            }
        }
        Err(self.no_source())
    }

    /// Lets the next source replace what others delivered. Says whether there is one.
    async fn begin_repair(&mut self, entry: EntryId) -> Result<bool> {
        let (shares, len) = self.shared.ledger(|ledger| (ledger.shares(entry), ledger.len(entry).unwrap_or(0)));
        let share = |source: SourceId| shares.iter().find(|(s, _)| *s == source).map_or(0, |(_, bytes)| *bytes);
        let repair = &self.repair;
        let may = |source: SourceId| {
            !repair.tried.contains(&source)
                && share(source) < len
                && repair.refetched + (len - share(source)) <= REPAIR_BUDGET * len
        };
        // Whoever disagreed with what the others said, and was benched for it, may have been right: asked last.
        let candidates = self.runners.iter().filter(|r| (r.is_usable() || r.has_disagreed()) && may(r.id));
        let first = candidates.min_by_key(|r| (!r.is_usable(), std::cmp::Reverse(share(r.id))));
        let Some((source, disagreed)) = first.map(|r| (r.id, !r.is_usable())) else { return Ok(false) };
        self.halt().await;
        self.shared.seams.forget(entry);
        for runner in self.runners.iter_mut().filter(|r| r.id == source) {
            runner.state = RunnerState::Idle;
        }
        self.repair.tried.push(source);
        let others = shares.iter().map(|(s, _)| *s).filter(|s| *s != source);
        self.repair.suspects = others.collect();
        if disagreed {
            self.repair.refetched += len;
            self.begin_again_with(source, entry).await?;
            return Ok(true);
        }
        self.repair.refetched += self.shared.ledger(|ledger| {
            ledger.unbench(source);
            ledger.set_exclusive(Some(source));
            ledger.keep_only(entry, source)
        });
        let name = self.shared.ledger(|ledger| ledger.source_name(source).to_owned());
        self.warn(format!("the checksum is wrong; fetching again from {name} what others delivered"));
        self.rouse();
        Ok(true)
    }

    /// The bytes of the others are wrong, so what they say of the content counts no more: one that disagreed brings all.
    async fn begin_again_with(&mut self, source: SourceId, entry: EntryId) -> Result<()> {
        self.shared.ledger(|ledger| {
            ledger.withdraw_facts(Voice::Record);
            self.runners.iter().for_each(|r| ledger.withdraw_facts(Voice::Source(r.id)));
            ledger.unbench(source);
            ledger.set_exclusive(Some(source));
        });
        self.restart(&[entry], "the checksum is wrong, and a source that was not believed has another content").await
    }

    /// The digest is right now: whose bytes had to be replaced is told.
    fn name_culprits(&mut self) {
        if !std::mem::take(&mut self.repair.active) {
            return;
        }
        let suspects = std::mem::take(&mut self.repair.suspects);
        let names: Vec<String> =
            self.shared.ledger(|l| suspects.iter().map(|s| l.source_name(*s).to_owned()).collect());
        let one = suspects.len() == 1;
        let error = || {
            Error::new(
                ErrorKind::Corrupt,
                if one { "it delivered wrong bytes" } else { "it may have delivered wrong bytes" },
            )
        };
        for source in suspects {
            if let Some(runner) = self.runners.iter().find(|r| r.id == source) {
                let (source, reason) = (runner.name.clone(), error().chain());
                self.shared.send(Event::SourceBenched { source, kind: ErrorKind::Corrupt, reason });
            }
        }
        self.warn(format!("wrong bytes were replaced; they came from {}", names.join(" or ")));
    }

    async fn report(&mut self) -> Report {
        let sources: Vec<SourceReport> = self
            .runners
            .iter()
            .map(|runner| SourceReport {
                source: runner.name.clone(),
                transferred: runner.transfer.transferred(),
                benched: match &runner.state {
                    RunnerState::Benched(error) => Some(error.chain()),
                    _ => None,
                },
            })
            .collect();
        let progress = self.shared.progress(0, 0, self.started);
        let prepared = self.shared.prepared.lock().await;
        let entries = self.shared.ledger(|ledger| {
            let ids = (0..ledger.entry_count() as u32).map(EntryId::new);
            let entry = |id: EntryId| {
                let ready = prepared.get(&id);
                let left = self.left.get(&id);
                let skipped = left.is_some() || ready.is_some_and(|ready| ready.prepared.skip);
                // Of what is kept as it is, only whole files are worth a word.
                let is_whole = ledger.len(id) == Some(ledger.verified(id).bytes());
                if (!skipped && !ledger.is_wanted(id)) || (self.shared.setup.keep_as_is && !is_whole) {
                    return None;
                }
                // The sink may have chosen another name than it was asked for.
                let path = ready.and_then(|ready| ready.prepared.path.as_ref()).or(ledger.path(id))?.clone();
                Some(EntryReport {
                    path,
                    file: left.map_or_else(|| self.shared.sink.location(id), Clone::clone),
                    len: ledger.len(id).or_else(|| skipped.then_some(0))?,
                    verification: if skipped { Verification::Unverified } else { self.verification(ledger, id) },
                    skipped,
                })
            };
            ids.filter_map(entry).collect()
        });
        Report {
            entries,
            resumed: self.resumed,
            transferred: progress.transferred,
            wasted: progress.wasted,
            uploaded: progress.uploaded,
            elapsed: progress.elapsed,
            sources,
            warnings: self.shared.warnings(),
        }
    }

    fn verification(&self, ledger: &Ledger, id: EntryId) -> Verification {
        if let Some((_, function)) = self.checked.iter().find(|(entry, _)| *entry == id) {
            return Verification::Digest(function.clone());
        }
        let len = ledger.len(id).unwrap_or(0);
        if len > 0 && ledger.verified(id).bytes() == len {
            return Verification::Pieces;
        }
        let one_content = ledger.is_one_content(id) && !self.resumed_from_elsewhere;
        if one_content { Verification::SameContent } else { Verification::Unverified }
    }

    /// A file that was there before and is left as it is: there is nothing to do.
    pub(super) async fn skipped(&mut self) -> Result<Option<Report>> {
        let entry = EntryId::FIRST;
        let ready = self.shared.prepared.lock().await.get(&entry).filter(|ready| ready.prepared.skip).cloned();
        let Some(ready) = ready else { return Ok(None) };
        Ok(Some(self.there_already(ready.prepared.path.unwrap_or(ready.path), ready.len.unwrap_or(0))))
    }

    /// A file that was there before is no failure if it is to be left as it is, or if an earlier run of this download had just
    /// finished it. With a checksum it is: that run may have been given another one.
    pub(super) async fn there_before(&mut self, error: &Error) -> Result<Option<Report>> {
        let is_only = self.shared.ledger(|ledger| ledger.is_layout_complete() && ledger.entry_count() == 1);
        if !is_only {
            // What became of one of many says nothing of the others.
            return Ok(None);
        }
        if error.kind() != ErrorKind::Exists {
            return self.skipped().await;
        }
        let (path, is_to_be_checked) =
            self.shared.ledger(|ledger| (ledger.path(EntryId::FIRST).cloned(), ledger.has_user_digest(EntryId::FIRST)));
        let Some(path) = path.filter(|_| !is_to_be_checked) else { return Ok(None) };
        let finished = self.keeper.finished_before(&path).await;
        Ok(finished.map(|(file, len)| {
            let mut report = self.there_already(path, len);
            report.entries[0].file = Some(file);
            report
        }))
    }

    /// The report of a file that was there before.
    pub(super) fn there_already(&self, path: EntryPath, len: u64) -> Report {
        let file = self.shared.sink.location(EntryId::FIRST);
        let verification = Verification::Unverified;
        let entry = EntryReport { path, file, len, verification, skipped: true };
        Report { entries: vec![entry], warnings: self.shared.warnings(), ..Report::default() }
    }
}
