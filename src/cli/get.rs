//! `dlm get`: runs the downloads side by side, tells of them, and stops them when asked to.
//!
//! How a download is done is behind [`Engine`]; everything here can be tested without a network.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dlm_api::{Error, ErrorKind, Event, Report, Result};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::exit::Exit;
use super::plan::Request;
use super::show::Show;

/// Starts downloads.
#[async_trait(?Send)]
pub trait Engine {
    /// Starts one. It may have to be asked first what there is; dropping the future gives that up.
    async fn start(&self, request: &Request) -> Result<Box<dyn Running>>;
}

/// A download that was started.
#[async_trait]
pub trait Running: Send + Sync {
    /// What happens to it.
    fn events(&self) -> BoxStream<'static, Event>;
    /// Stops it, so that a later run can go on: then [`wait`](Self::wait) ends with [`ErrorKind::Cancelled`].
    fn stop(&self);
    /// Waits for its end.
    async fn wait(&self) -> Result<Report>;
}

/// Runs the downloads, `jobs` at a time, and says how it all ended. Ends early, in good order, when `interrupted` does.
pub async fn run(
    requests: &[Request],
    jobs: usize,
    engine: &dyn Engine,
    show: &mut dyn Show,
    interrupted: impl Future<Output = ()>,
) -> Exit {
    let driver = Driver { engine, show: RefCell::new(show), stop: watch::Sender::new(false), deaf: RefCell::default() };
    let mut outcomes = driver.drive(requests, jobs, interrupted).await;
    // Told in the order given, which is the order of the exit codes.
    outcomes.sort_unstable_by_key(|(id, _)| *id);
    let outcomes: Vec<Result<Report>> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let exit = verdict(&outcomes);
    driver.tell(|show| show.done(&outcomes, exit));
    match driver.deaf.into_inner() {
        // Whoever read our output went away before the end: it did not get all that it asked for.
        Some(_) if exit == Exit::Interrupted || exit == Exit::Complete => Exit::Failed,
        _ => exit,
    }
}

/// An interruption goes before failures, and the first failure before later ones.
fn verdict(outcomes: &[Result<Report>]) -> Exit {
    let failures = || outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(|error| Exit::of(error.kind()));
    match failures().find(|exit| *exit == Exit::Interrupted) {
        Some(exit) => exit,
        None => failures().next().unwrap_or(Exit::Complete),
    }
}

struct Driver<'a> {
    engine: &'a dyn Engine,
    /// All downloads are driven by one task, so no borrow of this meets another.
    show: RefCell<&'a mut dyn Show>,
    stop: watch::Sender<bool>,
    /// Why nobody can be told any more.
    deaf: RefCell<Option<io::Error>>,
}

impl Driver<'_> {
    async fn drive(
        &self,
        requests: &[Request],
        jobs: usize,
        interrupted: impl Future<Output = ()>,
    ) -> Vec<(usize, Result<Report>)> {
        let downloads = stream::iter(requests.iter().enumerate())
            .map(async |(id, request)| {
                let outcome = self.download(id, request).await;
                self.tell(|show| show.finished(id, request, &outcome));
                (id, outcome)
            })
            .buffer_unordered(jobs)
            .collect::<Vec<_>>();
        let (mut downloads, mut interrupted) = (pin!(downloads), pin!(interrupted));
        tokio::select! {
            outcomes = &mut downloads => return outcomes,
            () = &mut interrupted => {}
        }
        self.tell(|show| show.stopping());
        self.stop.send_replace(true);
        downloads.await
    }

    async fn download(&self, id: usize, request: &Request) -> Result<Report> {
        let mut stop = self.stop.subscribe();
        let too_early = || Error::new(ErrorKind::Cancelled, "interrupted before it began");
        if *stop.borrow_and_update() {
            return Err(too_early());
        }
        self.tell(|show| show.started(id, request, Instant::now()));
        let running = tokio::select! {
            running = self.engine.start(request) => running?,
            Ok(()) = stop.changed() => return Err(too_early()),
        };
        let mut events = running.events().fuse();
        let mut outcome = running.wait();
        loop {
            tokio::select! {
                // What happened is told before the end is.
                biased;
                Some(event) = events.next() => self.tell(|show| show.event(id, &event, Instant::now())),
                Ok(()) = stop.changed() => running.stop(),
                outcome = &mut outcome => return outcome,
            }
        }
    }

    /// Tells the user. If that fails, nobody is there any more: everything stops, and what was received is kept.
    fn tell(&self, tell: impl FnOnce(&mut dyn Show) -> io::Result<()>) {
        let mut deaf = self.deaf.borrow_mut();
        if deaf.is_some() {
            return;
        }
        if let Err(error) = tell(&mut **self.show.borrow_mut()) {
            *deaf = Some(error);
            self.stop.send_replace(true);
        }
    }
}

/// A second request to end that comes closer than this is an echo of the first: `timeout` signals the program and then its group,
/// and a terminal that is closed all of its programs. Nobody asks twice as fast by hand.
const ECHO: Duration = Duration::from_millis(500);

/// Whether a request to end is one more, and no echo of the one at `first`.
fn is_asked_again(first: Instant, now: Instant) -> bool {
    now.saturating_duration_since(first) >= ECHO
}

/// Ends when the user, or the system, asks the program to end. When they ask again, the program ends at once.
#[cfg(unix)]
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let Ok((mut int, mut term)) = signals else {
        // Without handlers a signal ends the program at once, which loses nothing but time.
        return std::future::pending().await;
    };
    either(&mut int, &mut term).await;
    let first = Instant::now();
    tokio::spawn(async move {
        loop {
            either(&mut int, &mut term).await;
            if is_asked_again(first, Instant::now()) {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
}

#[cfg(unix)]
async fn either(a: &mut tokio::signal::unix::Signal, b: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

/// Ends when the user asks the program to end. When they ask again, the program ends at once.
#[cfg(not(unix))]
pub async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    let first = Instant::now();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if is_asked_again(first, Instant::now()) {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
}

#[cfg(test)]
mod tests;
