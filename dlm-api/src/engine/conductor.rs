//! [`Conductor`]: runs the sources of one download until it is complete.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time;

use super::download::Kept;
use super::finish::Repair;
use super::handle::{Command, Handle};
use super::keeper::Keeper;
use super::look::Rechecked;
use super::many::Finished;
use super::mirrors::Mirror;
use super::opening::{Opened, Opener, Origin};
use super::plane::run_on;
use super::runner::{Next, Runner, RunnerState};
use super::{Client, chores};
use crate::checkpoint::SourceRecord;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress, Report, State};
use crate::fact::Fact;
use crate::ledger::{PieceId, Voice};
use crate::meter::Meter;
use crate::path::EntryPath;
use crate::pipeline::{Shared, now};
use crate::protocol::{Listed, Resolved};
use crate::source::Source;
use crate::span::{EntryId, SourceId};
use crate::transfer::{Task, Transfer};

/// How often things are looked at that no change announces.
const TICK: Duration = Duration::from_millis(100);

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);

/// Changes that come closer together than this are looked at together.
const SETTLE: Duration = Duration::from_millis(5);

/// How long a stop waits for writes that are on their way, and for what sources have to say to others.
const QUIET: Duration = Duration::from_secs(10);

/// How many sources run at once. A listing can bring thousands, each of one file.
const MAX_RUNNING: usize = 64;

/// What a download is started with.
pub(super) struct Plan {
    pub(super) client: Client,
    pub(super) wrong: Option<Error>,
    /// What the only entry must hash to; or the container, if the first URL leads to one.
    pub(super) digests: Vec<Digest>,
    /// The only entry's pieces: their lengths and digests.
    pub(super) pieces: Vec<(u64, Digest)>,
    pub(super) origins: Vec<Origin>,
    pub(super) source_records: Vec<SourceRecord>,
    /// The path of the only entry, if the caller chose it.
    pub(super) path: Option<EntryPath>,
    pub(super) kept: Kept,
    pub(super) resume: bool,
}

/// Runs the sources of one download until it is complete.
pub(super) struct Conductor {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) runners: Vec<Runner>,
    /// Complete entries of many, on their way to their final names, and those that are next.
    pub(super) finishing: FuturesUnordered<Task<Finished>>,
    pub(super) unfinished: VecDeque<EntryId>,
    /// Pieces to be checked again, and those on which it is being done.
    pub(super) unchecked: VecDeque<PieceId>,
    pub(super) rechecks: FuturesUnordered<Task<Result<Rechecked>>>,
    /// The place whose source tells which files there are, and what can't tell, and waits for it.
    pub(super) principal: Option<usize>,
    pub(super) mirrors: Vec<Mirror>,
    /// A listing has ended.
    is_listed: bool,
    /// Listings that may bring more sources.
    listings: FuturesUnordered<BoxFuture<'static, Listing>>,
    pub(super) command: watch::Receiver<Command>,
    state: watch::Sender<State>,
    progress: watch::Sender<Progress>,
    down: Rate,
    up: Rate,
    last_progress: Instant,
    pub(super) started: Instant,
    pub(super) restarts: u32,
    /// How often in a row all sources ended without a word although bytes are missing.
    pub(super) idle_rounds: u32,
    /// How much had come when that was counted last.
    pub(super) idle_at: u64,
    pub(super) resumed: u64,
    /// What an earlier run left came from none of these sources.
    pub(super) resumed_from_elsewhere: bool,
    /// What stands for what was there before, once there is something.
    pub(super) past: Option<SourceId>,
    /// Entries of many that were there before and are left as they are, and where.
    pub(super) left: HashMap<EntryId, Option<PathBuf>>,
    /// What was there before was looked at, and is checked.
    pub(super) is_checked: bool,
    /// What an earlier run left of many files is being taken over.
    pub(super) is_taking_over: bool,
    /// An earlier run is known to have left nothing.
    pub(super) began_empty: bool,
    pub(super) repair: Repair,
    /// Entries whose digest of the whole was checked, and by what.
    pub(super) checked: Vec<(EntryId, String)>,
    /// The log, checkpoints and digests of the whole. It ends only with an error.
    chores: Option<Task<Error>>,
}

/// How fast a counter grows.
struct Rate {
    meter: Meter,
    before: u64,
}

