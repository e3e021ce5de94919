//! [`Lane`]: what the connections of one source know together.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::source::{Opened, Ranges};
use crate::error::Result;
use crate::fact::{Fact, Identity, Strength};
use crate::meter::Meter;
use crate::origin::Permit;
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
    permits: Mutex<Permits>,
    /// Nothing more is wanted.
    done: AtomicBool,
    identities: Mutex<Vec<Identity>>,
}

/// Leave to have connections to the origin. It is lent to other downloads while there is no work, but for one: who gives up
/// the last one, too, may have to wait for the end of another download to get it back.
#[derive(Default, Debug)]
struct Permits {
    in_use: usize,
    kept: Option<Permit>,
}

/// One connection, as the others see it.
#[derive(Debug)]
pub(super) struct Slot {
    pace: Mutex<Pace>,
    /// Its body is to be dropped and asked for again.
    replace: AtomicBool,
    told: Notify,
}

/// How fast a connection is.
#[derive(Debug)]
struct Pace {
    meter: Meter,
    /// A body is open. Who waits for work, or for an answer, is not slow.
    is_busy: bool,
    /// Its next bytes have not come. Who waits for a rate limit, or for the sink, is not slow either.
    is_waiting: bool,
    /// The rate of the last body that told one, and when that was over.
    before: Option<(u64, Instant)>,
    /// Since when it has been a laggard. It may be so over several bodies: a request is for two seconds' worth of bytes.
    slow_since: Option<Instant>,
}

impl Pace {
    /// The rate of what is open, or was not long ago: requests are short, and the end of one is no reason to know nothing.
    fn rate(&self, now: Instant) -> Option<u64> {
        let current = self.meter.rate(now).filter(|_| self.is_busy);
        let recent = self.before.filter(|(_, ended)| now.saturating_duration_since(*ended) < DELIVERS);
        current.or(recent.map(|(rate, _)| rate))
    }
}

/// A connection's place among its siblings.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) slot: Arc<Slot>,
    lane: Arc<Lane>,
    taken: bool,
    permit: Option<Permit>,
}

impl Seat {
    /// Gives the place up if there are more connections than there should be. Of two who ask at once for the last one that
    /// is too many, one stays. Nobody leaves the work to a laggard: more connections may seem not to pay just because of it.
    pub(super) fn retire(&mut self) -> bool {
        if self.lane.has_laggard_besides(&self.slot) {
            return false;
        }
        let target = self.lane.target.load(Ordering::Relaxed).max(1);
        let fewer = |size: usize| (size > target).then(|| size - 1);
        self.taken = self.lane.size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_err();
        !self.taken
    }

    /// Leave to have a connection, for as long as there is work.
    pub(super) fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// Takes leave to have a connection to `origin`, if there is one now. Says whether there is.
    pub(super) fn take_permit(&mut self, origin: &str) -> bool {
        if self.permit.is_none() {
            self.permit = self.lane.take_permit(origin);
        }
        self.permit.is_some()
    }

