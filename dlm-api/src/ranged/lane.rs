//! [`Lane`]: what the connections of one source know together.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::source::{Opened, Ranges};
use crate::error::Result;
use crate::fact::{Fact, Identity, Strength};
use crate::meter::Meter;
use crate::pipeline::now;
use crate::span::EntryId;
use crate::sync::lock;
use crate::transfer::Transfer;

/// A connection this much slower than its siblings, for this long, is replaced.
const LAGGARD_SHARE: u64 = 10;
const LAGGARD_TIME: Duration = Duration::from_secs(5);

/// A source delivers if a byte has come within this time.
const DELIVERS: Duration = Duration::from_secs(10);

/// What the connections of one source know together.
#[derive(Debug)]
pub(super) struct Lane {
    transfer: Transfer,
    entry: EntryId,
    /// Ranges are not to be had: one connection at a time.
    single: AtomicBool,
    /// What the source says of its ranges makes no sense: only the whole is asked for.
    whole_only: AtomicBool,
    /// The longest range that it gives.
    max_span: AtomicU64,
    /// No request was made yet.
    first: AtomicBool,
    warned: AtomicBool,
    /// How many connections there are, and how many there should be.
    size: AtomicUsize,
    target: AtomicUsize,
    limit: AtomicUsize,
    bytes: AtomicU64,
    last_bytes: Mutex<Option<Instant>>,
    slots: Mutex<Vec<Weak<Slot>>>,
    identities: Mutex<Vec<Identity>>,
}

/// One connection, as the others see it.
#[derive(Debug)]
pub(super) struct Slot {
    meter: Mutex<Meter>,
    slow_since: Mutex<Option<Instant>>,
    /// A body is open. Who waits for work is not slow.
    is_busy: AtomicBool,
    /// Its body is to be dropped and asked for again.
    replace: AtomicBool,
    told: Notify,
}

/// A connection's place among its siblings.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) slot: Arc<Slot>,
    lane: Arc<Lane>,
    taken: bool,
}

