//! [`Bits`]: a bitmap that finds the next one at once.

use std::ops::Range;

const WORD: usize = u64::BITS as usize;

/// A bitmap with another one above it, of the words that are not zero, and so on: looking for a one costs a word a level.
#[derive(Clone, Default, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    above: Option<Box<Bits>>,
}

impl Bits {
    /// Makes it `len` bits long, if it is shorter. New bits are zero.
    pub(super) fn grow(&mut self, len: usize) {
        self.words.resize(self.words.len().max(len.div_ceil(WORD)), 0);
        if self.words.len() > 1 {
            let is_new = self.above.is_none();
            let above = self.above.get_or_insert_default();
            above.grow(self.words.len());
            if is_new && self.words[0] != 0 {
                above.fill(0..1, true);
            }
        }
    }

    pub(super) fn get(&self, at: usize) -> bool {
        self.words.get(at / WORD).is_some_and(|word| word >> (at % WORD) & 1 == 1)
    }

    /// Gives all bits of `range` this value, and says how many had another.
    pub(super) fn fill(&mut self, range: Range<usize>, value: bool) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut changed = 0;
        for w in range.start / WORD..range.end.div_ceil(WORD) {
            let (from, to) = (range.start.max(w * WORD) - w * WORD, range.end.min((w + 1) * WORD) - w * WORD);
            let mask = (u64::MAX >> (WORD - (to - from))) << from;
            let before = self.words[w];
            let after = if value { before | mask } else { before & !mask };
            self.words[w] = after;
            changed += u64::from((before ^ after).count_ones());
            if (before == 0) != (after == 0)
                && let Some(above) = &mut self.above
            {
                above.fill(w..w + 1, after != 0);
            }
        }
        changed
    }

    /// The first one at or after `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let w = from / WORD;
        let rest = self.words.get(w)? & (u64::MAX << (from % WORD));
        if rest != 0 {
            return Some(w * WORD + rest.trailing_zeros() as usize);
        }
        let w = self.above.as_ref()?.next(w + 1)?;
        Some(w * WORD + self.words[w].trailing_zeros() as usize)
    }

    /// The last one at or before `at`, which is inside.
    pub(super) fn last_to(&self, at: usize) -> Option<usize> {
        let w = at / WORD;
        let last_of = |w: usize, word: u64| w * WORD + (WORD - 1) - word.leading_zeros() as usize;
        let rest = self.words.get(w)? & (u64::MAX >> (WORD - 1 - at % WORD));
        if rest != 0 {
            return Some(last_of(w, rest));
        }
        let w = self.above.as_ref()?.last_to(w.checked_sub(1)?)?;
        Some(last_of(w, self.words[w]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three levels, so that a search goes up and down again.
    #[test]
    fn ones_far_apart_are_found() {
        let mut bits = Bits::default();
        bits.grow(10);
        bits.fill(3..4, true);
        bits.grow(600_000);
        assert_eq!(bits.fill(500_000..500_002, true), 2);
        assert_eq!(bits.fill(500_001..500_003, true), 1, "one of them was there");
        assert_eq!((bits.next(0), bits.next(4), bits.next(500_003)), (Some(3), Some(500_000), None));
        assert_eq!((bits.last_to(599_999), bits.last_to(499_999), bits.last_to(2)), (Some(500_002), Some(3), None));
        assert_eq!(bits.fill(0..600_000, false), 4);
        assert_eq!((bits.next(0), bits.last_to(599_999)), (None, None));
    }
}
