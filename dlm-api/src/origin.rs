//! [`Origins`]: how many connections an origin is given, by all downloads together.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::sync::lock;

/// After this many requests without a complaint an origin that complained is given one more connection.
const CALM: u32 = 16;

/// How many connections each origin is given, by all downloads together. An origin that complains (429, 503, a refused
/// connection) is given half of what it had; after a while without complaints, one more again.
#[derive(Debug)]
pub struct Origins {
    most: usize,
    origins: Mutex<HashMap<String, Arc<Origin>>>,
}

#[derive(Debug)]
struct Origin {
    state: Mutex<Limit>,
    freed: Notify,
}

#[derive(Debug)]
struct Limit {
    in_use: usize,
    /// How many wait for a connection.
    waiting: usize,
    limit: usize,
    calm: u32,
}

impl Origins {
    /// At most `most` connections for each origin; at least 1.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), origins: Mutex::new(HashMap::new()) }
    }

    fn origin(&self, name: &str) -> Arc<Origin> {
        let mut origins = lock(&self.origins);
        if let Some(origin) = origins.get(name) {
            return origin.clone();
        }
        // An origin that nobody uses and that never complained needs no memory.
        origins.retain(|_, o| Arc::strong_count(o) > 1 || lock(&o.state).limit < self.most);
        let state = Mutex::new(Limit { in_use: 0, waiting: 0, limit: self.most, calm: 0 });
        let origin = Arc::new(Origin { state, freed: Notify::new() });
        origins.insert(name.to_owned(), origin.clone());
        origin
    }

    /// Leave to have one more connection to `name`, once there is one.
    pub async fn acquire(&self, name: &str) -> Permit {
        let origin = self.origin(name);
        if let Some(permit) = self.take(&origin, Limit::is_free) {
            return permit;
        }
        let _waiting = Waiting::new(&origin);
        let mut freed = pin!(origin.freed.notified());
        loop {
            // In the queue before it looks: of two that are freed between a look and a wait, only one would be remembered.
            freed.as_mut().enable();
            if let Some(permit) = self.take(&origin, Limit::has_room) {
                return permit;
            }
            freed.as_mut().await;
            freed.set(origin.freed.notified());
        }
    }

    /// Leave to have one more connection to `name`, if there is one now that nobody waits for.
    pub fn try_acquire(&self, name: &str) -> Option<Permit> {
        self.take(&self.origin(name), Limit::is_free)
    }

    fn take(&self, origin: &Arc<Origin>, may: impl Fn(&Limit) -> bool) -> Option<Permit> {
        let mut state = lock(&origin.state);
        if !may(&state) {
            return None;
        }
        state.in_use += 1;
        Some(Permit { origin: origin.clone(), most: self.most })
    }
}

impl Limit {
    fn has_room(&self) -> bool {
        self.in_use < self.limit
    }

    /// Who asks in passing, again and again, is not to be ahead of those who wait.
    fn is_free(&self) -> bool {
        self.has_room() && self.waiting == 0
    }
}

/// One who waits for a connection, counted.
struct Waiting<'a>(&'a Origin);

impl<'a> Waiting<'a> {
    fn new(origin: &'a Origin) -> Self {
        lock(&origin.state).waiting += 1;
        Self(origin)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

/// Leave to have one connection to an origin. Ends when it is dropped.
#[derive(Debug)]
pub struct Permit {
    origin: Arc<Origin>,
    most: usize,
}

impl Permit {
    /// A request went well.
    pub fn went_well(&self) {
        let mut state = lock(&self.origin.state);
        if state.limit >= self.most {
            return;
        }
        state.calm += 1;
        if state.calm >= CALM {
            state.calm = 0;
            state.limit += 1;
            drop(state);
            self.origin.freed.notify_one();
        }
    }

    /// The origin complained of too many connections.
    pub fn complained(&self) {
        let mut state = lock(&self.origin.state);
        state.limit = (state.in_use / 2).max(1);
        state.calm = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.origin.state).in_use -= 1;
        self.origin.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_limit_holds_for_all_together_and_halves_on_a_complaint() {
        let origins = Origins::new(4);
        let mut permits: Vec<Permit> = (0..4).map(|_| origins.try_acquire("a").unwrap()).collect();
        assert!(origins.try_acquire("a").is_none());
        assert!(origins.try_acquire("b").is_some());
        permits[0].complained();
        permits.truncate(2);
        assert!(origins.try_acquire("a").is_none());
        (0..CALM).for_each(|_| permits[0].went_well());
        permits.push(origins.acquire("a").await);
        assert!(origins.try_acquire("a").is_none());
    }

    /// Two wait for two that are freed at the same time; which comes first is left to the threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everyone_who_waits_is_woken() {
        let origins = Arc::new(Origins::new(2));
        for round in 0..5_000 {
            let held = [origins.acquire("a").await, origins.acquire("a").await];
            let start = Arc::new(tokio::sync::Barrier::new(3));
            let takers: Vec<_> = (0..2)
                .map(|_| {
                    let (origins, start) = (origins.clone(), start.clone());
                    tokio::spawn(async move {
                        start.wait().await;
                        origins.acquire("a").await
                    })
                })
                .collect();
            start.wait().await;
            drop(held);
            let all = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(takers)).await;
            assert!(all.is_ok(), "round {round}: somebody still waits");
        }
    }

    #[tokio::test]
    async fn who_waits_comes_before_who_asks_in_passing() {
        let origins = Origins::new(1);
        let permit = origins.acquire("a").await;
        {
            let mut next = std::pin::pin!(origins.acquire("a"));
            assert!(futures::poll!(next.as_mut()).is_pending());
            drop(permit);
            assert!(origins.try_acquire("a").is_none());
            next.await;
            let mut given_up = std::pin::pin!(origins.acquire("a"));
            assert!(futures::poll!(given_up.as_mut()).is_ready());
        }
        assert!(origins.try_acquire("a").is_some(), "nobody waits any more");
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_drop() {
        let origins = Origins::new(1);
        let permit = origins.acquire("a").await;
        let next = origins.acquire("a");
        let mut next = std::pin::pin!(next);
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(permit);
        next.await;
    }
}