impl Seat {
    /// Gives the place up if there are more connections than there should be. Of two who ask at once for the last one that
    /// is too many, one stays.
    pub(super) fn retire(&mut self) -> bool {
        let target = self.lane.target.load(Ordering::Relaxed).max(1);
        let fewer = |size: usize| (size > target).then(|| size - 1);
        self.taken = self.lane.size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_err();
        !self.taken
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.taken {
            self.lane.size.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Slot {
    pub(super) fn rate(&self, now: Instant) -> Option<u64> {
        lock(&self.meter).rate(now)
    }

    /// The rate of a body that is over now.
    pub(super) fn total_rate(&self, now: Instant) -> Option<u64> {
        lock(&self.meter).total_rate(now)
    }

    /// A new body begins.
    pub(super) fn restart(&self) {
        *lock(&self.meter) = Meter::new(now());
        *lock(&self.slow_since) = None;
        self.replace.store(false, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
    }

    /// No body is open any more.
    pub(super) fn rest(&self) {
        self.is_busy.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_to_be_replaced(&self) -> bool {
        self.replace.load(Ordering::Relaxed)
    }

    /// Returns when the body is to be dropped and asked for again.
    pub(super) async fn replaced(&self) {
        while !self.is_to_be_replaced() {
            self.told.notified().await;
        }
    }
}

impl Lane {
    pub(super) fn new(entry: EntryId, transfer: Transfer) -> Self {
        Self {
            transfer,
            entry,
            single: AtomicBool::new(false),
            whole_only: AtomicBool::new(false),
            max_span: AtomicU64::new(u64::MAX),
            first: AtomicBool::new(true),
            warned: AtomicBool::new(false),
            size: AtomicUsize::new(0),
            target: AtomicUsize::new(1),
            limit: AtomicUsize::new(usize::MAX),
            bytes: AtomicU64::new(0),
            last_bytes: Mutex::new(None),
            slots: Mutex::new(Vec::new()),
            identities: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    pub(super) fn entry(&self) -> EntryId {
        self.entry
    }

    /// Whether one connection has to bring everything.
    pub(super) fn is_single(&self) -> bool {
        self.single.load(Ordering::Relaxed) || self.is_whole_only() || self.transfer.is_solo(self.entry)
    }

    /// Asks for no ranges any more.
    pub(super) fn give_up_ranges(&self) {
        self.whole_only.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_whole_only(&self) -> bool {
        self.whole_only.load(Ordering::Relaxed)
    }

    pub(super) fn set_max_span(&self, bytes: u64) {
        self.max_span.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn max_span(&self) -> u64 {
        self.max_span.load(Ordering::Relaxed)
    }

    /// Whether others than the one that asks deliver.
    pub(super) fn has_others(&self, now: Instant) -> bool {
        self.size() > 1 && self.delivers(now)
    }

    pub(super) fn is_first_request(&self) -> bool {
        self.first.swap(false, Ordering::Relaxed)
    }

    pub(super) fn set_target(&self, target: usize) {
        self.target.store(target, Ordering::Relaxed);
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit.max(1), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self, slot: &Slot, bytes: u64, now: Instant) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        lock(&slot.meter).add(bytes, now);
        *lock(&self.last_bytes) = Some(now);
    }

    /// Whether a byte has come not long ago.
    pub(super) fn delivers(&self, now: Instant) -> bool {
        lock(&self.last_bytes).is_some_and(|last| now.saturating_duration_since(last) < DELIVERS)
    }

    pub(super) fn add_slot(self: &Arc<Self>) -> Seat {
        let slot = Arc::new(Slot {
            meter: Mutex::new(Meter::new(now())),
            slow_since: Mutex::new(None),
            is_busy: AtomicBool::new(false),
            replace: AtomicBool::new(false),
            told: Notify::new(),
        });
        let mut slots = lock(&self.slots);
        slots.retain(|s| s.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        self.size.fetch_add(1, Ordering::Relaxed);
        Seat { slot, lane: self.clone(), taken: true }
    }

    /// How many connections there are.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Tells connections that have been much slower than their siblings for a while to start again.
    pub(super) fn replace_laggards(&self, now: Instant) {
        let mut slots: Vec<Arc<Slot>> = lock(&self.slots).iter().filter_map(Weak::upgrade).collect();
        slots.retain(|slot| slot.is_busy.load(Ordering::Relaxed));
        let rates: Vec<Option<u64>> = slots.iter().map(|slot| slot.rate(now)).collect();
        for (i, slot) in slots.iter().enumerate() {
            let mut slow_since = lock(&slot.slow_since);
            if !is_laggard(&rates, i) {
                *slow_since = None;
            } else if now.saturating_duration_since(*slow_since.get_or_insert(now)) >= LAGGARD_TIME {
                *slow_since = None;
                slot.replace.store(true, Ordering::Relaxed);
                slot.told.notify_one();
            }
        }
    }

    /// What the next answer must still be.
    pub(super) fn expectation(&self) -> Option<Identity> {
        let own = lock(&self.identities).clone();
        let known = self.transfer.identities(self.entry);
        let all: Vec<&Identity> = own.iter().chain(&known).collect();
        let strong = all.iter().find(|i| i.strength == Strength::Strong);
        strong.or(all.first()).map(|i| (*i).clone())
    }

    /// Tells the ledger what the head of an answer says.
    pub(super) fn learn(&self, opened: &Opened) -> Result<()> {
        if !self.warned.swap(true, Ordering::Relaxed) {
            opened.warnings.iter().for_each(|warning| self.transfer.warn(warning.clone()));
        }
        learn(&self.transfer, self.entry, opened)?;
        *lock(&self.identities) = opened.identities.clone();
        match opened.ranges {
            Ranges::Yes => self.single.store(false, Ordering::Relaxed),
            Ranges::No => self.single.store(true, Ordering::Relaxed),
            Ranges::Unknown => {}
        }
        Ok(())
    }
}

/// Tells the ledger what the head of an answer says.
pub(super) fn learn(transfer: &Transfer, entry: EntryId, opened: &Opened) -> Result<()> {
    // First what kind of thing it is: a container isn't written anywhere.
    if let Some(media_type) = &opened.media_type {
        transfer.learn(Fact::MediaType(entry, media_type.clone()))?;
    }
    if let Some(name) = &opened.name {
        transfer.learn(Fact::Name(entry, name.clone()))?;
    }
    // Then what the content is: if it is another one, its length means nothing here.
    for identity in &opened.identities {
        transfer.learn(Fact::Identity(entry, identity.clone()))?;
    }
    if let Some(modified) = opened.modified {
        transfer.learn(Fact::Modified(entry, modified))?;
    }
    for digest in &opened.digests {
        transfer.learn(Fact::Digest(entry, digest.clone()))?;
    }
    opened.len.map_or(Ok(()), |len| transfer.learn(Fact::Len(entry, len)))
}

/// Whether the connection `i` has less than a tenth of the median rate of its siblings.
fn is_laggard(rates: &[Option<u64>], i: usize) -> bool {
    let Some(own) = rates[i] else { return false };
    let mut others: Vec<u64> = rates.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, r)| *r).collect();
    if others.is_empty() {
        return false;
    }
    others.sort_unstable();
    own < others[(others.len() - 1) / 2] / LAGGARD_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laggard_has_less_than_a_tenth_of_what_its_siblings_have() {
        let rates = [Some(1000), Some(900), Some(99), None];
        assert!(!is_laggard(&rates, 0) && !is_laggard(&rates, 3));
        assert!(!is_laggard(&rates, 2), "a tenth of 1000 is 100, of 900 it is 90");
        assert!(is_laggard(&[Some(1000), Some(1000), Some(99)], 2));
        assert!(!is_laggard(&[Some(0)], 0), "alone, nobody is slow");
    }
}
