//! [`Tiers`]: which tracker is to be asked, and when (BEP 12).

use std::time::{Duration, Instant};

use dlm_api::Retry;
use fastrand::Rng;

use super::{AnnounceReply, Event, TrackerUrl};

/// The pause after a tracker's first failure. Doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// The longest pause after failures: trackers come back after hours.
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// How much longer than that a pause may be, at random, so that not all clients come back at once.
const JITTER: f64 = 0.25;

/// How long a tracker may take to answer before the next one of its tier is asked, too. Its answer is still welcome then.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most trackers that are waited for so long: each takes a socket. Lists of all that there are have a hundred tiers.
const MAX_AWAITED: usize = 16;

/// The most announces under way, those included that are not waited for any more.
const MAX_UNDER_WAY: usize = 64;

/// How long a tracker is left alone at least, even if more peers are needed, if it doesn't say how long itself.
const USUAL_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)] // There is nothing else that can be done about trackers.
pub enum Ask {
    /// Announce to this tracker, and report how it went. Others may be due at the same time.
    Announce {
        /// The index that [`Tiers::url`] knows.
        tracker: usize,
        /// What has happened.
        event: Option<Event>,
    },
    /// Ask again at this time, or when something has been reported.
    Wait(Instant),
    /// Ask again when something has been reported. Nothing is to be done by itself.
    Idle,
}

/// The policy of BEP 12, without a network or a clock.
///
/// Each tier is on its own, since what the trackers of one know those of another may not, and who is first in the list may
/// be dead. Within a tier one tracker is announced to: the first that can be reached. The order is random, and who answered
/// last comes first. One that fails is left alone for a while that grows, one that is silent doesn't keep the next waiting for
/// long. A tracker is told that we started before anything else, and when we stop, each that was told of us is told of that.
#[derive(Debug)]
pub struct Tiers {
    trackers: Vec<Tracker>,
    tiers: Vec<Tier>,
    rng: Rng,
    is_stopping: bool,
}

#[derive(Debug)]
struct Tier {
    /// Indices of trackers.
    order: Vec<usize>,
    /// Not before this time, if nothing happens.
    next: Option<Instant>,
    /// Not before this time, whatever happens.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Tracker {
    url: TrackerUrl,
    tier: usize,
    /// Since when it is asked, and what it is told.
    asked: Option<(Instant, Option<Event>)>,
    failures: u32,
    pause_until: Option<Instant>,
    /// It is never asked again.
    is_gone: bool,
    /// It is not ours any more, and hears that we leave.
    is_left: bool,
    knows_us: bool,
    /// It is to be told that all of it is here.
    is_owed_completion: bool,
}

impl Tracker {
    /// Until when it is waited for, if it is.
    fn awaited_until(&self, now: Instant) -> Option<Instant> {
        self.asked.map(|(since, _)| since + PATIENCE).filter(|until| now < *until)
    }

    /// Until when it may not be asked for its failures.
    fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause_until.filter(|until| now < *until)
    }
}

impl Tiers {
    /// Of these trackers. Those that can't be asked are left out. The order within tiers comes from `seed`.
    pub fn new<T: AsRef<str>>(tiers: &[Vec<T>], seed: u64) -> Self {
        let (trackers, rng) = (Vec::new(), Rng::with_seed(seed));
        let mut this = Self { trackers, tiers: Vec::new(), rng, is_stopping: false };
        for urls in tiers {
            let mut order = Vec::new();
            for url in urls.iter().filter_map(|url| TrackerUrl::parse(url.as_ref()).ok()) {
                // The user may name one that the torrent names.
                if this.trackers.iter().any(|tracker| tracker.url == url) {
                    continue;
                }
                order.push(this.trackers.len());
                this.trackers.push(Tracker {
                    url,
                    tier: this.tiers.len(),
                    asked: None,
                    failures: 0,
                    pause_until: None,
                    is_gone: false,
                    is_left: false,
                    knows_us: false,
                    is_owed_completion: false,
                });
            }
            this.rng.shuffle(&mut order);
            this.tiers.push(Tier { order, next: None, earliest: None });
        }
        this
    }

    /// Where this tracker is.
    pub fn url(&self, tracker: usize) -> Option<&TrackerUrl> {
        self.trackers.get(tracker).map(|tracker| &tracker.url)
    }

