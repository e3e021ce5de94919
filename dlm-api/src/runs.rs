//! [`Runs`]: byte ranges with a value each, merged where they touch and agree. [`RangeSet`]: just the ranges.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

mod bits;
mod set;

pub(crate) use set::Grid;
pub use set::RangeSet;

/// Byte ranges with a value each. Runs never overlap, and two that touch have different values, so that there are never
/// more of them than needed. Every operation costs O(log n) in the number of runs, and O(1) for each run it replaces.
#[derive(Clone, PartialEq, Eq)]
pub struct Runs<T> {
    /// Start to end and value.
    map: BTreeMap<u64, (u64, T)>,
    bytes: u64,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), bytes: 0 }
    }
}

impl<T: Copy + PartialEq> Runs<T> {
    /// No runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes in all runs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The number of runs.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// Gives every byte of `range` the value `value`.
    pub fn set(&mut self, range: Range<u64>, value: T) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        let Range { mut start, mut end } = range;
        self.bytes += end - start;
        if let Some((&before, &(touch, v))) = self.map.range(..start).next_back()
            && touch == start
            && v == value
        {
            self.map.remove(&before);
            start = before;
        }
        if let Some(&(after, v)) = self.map.get(&end)
            && v == value
        {
            self.map.remove(&end);
            end = after;
        }
        self.map.insert(start, (end, value));
    }

    /// Takes every byte of `range` out, and says how many there were.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut removed = 0;
        if let Some((_, slot)) = self.map.range_mut(..range.start).next_back()
            && slot.0 > range.start
        {
            let (end, value) = *slot;
            slot.0 = range.start;
            removed += end.min(range.end) - range.start;
            if end > range.end {
                self.map.insert(range.end, (end, value));
            }
        }
        while let Some((&start, &(end, value))) = self.map.range(range.clone()).next() {
            self.map.remove(&start);
            removed += end.min(range.end) - start;
            if end > range.end {
                self.map.insert(range.end, (end, value));
            }
        }
        self.bytes -= removed;
        removed
    }

    /// The run that has the byte `at`.
    pub fn get(&self, at: u64) -> Option<(Range<u64>, T)> {
        let (&start, &(end, value)) = self.map.range(..=at).next_back()?;
        (end > at).then_some((start..end, value))
    }

    /// The first run that has a byte at or after `from`, cut off before it.
    pub fn next_from(&self, from: u64) -> Option<(Range<u64>, T)> {
        if let Some((run, value)) = self.get(from) {
            return Some((from..run.end, value));
        }
        self.map.range(from..).next().map(|(&start, &(end, value))| (start..end, value))
    }

    /// The runs inside `range`, cut off at its ends.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> + '_ {
        let first = self.get(range.start).map(|(run, _)| run.start).unwrap_or(range.start);
        // An empty range would be refused by the map when it is reversed.
        let end = range.end.max(first);
        self.map
            .range(first..end)
            .map(move |(&start, &(end, value))| (start.max(range.start)..end.min(range.end), value))
    }

    /// The bytes of `range` that are not there.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        gaps(range.clone(), self.within(range).map(|(run, _)| run))
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, T)> + '_ {
        self.map.iter().map(|(&start, &(end, value))| (start..end, value))
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Runs<()> {
    /// Puts `range` in.
    fn insert(&mut self, range: Range<u64>) {
        // The common case, one after the other: the last run grows.
        if let Some(mut last) = self.map.last_entry()
            && last.get().0 == range.start
            && !range.is_empty()
        {
            last.get_mut().0 = range.end;
            self.bytes += range.end - range.start;
            return;
        }
        if range.is_empty() {
            return;
        }
        let Range { start, mut end } = range;
        // What begins in it, or right behind it, becomes part of it; and that of what it touches before it.
        while let Some((&next, &(next_end, ()))) = self.map.range(start + 1..=end).next() {
            self.map.remove(&next);
            self.bytes -= next_end - next;
            end = end.max(next_end);
        }
        if let Some((_, before)) = self.map.range_mut(..=start).next_back()
            && before.0 >= start
        {
            self.bytes += end.saturating_sub(before.0);
            before.0 = before.0.max(end);
        } else {
            self.map.insert(start, (end, ()));
            self.bytes += end - start;
        }
    }
}

