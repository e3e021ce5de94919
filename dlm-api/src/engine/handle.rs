//! [`Handle`]: a running download, from outside.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use super::reader::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress, Report, State};
use crate::pipeline::Shared;
use crate::sync::lock;

/// What the caller wants of a download.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Run,
    Pause,
    Stop,
    Remove,
}

/// A running download. Dropping it ends the download; what was written stays for a later run.
#[derive(Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) command: watch::Sender<Command>,
    pub(super) state: watch::Receiver<State>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) abort: AbortHandle,
    pub(super) result: Slot,
}

impl Handle {
    /// What happens from now on. After the end, that is the end alone.
    pub fn events(&self) -> Events {
        // First the subscription: an end between the two is not missed.
        let events = self.shared.events.subscribe();
        match self.state() {
            state if is_end(state) => Events::ended(Event::State(state)),
            _ => Events::new(events, self.state.clone()),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Stops fetching, and makes what is there durable. Returns at once; [`Event::State`] tells when it is done.
    pub fn pause(&self) {
        self.send(Command::Pause);
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.send(Command::Run);
    }

    /// Stops for good, and makes what is there durable, for a later run to go on. [`wait`](Self::wait) gives
    /// [`ErrorKind::Cancelled`] when that is done.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Stops for good and leaves nothing behind. [`wait`](Self::wait) gives [`ErrorKind::Cancelled`] when that is done.
    pub fn remove(&self) {
        self.send(Command::Remove);
    }

    fn send(&self, command: Command) {
        self.command.send_if_modified(|now| {
            // Nothing comes after the end.
            let news = *now != command && matches!(now, Command::Run | Command::Pause);
            if news {
                *now = command;
            }
            news
        });
    }

    /// Changes this download's own limit, in bytes a second; `None` for none.
    pub fn set_rate_limit(&self, rate: Option<u64>) {
        if let Some(limit) = self.shared.setup.limits.last() {
            limit.set_rate(rate);
        }
    }

    /// Waits for the end. The report is given once, to one who waits: a second wait gets [`ErrorKind::InvalidInput`]. A wait
    /// that is dropped before the end has taken nothing: the next one gets the report.
    pub async fn wait(&self) -> Result<Report> {
        let Some(mut waiting) = Waiting::new(&self.result) else {
            return Err(Error::new(ErrorKind::InvalidInput, "the report was given, or is waited for, already"));
        };
        let result = waiting.result().await;
        result.unwrap_or_else(|_| Err(self.lost()))
    }

    /// The engine's task ended without a result.
    fn lost(&self) -> Error {
        if matches!(*self.command.borrow(), Command::Stop | Command::Remove) {
            return Error::new(ErrorKind::Cancelled, "stopped by the caller");
        }
        // Nobody asked for it: a fault of ours, and not to be taken for an interruption.
        Error::new(ErrorKind::Internal, "the engine stopped unexpectedly")
    }

    /// Reads the download from its beginning while it arrives.
    pub fn reader(self) -> Reader {
        Reader::new(self)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // After the end this does nothing.
        self.abort.abort();
    }
}

type Slot = Mutex<Option<oneshot::Receiver<Result<Report>>>>;

/// Waits for the report, and puts its receiver back when it is dropped before that came.
struct Waiting<'a> {
    slot: &'a Slot,
    receiver: Option<oneshot::Receiver<Result<Report>>>,
}

impl<'a> Waiting<'a> {
    fn new(slot: &'a Slot) -> Option<Self> {
        let receiver = lock(slot).take()?;
        Some(Self { slot, receiver: Some(receiver) })
    }

    async fn result(&mut self) -> Result<Result<Report>, oneshot::error::RecvError> {
        match &mut self.receiver {
            Some(receiver) => {
                let result = receiver.await;
                self.receiver = None;
                result
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            *lock(self.slot) = Some(receiver);
        }
    }
}

/// Whether nothing comes after this.
pub(super) fn is_end(state: State) -> bool {
    matches!(state, State::Complete | State::Failed | State::Stopped)
}

/// What happens to a download. Bounded: a listener that is too slow loses events, and is told how many by [`Event::Missed`].
/// Ends when the download does.
pub struct Events {
    next: BoxFuture<'static, (Option<Event>, Option<Sources>)>,
}

/// Where events come from.
struct Sources {
    events: broadcast::Receiver<Event>,
    /// Closed when the engine's task is gone. The events' own sender may live on in somebody's transfer.
    state: watch::Receiver<State>,
}

impl Events {
    fn new(events: broadcast::Receiver<Event>, state: watch::Receiver<State>) -> Self {
        Self { next: Box::pin(next(Sources { events, state })) }
    }

    /// This, and then nothing more.
    fn ended(last: Event) -> Self {
        Self { next: Box::pin(async { (Some(last), None) }) }
    }
}

async fn next(mut from: Sources) -> (Option<Event>, Option<Sources>) {
    let gone = async { while from.state.changed().await.is_ok() {} };
    let event = tokio::select! {
        biased;
        event = from.events.recv() => event,
        // What it told before is still here.
        () = gone => from.events.try_recv().map_err(|error| match error {
            TryRecvError::Lagged(missed) => RecvError::Lagged(missed),
            TryRecvError::Empty | TryRecvError::Closed => RecvError::Closed,
        }),
    };
    let event = match event {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
        Err(RecvError::Closed) => None,
    };
    let ended = match &event {
        Some(Event::State(state)) => is_end(*state),
        event => event.is_none(),
    };
    (event, (!ended).then_some(from))
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (event, from) = ready!(self.next.as_mut().poll(cx));
        self.next = match from {
            Some(from) => Box::pin(next(from)),
            None => Box::pin(async { (None, None) }),
        };
        Poll::Ready(event)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
