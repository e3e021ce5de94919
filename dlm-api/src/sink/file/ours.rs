//! [`Ours`]: which files the sinks of this process write.
//!
//! A lock on a file goes when the file is closed, as one that is written may be for a while. Within the process this tells what
//! the lock would.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sink::Stamp;
use crate::sync::lock;

static OURS: Mutex<BTreeMap<(u64, u64), u64>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// That a file is written by one sink, for as long as this lives.
#[derive(Debug)]
pub(super) struct Ours {
    file: (u64, u64),
    number: u64,
}

impl Ours {
    /// Claims an existing file; `None` if another sink has it.
    pub(super) fn claim(stamp: Stamp) -> Option<Self> {
        let mut all = lock(&OURS);
        if all.contains_key(&(stamp.device, stamp.inode)) {
            return None;
        }
        let ours = Self::next(stamp);
        all.insert(ours.file, ours.number);
        Some(ours)
    }

    /// Claims a file that was made just now. If there is a claim to it, it is to one that is gone and whose number was given
    /// again.
    pub(super) fn made(stamp: Stamp) -> Self {
        let ours = Self::next(stamp);
        lock(&OURS).insert(ours.file, ours.number);
        ours
    }

    fn next(stamp: Stamp) -> Self {
        Self { file: (stamp.device, stamp.inode), number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether the claim still holds.
    pub(super) fn holds(&self) -> bool {
        lock(&OURS).get(&self.file) == Some(&self.number)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut all = lock(&OURS);
        if all.get(&self.file) == Some(&self.number) {
            all.remove(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_lets_go_or_its_number_is_given_again() {
        let stamp = Stamp { device: u64::MAX, inode: 7 };
        let first = Ours::claim(stamp).unwrap();
        assert!(first.holds() && Ours::claim(stamp).is_none() && first.holds());
        let second = Ours::made(stamp);
        assert!(second.holds() && !first.holds());
        drop(first);
        assert!(second.holds() && Ours::claim(stamp).is_none());
        drop(second);
        assert!(Ours::claim(stamp).is_some_and(|third| third.holds()));
    }
}
