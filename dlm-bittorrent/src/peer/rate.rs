//! How fast bytes come or go.

use std::time::Duration;

/// Counts bytes, and knows their rate over the last few seconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Meter {
    total: u64,
    at_tick: u64,
    last: f64,
    rate: f64,
}

impl Meter {
    /// So many more bytes.
    #[inline]
    pub fn add(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// A while of this length has passed since the last time. Half of the rate is what it brought, half what was before.
    pub fn tick(&mut self, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        self.last = (self.total - self.at_tick) as f64 / elapsed.as_secs_f64();
        self.at_tick = self.total;
        self.rate = if self.rate == 0.0 { self.last } else { self.rate.midpoint(self.last) };
        // Below a byte per second it is none: what is idle shall not look better than what never began.
        if self.rate < 1.0 {
            self.rate = 0.0;
        }
    }

    /// All bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes per second, smoothed.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Bytes per second between the last two ticks.
    pub fn last_rate(&self) -> f64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_and_fades() {
        let mut meter = Meter::default();
        meter.add(1000);
        meter.tick(Duration::from_millis(500));
        assert_eq!((meter.rate(), meter.last_rate(), meter.total()), (2000.0, 2000.0, 1000));
        meter.tick(Duration::ZERO);
        meter.tick(Duration::from_secs(1));
        assert_eq!((meter.rate(), meter.last_rate()), (1000.0, 0.0));
        (0..20).for_each(|_| meter.tick(Duration::from_secs(1)));
        assert_eq!(meter.rate(), 0.0);
    }
}
