//! [`Ramp`]: how many connections a source is worth. Pure: takes the time as an argument.

use std::time::{Duration, Instant};

/// How long a number of connections is watched before the next decision.
const WATCH: Duration = Duration::from_secs(1);

/// A download that will be over sooner than this is left as it is: a new connection needs its time, too.
const WORTH: Duration = Duration::from_secs(3);

/// By how much the rate must have grown for more connections to pay.
const GROWTH: f64 = 1.15;

/// After more connections did not pay, they are tried again when this has passed: networks change.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How many connections a source is worth: one at first, twice as many while that makes it faster, and back where it did not.
#[derive(Debug)]
pub(super) struct Ramp {
    max: usize,
    target: usize,
    /// The number before the last step, and its rate.
    before: Option<(usize, f64)>,
    watched: Option<(Instant, u64)>,
    resting_since: Option<Instant>,
    reconsidered: Option<Instant>,
}

impl Ramp {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), target: 1, before: None, watched: None, resting_since: None, reconsidered: None }
    }

    /// There are no more than `max` to be had.
    pub(super) fn limit(&mut self, max: usize) {
        self.max = max.max(1);
        if self.target > self.max {
            self.target = self.max;
            self.before = None;
            self.watched = None;
        }
    }

    /// One of the connections was no good: what was seen with it says nothing of what more of them bring. But a server may
    /// make each of those slow that are too many for it, so that this is not tried all the time either.
    pub(super) fn reconsider(&mut self, now: Instant) {
        if self.reconsidered.is_some_and(|last| now.saturating_duration_since(last) < TRY_AGAIN) {
            return;
        }
        self.reconsidered = Some(now);
        self.before = None;
        self.watched = None;
        self.resting_since = None;
    }

    /// How many connections there should be, when `bytes` have come over `open` of them until `now` and `left` are missing.
    pub(super) fn tick(&mut self, now: Instant, bytes: u64, open: usize, left: Option<u64>) -> usize {
        let (since, bytes_then) = match self.watched {
            // What comes before all are open says nothing.
            Some(watched) if open >= self.target => watched,
            _ => {
                self.watched = (open >= self.target).then_some((now, bytes));
                return self.target;
            }
        };
        let passed = now.saturating_duration_since(since);
        if passed < WATCH {
            return self.target;
        }
        self.watched = Some((now, bytes));
        let rate = (bytes - bytes_then) as f64 / passed.as_secs_f64();
        if let Some((fewer, rate_then)) = self.before.take()
            && rate < rate_then * GROWTH
        {
            self.target = fewer;
            self.resting_since = Some(now);
            return self.target;
        }
        let rested = self.resting_since.is_none_or(|since| now.saturating_duration_since(since) >= TRY_AGAIN);
        let worth = left.is_some_and(|left| left as f64 > rate * WORTH.as_secs_f64());
        if rested && worth && self.target < self.max {
            self.before = Some((self.target, rate));
            self.target = (self.target * 2).min(self.max);
            self.resting_since = None;
            self.watched = None;
        }
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against a server that gives `each` a connection and `all` in total; says how many were open at the end.
    fn run(max: usize, each: u64, all: u64, mut left: u64, seconds: u64) -> usize {
        const STEP: u64 = 4;
        let start = Instant::now();
        let (mut ramp, mut bytes, mut open) = (Ramp::new(max), 0, 1);
        for i in 0..seconds * STEP {
            let now = start + Duration::from_millis(i * 1000 / STEP);
            open = ramp.tick(now, bytes, open, Some(left));
            let step = (each * open as u64).min(all) / STEP;
            bytes += step;
            left = left.saturating_sub(step);
        }
        open
    }

    const MB: u64 = 1_000_000;

    #[test]
    fn where_each_connection_is_throttled_all_are_opened() {
        assert_eq!(run(8, MB, 1000 * MB, 1000 * MB, 8), 8);
        assert_eq!(run(5, MB, 1000 * MB, 1000 * MB, 8), 5);
    }

    #[test]
    fn where_one_connection_is_enough_there_is_one() {
        assert_eq!(run(8, 10 * MB, 10 * MB, 10_000 * MB, 20), 1);
    }

    #[test]
    fn where_three_fill_the_line_four_are_kept() {
        assert_eq!(run(16, MB, 3 * MB, 10_000 * MB, 20), 4);
    }

    #[test]
    fn a_short_download_is_left_alone() {
        assert_eq!(run(8, MB, 1000 * MB, 3 * MB, 5), 1);
    }
}