/// What lies between `runs`, which are in order, and inside of `range`.
fn gaps(range: Range<u64>, mut runs: impl Iterator<Item = Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    let mut done = false;
    std::iter::from_fn(move || {
        while !done {
            let (gap, next) = match runs.next() {
                Some(run) => (at..run.start, run.end),
                None => {
                    done = true;
                    (at..range.end, range.end)
                }
            };
            at = next;
            if !gap.is_empty() {
                return Some(gap);
            }
        }
        None
    })
}

impl<T: fmt::Debug> fmt::Debug for Runs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.map.iter().map(|(start, (end, value))| (start..end, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::set::Grid;
    use super::*;

    const SPACE: u64 = 64;

    #[derive(Clone, Debug)]
    enum Op {
        Set(Range<u64>, u8),
        Remove(Range<u64>),
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..SPACE, 0..SPACE).prop_map(|(a, b)| a.min(b)..a.max(b))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![(range(), 0..3u8).prop_map(|(r, v)| Op::Set(r, v)), range().prop_map(Op::Remove)]
    }

    /// Cells that begin and end in the middle of the space; few at first, so that they grow. Or none.
    const GRIDS: [Option<(u64, u64)>; 4] = [None, Some((0, 4)), Some((5, 3)), Some((7, 1))];

    proptest! {
        #[test]
        fn runs_are_what_an_array_of_bytes_would_be(
            ops in proptest::collection::vec(op(), 0..40), probe in range(), grid in 0..GRIDS.len(), laid in 0..40usize
        ) {
            let mut model = [None::<u8>; SPACE as usize];
            let mut runs = Runs::new();
            let mut set = RangeSet::new();
            for (i, op) in ops.into_iter().enumerate() {
                if let (Some((origin, cell)), 0) = (GRIDS[grid], i % (laid + 1)) {
                    set.lay_grid(Grid { origin, cell, cells: (4 + i).min(15) });
                }
                match op {
                    Op::Set(r, v) => {
                        runs.set(r.clone(), v);
                        set.insert(r.clone());
                        r.for_each(|i| model[i as usize] = Some(v));
                    }
                    Op::Remove(r) => {
                        let there = r.clone().filter(|&i| model[i as usize].is_some()).count() as u64;
                        prop_assert_eq!(runs.remove(r.clone()), there);
                        prop_assert_eq!(set.remove(r.clone()), there);
                        r.for_each(|i| model[i as usize] = None);
                    }
                }
            }
            let count = model.iter().flatten().count() as u64;
            prop_assert_eq!((runs.bytes(), set.bytes()), (count, count));
            for (i, value) in model.iter().enumerate() {
                prop_assert_eq!(runs.get(i as u64).map(|(_, v)| v), *value);
                let run = value.map(|_| {
                    let there = |i: &usize| model[*i].is_some();
                    let before = (0..i).rev().take_while(there).count() as u64;
                    i as u64 - before..i as u64 + (i..SPACE as usize).take_while(there).count() as u64
                });
                prop_assert_eq!(set.get(i as u64).map(|(run, ())| run), run);
            }
            let there = |i: &u64| model[*i as usize].is_some();
            prop_assert_eq!(set.contains(&probe), probe.clone().all(|i| there(&i)));
            prop_assert_eq!(set.overlaps(&probe), probe.clone().any(|i| there(&i)));
            prop_assert_eq!(set.bytes_within(probe.clone()), probe.clone().filter(there).count() as u64);
            let gaps: Vec<u64> = set.gaps(probe.clone()).flatten().collect();
            prop_assert_eq!(gaps, probe.clone().filter(|i| !there(i)).collect::<Vec<_>>());
            prop_assert_eq!(set.next_from(probe.start).map(|(r, ())| r.start), (probe.start..SPACE).find(there));
            // As few runs as can be.
            let edges = set.ranges().collect::<Vec<_>>();
            prop_assert!(edges.windows(2).all(|w| w[0].end < w[1].start));
            prop_assert_eq!(set.last(), edges.last().cloned());
            prop_assert_eq!(set.is_empty(), edges.is_empty());
            // However a set came about, it is the same.
            prop_assert_eq!(edges.into_iter().collect::<RangeSet>(), set);
        }
    }
}