    /// How many there are, those included that are never asked again.
    pub fn len(&self) -> usize {
        self.trackers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// What to do now. A tracker is given out again only after the end of the announce to it was reported.
    pub fn poll(&mut self, now: Instant) -> Ask {
        if self.trackers.iter().filter(|tracker| tracker.asked.is_some()).count() >= MAX_UNDER_WAY {
            return Ask::Idle;
        }
        if self.is_stopping {
            let Some(tracker) = self.trackers.iter().position(|tracker| tracker.knows_us && tracker.asked.is_none())
            else {
                return Ask::Idle;
            };
            let is_owed = self.trackers[tracker].is_owed_completion;
            return self.announce(tracker, Some(if is_owed { Event::Completed } else { Event::Stopped }), now);
        }
        let is_to_be_told = |tracker: &Tracker| tracker.is_left && tracker.knows_us && tracker.asked.is_none();
        if let Some(tracker) = self.trackers.iter().position(is_to_be_told) {
            return self.announce(tracker, Some(Event::Stopped), now);
        }
        let awaited: Vec<Instant> = self.trackers.iter().filter_map(|tracker| tracker.awaited_until(now)).collect();
        if awaited.len() >= MAX_AWAITED {
            return awaited.into_iter().min().map_or(Ask::Idle, Ask::Wait);
        }
        let mut soonest: Option<Instant> = None;
        for tier in 0..self.tiers.len() {
            match self.poll_tier(tier, now) {
                Ask::Wait(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
                Ask::Idle => {}
                announce @ Ask::Announce { .. } => return announce,
            }
        }
        soonest.map_or(Ask::Idle, Ask::Wait)
    }

    fn poll_tier(&mut self, tier: usize, now: Instant) -> Ask {
        let Tier { order, next, .. } = &self.tiers[tier];
        let free = |index: &&usize| self.trackers[**index].asked.is_none() && !self.trackers[**index].is_gone;
        let is_owed = |index: &&usize| self.trackers[**index].is_owed_completion && self.trackers[**index].knows_us;
        let pause = |index: &usize| self.trackers[*index].paused_until(now);
        let owed: Vec<&usize> = order.iter().filter(free).filter(is_owed).collect();
        if let Some(index) = owed.iter().find(|index| pause(index).is_none()) {
            return self.announce(**index, Some(Event::Completed), now);
        }
        let mut soonest = owed.into_iter().filter_map(pause).min();
        let awaited = order.iter().filter_map(|index| self.trackers[*index].awaited_until(now)).max();
        if let Some(later) = next.filter(|next| now < *next).max(awaited) {
            soonest = Some(soonest.map_or(later, |soonest| soonest.min(later)));
        } else if let Some(&index) = order.iter().filter(free).find(|index| pause(index).is_none()) {
            let event = (!self.trackers[index].knows_us).then_some(Event::Started);
            return self.announce(index, event, now);
        } else {
            soonest = order.iter().filter(free).filter_map(pause).min();
        }
        soonest.map_or(Ask::Idle, Ask::Wait)
    }

    fn announce(&mut self, tracker: usize, event: Option<Event>, now: Instant) -> Ask {
        self.trackers[tracker].asked = Some((now, event));
        Ask::Announce { tracker, event }
    }

    /// The tracker answered.
    pub fn succeeded(&mut self, tracker: usize, reply: &AnnounceReply, now: Instant) {
        let index = tracker;
        let Some(tracker) = self.trackers.get_mut(tracker) else { return };
        let Some((_, event)) = tracker.asked.take() else { return };
        tracker.failures = 0;
        tracker.pause_until = None;
        tracker.knows_us = event != Some(Event::Stopped);
        tracker.is_owed_completion &= event != Some(Event::Completed);
        let tier = &mut self.tiers[tracker.tier];
        let at = tier.order.iter().position(|other| *other == index).unwrap_or_default();
        tier.order[..=at].rotate_right(1);
        tier.next = Some(now + reply.interval);
        tier.earliest = Some(now + reply.min_interval.unwrap_or(reply.interval.min(USUAL_MIN_INTERVAL)));
    }

    /// The tracker did not answer, or refused. [`Retry::Never`] if it should never be asked again. The next one of its tier
    /// is asked at once, unless one has answered.
    pub fn failed(&mut self, tracker: usize, retry: Retry, now: Instant) {
        let Some(tracker) = self.trackers.get_mut(tracker) else { return };
        if tracker.asked.take().is_none() {
            return;
        }
        if self.is_stopping || tracker.is_left {
            // It will notice by itself.
            tracker.knows_us = false;
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << tracker.failures.min(16)).min(MAX_PAUSE);
        let pause = pause.mul_f64(1.0 + JITTER * self.rng.f64());
        tracker.failures = tracker.failures.saturating_add(1);
        match retry {
            Retry::Never => tracker.is_gone = true,
            Retry::Now => tracker.pause_until = Some(now + pause),
            Retry::After(least) => tracker.pause_until = Some(now + pause.max(least)),
        }
    }

    /// All of it is here now. Not to be called if that was so from the start.
    pub fn completed(&mut self) {
        // One that heard of our start only later hears of the end, too.
        self.trackers.iter_mut().for_each(|tracker| tracker.is_owed_completion = true);
    }

    /// More peers are needed: the next announces come as early as the trackers allow.
    pub fn hurry(&mut self, now: Instant) {
        for tier in &mut self.tiers {
            let earliest = tier.earliest.map_or(now, |earliest| earliest.max(now));
            tier.next = tier.next.map(|next| next.min(earliest));
        }
    }

    /// This tracker is none of ours any more: if it knows us it hears that we leave, and nothing else ever again.
    pub fn leave(&mut self, tracker: usize) {
        if let Some(tracker) = self.trackers.get_mut(tracker) {
            (tracker.is_gone, tracker.is_left) = (true, true);
        }
    }

    /// We leave: who knows us hears of that, and first that all of it is here where it wasn't told yet. Announces that are
    /// under way are given up, and not to be reported any more.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.trackers.iter_mut().for_each(|tracker| tracker.asked = None);
    }
}

#[cfg(test)]
mod tests;
