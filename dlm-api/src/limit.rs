//! [`Limiter`]: a rate limit in bytes a second.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time;

use crate::sync::lock;

/// How much may come at once after a silence, as time at the full rate. Short, so that the limit holds over any second.
const BURST: Duration = Duration::from_millis(100);

/// Nobody waits longer, whatever the rate.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A rate limit in bytes a second, shared by all that pass through it.
#[derive(Debug)]
pub struct Limiter {
    bucket: Mutex<Bucket>,
    /// Tells those who wait that the rate is another one.
    changed: watch::Sender<()>,
}

impl Limiter {
    /// A limit in bytes a second; `None` for none.
    pub fn new(rate: Option<u64>) -> Self {
        let bucket = Bucket { rate, paid: 0.0, taken: 0.0, at: None };
        Self { bucket: Mutex::new(bucket), changed: watch::Sender::new(()) }
    }

    /// The limit in bytes a second; `None` for none.
    pub fn rate(&self) -> Option<u64> {
        lock(&self.bucket).rate
    }

    /// Changes the limit, for those too who wait already: without a limit they go on at once.
    pub fn set_rate(&self, rate: Option<u64>) {
        lock(&self.bucket).set_rate(rate, now());
        self.changed.send_replace(());
    }

    /// Waits until `bytes` more may pass.
    pub async fn pass(&self, bytes: u64) {
        let turn = {
            let mut bucket = lock(&self.bucket);
            let turn = bucket.take(bytes, now());
            if bucket.wait(turn).is_zero() {
                return;
            }
            turn
        };
        let mut changed = self.changed.subscribe();
        loop {
            let wait = {
                let mut bucket = lock(&self.bucket);
                bucket.advance(now());
                bucket.wait(turn)
            };
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = time::sleep(wait) => return,
                // The sender is ours.
                _ = changed.changed() => {}
            }
        }
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

/// A token bucket that can be in debt: who takes more than there is waits until the debt is paid, so that the rate is kept
/// whatever the size of the chunks.
#[derive(Debug)]
struct Bucket {
    rate: Option<u64>,
    /// Bytes that the rate has allowed until `at`, from the beginning. Less than `taken` while there is debt.
    paid: f64,
    /// Bytes that were taken, from the beginning. Who took waits until `paid` is what this was then.
    taken: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn rate(&self) -> Option<f64> {
        self.rate.map(|rate| rate.max(1) as f64)
    }

    fn advance(&mut self, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        if let Some(rate) = self.rate() {
            let most = self.taken + BURST.as_secs_f64() * rate;
            self.paid = (self.paid + passed.as_secs_f64() * rate).min(most);
        }
    }

    /// The answer is for [`wait`](Self::wait).
    fn take(&mut self, bytes: u64, now: Instant) -> f64 {
        self.advance(now);
        if self.rate.is_some() {
            self.taken += bytes as f64;
        }
        self.taken
    }

    fn wait(&self, turn: f64) -> Duration {
        let Some(rate) = self.rate() else { return Duration::ZERO };
        let seconds = ((turn - self.paid) / rate).max(0.0);
        Duration::try_from_secs_f64(seconds).map_or(LONGEST, |wait| wait.min(LONGEST))
    }

    fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        self.advance(now);
        self.rate = rate;
        // What was saved at the old rate is lost, and a debt is paid at the new one; without a limit, there is none.
        self.paid = if rate.is_some() { self.paid.min(self.taken) } else { self.taken };
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
    async fn another_rate_is_for_those_too_who_wait() {
        let start = time::Instant::now();
        let limiter = Limiter::new(Some(1_000));
        let change = |after: u64, rate: Option<u64>| {
            let limiter = &limiter;
            async move {
                time::sleep(Duration::from_secs(after)).await;
                limiter.set_rate(rate);
            }
        };
        // 5,000 at first, then 495,000 at the new rate.
        tokio::join!(limiter.pass(500_000), change(5, Some(99_000)));
        assert_eq!(start.elapsed().as_secs(), 10);
        limiter.set_rate(Some(1_000));
        tokio::join!(limiter.pass(500_000), change(5, None));
        assert_eq!(start.elapsed().as_secs(), 15);
        limiter.set_rate(Some(1_000));
        limiter.pass(1_000).await;
        assert_eq!(start.elapsed().as_secs(), 16, "what was owed before the limit was lifted is forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_too_long_for_a_clock() {
        let limiter = Limiter::new(Some(1));
        for _ in 0..4 {
            assert!(futures::poll!(std::pin::pin!(limiter.pass(u64::MAX))).is_pending());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let start = time::Instant::now();
        Limiter::new(None).pass(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
