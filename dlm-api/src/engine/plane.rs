//! [`Plane`]: threads of the engine's own, where connections run and a write may block.
//!
//! Bytes should stay on the core that read them, so a connection's task writes them itself. A write can block, and must not
//! stall a runtime that belongs to the program which embeds the engine. Hence these threads, each with a runtime of its own.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use futures::future::BoxFuture;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, LocalSet};

use crate::error::{Error, ErrorKind, Result};

/// More threads than this bring nothing: a few cores fill any network that a download meets.
const MOST_THREADS: usize = 4;

/// A few threads with a runtime each, started when the first is needed. They end when this is dropped, wherever that is.
#[derive(Debug)]
pub(crate) struct Plane {
    threads: OnceLock<Vec<Thread>>,
    count: usize,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    load: Arc<AtomicUsize>,
    /// The thread ends when this is dropped. `None` for one that isn't ours.
    _alive: Option<oneshot::Sender<()>>,
}

impl Plane {
    /// `count` threads; `None` for one a core, up to four.
    pub(crate) fn new(count: Option<usize>) -> Self {
        let cores = || thread::available_parallelism().map_or(1, Into::into).min(MOST_THREADS);
        Self { threads: OnceLock::new(), count: count.unwrap_or_else(cores).max(1) }
    }

    /// Runs everything on this runtime, which is the caller's: only where nothing else is stalled by a write that blocks.
    #[cfg(feature = "testkit")]
    pub(crate) fn on(runtime: Handle) -> Self {
        let thread = Thread { runtime, load: Arc::default(), _alive: None };
        Self { threads: OnceLock::from(vec![thread]), count: 1 }
    }

    /// Starts the threads, if that has not been done.
    pub(crate) fn start(&self) -> Result<()> {
        if self.threads.get().is_some() {
            return Ok(());
        }
        let threads: Vec<Thread> = (0..self.count).map(Thread::start).collect::<Result<_>>()?;
        // If another was faster, ours end.
        let _ = self.threads.set(threads);
        Ok(())
    }

    /// Runs a future on the thread that has the least to do.
    pub(crate) fn spawn(&self, future: BoxFuture<'static, ()>) -> AbortHandle {
        let thread = self.threads.get().into_iter().flatten().min_by_key(|t| t.load.load(Ordering::Relaxed));
        let Some(thread) = thread else {
            // Never started: nothing runs. The set needs no runtime, and its task ends with it.
            return LocalSet::new().spawn_local(future).abort_handle();
        };
        let load = Load::new(thread.load.clone());
        let run = async move {
            let _load = load;
            future.await;
        };
        thread.runtime.spawn(run).abort_handle()
    }
}

/// Counts a task for as long as it lives.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Thread {
    fn start(number: usize) -> Result<Self> {
        let cannot = |e| Error::new(ErrorKind::Storage, "cannot start the engine's threads").with_source(e);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let run = move || {
            // An error is what it waits for: the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        thread::Builder::new().name(format!("dlm-{number}")).spawn(run).map_err(cannot)?;
        Ok(Self { runtime: handle, load: Arc::default(), _alive: Some(alive) })
    }
}

/// Runs a future on the plane and gives its result.
pub(crate) fn run_on<T: Send + 'static>(
    plane: &Plane,
    future: impl Future<Output = T> + Send + 'static,
) -> (AbortHandle, oneshot::Receiver<T>) {
    let (send, receive) = oneshot::channel();
    let run = async move {
        // Nobody may be waiting any more.
        let _ = send.send(future.await);
    };
    (plane.spawn(Box::pin(run)), receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_threads_nothing_runs_and_no_runtime_is_needed() {
        let (abort, never) = run_on(&Plane::new(Some(1)), async {});
        assert!(never.blocking_recv().is_err());
        abort.abort();
    }

    #[tokio::test]
    async fn it_can_be_dropped_inside_a_runtime_while_tasks_run() {
        let plane = Plane::new(Some(2));
        plane.start().unwrap();
        let (_, on_thread) = run_on(&plane, async { thread::current().name().map(str::to_owned) });
        assert!(on_thread.await.unwrap().unwrap().starts_with("dlm-"));
        let (_, never) = run_on(&plane, std::future::pending::<()>());
        drop(plane);
        assert!(never.await.is_err(), "the task ends with its thread");
    }
}
