//! [`Pool`]: connections that wait for their next request.
//!
//! The invariant: a connection is handed out only on the runtime that drives it. Another runtime may belong to a thread that
//! is busy writing, or may not be driven at all for a while; and bytes should stay on the core that read them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime;

/// How many idle connections are kept in all, whatever the limit for one origin: each costs a socket here and at a server.
const MAX_IDLE: usize = 128;

/// What an idle connection can be used for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    /// As [`redirect::origin`](crate::redirect::origin) writes it.
    pub(crate) origin: String,
    pub(crate) runtime: runtime::Id,
}

/// Idle connections by origin and runtime. It holds no clock: whoever asks says what time it is.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    idle: Mutex<HashMap<Key, VecDeque<Idle<T>>>>,
    timeout: Duration,
    max_per_origin: usize,
}

#[derive(Debug)]
struct Idle<T> {
    connection: T,
    since: Instant,
}

impl<T> Pool<T> {
    pub(crate) fn new(timeout: Duration, max_per_origin: usize) -> Self {
        Self { idle: Mutex::default(), timeout, max_per_origin }
    }

    /// The connection used last, since it is the one that most likely still stands.
    pub(crate) fn take(&self, key: &Key, now: Instant) -> Option<T> {
        let mut idle = self.lock();
        self.expire(&mut idle, now);
        let queue = idle.get_mut(key)?;
        let taken = queue.pop_back();
        if queue.is_empty() {
            idle.remove(key);
        }
        taken.map(|idle| idle.connection)
    }

    /// Keeps a connection for later, in place of the oldest one to its origin where there are too many.
    pub(crate) fn put(&self, key: Key, connection: T, now: Instant) {
        if self.max_per_origin == 0 {
            return;
        }
        let mut idle = self.lock();
        self.expire(&mut idle, now);
        while count(&idle, |k| k.origin == key.origin) >= self.max_per_origin {
            drop_oldest(&mut idle, |k| k.origin == key.origin);
        }
        while count(&idle, |_| true) >= MAX_IDLE {
            drop_oldest(&mut idle, |_| true);
        }
        idle.entry(key).or_default().push_back(Idle { connection, since: now });
    }

    fn expire(&self, idle: &mut HashMap<Key, VecDeque<Idle<T>>>, now: Instant) {
        idle.retain(|_, queue| {
            queue.retain(|idle| now.saturating_duration_since(idle.since) < self.timeout);
            !queue.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<Idle<T>>>> {
        // Every change under the lock is whole, so a panic elsewhere leaves nothing half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count<T>(idle: &HashMap<Key, VecDeque<Idle<T>>>, counted: impl Fn(&Key) -> bool) -> usize {
    idle.iter().filter(|(key, _)| counted(key)).map(|(_, queue)| queue.len()).sum()
}

fn drop_oldest<T>(idle: &mut HashMap<Key, VecDeque<Idle<T>>>, considered: impl Fn(&Key) -> bool) {
    let oldest = idle
        .iter_mut()
        .filter(|(key, _)| considered(key))
        .filter_map(|(_, queue)| queue.front().map(|first| first.since).map(|since| (since, queue)))
        .min_by_key(|(since, _)| *since);
    if let Some((_, queue)) = oldest {
        queue.pop_front();
    }
    idle.retain(|_, queue| !queue.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().build().unwrap()
    }

    fn key(origin: &str, runtime: &runtime::Runtime) -> Key {
        Key { origin: origin.to_owned(), runtime: runtime.handle().id() }
    }

    #[test]
    fn the_newest_of_the_same_origin_and_runtime_comes_first() {
        let (here, there) = (runtime(), runtime());
        let pool = Pool::new(TIMEOUT, 8);
        let now = Instant::now();
        pool.put(key("a", &here), 1, now);
        pool.put(key("a", &here), 2, now);
        pool.put(key("a", &there), 3, now);
        pool.put(key("b", &here), 4, now);
        let taken: Vec<_> = (0..3).map(|_| pool.take(&key("a", &here), now)).collect();
        assert_eq!(taken, [Some(2), Some(1), None]);
        assert_eq!(pool.take(&key("a", &there), now), Some(3));
    }

    #[test]
    fn what_waited_too_long_is_gone() {
        let here = runtime();
        let pool = Pool::new(TIMEOUT, 8);
        let start = Instant::now();
        pool.put(key("a", &here), 1, start);
        pool.put(key("a", &here), 2, start + TIMEOUT / 2);
        assert_eq!(pool.take(&key("a", &here), start + TIMEOUT), Some(2));
        assert_eq!(pool.take(&key("a", &here), start + TIMEOUT), None);
        assert!(pool.lock().is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let (here, there) = (runtime(), runtime());
        let pool = Pool::new(TIMEOUT, 2);
        let start = Instant::now();
        pool.put(key("a", &there), 1, start);
        pool.put(key("a", &here), 2, start + Duration::from_secs(1));
        pool.put(key("a", &here), 3, start + Duration::from_secs(2));
        assert_eq!(pool.take(&key("a", &there), start), None);
        let all = Pool::new(TIMEOUT, 2);
        for i in 0..MAX_IDLE + 5 {
            all.put(key(&i.to_string(), &here), i, start + Duration::from_millis(i as u64));
        }
        assert_eq!(count(&all.lock(), |_| true), MAX_IDLE);
        assert_eq!(all.take(&key("4", &here), start), None);
        assert_eq!(all.take(&key("5", &here), start), Some(5));
    }

    #[test]
    fn a_limit_of_none_keeps_none() {
        let here = runtime();
        let pool = Pool::new(TIMEOUT, 0);
        pool.put(key("a", &here), 1, Instant::now());
        assert_eq!(pool.take(&key("a", &here), Instant::now()), None);
    }
}
