//! [`Transfer`]: a source's view of the download it serves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time;

use crate::error::{Error, ErrorKind, Result, Scope};
use crate::event::{Event, Peers};
use crate::fact::{Fact, Identity};
use crate::farewell::Farewell;
use crate::lease::Lease;
use crate::ledger::{Ledger, NotNow, Voice};
use crate::origin::Permit;
use crate::path::EntryPath;
use crate::pipeline::{Counters, READ_BACK, Setup, Shared, Spawner, now};
use crate::ranged::RangedConfig;
use crate::scheduler::{Ask, Scheduler, Want};
use crate::sink::Sink;
use crate::span::{EntryId, SourceId, Span};
use crate::sync::lock;

/// How long a claim that has to wait sleeps at most: what may be stolen depends on the time, not only on the ledger.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A source's view of the download it serves: what is wanted, what is known, and the way to deliver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub(crate) shared: Arc<Shared>,
    source: SourceId,
    entry: Option<EntryId>,
    transferred: Arc<AtomicU64>,
}

impl Transfer {
    pub(crate) fn new(shared: Arc<Shared>, source: SourceId, entry: Option<EntryId>) -> Self {
        Self { shared, source, entry, transferred: Arc::new(AtomicU64::new(0)) }
    }

    /// A transfer of one file into `sink`, for the test of a source without an engine. Nothing renames the file, syncs it or
    /// records how far it is.
    pub fn standalone(sink: Arc<dyn Sink>, scheduler: impl Scheduler) -> Self {
        Self::standalone_with(sink, scheduler, Setup::default())
    }

    pub(crate) fn standalone_with(sink: Arc<dyn Sink>, scheduler: impl Scheduler, setup: Setup) -> Self {
        let shared = Arc::new(Shared::new(sink, setup));
        let source = {
            let mut core = lock(&shared.core);
            core.scheduler = Box::new(scheduler);
            core.ledger.add_unnamed();
            let source = core.ledger.add_source("standalone");
            // The user's word on the layout is never refused.
            let _ = core.ledger.learn(Voice::User, Fact::LayoutComplete);
            source
        };
        Self::new(shared, source, Some(EntryId::FIRST))
    }

    /// The source's number in this download.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// The only entry that the source is to deliver, if it is bound to one.
    pub fn bound_to(&self) -> Option<EntryId> {
        self.entry
    }

    /// Tells the ledger a fact. [`ErrorKind::Changed`] says that others, who are believed, say something else;
    /// the source ends with that error then.
    pub fn learn(&self, fact: Fact) -> Result<()> {
        if let (Fact::Len(_, len) | Fact::Entry { len: Some(len), .. }, Some(max)) = (&fact, self.shared.setup.max_size)
            && *len > max
            && self.is_asked_for(&fact)
        {
            return Err(too_large(*len, max));
        }
        if let Some(registry) = &self.shared.setup.containers
            && self.shared.containers.is_one(registry, self.source, &fact)
        {
            return Err(
                Error::new(ErrorKind::Unsupported, "this is a container, not the content").with_scope(Scope::Download)
            );
        }
        let learned = self.shared.learn(Voice::Source(self.source), fact);
        self.shared.notify();
        learned
    }

