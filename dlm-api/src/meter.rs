//! [`Meter`]: a smoothed rate.

use std::time::{Duration, Instant};

/// How long bytes are counted before they become a sample of the rate.
const SAMPLE: Duration = Duration::from_millis(500);

/// Fewer bytes than this may all have waited in buffers, and say nothing of the rate of what was over before a sample was made.
const TELLING: u64 = 1 << 20;

/// The weight of a new sample. Half of the rate is from the last half second, so that it follows within two seconds.
const WEIGHT: f64 = 0.4;

/// A smoothed rate in bytes a second. Takes the time as an argument.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    since: Instant,
    bytes: u64,
    rate: Option<f64>,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, rate: None }
    }

    pub(crate) fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        self.tick(now);
    }

    /// Takes the time that has passed into account.
    pub(crate) fn tick(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < SAMPLE {
            return;
        }
        let sample = self.bytes as f64 / passed.as_secs_f64();
        self.rate = Some(match self.rate {
            // A long silence is more than one sample.
            Some(rate) => {
                let keep = (1.0 - WEIGHT).powf(passed.as_secs_f64() / SAMPLE.as_secs_f64());
                rate * keep + sample * (1.0 - keep)
            }
            None => sample,
        });
        self.since = now;
        self.bytes = 0;
    }

    /// The rate of something that is over now, which may have been too short for a sample.
    pub(crate) fn total_rate(&self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        let telling = passed > 0.0 && self.bytes >= TELLING;
        self.rate(now).or_else(|| telling.then(|| (self.bytes as f64 / passed) as u64))
    }

    /// Bytes a second, once half a second has been seen. A silence since the last bytes lowers it.
    pub(crate) fn rate(&self, now: Instant) -> Option<u64> {
        let mut seen = self.clone();
        seen.tick(now);
        seen.rate.map(|rate| rate as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soon_over_has_a_rate_too() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let end = start + Duration::from_millis(100);
        meter.add(1_000, start + Duration::from_millis(50));
        assert_eq!(meter.total_rate(end), None, "that can have been in a buffer");
        meter.add(2_000_000 - 1_000, end);
        assert_eq!((meter.rate(end), meter.total_rate(end)), (None, Some(20_000_000)));
        assert_eq!(meter.total_rate(start), None);
    }

    #[test]
    fn the_rate_follows_and_falls_in_a_silence() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert_eq!(meter.rate(start), None);
        (1..=100).for_each(|i| meter.add(1_000, at(i * 100)));
        let steady = meter.rate(at(10_000)).unwrap();
        assert!((9_000..=11_000).contains(&steady), "{steady}");
        assert!(meter.rate(at(20_000)).unwrap() < 100);
    }
}
