//! [`Handle`]: a running download, from outside.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::broadcast::error::RecvError;
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
    pub(super) result: Mutex<Option<oneshot::Receiver<Result<Report>>>>,
}

impl Handle {
    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.shared.events.subscribe())
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

    /// Waits for the end. The report is given once; a second wait gets [`ErrorKind::InvalidInput`].
    pub async fn wait(&self) -> Result<Report> {
        let result = lock(&self.result).take();
        let Some(result) = result else {
            return Err(Error::new(ErrorKind::InvalidInput, "the report was given already"));
        };
        result.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Cancelled, "the client is gone")))
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

/// What happens to a download. Bounded: a listener that is too slow loses events, and is told how many by [`Event::Missed`].
/// Ends when the download does.
pub struct Events {
    next: BoxFuture<'static, (Option<Event>, broadcast::Receiver<Event>)>,
}

impl Events {
    fn new(events: broadcast::Receiver<Event>) -> Self {
        Self { next: Box::pin(next(events)) }
    }
}

async fn next(mut events: broadcast::Receiver<Event>) -> (Option<Event>, broadcast::Receiver<Event>) {
    let event = match events.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
        Err(RecvError::Closed) => None,
    };
    (event, events)
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (event, events) = ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(next(events));
        let ended = matches!(&event, Some(Event::State(State::Complete | State::Failed | State::Stopped)));
        if ended {
            // The sender may live on in somebody's transfer; nothing comes after this.
            self.next = Box::pin(async { (None, broadcast::Sender::new(1).subscribe()) });
        }
        Poll::Ready(event)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
