//! Which piece is to be fetched next.
//!
//! The pieces that may be started stand in one array for each priority, partitioned into buckets by how many peers have
//! them. A piece that one more peer has is swapped with the last of its bucket, and the boundary moves over it: no sorting.
//! Who has every piece is only counted, so that seeds cost nothing.
//!
//! The invariant: a piece is in the order if and only if it is wanted, not had and not taken.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use fastrand::Rng;

use super::Bitfield;

/// How many pieces of the order are looked at before the search goes by the peer's bitfield instead.
const MAX_PROBES: u32 = 1024;

/// How many pieces of a peer's bitfield are compared then. The best of so many is close to the rarest of all.
const MAX_COMPARED: usize = 1024;

/// The most deadlines kept: a reader's window of 1 GiB in pieces of 1 MiB.
const MAX_DEADLINES: usize = 1024;

/// A bitfield with more than one in so many of the pieces is counted first and sorted in with the next pick.
const BULK: u32 = 8;

/// Stands for "not in the order".
const NOWHERE: u32 = u32::MAX;

/// How much a piece is wanted: 0 not at all, 1 the least, 7 the most. The higher come first, however rare the others are.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Priority(u8);

impl Priority {
    /// It is not fetched.
    pub const UNWANTED: Self = Self(0);
    /// What every piece begins with.
    pub const NORMAL: Self = Self(4);
    /// Before all others.
    pub const HIGHEST: Self = Self(7);

    /// This level; above 7 is 7.
    pub const fn new(level: u8) -> Self {
        Self(if level > 7 { 7 } else { level })
    }

    /// The level, from 0 to 7.
    pub const fn level(self) -> u8 {
        self.0
    }
}

/// In which order pieces without a deadline are picked.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Order {
    /// The one that the fewest peers have, so that none gets lost.
    #[default]
    RarestFirst,
    /// From the first to the last, for who can use the content only in order.
    Sequential,
}

/// Which pieces a peer has.
#[derive(Copy, Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Has<'a> {
    /// Every one.
    All,
    /// These.
    Pieces(&'a Bitfield),
}

impl Has<'_> {
    /// Whether it has this piece.
    #[inline]
    pub fn has(&self, piece: u32) -> bool {
        match self {
            Self::All => true,
            Self::Pieces(bits) => bits.has(piece),
        }
    }
}

/// How many copies of the content the connected peers have together.
#[derive(Copy, Clone, PartialEq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Copies {
    /// So many of every piece.
    pub whole: u32,
    /// The share of the pieces of which there is one more.
    pub fraction: f32,
}

/// Chooses pieces.
#[derive(Debug)]
pub struct Picker {
    levels: [Level; 7],
    /// Where each piece stands in its level's order.
    places: Vec<u32>,
    /// How many peers have each piece, seeds not counted.
    counts: Vec<u16>,
    priorities: Vec<Priority>,
    /// Neither had nor unwanted.
    missing: Bitfield,
    /// Those of them that nobody took.
    free: Bitfield,
    had: Bitfield,
    seeds: u32,
    /// How many of all pieces are had by so many peers.
    histogram: Vec<u32>,
    /// No free piece is before this one.
    first_free: u32,
    order: Order,
    /// What is picked in order begins here, and ends before the other one; what is before it comes last.
    start: u32,
    end: u32,
    deadlines: BTreeSet<(Instant, u32)>,
    deadline_of: HashMap<u32, Instant>,
    /// Counts have changed without their pieces being moved.
    stale: bool,
    rng: Rng,
}

/// The pieces of one priority: `order` in buckets, the one of pieces had by `n` peers ending at `ends[n]`.
#[derive(Default, Debug)]
struct Level {
    order: Vec<u32>,
    ends: Vec<u32>,
}

