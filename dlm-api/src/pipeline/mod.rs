//! What all parts of one download share, and the way of a chunk through it.

mod containers;
mod seam;
mod sequencer;
mod whole;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{Mutex as AsyncMutex, broadcast, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time;

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Peers, Progress};
use crate::fact::Fact;
use crate::ledger::{Landed, Ledger, Voice};
use crate::limit::Limiter;
use crate::origin::Origins;
use crate::path::EntryPath;
use crate::protocol::Registry;
use crate::scheduler::{Balanced, Scheduler};
use crate::sink::{Entry, EntryKind, Prepared, Sink, SinkInfo};
use crate::span::{EntryId, LeaseId, Span};
use crate::sync::lock;
use crate::transfer::Window;
#[cfg(feature = "engine")]
use crate::{runs::RangeSet, sink::Stamp};

pub(crate) use containers::Containers;
pub(crate) use seam::{Seams, Witness, is_all_in_pieces};
pub(crate) use sequencer::Sequencer;
pub(crate) use whole::WholeHashes;

/// How many events a listener may be behind before it loses the oldest.
const EVENT_BACKLOG: usize = 256;

/// The most that is read back from a sink at once, in bytes.
pub(crate) const READ_BACK: u64 = 1 << 20;

/// The most warnings that a report has: thousands of sources may have the same to say.
const MAX_WARNINGS: usize = 64;

/// The name of a file for which nobody suggests a better one.
const NAMELESS: &str = "download";

/// Runs a future on its own.
pub(crate) type Spawner = Arc<dyn Fn(BoxFuture<'static, ()>) -> AbortHandle + Send + Sync>;

/// What one download's sources, its pipeline and its engine share.
pub(crate) struct Shared {
    pub(crate) core: Mutex<Core>,
    pub(crate) changed: watch::Sender<()>,
    /// All that is wanted is here, and the files have their names.
    pub(crate) complete: watch::Sender<bool>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) info: SinkInfo,
    pub(crate) setup: Setup,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) counters: Counters,
    warnings: Mutex<Vec<String>>,
    pub(crate) seams: Seams,
    pub(crate) whole: WholeHashes,
    pub(crate) prepared: AsyncMutex<HashMap<EntryId, Ready>>,
    pub(crate) containers: Containers,
    /// Of the source that has others to share with.
    pub(crate) peers: Mutex<Option<Peers>>,
    /// Where the bytes are that somebody waits for.
    pub(crate) window: watch::Sender<Option<Window>>,
    sequencer: Option<Arc<AsyncMutex<Sequencer>>>,
}

/// Takes away what is recorded of a download to a path.
pub(crate) type ForgetRecord = Box<dyn Fn(EntryPath) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What a download is set up with.
pub(crate) struct Setup {
    pub(crate) limits: Vec<Arc<Limiter>>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) spawner: Spawner,
    /// The name of the first entry where no source suggests one.
    pub(crate) fallback_name: Option<String>,
    /// The most bytes that an entry may have.
    pub(crate) max_size: Option<u64>,
    /// The most connections for each source.
    pub(crate) connections: Option<usize>,
    /// How often a connection may fail in a row.
    pub(crate) retries: Option<u32>,
    /// Whether the time of the last change is kept.
    pub(crate) keep_modified: bool,
    /// Takes away what is recorded of a download to this path.
    pub(crate) forget_record: Option<ForgetRecord>,
    /// The protocols whose containers are followed, and not kept.
    pub(crate) containers: Option<Registry>,
    /// Which files of many are wanted.
    pub(crate) select: Option<Select>,
    /// What was there before is looked at before anything is fetched.
    pub(crate) look_first: bool,
    /// Files that are there already are an error, or are left as they are: that is found out before anything is fetched.
    pub(crate) minds_files: bool,
    /// Nothing is fetched at all.
    pub(crate) keep_as_is: bool,
}

/// Whether a file is wanted.
pub(crate) type Select = Box<dyn Fn(&EntryPath) -> bool + Send + Sync>;

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Vec::new(),
            origins: Arc::new(Origins::new(usize::MAX)),
            spawner: Arc::new(|future| tokio::spawn(future).abort_handle()),
            fallback_name: None,
            max_size: None,
            connections: None,
            retries: None,
            keep_modified: true,
            forget_record: None,
            containers: None,
            select: None,
            look_first: false,
            minds_files: false,
            keep_as_is: false,
        }
    }
}