impl Rate {
    fn new() -> Self {
        Self { meter: Meter::new(now()), before: 0 }
    }

    /// Bytes a second, now that the counter stands at `total`.
    fn update(&mut self, total: u64) -> u64 {
        self.meter.add(total - std::mem::replace(&mut self.before, total), now());
        self.meter.rate(now()).unwrap_or(0)
    }
}

type Listing = (Option<Result<Listed>>, BoxStream<'static, Result<Listed>>);

impl Conductor {
    pub(super) fn start(shared: Arc<Shared>, mut plan: Plan) -> Handle {
        let (command, commands) = watch::channel(Command::Run);
        let (state_sender, state) = watch::channel(State::Starting);
        let (progress_sender, progress) = watch::channel(Progress::default());
        let plane = plan.client.0.plane.clone();
        let started = plane.start();
        let kept = std::mem::replace(&mut plan.kept, Kept::Store(None));
        let keeper = Keeper::new(shared.clone(), kept, std::mem::take(&mut plan.source_records));
        let conductor = Self {
            shared: shared.clone(),
            keeper: Arc::new(keeper),
            runners: Vec::new(),
            finishing: FuturesUnordered::new(),
            unfinished: VecDeque::new(),
            unchecked: VecDeque::new(),
            rechecks: FuturesUnordered::new(),
            principal: None,
            mirrors: Vec::new(),
            is_listed: false,
            listings: FuturesUnordered::new(),
            command: commands,
            state: state_sender,
            progress: progress_sender,
            down: Rate::new(),
            up: Rate::new(),
            last_progress: now(),
            started: now(),
            restarts: 0,
            idle_rounds: 0,
            idle_at: 0,
            resumed: 0,
            resumed_from_elsewhere: false,
            past: None,
            left: HashMap::new(),
            is_checked: false,
            is_taking_over: false,
            began_empty: false,
            repair: Repair::default(),
            checked: Vec::new(),
            chores: None,
        };
        let (abort, result) = run_on(&plane, async move {
            started?;
            conductor.run(plan).await
        });
        Handle { shared, command, state, progress, abort, result: Mutex::new(Some(result)) }
    }

    async fn run(mut self, mut plan: Plan) -> Result<Report> {
        // The threads that this runs on end with the last client.
        let _client = plan.client.clone();
        let result = match plan.wrong.take() {
            Some(error) => Err(error),
            None => self.conduct(plan).await,
        };
        // A download that was ended from outside, or failed, keeps what is durable, unless it was found to be wrong.
        self.chores = None;
        if let Err(error) = &result
            && let Err(second) = self.leave(error).await
        {
            self.warn(second.chain());
        }
        self.tell_progress();
        self.set_state(match &result {
            Ok(_) => State::Complete,
            Err(error) if error.kind() == ErrorKind::Cancelled => State::Stopped,
            Err(_) => State::Failed,
        });
        result
    }

    /// What stays after a failure, for a later run.
    async fn leave(&mut self, error: &Error) -> Result<()> {
        self.halt().await;
        if self.is_taking_over {
            // The record of the earlier run knows more than this one.
            return Ok(());
        }
        // Of many files each may have been begun by somebody else.
        let is_new = self.shared.prepared.lock().await.values().all(|ready| ready.prepared.existing.is_empty());
        let is_one = self.shared.ledger(|ledger| ledger.entry_count()) == 1;
        if self.began_empty && (is_new || is_one) && self.shared.ledger(|ledger| ledger.totals()).sealed == 0 {
            // Nothing that would be missed.
            self.shared.sink.abort().await?;
            return self.keeper.remove().await;
        }
        match error.kind() {
            // A stop has made its checkpoint; what is wrong is not to be recorded, and what may be lost no more.
            ErrorKind::Cancelled | ErrorKind::Corrupt => Ok(()),
            ErrorKind::Storage => {
                self.keeper.distrust().await;
                Ok(())
            }
            _ => self.keeper.checkpoint().await,
        }
    }

    async fn conduct(&mut self, mut plan: Plan) -> Result<Report> {
        self.set_state(State::Starting);
        let opener = Opener { shared: self.shared.clone(), client: plan.client.clone() };
        loop {
            let opened = self.open(&opener, &mut plan).await?;
            let result = self.serve(opened, &mut plan).await;
            // Nobody asks for it a second time.
            let is_stopped = matches!(*self.command.borrow(), Command::Stop | Command::Remove)
                && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled);
            if is_stopped || !self.has_found_container(&mut plan) {
                return result;
            }
            self.unwind().await?;
        }
    }

    /// Whether a source said that what it has is a container. Nothing of it was written anywhere.
    fn has_found_container(&self, plan: &mut Plan) -> bool {
        let Some((source, container)) = self.shared.containers.take() else { return false };
        let runner = self.runners.iter().find(|runner| runner.id == source);
        let Some(origin) = runner.and_then(|runner| plan.origins.get_mut(runner.origin?)) else { return false };
        let Origin::Locator(locator) = origin else { return false };
        *origin = Origin::Container(locator.clone(), container);
        true
    }

    /// Back to where nothing was learned.
    async fn unwind(&mut self) -> Result<()> {
        self.halt().await;
        self.runners.clear();
        self.listings.clear();
        self.mirrors.clear();
        // Their numbers mean others from here on.
        self.finishing.clear();
        self.unfinished.clear();
        self.unchecked.clear();
        self.rechecks.clear();
        self.is_listed = false;
        self.chores = None;
        if self.began_empty {
            self.shared.sink.abort().await?;
        }
        self.shared.prepared.lock().await.clear();
        self.shared.forget_layout();
        self.past = None;
        self.left.clear();
        self.resumed = 0;
        Ok(())
    }

    /// Runs what was opened until the download is complete.
    async fn serve(&mut self, opened: Vec<Opened>, plan: &mut Plan) -> Result<Report> {
        // A checksum is of one file: who has several disagrees.
        let is_one = plan.path.is_some() || !plan.digests.is_empty();
        let single = is_one || matches!(opened[0].resolved, Resolved::Source(_));
        self.principal = Some(opened[0].origin);
        if !single {
            self.take_over_many(plan).await?;
        } else if let Some(report) = self.take_over(plan).await? {
            return Ok(report);
        }
        for Opened { origin, name, resolved } in opened {
            match resolved {
                Resolved::Source(source) if !single => {
                    let locator = plan.origins[origin].locator().cloned();
                    self.mirrors.push(Mirror { origin, name, locator, source });
                }
                Resolved::Source(source) => self.add(name, source, Some(EntryId::FIRST), Some(origin)),
                Resolved::Many(source) => self.add(name, source, None, Some(origin)),
                Resolved::Listing(listing) => self.listings.push(next_listed(listing)),
                Resolved::All(_) => unreachable!("it was taken apart when it was opened"),
            }
        }
        self.set_state(State::Running);
        self.chores = Some(chores::spawn(&self.shared, &self.keeper));
        if single && let Some(report) = self.find_by_name().await? {
            return Ok(report);
        }
        let mut changed = self.shared.changed.subscribe();
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            if let Some(report) = self.turn().await? {
                self.shared.complete.send_replace(true);
                return self.share(report).await;
            }
            self.finish_some();
            self.end_listings()?;
            self.place_mirrors(&plan.client).await;
            self.start_runners();
            let is_awaited = self.is_layout_awaited();
            tokio::select! {
                (i, result) = next_ended(&mut self.runners) => {
                    if let Some(report) = self.ended(i, result).await? {
                        return Ok(report);
                    }
                }
                // Who was named first says which files there are, and in which order.
                Some((listed, more)) = self.listings.next(), if !is_awaited => self.listed(listed, more)?,
                Some(checked) = self.rechecks.next() => self.rechecked(checked).await?,
                Some(finished) = self.finishing.next() => self.finished_some(finished)?,
                _ = self.command.changed() => self.obey().await?,
                error = chores::ended(&mut self.chores) => return Err(error),
                _ = changed.changed() => time::sleep(SETTLE).await,
                _ = tick.tick() => {}
            }
            if now().saturating_duration_since(self.last_progress) >= PROGRESS {
                self.tell_progress();
            }
        }
    }

    pub(super) fn add(&mut self, name: String, source: Arc<dyn Source>, entry: Option<EntryId>, origin: Option<usize>) {
        let id = self.shared.ledger(|ledger| {
            let id = ledger.add_source(name.clone());
            entry.into_iter().for_each(|entry| ledger.bind(id, entry));
            id
        });
        let transfer = Transfer::new(self.shared.clone(), id, entry);
        self.runners.push(Runner::new(id, source, transfer, name, origin));
    }

    fn listed(&mut self, listed: Option<Result<Listed>>, more: BoxStream<'static, Result<Listed>>) -> Result<()> {
        let Some(listed) = listed.transpose()? else {
            self.is_listed = true;
            return Ok(());
        };
        let Listed { path, len, source } = listed;
        self.shared.learn(Voice::User, Fact::Entry { path: path.clone(), len })?;
        let entry = self.shared.ledger(|ledger| ledger.entry_at(Voice::User, &path));
        self.add(path.to_string(), source, entry, None);
        self.listings.push(next_listed(more));
        Ok(())
    }

    /// Once all listings have ended, and nobody else tells of files, there are no more.
    fn end_listings(&mut self) -> Result<()> {
        if !self.is_listed || self.has_listings() || self.is_layout_awaited() {
            return Ok(());
        }
        self.is_listed = false;
        self.shared.learn(Voice::User, Fact::LayoutComplete)?;
        self.shared.notify();
        Ok(())
    }

    /// Everything is here; the sources that share it go on until that is enough, or the caller stops it.
    async fn share(&mut self, mut report: Report) -> Result<Report> {
        let is_sharing = |shared: &Shared| shared.counters.sharing.load(Ordering::Relaxed) > 0;
        let goes_on = |shared: &Shared| is_sharing(shared) || shared.counters.leaving.load(Ordering::Relaxed) > 0;
        if goes_on(&self.shared) {
            self.chores = None;
            if is_sharing(&self.shared) {
                self.set_state(State::Sharing);
            }
            let mut changed = self.shared.changed.subscribe();
            let mut tick = time::interval(PROGRESS);
            while goes_on(&self.shared) && matches!(*self.command.borrow(), Command::Run) {
                tokio::select! {
                    // What it comes to is of no importance any more.
                    (i, _) = next_ended(&mut self.runners) => self.runners[i].state = RunnerState::Done,
                    changed = self.command.changed() => if changed.is_err() { break },
                    _ = changed.changed() => {}
                    _ = tick.tick() => self.tell_progress(),
                }
            }
            self.halt().await;
            report.uploaded = self.shared.counters.uploaded.load(Ordering::Relaxed);
        }
        self.drop_unwanted().await?;
        Ok(report)
    }

    fn start_runners(&mut self) {
        let running = self.runners.iter().filter(|r| matches!(r.state, RunnerState::Running(_))).count();
        let ready = |runner: &&mut Runner| match runner.state {
            RunnerState::Idle => true,
            RunnerState::Resting(until) => now() >= until,
            _ => false,
        };
        let exclusive = self.repair.exclusive();
        // Who was named first says which files there are: the others may be of something else.
        let first = self.principal.filter(|_| self.is_layout_awaited());
        let wanted = |runner: &&mut Runner| {
            let may_tell = first.is_none() || runner.origin == first;
            may_tell && exclusive.is_none_or(|only| only == runner.id)
        };
        let free = MAX_RUNNING.saturating_sub(running);
        self.runners.iter_mut().filter(ready).filter(wanted).take(free).for_each(Runner::start);
    }

    /// A source's run is over. `Some` if the download is too: its file was there before.
    async fn ended(&mut self, i: usize, result: Result<()>) -> Result<Option<Report>> {
        let runner = &mut self.runners[i];
        match runner.ended(result) {
            Next::GoOn => {}
            Next::Retry(error, pause) => {
                runner.state = RunnerState::Resting(now() + pause);
                runner.transfer.retrying(&error, pause);
            }
            Next::Bench(error) => self.bench(i, error),
            Next::Fail(error) => {
                return match self.there_before(&error).await? {
                    Some(report) => Ok(Some(report)),
                    None => Err(error),
                };
            }
        }
        Ok(None)
    }

    pub(super) fn bench(&mut self, i: usize, error: Error) {
        let runner = &mut self.runners[i];
        if !runner.is_usable() {
            return;
        }
        let (source, kind) = (runner.name.clone(), error.kind());
        if kind == ErrorKind::Corrupt && self.shared.ledger(|ledger| ledger.pardon(runner.id)) {
            runner.state = RunnerState::Idle;
            return;
        }
        self.shared.send(Event::SourceBenched { source, kind, reason: error.chain() });
        self.shared.ledger(|ledger| {
            ledger.bench(runner.id);
            if kind == ErrorKind::Corrupt {
                ledger.disown(runner.id);
            }
        });
        if matches!(kind, ErrorKind::Changed | ErrorKind::Corrupt) {
            self.shared.seams.forget_source(runner.id);
        }
        runner.state = RunnerState::Benched(error);
        self.shared.notify();
    }

    pub(super) fn has_listings(&self) -> bool {
        !self.listings.is_empty()
    }

    /// Ends all runs, and waits until nothing is on its way any more.
    pub(super) async fn halt(&mut self) {
        self.runners.iter_mut().for_each(Runner::halt);
        let mut changed = self.shared.changed.subscribe();
        let quiet = async {
            while !self.shared.ledger(|ledger| ledger.is_quiet())
                || self.shared.counters.farewells.load(Ordering::Relaxed) > 0
            {
                // The sender lives as long as the download.
                let _ = changed.changed().await;
            }
        };
        if time::timeout(QUIET, quiet).await.is_err() {
            self.warn("a write is still on its way".to_owned());
        }
    }

    /// Returns when the caller wants something else.
    pub(super) async fn wait_for_command(&mut self) {
        if self.command.changed().await.is_err() {
            // Nobody can want anything any more.
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn obey(&mut self) -> Result<()> {
        loop {
            let command = *self.command.borrow_and_update();
            match command {
                Command::Run => {
                    self.set_state(State::Running);
                    self.chores.get_or_insert_with(|| chores::spawn(&self.shared, &self.keeper));
                    return Ok(());
                }
                Command::Pause => {
                    self.halt().await;
                    self.chores = None;
                    self.keeper.checkpoint().await?;
                    self.tell_progress();
                    self.set_state(State::Paused);
                }
                Command::Stop => {
                    self.halt().await;
                    self.chores = None;
                    self.keeper.checkpoint().await?;
                    return Err(stopped());
                }
                Command::Remove => {
                    self.halt().await;
                    self.chores = None;
                    self.keeper.close().await;
                    // What has begun to get its final name gets it, and then there is nothing more to be said of it.
                    while self.finishing.next().await.is_some() {}
                    self.shared.sink.abort().await?;
                    self.keeper.give_up().await?;
                    return Err(stopped());
                }
            }
            if self.command.changed().await.is_err() {
                // Nobody can resume it any more.
                return Err(stopped());
            }
        }
    }

    pub(super) fn want_digests(&self) {
        let count = self.shared.ledger(|ledger| ledger.entry_count());
        for id in (0..count as u32).map(EntryId::new) {
            let (digests, version) = self.shared.ledger(|l| (l.digests(id), l.version(id)));
            self.shared.whole.want(id, digests, version);
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.shared.warn(warning);
    }

    /// Gives the state before.
    pub(super) fn set_state(&self, state: State) -> State {
        let before = self.state.send_replace(state);
        if before != state || state == State::Starting {
            self.shared.send(Event::State(state));
        }
        before
    }

    pub(super) fn tell_progress(&mut self) {
        let counters = &self.shared.counters;
        let rate = self.down.update(counters.transferred.load(Ordering::Relaxed));
        let upload_rate = self.up.update(counters.uploaded.load(Ordering::Relaxed));
        self.last_progress = now();
        let progress = self.shared.progress(rate, upload_rate, self.started);
        self.progress.send_replace(progress);
        self.shared.send(Event::Progress(progress));
    }
}

pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "stopped by the caller")
}

fn next_listed(mut listing: BoxStream<'static, Result<Listed>>) -> BoxFuture<'static, Listing> {
    async move { (listing.next().await, listing) }.boxed()
}

/// Waits for the next source whose run is over.
async fn next_ended(runners: &mut [Runner]) -> (usize, Result<()>) {
    poll_fn(|cx| {
        for (i, runner) in runners.iter_mut().enumerate() {
            if let RunnerState::Running(task) = &mut runner.state
                && let Poll::Ready(result) = task.poll_unpin(cx)
            {
                let gone = || Err(Error::new(ErrorKind::Internal, "a source's task is gone"));
                return Poll::Ready((i, result.unwrap_or_else(gone)));
            }
        }
        Poll::Pending
    })
    .await
}