impl Picker {
    /// A picker for so many pieces of which `had` are there already.
    pub fn new(had: Bitfield, mut rng: Rng) -> Self {
        let pieces = had.size();
        let mut order: Vec<u32> = (0..pieces).filter(|piece| !had.has(*piece)).collect();
        rng.shuffle(&mut order);
        let mut places = vec![NOWHERE; pieces as usize];
        let mut missing = Bitfield::new(pieces);
        for (place, piece) in order.iter().enumerate() {
            places[*piece as usize] = place as u32;
            missing.insert(*piece);
        }
        let mut levels: [Level; 7] = Default::default();
        levels[level_of(Priority::NORMAL)] = Level { ends: vec![order.len() as u32], order };
        Self {
            levels,
            places,
            counts: vec![0; pieces as usize],
            priorities: vec![Priority::NORMAL; pieces as usize],
            free: missing.clone(),
            missing,
            had,
            seeds: 0,
            histogram: vec![pieces],
            first_free: 0,
            order: Order::default(),
            start: 0,
            end: u32::MAX,
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            stale: false,
            rng,
        }
    }

    /// The pieces that are wanted and not had, taken ones among them.
    pub fn missing(&self) -> &Bitfield {
        &self.missing
    }

    /// The missing pieces that nobody took.
    pub fn free(&self) -> &Bitfield {
        &self.free
    }

    /// The pieces that are had.
    pub fn had(&self) -> &Bitfield {
        &self.had
    }

    /// How many connected peers have the piece.
    pub fn availability(&self, piece: u32) -> u32 {
        self.seeds + self.counts.get(piece as usize).map_or(0, |n| u32::from(*n))
    }

    /// How many copies the connected peers have together.
    pub fn copies(&self) -> Copies {
        let least = self.histogram.iter().position(|n| *n > 0).unwrap_or(0);
        let more: u32 = self.histogram[least..].iter().skip(1).sum();
        Copies { whole: self.seeds + least as u32, fraction: more as f32 / self.had.size().max(1) as f32 }
    }

    /// A peer that has every piece came.
    pub fn seed_joined(&mut self) {
        self.seeds += 1;
    }

    /// A peer that was counted as a seed left.
    pub fn seed_left(&mut self) {
        self.seeds = self.seeds.saturating_sub(1);
    }

    /// A peer with these pieces came.
    pub fn joined(&mut self, pieces: &Bitfield) {
        self.stale |= pieces.count() > 64 && pieces.count() > self.had.size() / BULK;
        pieces.iter().for_each(|piece| self.have(piece));
    }

    /// A peer that had these pieces left.
    pub fn left(&mut self, pieces: &Bitfield) {
        self.stale |= pieces.count() > 64 && pieces.count() > self.had.size() / BULK;
        pieces.iter().for_each(|piece| self.lost(piece));
    }

    /// One more peer has the piece.
    pub fn have(&mut self, piece: u32) {
        let Some(count) = self.counts.get_mut(piece as usize) else { return };
        let before = *count as usize;
        if *count == u16::MAX {
            return;
        }
        *count += 1;
        self.histogram[before] -= 1;
        if self.histogram.len() == before + 1 {
            self.histogram.push(0);
        }
        self.histogram[before + 1] += 1;
        let place = self.places[piece as usize];
        if place != NOWHERE && !self.stale {
            let level = &mut self.levels[level_of(self.priorities[piece as usize])];
            level.reach(before + 1);
            let last = level.ends[before] - 1;
            level.swap(place, last, &mut self.places);
            level.ends[before] = last;
        }
    }

    /// One peer less has the piece.
    pub fn lost(&mut self, piece: u32) {
        let Some(count) = self.counts.get_mut(piece as usize) else { return };
        let Some(after) = count.checked_sub(1) else { return };
        *count = after;
        let after = after as usize;
        self.histogram[after + 1] -= 1;
        self.histogram[after] += 1;
        let place = self.places[piece as usize];
        if place != NOWHERE && !self.stale {
            let level = &mut self.levels[level_of(self.priorities[piece as usize])];
            let first = level.ends[after];
            level.swap(place, first, &mut self.places);
            level.ends[after] = first + 1;
        }
    }

    /// Chooses the free piece that should be fetched from this peer next. It stays free until it is [taken](Self::take).
    pub fn pick(&mut self, has: Has<'_>) -> Option<u32> {
        self.sort();
        if self.free.is_empty() {
            return None;
        }
        let urgent = self.deadlines.iter().map(|(_, piece)| *piece);
        if let Some(piece) = urgent.into_iter().find(|piece| self.free.has(*piece) && has.has(*piece)) {
            return Some(piece);
        }
        match self.order {
            Order::RarestFirst => self.rarest(has),
            Order::Sequential => self.next_in_order(has),
        }
    }