/// The ledger and the policy that works on it.
pub(crate) struct Core {
    pub(crate) ledger: Ledger,
    pub(crate) scheduler: Box<dyn Scheduler>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) transferred: AtomicU64,
    pub(crate) wasted: AtomicU64,
    pub(crate) connections: AtomicU32,
    pub(crate) uploaded: AtomicU64,
    /// Sources that go on when everything is here.
    pub(crate) sharing: AtomicU32,
    /// Those that only take their leave then.
    pub(crate) leaving: AtomicU32,
    /// What sources still have to say when they are over.
    pub(crate) farewells: AtomicU32,
}

/// An entry for which the sink is ready.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) path: EntryPath,
    #[cfg_attr(not(feature = "engine"), allow(dead_code))]
    pub(crate) kind: EntryKind,
    pub(crate) len: Option<u64>,
    pub(crate) prepared: Prepared,
    /// What the sink has of it is of another download, and goes before the first byte comes.
    pub(crate) is_stale: bool,
}

impl Shared {
    pub(crate) fn new(sink: Arc<dyn Sink>, setup: Setup) -> Self {
        let info = sink.info();
        let core = Core { ledger: Ledger::new(), scheduler: Box::new(Balanced::new()) };
        let shared = Self {
            core: Mutex::new(core),
            changed: watch::Sender::new(()),
            complete: watch::Sender::new(false),
            sink,
            info,
            setup,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            counters: Counters::default(),
            warnings: Mutex::default(),
            seams: Seams::default(),
            whole: WholeHashes::default(),
            prepared: AsyncMutex::default(),
            containers: Containers::default(),
            peers: Mutex::default(),
            window: watch::Sender::new(None),
            sequencer: (!info.random_access).then(|| Arc::new(AsyncMutex::new(Sequencer::new()))),
        };
        shared.forget_layout();
        shared
    }

    /// Runs `f` on the ledger.
    pub(crate) fn ledger<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> T {
        f(&mut lock(&self.core).ledger)
    }

    /// Starts again as if nothing had been learned. The caller has seen to it that nobody runs.
    pub(crate) fn forget_layout(&self) {
        self.ledger(|ledger| {
            *ledger = Ledger::new();
            if self.setup.look_first || self.setup.minds_files {
                ledger.look_first();
            }
            if self.setup.keep_as_is {
                ledger.keep_as_is();
            }
        });
        self.whole.forget_all();
        if !self.info.random_access {
            // From the start: others may ask for work before the first byte has come.
            self.set_window(EntryId::FIRST, &Sequencer::new());
        }
    }

    fn set_window(&self, entry: EntryId, sequencer: &Sequencer) {
        let window = self.ledger(|ledger| {
            ledger.set_window(sequencer.window(entry, &self.info, ledger));
            ledger.window().map(|span| Window::new(span.entry, span.range.start, Some(span.range.end)))
        });
        self.tell_window(window);
    }

    /// Somebody reads from here on, or nobody does any more.
    #[cfg(feature = "engine")]
    pub(crate) fn set_focus(&self, focus: Option<(EntryId, u64)>) {
        self.ledger(|ledger| ledger.set_focus(focus));
        self.tell_window(focus.map(|(entry, at)| Window::new(entry, at, None)));
    }

    fn tell_window(&self, window: Option<Window>) {
        self.window.send_if_modified(|known| std::mem::replace(known, window) != window);
    }

    /// Tells the ledger a fact.
    pub(crate) fn learn(&self, who: Voice, fact: Fact) -> Result<()> {
        let path = match (&fact, &self.setup.select) {
            (Fact::Entry { path, .. }, Some(_)) => Some(path.clone()),
            _ => None,
        };
        self.ledger(|ledger| {
            let before = ledger.entry_count();
            ledger.learn(who, fact)?;
            if let (Some(path), Some(select)) = (path, &self.setup.select)
                && ledger.entry_count() > before
                && !select(&path)
            {
                ledger.set_wanted(EntryId::new(before as u32), false);
            }
            Ok(())
        })
    }

    /// What was asked for names other entries, and not this one. The caller of the download may say himself what is wanted.
    pub(crate) fn leave_out(&self, entry: EntryId) {
        if self.setup.select.is_none() {
            self.ledger(|ledger| ledger.leave_out(entry));
        }
    }

