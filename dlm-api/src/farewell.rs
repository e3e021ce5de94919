//! [`Farewell`]: what a source still has to say when it is over.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use tokio::time;

use crate::pipeline::Shared;

/// How long a farewell may take. It is a courtesy, and the user waits for it.
const LONGEST: Duration = Duration::from_secs(1);

/// A source's right to say something to others when it is over. See [`Transfer::farewell`](crate::Transfer::farewell).
#[derive(Debug)]
pub struct Farewell(Arc<Shared>);

impl Farewell {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.counters.farewells.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    /// Runs this on its own, for a second at most. May be called when the source's future is dropped.
    pub fn say(self, future: impl Future<Output = ()> + Send + 'static) {
        let spawner = self.0.setup.spawner.clone();
        let run = async move {
            let _saying = self;
            // It may fail, and nobody would care.
            let _ = time::timeout(LONGEST, future).await;
        };
        // Nobody is to end it.
        drop(spawner(run.boxed()));
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.counters.farewells.fetch_sub(1, Ordering::Relaxed);
        self.0.notify();
    }
}