    /// The piece is being fetched: nobody else is to begin with it.
    pub fn take(&mut self, piece: u32) {
        if self.free.remove(piece) {
            self.remove(piece);
        }
    }

    /// It is no longer being fetched, and still missing.
    pub fn put_back(&mut self, piece: u32) {
        if self.missing.has(piece) && self.free.insert(piece) {
            self.insert(piece);
        }
    }

    /// The piece is had.
    pub fn done(&mut self, piece: u32) {
        self.take(piece);
        self.missing.remove(piece);
        self.had.insert(piece);
        self.set_deadline(piece, None);
    }

    /// How much the piece is wanted.
    pub fn priority(&self, piece: u32) -> Priority {
        self.priorities.get(piece as usize).copied().unwrap_or(Priority::UNWANTED)
    }

    /// Changes how much the piece is wanted. One that is being fetched is fetched to its end.
    pub fn set_priority(&mut self, piece: u32, priority: Priority) {
        let before = self.priority(piece);
        if piece >= self.had.size() || before == priority {
            return;
        }
        let was_free = self.free.has(piece);
        if was_free {
            self.take(piece);
        }
        self.priorities[piece as usize] = priority;
        if self.had.has(piece) {
            return;
        }
        if priority == Priority::UNWANTED {
            self.missing.remove(piece);
        } else if before == Priority::UNWANTED {
            // A piece that was unwanted while it was fetched is known to the swarm, which takes it again.
            self.missing.insert(piece);
            self.put_back(piece);
        } else if was_free {
            self.put_back(piece);
        }
    }

    /// Changes the order in which pieces are picked.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// Where what is picked in order begins, and before which piece it ends, if it does: then nothing else is picked. If not, what
    /// comes before `start` is picked last.
    pub fn set_window(&mut self, start: u32, end: Option<u32>) {
        (self.start, self.end) = (start, end.unwrap_or(u32::MAX));
    }

    /// The order in which pieces are picked.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Says by when somebody waits for the piece, or that nobody does. Such pieces come first, the earliest before all.
    /// Beyond 1,024 deadlines the latest is forgotten.
    pub fn set_deadline(&mut self, piece: u32, deadline: Option<Instant>) {
        let before = match deadline {
            Some(at) if self.missing.has(piece) => self.deadline_of.insert(piece, at),
            _ => self.deadline_of.remove(&piece),
        };
        if let Some(before) = before {
            self.deadlines.remove(&(before, piece));
        }
        if let Some(at) = self.deadline_of.get(&piece) {
            self.deadlines.insert((*at, piece));
        }
        if self.deadlines.len() > MAX_DEADLINES
            && let Some((_, latest)) = self.deadlines.pop_last()
        {
            self.deadline_of.remove(&latest);
        }
    }