    /// Gives it back: there is no work.
    pub(super) fn give_permit_back(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut permits = lock(&self.lane.permits);
        permits.in_use -= 1;
        if permits.in_use == 0 {
            permits.kept = Some(permit);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_permit_back();
        if self.taken {
            self.lane.size.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Slot {
    /// A new body begins.
    pub(super) fn restart(&self, now: Instant) {
        let mut pace = lock(&self.pace);
        pace.meter = Meter::new(now);
        (pace.is_busy, pace.is_waiting) = (true, false);
        if self.replace.swap(false, Ordering::Relaxed) {
            // Nothing that is known holds for a new connection.
            (pace.before, pace.slow_since) = (None, None);
        }
    }

    /// It has no work. How slow it was is no matter of its next body.
    pub(super) fn idle(&self) {
        lock(&self.pace).slow_since = None;
    }

    /// No body is open any more. Gives the rate of the one that is over now, if there was one that told.
    pub(super) fn rest(&self, now: Instant) -> Option<u64> {
        let mut pace = lock(&self.pace);
        let was_busy = std::mem::replace(&mut pace.is_busy, false);
        let rate = pace.meter.total_rate(now).filter(|_| was_busy)?;
        pace.before = Some((rate, now));
        Some(rate)
    }

    /// The next bytes of its body have not come yet, or now they have.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        lock(&self.pace).is_waiting = is_waiting;
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
            permits: Mutex::default(),
            done: AtomicBool::new(false),
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
        lock(&slot.pace).meter.add(bytes, now);
        *lock(&self.last_bytes) = Some(now);
    }

    /// Whether a byte has come not long ago.
    pub(super) fn delivers(&self, now: Instant) -> bool {
        lock(&self.last_bytes).is_some_and(|last| now.saturating_duration_since(last) < DELIVERS)
    }

    /// Leave to have one more connection: what was kept, or what nobody else has or waits for.
    pub(super) fn take_permit(&self, origin: &str) -> Option<Permit> {
        let mut permits = lock(&self.permits);
        let permit = permits.kept.take().or_else(|| self.transfer.try_permit(origin))?;
        permits.in_use += 1;
        Some(permit)
    }

    /// Leave to have the first connection, once there is one.
    pub(super) async fn first_permit(&self, origin: &str) -> Permit {
        let permit = self.transfer.permit(origin).await;
        lock(&self.permits).in_use += 1;
        permit
    }

    /// Nothing more is wanted of any connection.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn add_slot(self: &Arc<Self>, permit: Option<Permit>) -> Seat {
        let slot = Arc::new(Slot {
            pace: Mutex::new(Pace {
                meter: Meter::new(now()),
                is_busy: false,
                is_waiting: false,
                before: None,
                slow_since: None,
            }),
            replace: AtomicBool::new(false),
            told: Notify::new(),
        });
        let mut slots = lock(&self.slots);
        slots.retain(|s| s.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        self.size.fetch_add(1, Ordering::Relaxed);
        Seat { slot, lane: self.clone(), taken: true, permit }
    }

    /// How many connections there are.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    fn has_laggard_besides(&self, slot: &Arc<Slot>) -> bool {
        let slots: Vec<Arc<Slot>> = lock(&self.slots).iter().filter_map(Weak::upgrade).collect();
        slots.iter().any(|other| !Arc::ptr_eq(other, slot) && lock(&other.pace).slow_since.is_some())
    }

    /// Tells connections that have been much slower than their siblings for a while to start again. Says whether there were any.
    pub(super) fn replace_laggards(&self, now: Instant) -> bool {
        let mut any = false;
        let slots: Vec<Arc<Slot>> = lock(&self.slots).iter().filter_map(Weak::upgrade).collect();
        let rates: Vec<Option<u64>> = slots.iter().map(|slot| lock(&slot.pace).rate(now)).collect();
        for (i, slot) in slots.iter().enumerate() {
            let mut pace = lock(&slot.pace);
            if !is_laggard(&rates, i) || (pace.is_busy && !pace.is_waiting) {
                pace.slow_since = None;
            } else if pace.is_busy && now.saturating_duration_since(*pace.slow_since.get_or_insert(now)) >= LAGGARD_TIME
            {
                pace.slow_since = None;
                slot.replace.store(true, Ordering::Relaxed);
                slot.told.notify_one();
                any = true;
            }
        }
        any
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
    use crate::scheduler::Balanced;
    use crate::sink::MemorySink;

    /// Two connections with bodies of two seconds each, of which one brings a hundredth of the other. When it is replaced, if
    /// it waits for bytes, or for somebody who takes them.
    fn replaced_after(is_waiting: bool) -> Option<Duration> {
        let sink = Arc::new(MemorySink::new(u64::MAX));
        let lane = Arc::new(Lane::new(EntryId::FIRST, Transfer::standalone(sink, Balanced::new())));
        let (laggard, sibling) = (lane.add_slot(None), lane.add_slot(None));
        let start = now();
        let after = (1..60).map(|i| Duration::from_millis(i * 250)).find(|passed| {
            let now = start + *passed;
            for (seat, bytes) in [(&laggard, 1_000), (&sibling, 100_000)] {
                if passed.as_millis() % 2_000 == 250 {
                    seat.slot.rest(now);
                    seat.slot.restart(now);
                }
                lane.received(&seat.slot, bytes, now);
                seat.slot.set_waiting(is_waiting);
            }
            lane.replace_laggards(now)
        });
        assert!(!sibling.slot.is_to_be_replaced());
        assert_eq!(laggard.slot.is_to_be_replaced(), after.is_some());
        after
    }

    #[test]
    fn a_laggard_is_one_over_several_bodies_unless_it_is_held_back() {
        // The first half second tells no rate.
        let wanted = LAGGARD_TIME + Duration::from_millis(500)..=LAGGARD_TIME + Duration::from_secs(1);
        let after = replaced_after(true);
        assert!(after.is_some_and(|after| wanted.contains(&after)), "{after:?}");
        assert_eq!(replaced_after(false), None);
    }

    #[test]
    fn a_laggard_has_less_than_a_tenth_of_what_its_siblings_have() {
        let rates = [Some(1000), Some(900), Some(99), None];
        assert!(!is_laggard(&rates, 0) && !is_laggard(&rates, 3));
        assert!(!is_laggard(&rates, 2), "a tenth of 1000 is 100, of 900 it is 90");
        assert!(is_laggard(&[Some(1000), Some(1000), Some(99)], 2));
        assert!(!is_laggard(&[Some(0)], 0), "alone, nobody is slow");
    }
}
