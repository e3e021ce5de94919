//! How much a peer may say that means nothing.

use std::time::Instant;

/// Messages that a peer may send in a burst, and per second in the long run.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    burst: u32,
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Budget {
    /// Keep-alives, choking, interest, what is known already, and what nobody knows: a peer's state changes a few times a
    /// minute.
    pub(crate) fn chatter(now: Instant) -> Self {
        Self::new(now, 300, 20)
    }

    /// Requests that are not answered: those that were on their way when the peer was choked, a whole queue each time.
    pub(crate) fn refused(now: Instant) -> Self {
        Self::new(now, 4 * super::MAX_UPLOADS as u32, 1000)
    }

    /// Messages of extensions: metadata comes in some hundred pieces at once.
    pub(crate) fn extended(now: Instant) -> Self {
        Self::new(now, 2000, 100)
    }

    pub(crate) fn new(now: Instant, burst: u32, per_second: u32) -> Self {
        Self { burst, per_second, left: burst.into(), at: now }
    }

    /// One more message; false if it is one too many.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + elapsed * f64::from(self.per_second)).min(self.burst.into());
        let is_enough = self.left >= 1.0;
        self.left -= if is_enough { 1.0 } else { 0.0 };
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 5, 2);
        assert_eq!((0..10).filter(|_| budget.spend(now)).count(), 5);
        let mut budget = Budget::new(now, 5, 2);
        assert_eq!((0..5).filter(|_| budget.spend(now)).count(), 5);
        assert!(budget.spend(now + Duration::from_secs(1)));
        assert!((0..1000).all(|n| budget.spend(now + Duration::from_millis(2000 + n * 500))));
    }
}