    /// The pieces that somebody waits for, the most urgent first.
    pub fn urgent(&self) -> impl Iterator<Item = u32> + '_ {
        self.deadlines.iter().map(|(_, piece)| *piece)
    }

    /// The pieces that somebody has been waiting for too long, the most urgent first.
    pub fn overdue(&self, now: Instant) -> impl Iterator<Item = u32> + '_ {
        self.deadlines.iter().take_while(move |(at, _)| *at <= now).map(|(_, piece)| *piece)
    }

    /// Whether somebody waits for a piece.
    #[inline]
    pub fn is_urgent(&self) -> bool {
        !self.deadlines.is_empty()
    }

    fn rarest(&mut self, has: Has<'_>) -> Option<u32> {
        let mut probes = MAX_PROBES;
        for level in self.levels.iter().rev() {
            let mut start = 0;
            for end in &level.ends {
                let bucket = &level.order[start as usize..*end as usize];
                start = *end;
                if bucket.is_empty() {
                    continue;
                }
                // Where the search begins is drawn, so that peers in the same position pick different pieces.
                let (head, tail) = bucket.split_at(self.rng.usize(..bucket.len()));
                for piece in tail.iter().chain(head) {
                    if has.has(*piece) {
                        return Some(*piece);
                    }
                    probes -= 1;
                    if probes == 0 {
                        return self.best_of_peer(has);
                    }
                }
            }
        }
        None
    }

    /// The best of some pieces that the peer has, for one that has few of those that are free.
    fn best_of_peer(&mut self, has: Has<'_>) -> Option<u32> {
        let Has::Pieces(bits) = has else { return None };
        let from = self.rng.u32(..bits.size().max(1));
        let (after, before) = (self.free.iter_common(bits, from), self.free.iter_common(bits, 0));
        let rank = |piece: &u32| (7 - self.priority(*piece).level(), self.counts[*piece as usize]);
        after.chain(before).take(MAX_COMPARED).min_by_key(rank)
    }

    fn next_in_order(&mut self, has: Has<'_>) -> Option<u32> {
        if let Some(first) = self.free.iter_common(&self.free, self.first_free).next() {
            self.first_free = first;
        }
        let from = |at: u32| {
            let mut free = match has {
                Has::All => self.free.iter_common(&self.free, at),
                Has::Pieces(bits) => self.free.iter_common(bits, at),
            };
            free.find(|piece| *piece >= at).filter(|piece| *piece < self.end)
        };
        let start = self.start.max(self.first_free);
        from(start)
            .or_else(|| (start > self.first_free && self.end == u32::MAX).then(|| from(self.first_free)).flatten())
    }

    fn insert(&mut self, piece: u32) {
        self.sort();
        self.first_free = self.first_free.min(piece);
        let count = self.counts[piece as usize] as usize;
        let level = &mut self.levels[level_of(self.priorities[piece as usize])];
        level.reach(count);
        // The hole at the end wanders down to the bucket: the first of each bucket above moves behind its last.
        let mut hole = level.order.len();
        level.order.push(piece);
        for bucket in (count + 1..level.ends.len()).rev() {
            let first = level.ends[bucket - 1] as usize;
            // An empty bucket has nothing to move.
            if first != hole {
                level.put(hole, level.order[first], &mut self.places);
            }
            level.ends[bucket] += 1;
            hole = first;
        }
        level.ends[count] += 1;
        level.put(hole, piece, &mut self.places);
    }

    fn remove(&mut self, piece: u32) {
        self.sort();
        let level = &mut self.levels[level_of(self.priorities[piece as usize])];
        let mut hole = self.places[piece as usize] as usize;
        for bucket in self.counts[piece as usize] as usize..level.ends.len() {
            level.ends[bucket] -= 1;
            let last = level.ends[bucket] as usize;
            if last != hole {
                level.put(hole, level.order[last], &mut self.places);
            }
            hole = last;
        }
        level.order.pop();
        self.places[piece as usize] = NOWHERE;
    }

    /// Sorts all pieces into their buckets, keeping the drawn order inside each.
    fn sort(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        for level in &mut self.levels {
            let count_of = |piece: u32| self.counts[piece as usize] as usize;
            let most = level.order.iter().map(|piece| count_of(*piece)).max().unwrap_or(0);
            let mut starts = vec![0u32; most + 2];
            level.order.iter().for_each(|piece| starts[count_of(*piece) + 1] += 1);
            (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
            level.ends = starts[1..].to_vec();
            let old = std::mem::take(&mut level.order);
            level.order = vec![0; old.len()];
            for piece in old {
                let place = &mut starts[count_of(piece)];
                level.order[*place as usize] = piece;
                self.places[piece as usize] = *place;
                *place += 1;
            }
        }
    }
}

impl Level {
    /// Makes sure that there is a bucket for pieces had by so many.
    fn reach(&mut self, count: usize) {
        if self.ends.len() <= count {
            self.ends.resize(count + 1, self.order.len() as u32);
        }
    }

    fn put(&mut self, place: usize, piece: u32, places: &mut [u32]) {
        self.order[place] = piece;
        places[piece as usize] = place as u32;
    }

    fn swap(&mut self, a: u32, b: u32, places: &mut [u32]) {
        self.order.swap(a as usize, b as usize);
        places[self.order[a as usize] as usize] = a;
        places[self.order[b as usize] as usize] = b;
    }
}

/// The index of a priority's pieces. Unwanted pieces are in no order, so that theirs is never asked for.
fn level_of(priority: Priority) -> usize {
    usize::from(priority.level().saturating_sub(1))
}

#[cfg(test)]
mod tests;
