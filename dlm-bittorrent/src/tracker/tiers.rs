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

/// How long a tracker is left alone at least, even if more peers are needed, if it doesn't say how long itself.
const USUAL_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)] // There is nothing else that can be done about trackers.
pub enum Ask {
    /// Announce to this tracker, and report how it went.
    Announce {
        /// The index that [`Tiers::url`] knows.
        tracker: usize,
        /// What has happened.
        event: Option<Event>,
    },
    /// Ask again at this time.
    Wait(Instant),
    /// Ask again when something has been reported. Nothing is to be done by itself.
    Idle,
}

/// The policy of BEP 12, without a network or a clock.
///
/// Each announce goes to one tracker: the first that can be reached, tier by tier. Within a tier the order is random, and
/// who answered last comes first. A tracker that fails is left alone for a while that grows. One is told that we started
/// before anything else, and when we stop, each that was told of us is told of that once.
#[derive(Debug)]
pub struct Tiers {
    trackers: Vec<Tracker>,
    /// Indices of trackers.
    tiers: Vec<Vec<usize>>,
    rng: Rng,
    in_flight: Option<(usize, Option<Event>)>,
    /// Not before this time, if nothing happens.
    next: Option<Instant>,
    /// Not before this time, whatever happens.
    earliest: Option<Instant>,
    /// It is to be told that all of it is here.
    is_completed: bool,
    is_stopping: bool,
}

#[derive(Debug)]
struct Tracker {
    url: TrackerUrl,
    failures: u32,
    pause_until: Option<Instant>,
    /// It wants never to be asked again.
    is_gone: bool,
    knows_us: bool,
}

impl Tiers {
    /// Of these trackers. Those that can't be asked are left out. The order within tiers comes from `seed`.
    pub fn new<T: AsRef<str>>(tiers: &[Vec<T>], seed: u64) -> Self {
        let mut this = Self {
            trackers: Vec::new(),
            tiers: Vec::new(),
            rng: Rng::with_seed(seed),
            in_flight: None,
            next: None,
            earliest: None,
            is_completed: false,
            is_stopping: false,
        };
        for tier in tiers {
            let mut indices = Vec::new();
            for url in tier.iter().filter_map(|url| TrackerUrl::parse(url.as_ref()).ok()) {
                indices.push(this.trackers.len());
                this.trackers.push(Tracker { url, failures: 0, pause_until: None, is_gone: false, knows_us: false });
            }
            this.rng.shuffle(&mut indices);
            this.tiers.push(indices);
        }
        this
    }

    /// Where this tracker is.
    pub fn url(&self, tracker: usize) -> Option<&TrackerUrl> {
        self.trackers.get(tracker).map(|tracker| &tracker.url)
    }

    /// What to do now. One announce at a time: none is given out before the last one's end was reported.
    pub fn poll(&mut self, now: Instant) -> Ask {
        if self.in_flight.is_some() {
            return Ask::Idle;
        }
        if self.is_stopping {
            return match self.trackers.iter().position(|tracker| tracker.knows_us) {
                Some(tracker) => self.announce(tracker, Some(Event::Stopped)),
                None => Ask::Idle,
            };
        }
        if let Some(next) = self.next.filter(|next| now < *next) {
            return Ask::Wait(next);
        }
        let mut soonest = None;
        for &index in self.tiers.iter().flatten() {
            let tracker = &self.trackers[index];
            match tracker.pause_until {
                _ if tracker.is_gone => {}
                Some(until) if now < until => soonest = Some(soonest.map_or(until, |at: Instant| at.min(until))),
                _ => {
                    let event = match tracker.knows_us {
                        false => Some(Event::Started),
                        true => self.is_completed.then_some(Event::Completed),
                    };
                    return self.announce(index, event);
                }
            }
        }
        soonest.map_or(Ask::Idle, Ask::Wait)
    }

    fn announce(&mut self, tracker: usize, event: Option<Event>) -> Ask {
        self.in_flight = Some((tracker, event));
        Ask::Announce { tracker, event }
    }

