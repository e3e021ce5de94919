//! Locks that a panic elsewhere doesn't poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it. What a panicking thread left is consistent: no invariant of ours is broken while a lock is held across a call that
/// can panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