    /// Wakes everyone who waits for the ledger to change.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn send(&self, event: Event) {
        if !matches!(event, Event::Progress(_)) {
            tracing::debug!(?event);
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Tells something that the user should know, now and in the report.
    pub(crate) fn warn(&self, warning: String) {
        self.send(Event::Warning(warning.clone()));
        self.note(warning);
    }

    /// Tells something in the report.
    pub(crate) fn note(&self, warning: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// Waits until the rate limits let `bytes` pass.
    pub(crate) async fn pass(&self, bytes: u64) {
        for limit in &self.setup.limits {
            limit.pass(bytes).await;
        }
    }

    /// Makes the sink ready for an entry, under the name that is best known now.
    pub(crate) async fn prepare(&self, id: EntryId) -> Result<Ready> {
        self.prepare_locked(&mut *self.prepared.lock().await, id, |_| ()).await
    }

    /// The same for an entry that an earlier run had put there.
    #[cfg(feature = "engine")]
    pub(crate) async fn prepare_known(
        &self,
        id: EntryId,
        known: Option<Stamp>,
        placed: Option<EntryPath>,
    ) -> Result<Ready> {
        let change = |entry: &mut Entry| (entry.known, entry.placed) = (known, placed);
        self.prepare_locked(&mut *self.prepared.lock().await, id, change).await
    }

    /// What the sink has of an entry; `None` if it has a file that is to be left as it is. Where it has nothing, nothing is
    /// made yet.
    #[cfg(feature = "engine")]
    pub(crate) async fn look(&self, id: EntryId) -> Result<Option<RangeSet>> {
        let mut all = self.prepared.lock().await;
        let Prepared { existing, stamp, skip, .. } =
            self.prepare_locked(&mut all, id, |entry| entry.only_look = true).await?.prepared;
        if skip || (existing.is_empty() && stamp.is_none()) {
            all.remove(&id);
        }
        let found = existing.iter().filter(|span| span.entry == id).map(|span| span.range.clone()).collect();
        Ok(Some(found).filter(|_| !skip))
    }

    /// A finished entry is wrong: it is to be written again.
    #[cfg(feature = "engine")]
    pub(crate) async fn take_back(&self, id: EntryId) -> Result<()> {
        let mut all = self.prepared.lock().await;
        let before = all.remove(&id);
        let taken_back = self.prepare_locked(&mut all, id, |entry| entry.is_wrong = true).await;
        if let (Err(_), Some(before)) = (&taken_back, before) {
            // It is where it was, and a record has to go on saying so.
            all.insert(id, before);
        }
        taken_back.map(|_| ())
    }

    /// The same, right before the first bytes come: what somebody else left there goes.
    pub(crate) async fn prepare_to_write(&self, id: EntryId) -> Result<Ready> {
        let mut all = self.prepared.lock().await;
        let ready = self.prepare_locked(&mut all, id, |_| ()).await?;
        if ready.is_stale {
            self.sink.reset(id).await?;
            if let Some(ready) = all.get_mut(&id) {
                ready.is_stale = false;
            }
        }
        Ok(ready)
    }

    /// Whether what was written to still has the final name under which it was taken over: a record must not say so any longer
    /// than it is so.
    pub(crate) async fn is_still_in_place(&self, id: EntryId) -> Result<bool> {
        let mut all = self.prepared.lock().await;
        let (Some(ready), Some(entry)) = (all.get_mut(&id), self.ledger(|ledger| ledger.entry(id))) else {
            return Ok(false);
        };
        if ready.prepared.taken_over {
            ready.prepared.taken_over = self.sink.prepare(&entry).await?.taken_over;
        }
        Ok(ready.prepared.taken_over)
    }

    async fn prepare_locked(
        &self,
        all: &mut HashMap<EntryId, Ready>,
        id: EntryId,
        change: impl FnOnce(&mut Entry),
    ) -> Result<Ready> {
        let (entry, named) = self.ledger(|ledger| {
            let named = self.name_in(ledger, id);
            (ledger.entry(id), named)
        });
        let mut entry = entry.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an entry without a path"))?;
        change(&mut entry);
        if !self.setup.keep_modified {
            entry.modified = None;
        }
        if let Some(ready) = all.get(&id)
            && ready.len == entry.len
        {
            return Ok(ready.clone());
        }
        if named {
            self.send(Event::Named { entry: id, path: entry.path.clone() });
        }
        let prepared = self.sink.prepare(&entry).await?;
        // What was there at first is what an earlier run left.
        let first = all.get(&id);
        let mut is_stale = first.is_some_and(|first| first.is_stale);
        let prepared = first.map_or(prepared, |first| first.prepared.clone());
        if named {
            // A name that was learned this late is not that of a download to go on with; what is looked at may be right.
            is_stale = !prepared.existing.is_empty() && !self.setup.look_first;
            if let Some(forget) = &self.setup.forget_record {
                forget(prepared.path.as_ref().unwrap_or(&entry.path).clone()).await?;
            }
        }
        let ready = Ready { path: entry.path, kind: entry.kind, len: entry.len, prepared, is_stale };
        all.insert(id, ready.clone());
        self.advance_window(id);
        Ok(ready)
    }

    /// Gives an entry the name that is best known now, unless it has one.
    #[cfg(feature = "engine")]
    pub(crate) fn name(&self, id: EntryId) {
        self.ledger(|ledger| self.name_in(ledger, id));
    }

    fn name_in(&self, ledger: &mut Ledger, id: EntryId) -> bool {
        let is_unnamed = ledger.path(id).is_none();
        if is_unnamed {
            ledger.set_path(id, self.best_name(ledger.name(id)));
        }
        is_unnamed
    }

    fn best_name(&self, suggested: Option<&str>) -> EntryPath {
        let names = [suggested, self.setup.fallback_name.as_deref(), Some(NAMELESS)];
        let safe = names.into_iter().flatten().find_map(EntryPath::from_untrusted_name);
        safe.unwrap_or_else(|| unreachable!("{NAMELESS:?} is a safe name"))
    }

    /// Hands admitted bytes to the sink, without what the lease has lost meanwhile. A write that has begun goes on to its end,
    /// even when this future is dropped.
    pub(crate) async fn put(
        self: &Arc<Self>,
        lease: LeaseId,
        entry: EntryId,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<Landed> {
        let len: usize = data.iter().map(Bytes::len).sum();
        let mut rest = Span::new(entry, offset..offset + len as u64);
        let mut all = Landed { version: u64::MAX, ..Landed::default() };
        while !rest.is_empty()
            && let Some(part) = self.ledger(|ledger| ledger.write_begins(lease, &rest))
        {
            let write = Write { shared: self.clone(), lease, span: part.clone(), done: false };
            let data = cut(&data, part.range.start - offset..part.range.end - offset);
            let Landed { sealed, pieces, version } = self.put_part(write, data).await?;
            all.sealed += sealed;
            all.pieces.extend(pieces);
            all.version = all.version.min(version);
            self.lost(part.range.start - rest.range.start);
            rest.range.start = part.range.end;
        }
        self.lost(rest.len());
        Ok(all)
    }

    fn lost(&self, bytes: u64) {
        self.counters.wasted.fetch_add(bytes, Ordering::Relaxed);
    }

    async fn put_part(&self, write: Write, data: Vec<Bytes>) -> Result<Landed> {
        let Span { entry, range } = write.span.clone();
        let offset = range.start;
        let run = async move {
            match &write.shared.sequencer {
                Some(sequencer) => sequencer.lock().await.put(offset, data),
                None => write.shared.sink.write(entry, offset, data).await?,
            }
            Ok(write.landed())
        };
        self.to_its_end(Box::pin(run)).await
    }

    /// Runs `future` here if it is ready at once, as an inline write is; else on its own, so that dropping the caller doesn't stop it.
    async fn to_its_end<T: Send + 'static>(&self, mut future: BoxFuture<'static, Result<T>>) -> Result<T> {
        if let std::task::Poll::Ready(result) = futures::poll!(future.as_mut()) {
            return result;
        }
        let (send, receive) = oneshot::channel();
        (self.setup.spawner)(Box::pin(async move {
            // The receiver is gone if the caller was dropped.
            let _ = send.send(future.await);
        }));
        receive.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Cancelled, "the engine is gone")))
    }

    /// For a sink that takes bytes in order: passes on what is sealed and next.
    pub(crate) async fn drain(self: &Arc<Self>, entry: EntryId) -> Result<()> {
        let Some(sequencer) = self.sequencer.clone() else { return Ok(()) };
        let shared = self.clone();
        let run = async move {
            let mut sequencer = sequencer.lock().await;
            loop {
                let cursor = sequencer.cursor();
                let sealed = shared.ledger(|l| l.sealed(entry).get(cursor).map(|(run, ())| run.end));
                let Some((offset, data)) = sealed.and_then(|end| sequencer.take_next(end)) else { break };
                shared.whole.update_in_order(entry, offset, &data);
                shared.sink.write(entry, offset, data).await?;
            }
            shared.set_window(entry, &sequencer);
            shared.notify();
            Ok(())
        };
        self.to_its_end(Box::pin(run)).await
    }

    /// An entry is complete: it gets its final name.
    pub(crate) async fn finish(&self, id: EntryId) -> Result<()> {
        let Some(mut entry) = self.ledger(|ledger| ledger.entry(id)) else { return Ok(()) };
        if !self.setup.keep_modified {
            entry.modified = None;
        }
        self.sink.finish(&entry).await
    }

    /// An entry starts again from nothing. The caller has seen to it that nobody writes.
    pub(crate) async fn reset(&self, entry: EntryId) -> Result<()> {
        self.seams.forget(entry);
        if let Some(sequencer) = &self.sequencer {
            if !sequencer.lock().await.restart() {
                return Err(Error::new(ErrorKind::Changed, "the content changed after its first bytes were passed on"));
            }
            self.advance_window(entry);
        }
        let was_ready = self.prepared.lock().await.remove(&entry).is_some();
        if was_ready { self.sink.reset(entry).await } else { Ok(()) }
    }

    fn advance_window(&self, entry: EntryId) {
        if let Some(sequencer) = &self.sequencer
            && let Ok(sequencer) = sequencer.try_lock()
        {
            self.set_window(entry, &sequencer);
        }
    }

    /// Bytes that are in the sink, or on the way to one that takes them in order.
    pub(crate) async fn read(&self, span: &Span) -> Result<Bytes> {
        if self.ledger(|ledger| ledger.is_padding(span.entry)) {
            // No sink has it, and those who read read little at a time.
            return Ok(vec![0; span.len() as usize].into());
        }
        match &self.sequencer {
            Some(sequencer) => sequencer.lock().await.read(&span.range),
            None => self.sink.read(span).await,
        }
    }

    pub(crate) fn progress(&self, rate: u64, upload_rate: u64, since: Instant) -> Progress {
        let (mut totals, is_checking) = self.ledger(|ledger| (ledger.totals(), ledger.is_checking()));
        if is_checking && self.setup.look_first {
            // What was there counts once it is checked.
            totals.sealed = totals.verified;
        }
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            total: totals.len,
            received: totals.sealed + totals.landed,
            verified: totals.verified,
            durable: totals.durable,
            transferred: load(&self.counters.transferred),
            wasted: load(&self.counters.wasted),
            uploaded: load(&self.counters.uploaded),
            rate,
            upload_rate,
            peers: *lock(&self.peers),
            connections: self.counters.connections.load(Ordering::Relaxed),
            elapsed: now().saturating_duration_since(since),
        }
    }
}

/// The time, which tests may hold still.
pub(crate) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// The bytes `range` of what `data` is together, without a copy.
fn cut(data: &[Bytes], range: Range<u64>) -> Vec<Bytes> {
    let mut at = 0;
    let part = |chunk: &Bytes| {
        let start = at;
        at += chunk.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(at));
        (from < to).then(|| chunk.slice((from - start) as usize..(to - start) as usize))
    };
    data.iter().filter_map(part).collect()
}

/// A write on its way to the sink. If it fails, or its task is dropped, the ledger is told.
struct Write {
    shared: Arc<Shared>,
    lease: LeaseId,
    span: Span,
    done: bool,
}

impl Write {
    fn landed(mut self) -> Landed {
        self.done = true;
        self.shared.ledger(|ledger| ledger.landed(self.lease, &self.span))
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.done {
            self.shared.ledger(|ledger| ledger.write_failed(self.lease, &self.span));
        }
        self.shared.notify();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("sink", &self.sink).finish_non_exhaustive()
    }
}