    /// The tracker answered.
    pub fn succeeded(&mut self, reply: &AnnounceReply, now: Instant) {
        let Some((index, event)) = self.in_flight.take() else { return };
        let tracker = &mut self.trackers[index];
        tracker.failures = 0;
        tracker.pause_until = None;
        tracker.knows_us = event != Some(Event::Stopped);
        if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.contains(&index)) {
            let at = tier.iter().position(|other| *other == index).unwrap_or_default();
            tier[..=at].rotate_right(1);
        }
        if event == Some(Event::Completed) {
            self.is_completed = false;
        }
        // If it heard of our start only now, it hears of the end at once.
        self.next = (!self.is_completed).then_some(now + reply.interval);
        self.earliest = Some(now + reply.min_interval.unwrap_or(reply.interval.min(USUAL_MIN_INTERVAL)));
    }

    /// The tracker did not answer, or refused. [`Retry::Never`] if it should never be asked again.
    pub fn failed(&mut self, retry: Retry, now: Instant) {
        let Some((index, event)) = self.in_flight.take() else { return };
        let tracker = &mut self.trackers[index];
        if event == Some(Event::Stopped) {
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
        // The next one is asked at once.
        self.next = None;
    }

    /// All of it is here now. Not to be called if that was so from the start.
    pub fn completed(&mut self) {
        self.is_completed = true;
        self.next = None;
    }

    /// More peers are needed: the next announce comes as early as the tracker allows.
    pub fn hurry(&mut self, now: Instant) {
        let earliest = self.earliest.map_or(now, |earliest| earliest.max(now));
        self.next = self.next.map(|next| next.min(earliest));
    }

    /// We leave: from now on only [`Event::Stopped`] is announced.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tiers(sizes: &[usize], seed: u64) -> Tiers {
        let mut n = 0;
        let mut name = || {
            n += 1;
            format!("udp://t{}.example:1", n - 1)
        };
        let lists: Vec<Vec<String>> = sizes.iter().map(|size| (0..*size).map(|_| name()).collect()).collect();
        Tiers::new(&lists, seed)
    }

    fn asked(tiers: &mut Tiers, now: Instant) -> (usize, Option<Event>) {
        match tiers.poll(now) {
            Ask::Announce { tracker, event } => (tracker, event),
            other => panic!("{other:?}"),
        }
    }

    fn reply(seconds: u64) -> AnnounceReply {
        AnnounceReply::new(Duration::from_secs(seconds))
    }

    fn later(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn who_answers_is_asked_again_after_its_interval() {
        let now = Instant::now();
        let mut tiers = tiers(&[1, 1], 1);
        assert_eq!(asked(&mut tiers, now), (0, Some(Event::Started)));
        assert_eq!(tiers.poll(now), Ask::Idle);
        tiers.succeeded(&reply(900), now);
        assert_eq!(tiers.poll(now), Ask::Wait(later(now, 900)));
        assert_eq!(asked(&mut tiers, later(now, 900)), (0, None));
        assert_eq!(tiers.url(0).unwrap().as_str(), "udp://t0.example:1");
    }

    #[test]
    fn tiers_are_asked_in_order_and_who_answers_comes_first_in_its_own() {
        let now = Instant::now();
        let mut tiers = tiers(&[3, 1], 5);
        let first: Vec<usize> = (0..4)
            .map(|_| {
                let (tracker, _) = asked(&mut tiers, now);
                tiers.failed(Retry::Now, now);
                tracker
            })
            .collect();
        assert_eq!(first[3], 3);
        let Ask::Wait(at) = tiers.poll(now) else { panic!("all of them pause") };
        assert!((15..=19).contains(&(at - now).as_secs()));
        // All may be asked again: the third of the first tier answers.
        let now = later(now, 60);
        for expected in &first[..2] {
            assert_eq!(asked(&mut tiers, now).0, *expected);
            tiers.failed(Retry::Now, now);
        }
        assert_eq!(asked(&mut tiers, now).0, first[2]);
        tiers.succeeded(&reply(3600), now);
        let now = later(now, 3600);
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(asked(&mut tiers, now).0);
            tiers.failed(Retry::Now, now);
        }
        assert_eq!(order, [first[2], first[0], first[1], 3]);
    }

    #[test]
    fn the_order_within_a_tier_is_random() {
        let now = Instant::now();
        let firsts: std::collections::HashSet<usize> =
            (0..50).map(|seed| asked(&mut tiers(&[4, 1], seed), now).0).collect();
        assert_eq!(firsts, (0..4).collect());
    }

    #[test]
    fn pauses_grow_and_end_with_success() {
        let mut now = Instant::now();
        let mut tiers = tiers(&[1], 1);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            asked(&mut tiers, now);
            tiers.failed(Retry::Now, now);
            let Ask::Wait(at) = tiers.poll(now) else { panic!("it pauses") };
            pauses.push((at - now).as_secs_f64());
            now = at;
        }
        for (i, pause) in pauses.iter().enumerate() {
            let least = (15.0 * f64::from(1 << i)).min(3600.0);
            assert!((least..=least * 1.25).contains(pause), "{pauses:?}");
        }
        asked(&mut tiers, now);
        tiers.succeeded(&reply(60), now);
        now = later(now, 60);
        asked(&mut tiers, now);
        tiers.failed(Retry::Now, now);
        let Ask::Wait(at) = tiers.poll(now) else { panic!("it pauses") };
        assert!((at - now).as_secs() < 20);
    }

    #[test]
    fn what_a_tracker_asks_for_is_kept() {
        let now = Instant::now();
        let mut tiers = tiers(&[1, 1], 1);
        asked(&mut tiers, now);
        tiers.failed(Retry::After(Duration::from_secs(500)), now);
        assert_eq!(asked(&mut tiers, now).0, 1);
        tiers.failed(Retry::Never, now);
        assert_eq!(tiers.poll(now), Ask::Wait(later(now, 500)));
        assert_eq!(asked(&mut tiers, later(now, 500)).0, 0);
        tiers.failed(Retry::Never, now);
        assert_eq!(tiers.poll(later(now, 100_000)), Ask::Idle);
    }

    #[test]
    fn completion_is_told_once_and_after_the_start() {
        let now = Instant::now();
        let mut tiers = tiers(&[1, 1], 1);
        tiers.completed();
        assert_eq!(asked(&mut tiers, now), (0, Some(Event::Started)));
        tiers.succeeded(&reply(900), now);
        assert_eq!(asked(&mut tiers, now), (0, Some(Event::Completed)));
        tiers.succeeded(&reply(900), now);
        assert_eq!(asked(&mut tiers, later(now, 900)), (0, None));
        // While an announce is under way, too.
        tiers.completed();
        tiers.succeeded(&reply(900), now);
        assert_eq!(asked(&mut tiers, now), (0, Some(Event::Completed)));
        tiers.failed(Retry::Now, now);
        assert_eq!(asked(&mut tiers, now), (1, Some(Event::Started)));
    }

    #[test]
    fn all_who_know_us_hear_that_we_leave() {
        let now = Instant::now();
        let mut tiers = tiers(&[1, 1, 1], 1);
        asked(&mut tiers, now);
        tiers.succeeded(&reply(60), now);
        assert_eq!(asked(&mut tiers, later(now, 60)).0, 0);
        tiers.failed(Retry::Now, later(now, 60));
        assert_eq!(asked(&mut tiers, later(now, 60)).0, 1);
        tiers.stop();
        assert_eq!(tiers.poll(now), Ask::Idle);
        tiers.succeeded(&reply(60), now);
        assert_eq!(asked(&mut tiers, now), (0, Some(Event::Stopped)));
        tiers.failed(Retry::Now, now);
        assert_eq!(asked(&mut tiers, now), (1, Some(Event::Stopped)));
        tiers.succeeded(&reply(60), now);
        assert_eq!(tiers.poll(later(now, 100_000)), Ask::Idle);
    }

    #[test]
    fn a_hurry_has_its_bounds() {
        let now = Instant::now();
        let mut tiers = tiers(&[1], 1);
        asked(&mut tiers, now);
        tiers.succeeded(&reply(1800), now);
        tiers.hurry(now);
        assert_eq!(tiers.poll(now), Ask::Wait(later(now, 300)));
        asked(&mut tiers, later(now, 300));
        let short = AnnounceReply { min_interval: Some(Duration::from_secs(60)), ..reply(1800) };
        tiers.succeeded(&short, now);
        tiers.hurry(later(now, 20));
        assert_eq!(tiers.poll(now), Ask::Wait(later(now, 60)));
        tiers.hurry(later(now, 59));
        assert_eq!(asked(&mut tiers, later(now, 60)), (0, None));
    }

    #[test]
    fn without_trackers_there_is_nothing_to_do() {
        let now = Instant::now();
        let mut none = Tiers::new(&[vec!["nonsense"], vec![]], 1);
        assert_eq!(none.poll(now), Ask::Idle);
        none.succeeded(&reply(60), now);
        none.failed(Retry::Now, now);
        none.completed();
        none.hurry(now);
        none.stop();
        assert_eq!((none.poll(now), none.url(0)), (Ask::Idle, None));
    }

    proptest! {
        /// Whatever happens, no tracker is asked while it pauses, and it never waits for a time that has passed.
        #[test]
        fn whatever_happens_there_is_a_next_step(
            sizes in prop::collection::vec(0usize..4, 0..4),
            seed: u64,
            steps in prop::collection::vec((0u8..8, 0u64..2000), 0..60),
        ) {
            let mut now = Instant::now();
            let mut tiers = tiers(&sizes, seed);
            let mut allowed = vec![now; sizes.iter().sum()];
            let mut current = None;
            let mut is_stopped = false;
            for (what, seconds) in steps {
                match tiers.poll(now) {
                    Ask::Announce { tracker, event } => {
                        prop_assert!(current.is_none());
                        prop_assert!(event == Some(Event::Stopped) || (now >= allowed[tracker] && !is_stopped));
                        current = Some(tracker);
                    }
                    Ask::Wait(at) => prop_assert!(at > now && current.is_none() && !is_stopped),
                    Ask::Idle => prop_assert!(current.is_some() || is_stopped || allowed.is_empty()),
                }
                match what {
                    0..3 => {
                        tiers.succeeded(&reply(60 + seconds), now);
                        current = None;
                    }
                    3..5 => {
                        tiers.failed(Retry::After(Duration::from_secs(seconds)), now);
                        if let Some(tracker) = current.take() {
                            allowed[tracker] = later(now, seconds);
                        }
                    }
                    5 => tiers.completed(),
                    6 => tiers.hurry(now),
                    _ if seconds < 100 => {
                        tiers.stop();
                        is_stopped = true;
                    }
                    _ => now = later(now, seconds),
                }
            }
        }
    }
}
