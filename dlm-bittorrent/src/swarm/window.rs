//! How many requests a peer is given at a time.
//!
//! A peer that always has requests in hand sends without a pause; more than that only binds blocks that others could
//! send. So the window holds what the peer sends in twice the time that an answer takes, or in two seconds.

use std::time::Duration;

use crate::wire::BLOCK_LEN;

/// The fewest requests: one being answered, one on its way.
const MIN: u32 = 2;

/// The most requests while the peer doesn't say how many it keeps (`reqq`, BEP 10): the number that the BEP gives as the
/// default of the implementation that introduced it.
const DEFAULT_MAX: u32 = 250;

/// The most requests whatever the peer says: 64 MiB, so that 320 MiB/s pass at 100 ms with the queue twice as long, and
/// 80 KiB of memory.
const MAX: u32 = 4096;

/// The shortest time that the window holds. A peer with a limit may send what a second allows all at once, and disks
/// pause for as long.
const MIN_QUEUE: Duration = Duration::from_secs(2);

/// The longest: with more in hand, an answer to a new request comes too late to be of use in a reader's window.
const MAX_QUEUE: Duration = Duration::from_secs(6);

/// Slow start is over when the rate grew by less than one in so many within a second.
const GROWTH: f64 = 8.0;

#[derive(Debug)]
pub(super) struct Window {
    size: u32,
    max: u32,
    slow_start: bool,
    last_rate: f64,
    /// The shortest time to an answer ever. One of lately would have our own queue in it, and the window would grow with
    /// itself.
    shortest: Option<Duration>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { size: MIN, max: DEFAULT_MAX, slow_start: true, last_rate: 0.0, shortest: None }
    }

    /// Whether nobody knows yet how fast the peer is.
    pub(super) fn is_starting(&self) -> bool {
        self.slow_start
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The peer says how many requests it keeps.
    pub(super) fn set_max(&mut self, max: u32) {
        self.max = max.clamp(1, MAX);
        self.size = self.size.min(self.max);
    }

    /// An answer came after this long.
    #[inline]
    pub(super) fn answered(&mut self, after: Duration) {
        self.shortest = Some(self.shortest.map_or(after, |shortest| shortest.min(after)));
        if self.slow_start && self.size < self.max {
            self.size += 1;
        }
    }

    /// A second or so has passed, in which the peer sent at this rate, and has been asked for all that it may be or not.
    pub(super) fn tick(&mut self, rate: f64, was_full: bool) {
        if rate == 0.0 {
            return;
        }
        if self.slow_start {
            let grew = rate > self.last_rate + self.last_rate / GROWTH;
            self.last_rate = rate;
            if grew {
                return;
            }
            self.slow_start = false;
        }
        let wanted = (rate * self.queue_time().as_secs_f64() / f64::from(BLOCK_LEN)).ceil() as u32;
        // Who is given less than he could take looks slow, and would be given less and less.
        let wanted = if was_full { wanted } else { wanted.max(self.size) };
        self.size = wanted.clamp(MIN, self.max.max(MIN)).min(self.max);
    }

    /// The peer doesn't answer: one request at a time shows whether it does again.
    pub(super) fn snubbed(&mut self) {
        self.size = 1;
        self.slow_start = false;
    }

    /// The peer can't take as many.
    pub(super) fn overloaded(&mut self) {
        self.size = (self.size / 2).max(1);
        self.slow_start = false;
    }

    /// It does again.
    pub(super) fn revived(&mut self) {
        self.slow_start = true;
        self.last_rate = 0.0;
        self.size = MIN.min(self.max);
    }

    /// The shortest time to an answer.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.shortest
    }

    fn queue_time(&self) -> Duration {
        (self.latency().unwrap_or_default() * 2).clamp(MIN_QUEUE, MAX_QUEUE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a path with this round trip and rate does with the window: answers per second.
    fn run(window: &mut Window, seconds: u32, round_trip: Duration, rate: f64) -> f64 {
        let steps = 20;
        let step = SECOND / steps;
        let mut reached = 0.0;
        for _ in 0..seconds {
            let mut bytes = 0.0;
            for _ in 0..steps {
                let outstanding = f64::from(window.size()) * f64::from(BLOCK_LEN);
                let sent = (rate * step.as_secs_f64()).min(outstanding * step.as_secs_f64() / round_trip.as_secs_f64());
                bytes += sent;
                let latency = round_trip.max(Duration::from_secs_f64(outstanding / rate));
                (0..(sent / f64::from(BLOCK_LEN)) as u32).for_each(|_| window.answered(latency));
            }
            window.tick(bytes, true);
            reached = bytes;
        }
        reached
    }

    #[test]
    fn a_fast_far_peer_is_filled_within_seconds() {
        let mut window = Window::new();
        window.set_max(2000);
        let full = 150.0 * 1024.0 * 1024.0;
        assert!(run(&mut window, 5, Duration::from_millis(100), full) > full * 0.99);
        assert!(window.size() >= 1000, "{}", window.size());
    }

    #[test]
    fn a_slow_peer_gets_little() {
        let mut window = Window::new();
        run(&mut window, 30, Duration::from_millis(50), 100_000.0);
        assert!((2..=40).contains(&window.size()), "{}", window.size());
    }

    #[test]
    fn who_is_given_less_than_it_could_take_is_not_held_to_be_slow() {
        let mut window = Window::new();
        (0..98).for_each(|_| window.answered(Duration::from_millis(50)));
        window.tick(100_000.0, false);
        window.tick(100_000.0, false);
        assert_eq!(window.size(), 100);
        window.tick(100_000.0, true);
        assert_eq!(window.size(), 13);
    }

    #[test]
    fn the_peers_own_limit_holds() {
        let mut window = Window::new();
        (0..10_000).for_each(|_| window.answered(SECOND));
        assert_eq!(window.size(), DEFAULT_MAX);
        window.set_max(1);
        window.tick(1e9, true);
        window.tick(1e9, true);
        assert_eq!(window.size(), 1);
        window.set_max(u32::MAX);
        (0..10_000).for_each(|_| window.tick(1e12, true));
        assert_eq!(window.size(), MAX);
    }

    #[test]
    fn who_does_not_answer_gets_one_at_a_time() {
        let mut window = Window::new();
        window.snubbed();
        assert_eq!(window.size(), 1);
        window.answered(SECOND);
        assert_eq!(window.size(), 1);
        window.revived();
        window.answered(SECOND);
        assert_eq!(window.size(), 3);
    }
}
