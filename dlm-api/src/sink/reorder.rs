//! [`Reorder`]: bytes that arrive in any order, given out in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};

/// Holds bytes that came before their turn, for a sink that takes them in order only. Never holds more than its limit.
///
/// Of bytes that come twice, the first ones count.
#[derive(Debug)]
pub struct Reorder {
    limit: u64,
    /// The offset of the first byte that was not given out.
    cursor: u64,
    held: u64,
    /// What waits, by offset; no two overlap.
    waiting: BTreeMap<u64, Bytes>,
}

/// What is too far ahead to be held; it must come again when the cursor has moved on.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct TooFar(pub Vec<Bytes>);

impl Reorder {
    /// Holds bytes less than `limit` ahead of the cursor, which starts at `start`.
    pub fn new(start: u64, limit: u64) -> Self {
        Self { limit, cursor: start, held: 0, waiting: BTreeMap::new() }
    }

    /// The offset of the first byte that was not given out.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The offset before which bytes are taken.
    pub fn end(&self) -> u64 {
        self.cursor.saturating_add(self.limit)
    }

    /// The number of bytes that wait.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Takes `data`, chunk after chunk, at `offset`: all of it, or nothing if its end is too far ahead.
    pub fn insert(&mut self, offset: u64, data: Vec<Bytes>) -> Result<(), TooFar> {
        let len: u64 = data.iter().map(|chunk| chunk.len() as u64).sum();
        if offset.checked_add(len).is_none_or(|end| end > self.end()) {
            return Err(TooFar(data));
        }
        let mut at = offset;
        for chunk in data {
            let next = at + chunk.len() as u64;
            self.insert_chunk(at, chunk);
            at = next;
        }
        Ok(())
    }

    fn insert_chunk(&mut self, mut at: u64, mut chunk: Bytes) {
        while !chunk.is_empty() {
            // Bytes up to here are there already.
            let before = self.waiting.range(..=at).next_back().map_or(0, |(start, held)| start + held.len() as u64);
            let start = before.max(self.cursor).max(at);
            // Both differences are within the chunk, or what is left of it is nothing.
            chunk.advance(usize::try_from(start - at).map_or(chunk.len(), |skip| skip.min(chunk.len())));
            let after = self.waiting.range(start..).next().map_or(u64::MAX, |(next, _)| *next);
            let piece =
                chunk.split_to(usize::try_from(after - start).map_or(chunk.len(), |room| room.min(chunk.len())));
            at = start + piece.len() as u64;
            if !piece.is_empty() {
                self.held += piece.len() as u64;
                self.waiting.insert(start, piece);
            }
        }
    }

    /// Takes out all that follows the cursor without a gap, with its offset, and moves the cursor behind it; `None` if its
    /// first byte is missing.
    pub fn pop(&mut self) -> Option<(u64, Vec<Bytes>)> {
        let start = self.cursor;
        let mut ready = VecDeque::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() == self.cursor) {
            let chunk = first.remove();
            self.cursor += chunk.len() as u64;
            self.held -= chunk.len() as u64;
            ready.push_back(chunk);
        }
        (!ready.is_empty()).then(|| (start, ready.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 64;
    const CONTENT: u64 = 400;

    /// The byte that belongs at an offset.
    fn byte(offset: u64) -> u8 {
        (offset % 251) as u8
    }

    fn chunks(offset: u64, len: u64, size: usize) -> Vec<Bytes> {
        let bytes: Vec<u8> = (offset..offset + len).map(byte).collect();
        bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn a_gap_holds_back_what_follows_it() {
        let mut reorder = Reorder::new(10, LIMIT);
        reorder.insert(15, chunks(15, 5, 2)).unwrap();
        assert!(reorder.pop().is_none());
        assert_eq!(reorder.held(), 5);
        reorder.insert(10, chunks(10, 5, 5)).unwrap();
        let (at, data) = reorder.pop().unwrap();
        assert_eq!((at, data.concat()), (10, chunks(10, 10, 10).concat()));
        assert_eq!((reorder.cursor(), reorder.held()), (20, 0));
    }

    #[test]
    fn what_is_too_far_ahead_is_given_back() {
        let mut reorder = Reorder::new(0, LIMIT);
        let TooFar(data) = reorder.insert(60, chunks(60, 5, 5)).unwrap_err();
        assert_eq!(data.concat(), chunks(60, 5, 5).concat());
        assert!(reorder.insert(u64::MAX, chunks(0, 1, 1)).is_err());
        reorder.insert(60, chunks(60, 4, 4)).unwrap();
        assert_eq!(reorder.held(), 4);
    }

    #[test]
    fn the_first_of_two_counts() {
        let mut reorder = Reorder::new(0, LIMIT);
        reorder.insert(2, vec![Bytes::from_static(b"first")]).unwrap();
        reorder.insert(0, vec![Bytes::from_static(b"0123456789")]).unwrap();
        assert_eq!(reorder.held(), 10);
        assert_eq!(reorder.pop().unwrap().1.concat(), b"01first789");
        reorder.insert(0, vec![Bytes::from_static(b"late")]).unwrap();
        assert!(reorder.pop().is_none());
        assert_eq!(reorder.held(), 0);
    }

    proptest! {
        #[test]
        fn every_byte_comes_out_once_in_its_place(
            inserts in proptest::collection::vec((0..CONTENT, 0..40u64, 1..9usize), 0..200)
        ) {
            let mut reorder = Reorder::new(0, LIMIT);
            let mut given = vec![false; CONTENT as usize + 40];
            let mut out = Vec::new();
            for (ahead, len, size) in inserts {
                // Mostly near the cursor, also behind it and too far ahead.
                let offset = (reorder.cursor() + ahead % 90).saturating_sub(10);
                let fits = offset + len <= reorder.end();
                let taken = reorder.insert(offset, chunks(offset, len, size)).is_ok();
                prop_assert_eq!(taken, fits);
                if taken {
                    given.resize(given.len().max((offset + len) as usize), false);
                    given[offset as usize..(offset + len) as usize].fill(true);
                }
                if let Some((at, data)) = reorder.pop() {
                    prop_assert_eq!(at, out.len() as u64);
                    out.extend(data.concat());
                }
                let ready = given.iter().take_while(|given| **given).count() as u64;
                prop_assert_eq!(reorder.cursor(), ready);
                let held = given[ready as usize..].iter().filter(|given| **given).count() as u64;
                prop_assert_eq!(reorder.held(), held);
                prop_assert!(held <= LIMIT);
            }
            prop_assert!(out.iter().enumerate().all(|(i, b)| *b == byte(i as u64)));
        }
    }
}
