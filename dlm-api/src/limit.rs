//! [`Limiter`]: a rate limit in bytes a second.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::time;

use crate::sync::lock;

/// How much may come at once after a silence, as time at the full rate. Short, so that the limit holds over any second.
const BURST: Duration = Duration::from_millis(100);

/// A rate limit in bytes a second, shared by all that pass through it.
#[derive(Debug)]
pub struct Limiter(Mutex<Bucket>);

impl Limiter {
    /// A limit in bytes a second; `None` for none.
    pub fn new(rate: Option<u64>) -> Self {
        Self(Mutex::new(Bucket { rate, level: 0.0, at: None }))
    }

    /// Changes the limit. Who waits already waits as long as it was told.
    pub fn set_rate(&self, rate: Option<u64>) {
        let mut bucket = lock(&self.0);
        bucket.rate = rate;
        bucket.level = bucket.level.min(0.0);
    }

    /// Waits until `bytes` more may pass.
    pub async fn pass(&self, bytes: u64) {
        let wait = lock(&self.0).take(bytes, time::Instant::now().into_std());
        if !wait.is_zero() {
            time::sleep(wait).await;
        }
    }
}

/// A token bucket that can be in debt: who takes more than there is waits until the debt is paid, so that the rate is kept
/// whatever the size of the chunks.
#[derive(Debug)]
struct Bucket {
    rate: Option<u64>,
    /// Bytes that may pass at `at`; negative while there is debt.
    level: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate.map(|rate| rate.max(1) as f64) else { return Duration::ZERO };
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.level = (self.level + passed.as_secs_f64() * rate).min(BURST.as_secs_f64() * rate) - bytes as f64;
        Duration::from_secs_f64((-self.level / rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight takers of uneven chunks, ten seconds of virtual time.
    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_within_five_percent_over_ten_seconds() {
        const RATE: u64 = 3_000_000;
        let limiter = std::sync::Arc::new(Limiter::new(Some(RATE)));
        let start = time::Instant::now();
        let end = start + Duration::from_secs(10);
        let takers = (0..8u64).map(|i| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let mut passed = 0;
                loop {
                    let chunk = 1_000 + i * 17_000;
                    limiter.pass(chunk).await;
                    if time::Instant::now() > end {
                        return passed;
                    }
                    passed += chunk;
                }
            })
        });
        let passed: u64 = futures::future::join_all(takers).await.into_iter().map(Result::unwrap).sum();
        let wanted = RATE * 10;
        assert!(passed.abs_diff(wanted) * 20 <= wanted, "{passed} of {wanted}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let start = time::Instant::now();
        Limiter::new(None).pass(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
