//! Who is uploaded to (BEP 3): those who give the most, and one more by turns, so that newcomers get something to trade
//! and better partners are found.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// The time between two rounds. Shorter ones would choke and unchoke too often for TCP to reach its speed.
pub const ROUND: Duration = Duration::from_secs(10);

/// How long a peer stays the one that is tried: three rounds, long enough for it to show what it gives.
pub const OPTIMISTIC: Duration = Duration::from_secs(30);

/// For how long a peer counts as new, and is three times as likely to be tried.
const NEW: Duration = Duration::from_secs(90);

/// A peer that could be uploaded to.
#[derive(Copy, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Contender<K> {
    /// Who.
    pub key: K,
    /// Bytes per second that it gives us, or that it takes while we have nothing more to get.
    pub rate: f64,
    /// It owes us blocks and sends none: it is not uploaded to in return.
    pub snubs: bool,
    /// When it came.
    pub since: Instant,
    /// Whether it is uploaded to now.
    pub unchoked: bool,
}

/// Decides, round by round, whom to upload to.
#[derive(Debug)]
pub struct Choker<K> {
    slots: usize,
    next_round: Option<Instant>,
    optimistic: Option<(K, Instant)>,
}

impl<K: Copy + Eq> Choker<K> {
    /// So many peers at a time by what they give, and one more.
    pub fn new(slots: usize) -> Self {
        Self { slots, next_round: None, optimistic: None }
    }

    /// When the next round is due; `None` for at once.
    pub fn next_round(&self) -> Option<Instant> {
        self.next_round
    }

    /// Another number of slots from the next round on.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// One round among the interested peers: who is to be uploaded to. Everybody else is choked.
    pub fn round(&mut self, now: Instant, rng: &mut Rng, interested: &[Contender<K>]) -> Vec<K> {
        self.next_round = Some(now + ROUND);
        let mut order: Vec<&Contender<K>> = interested.iter().filter(|peer| !peer.snubs).collect();
        // Among equals chance decides, but nobody is choked for somebody who is no better.
        rng.shuffle(&mut order);
        order.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(b.unchoked.cmp(&a.unchoked)));
        let mut unchoked: Vec<K> = order.iter().take(self.slots).map(|peer| peer.key).collect();
        if let Some(key) = self.optimistic(now, rng, interested, &unchoked) {
            unchoked.push(key);
        }
        unchoked
    }

    /// Who is tried: the same as before for 30 seconds, unless it left, lost interest or got a place of its own.
    fn optimistic(&mut self, now: Instant, rng: &mut Rng, peers: &[Contender<K>], regular: &[K]) -> Option<K> {
        let others = || peers.iter().filter(|peer| !regular.contains(&peer.key));
        if let Some((key, until)) = self.optimistic
            && now < until
            && others().any(|peer| peer.key == key)
        {
            return Some(key);
        }
        let last = self.optimistic.take().map(|(key, _)| key);
        let weight = |peer: &Contender<K>| {
            let is_new = now.saturating_duration_since(peer.since) < NEW;
            // Whoever had his turn comes last.
            if Some(peer.key) == last {
                1
            } else if is_new {
                300
            } else {
                100
            }
        };
        let sum: u64 = others().map(weight).sum();
        if sum == 0 {
            return None;
        }
        let mut drawn = rng.u64(..sum);
        let key = others().find(|peer| {
            let found = drawn < weight(peer);
            drawn = drawn.saturating_sub(weight(peer));
            found
        })?;
        self.optimistic = Some((key.key, now + OPTIMISTIC));
        Some(key.key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn peers(now: Instant, rates: &[f64]) -> Vec<Contender<usize>> {
        let contender =
            |(key, rate): (usize, &f64)| Contender { key, rate: *rate, snubs: false, since: now, unchoked: false };
        rates.iter().enumerate().map(contender).collect()
    }

    #[test]
    fn the_best_givers_have_the_slots_and_one_more_is_tried() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut choker = Choker::new(2);
        let unchoked = choker.round(now, &mut rng, &peers(now, &[1.0, 5.0, 3.0, 0.0]));
        assert_eq!(unchoked[..2], [1, 2]);
        assert!([0, 3].contains(&unchoked[2]));
        assert_eq!(choker.next_round(), Some(now + ROUND));
        assert_eq!(choker.round(now, &mut rng, &peers(now, &[])), [] as [usize; 0]);
    }

    #[test]
    fn who_snubs_us_has_no_slot_but_may_be_tried() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut all = peers(now, &[9.0, 1.0]);
        all[0].snubs = true;
        assert_eq!(Choker::new(1).round(now, &mut rng, &all), [1, 0]);
    }

    #[test]
    fn who_is_tried_changes_every_thirty_seconds_and_new_ones_come_first() {
        let (start, mut rng) = (Instant::now(), Rng::with_seed(3));
        let mut choker = Choker::new(1);
        let mut all = peers(start, &[9.0, 0.0, 0.0, 0.0, 0.0]);
        let mut turns: HashMap<usize, u32> = HashMap::new();
        let mut changes = 0;
        let mut last = 0;
        for round in 0..3000 {
            let now = start + ROUND * round;
            // The fourth is always new, the others never are.
            all.iter_mut().for_each(|peer| peer.since = now.checked_sub(NEW).unwrap_or(start));
            all[4].since = now;
            let tried = choker.round(now, &mut rng, &all)[1];
            assert!(round % 3 == 0 || tried == last, "a turn is three rounds");
            changes += u32::from(tried != last);
            last = tried;
            *turns.entry(tried).or_default() += 1;
        }
        assert!(changes > 950, "{changes}");
        assert!(turns[&4] > turns[&1] * 5 / 4 && turns[&1] > 100, "{turns:?}");
    }

    #[test]
    fn among_equals_nobody_is_choked_for_another() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut all = peers(now, &[0.0; 20]);
        all[7].unchoked = true;
        for _ in 0..20 {
            assert_eq!(Choker::new(1).round(now, &mut rng, &all)[0], 7);
        }
    }
}