    /// Whether the caller wants the entry that the fact is about.
    fn is_asked_for(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Entry { path, .. } => self.shared.setup.select.as_ref().is_none_or(|select| select(path)),
            Fact::Len(entry, _) => self.of_entry(*entry, |ledger| ledger.is_wanted(*entry)).unwrap_or(true),
            _ => true,
        }
    }

    /// The number of the entry with this path, once it was learned.
    pub fn entry_at(&self, path: &EntryPath) -> Option<EntryId> {
        self.shared.ledger(|ledger| ledger.entry_at(Voice::Source(self.source), path))
    }

    /// Asks the ledger about an entry; `None` if there is no such entry, or not yet.
    fn of_entry<T>(&self, entry: EntryId, ask: impl FnOnce(&Ledger) -> T) -> Option<T> {
        self.shared.ledger(|ledger| (entry.index() < ledger.entry_count()).then(|| ask(ledger)))
    }

    /// The length of an entry, once it is known.
    pub fn len(&self, entry: EntryId) -> Option<u64> {
        self.of_entry(entry, |ledger| ledger.len(entry)).flatten()
    }

    /// What an entry's content is, as far as it is known.
    pub fn identities(&self, entry: EntryId) -> Vec<Identity> {
        self.of_entry(entry, |ledger| ledger.identities(entry)).unwrap_or_default()
    }

    /// Whether every byte of an entry is checked against the digest of its piece.
    pub fn is_covered_by_pieces(&self, entry: EntryId) -> bool {
        self.of_entry(entry, |ledger| ledger.is_covered_by_pieces(entry)).unwrap_or(false)
    }

    /// Whether one stream has to bring the whole entry, because parts of it could not be proven to belong together.
    pub fn is_solo(&self, entry: EntryId) -> bool {
        self.of_entry(entry, |ledger| ledger.is_solo(entry)).unwrap_or(false)
    }

    /// These spans, grown until each piece that they touch is wholly in them: what [`Want::Exactly`] has to ask for where
    /// somebody else's division into pieces holds. Sorted, and merged where they touch.
    pub fn grown_to_pieces(&self, spans: &[Span]) -> Vec<Span> {
        self.shared.ledger(|ledger| ledger.grown_to_pieces(spans))
    }

    /// What of these spans is not sealed: another division of the same bytes into pieces can have sealed a part of them.
    pub fn missing_of(&self, spans: &[Span]) -> Vec<Span> {
        let gaps = |span: &Span| {
            self.of_entry(span.entry, |l| l.sealed(span.entry).gaps(span.range.clone()).collect::<Vec<_>>())
                .unwrap_or_else(|| vec![span.range.clone()])
        };
        spans.iter().flat_map(|s| gaps(s).into_iter().map(|gap| Span::new(s.entry, gap))).collect()
    }

    /// How many sources in use can deliver what this one can.
    pub fn live_sources(&self) -> usize {
        self.shared.ledger(|ledger| ledger.live_sources(self.entry))
    }

    /// Bytes of all entries that are missing; `None` while lengths are unknown.
    pub fn left(&self) -> Option<u64> {
        let (totals, is_checking) = self.shared.ledger(|ledger| (ledger.totals(), ledger.is_checking()));
        Some(totals.len?.saturating_sub(if is_checking { totals.verified } else { totals.sealed }))
    }

    /// Whether nothing more will come: all that is wanted is here and checked, or nothing is to be fetched.
    pub fn is_complete(&self) -> bool {
        self.shared.ledger(|ledger| ledger.is_complete())
    }

    /// Waits until it is known of all entries that were learned whether there are files in their places already. Before that
    /// nothing of them is given out, and some may turn out not to be wanted.
    pub async fn looked_at(&self) {
        let mut changes = self.changes();
        while self.shared.ledger(|ledger| ledger.is_looking()) {
            changes.next().await;
        }
    }

    /// Waits until all that is wanted is here, and the files have their names. It costs nothing while bytes come, unlike
    /// [`changes`](Self::changes).
    pub async fn completed(&self) {
        // The sender lives as long as the transfer.
        let _ = self.shared.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Whether it is still being found out what of that which was there before is right. Pieces turn up meanwhile that nobody
    /// delivered.
    pub fn is_checking(&self) -> bool {
        self.shared.ledger(|ledger| ledger.is_checking())
    }

    /// Asks for work. The rate is that of the connection which asks, in bytes a second.
    pub fn claim(&self, want: Want, rate: Option<u64>) -> Result<Lease, NotNow> {
        let ask = Ask { source: self.source, entry: self.entry, want, rate };
        let granted = {
            let core = &mut *lock(&self.shared.core);
            core.ledger.claim(&ask, core.scheduler.as_mut(), now())
        };
        Ok(Lease::new(self.clone(), granted?))
    }

    /// Waits for work; `None` when nothing more is wanted.
    pub async fn next(&self, want: Want, rate: Option<u64>) -> Option<Lease> {
        let mut changes = self.changes();
        loop {
            match self.claim(want.clone(), rate) {
                Ok(lease) => return Some(lease),
                Err(NotNow::Done) => return None,
                Err(NotNow::Wait) => {
                    // Both ways the answer may be another one.
                    let _ = time::timeout(LOOK_AGAIN, changes.next()).await;
                }
            }
        }
    }

    /// The ledger's changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.shared.changed.subscribe())
    }

    /// Whether a span is sealed: there, and as right as can be told. What a swarm tells its peers it has. What an earlier run
    /// left, and has a digest now, is not before it is checked.
    pub fn is_sealed(&self, span: &Span) -> bool {
        self.of_entry(span.entry, |ledger| ledger.is_trusted(span)).unwrap_or(false)
    }

    /// Sealed bytes: what a swarm uploads, and what a reader reads.
    pub async fn read(&self, span: &Span) -> Result<Bytes> {
        if self.of_entry(span.entry, |_| ()).is_none() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "there is no such entry").with("span", format_args!("{span:?}"))
            );
        }
        if !self.is_sealed(span) {
            return Err(
                Error::new(ErrorKind::NotFound, "these bytes are not here yet").with("span", format_args!("{span:?}"))
            );
        }
        if span.len() <= READ_BACK {
            return self.shared.read(span).await;
        }
        let mut all = BytesMut::with_capacity(span.len() as usize);
        let mut at = span.range.start;
        while at < span.range.end {
            let end = span.range.end.min(at + READ_BACK);
            all.extend_from_slice(&self.shared.read(&Span::new(span.entry, at..end)).await?);
            at = end;
        }
        Ok(all.freeze())
    }

    /// How a range source of this download behaves: as it was made, unless the caller of the download says otherwise.
    pub(crate) fn ranged_config(&self, own: &RangedConfig) -> RangedConfig {
        let mut config = own.clone();
        let setup = &self.shared.setup;
        config.connections = setup.connections.unwrap_or(config.connections);
        config.retries = setup.retries.unwrap_or(config.retries);
        config
    }

    /// Where the bytes are that somebody waits for: a sink that takes them in order, or a reader. They are to be delivered in
    /// order from there; of a sink that takes them in order nothing else is given out.
    pub fn window(&self) -> Option<Window> {
        *self.shared.window.borrow()
    }

    /// The changes of [`window`](Self::window) from now on.
    pub fn windows(&self) -> Windows {
        Windows(self.shared.window.subscribe())
    }

    /// The limit of what this download may fetch, in bytes a second: the least of those that it has now. Who asks for more than
    /// that is kept waiting by [`Lease::write`], with what has come in hand.
    pub fn rate_limit(&self) -> Option<u64> {
        self.shared.setup.limits.iter().filter_map(|limit| limit.rate()).min()
    }

    /// Waits until the rate limits let `bytes` pass. [`Lease::write`] does that itself; a source that must slow down before it asks,
    /// as a swarm does, calls this.
    pub async fn throttle(&self, bytes: u64) {
        self.shared.pass(bytes).await;
    }

    /// Leave to have one more connection to an origin, once there is one. All downloads of a client share these.
    pub async fn permit(&self, origin: &str) -> Permit {
        self.shared.setup.origins.acquire(origin).await
    }

    /// Leave to have one more connection to an origin, if there is one now.
    pub fn try_permit(&self, origin: &str) -> Option<Permit> {
        self.shared.setup.origins.try_acquire(origin)
    }

    /// Counts a connection that delivers, for as long as the answer lives.
    pub fn connected(&self) -> Connected {
        self.shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.shared.clone())
    }

    /// Whether the user wants an entry. Of one that nobody wants only what shares a piece with others is fetched. Where nothing
    /// is to be fetched, an entry is wanted until it is known what is there of it.
    pub fn is_wanted(&self, entry: EntryId) -> bool {
        let is_wanted = |l: &Ledger| l.is_wanted(entry) && (l.is_checking() || !l.is_kept_as_is());
        self.of_entry(entry, is_wanted).unwrap_or(false)
    }

    /// The locator that the source was made of names some of its files, and not this entry: it isn't wanted then, unless the
    /// caller of the download says himself [which are](crate::Download::select). To be told before [`Fact::LayoutComplete`].
    pub fn leave_out(&self, entry: EntryId) {
        if self.of_entry(entry, |_| ()).is_some() {
            self.shared.leave_out(entry);
        }
    }

    /// The source goes on when everything is here, to give it to others: the download isn't over for as long as the answer
    /// lives and the source runs.
    pub fn share(&self) -> Sharing {
        Sharing::new(&self.shared, |counters| &counters.sharing)
    }

    /// The source goes on for a moment when everything is here, to take its leave of others: the download isn't over for as long
    /// as the answer lives and the source runs, but is not said to share.
    pub fn leave(&self) -> Sharing {
        Sharing::new(&self.shared, |counters| &counters.leaving)
    }

    /// The source will have something to say to others when it is over, however it ends: a stop waits for as long as the answer
    /// lives, so it is to be said, or dropped, when the source's future is dropped.
    pub fn farewell(&self) -> Farewell {
        Farewell::new(self.shared.clone())
    }

    /// Counts payload bytes that were given to others.
    pub fn count_uploaded(&self, bytes: u64) {
        self.shared.counters.uploaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tells with whom the source exchanges pieces.
    pub fn set_peers(&self, peers: Peers) {
        *lock(&self.shared.peers) = Some(peers);
    }

    /// Tells the user something that is no error.
    pub fn warn(&self, warning: impl Into<String>) {
        self.shared.warn(warning.into());
    }

    /// Tells the user that this source failed and is asked again.
    pub fn retrying(&self, error: &Error, after: Duration) {
        let source = self.shared.ledger(|ledger| ledger.source_name(self.source).to_owned());
        self.shared.send(Event::SourceRetry { source, reason: error.chain(), after });
    }

    /// Bytes that are about to be written are compared with these, which the same response brought of somebody else's span.
    pub(crate) async fn witness(&self, entry: EntryId, offset: u64, bytes: Bytes, count: bool) -> Result<()> {
        if count {
            self.count(bytes.len() as u64, true);
        }
        let witness = crate::pipeline::Witness { entry, offset, bytes, source: self.source };
        self.shared.witness(witness).await
    }

    /// Counts bytes that the source delivered.
    pub(crate) fn count(&self, bytes: u64, wasted: bool) {
        self.transferred.fetch_add(bytes, Ordering::Relaxed);
        self.shared.counters.transferred.fetch_add(bytes, Ordering::Relaxed);
        if wasted {
            self.shared.counters.wasted.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Payload bytes that this source delivered.
    pub fn transferred(&self) -> u64 {
        self.transferred.load(Ordering::Relaxed)
    }

    /// Runs a future where connections run: on the engine's own threads, or, without an engine, on the caller's runtime.
    /// It ends when the answer is dropped.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task::new(&self.shared.setup.spawner, future)
    }
}

pub(crate) fn too_large(len: u64, max: u64) -> Error {
    Error::new(ErrorKind::TooLarge, "the file is larger than allowed").with("bytes", len).with("allowed", max)
}

/// Where the bytes are that somebody waits for. See [`Transfer::window`].
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// The entry.
    pub entry: EntryId,
    /// The first byte that is waited for.
    pub start: u64,
    /// Behind the last byte that is given out now; `None` where any may be fetched at any time.
    pub end: Option<u64>,
}

impl Window {
    pub(crate) fn new(entry: EntryId, start: u64, end: Option<u64>) -> Self {
        Self { entry, start, end }
    }
}

/// A ledger's changes. See [`Transfer::changes`].
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Returns when the ledger has changed since the last call, or since this was made. Changes that come close together count as one.
    pub async fn next(&mut self) {
        // The sender lives in the transfer; without one nothing changes.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The changes of where somebody waits for bytes. See [`Transfer::windows`].
#[derive(Clone, Debug)]
pub struct Windows(watch::Receiver<Option<Window>>);

impl Windows {
    /// Returns where that is when it has changed since the last call, or since this was made.
    pub async fn next(&mut self) -> Option<Window> {
        // The sender lives in the transfer; without one nothing changes.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}

/// A connection that delivers. See [`Transfer::connected`].
#[derive(Debug)]
pub struct Connected(Arc<Shared>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A source that goes on when everything is here. See [`Transfer::share`] and [`Transfer::leave`].
#[derive(Debug)]
pub struct Sharing {
    shared: Arc<Shared>,
    count: fn(&Counters) -> &AtomicU32,
}

impl Sharing {
    fn new(shared: &Arc<Shared>, count: fn(&Counters) -> &AtomicU32) -> Self {
        count(&shared.counters).fetch_add(1, Ordering::Relaxed);
        Self { shared: shared.clone(), count }
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        (self.count)(&self.shared.counters).fetch_sub(1, Ordering::Relaxed);
        self.shared.notify();
    }
}

/// A future that runs on its own and ends when this is dropped. See [`Transfer::spawn`].
#[derive(Debug)]
pub struct Task<T> {
    abort: AbortHandle,
    receive: oneshot::Receiver<T>,
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn new(spawner: &Spawner, future: impl Future<Output = T> + Send + 'static) -> Self {
        let (send, receive) = oneshot::channel();
        let run = async move {
            // Nobody may be waiting for it any more.
            let _ = send.send(future.await);
        };
        Self { abort: spawner(run.boxed()), receive }
    }
}

impl<T> Future for Task<T> {
    /// `None` if it ended without a result: the engine is gone, or it panicked.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receive.poll_unpin(cx).map(Result::ok)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Balanced;
    use crate::sink::MemorySink;

    #[tokio::test]
    async fn an_entry_that_nobody_told_of_is_no_panic() {
        let transfer = Transfer::standalone(Arc::new(MemorySink::new(u64::MAX)), Balanced::new());
        let entry = EntryId::new(7);
        let span = Span::new(entry, 0..10);
        assert_eq!(transfer.len(entry), None);
        assert_eq!(transfer.identities(entry).len(), 0);
        assert!(!transfer.is_sealed(&span) && !transfer.is_solo(entry) && !transfer.is_covered_by_pieces(entry));
        assert_eq!(transfer.missing_of(std::slice::from_ref(&span)), std::slice::from_ref(&span));
        assert_eq!(transfer.read(&span).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
