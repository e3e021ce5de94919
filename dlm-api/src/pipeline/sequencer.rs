//! [`Sequencer`]: puts bytes in order for a sink that has no random access.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::sink::SinkInfo;
use crate::span::{EntryId, Span};

/// The most that is given to the sink in one write, in bytes.
const MAX_WRITE: usize = 1 << 20;

/// How many of the bytes given to the sink are kept, so that an overlap can be compared with them.
const HISTORY: u64 = 8 << 10;

/// The window of a sink that doesn't name one, in bytes.
const WINDOW: u64 = 16 << 20;

/// Bytes that wait for their turn. How many there can be is bounded by the window in which leases are given out.
pub(crate) struct Sequencer {
    cursor: u64,
    waiting: BTreeMap<u64, Bytes>,
    history: VecDeque<(u64, Bytes)>,
}

impl Sequencer {
    pub(crate) fn new() -> Self {
        Self { cursor: 0, waiting: BTreeMap::new(), history: VecDeque::new() }
    }

    /// The first byte that the sink was not given.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Forgets what waits. Says whether nothing had been passed on, so that another content can take its place.
    pub(crate) fn restart(&mut self) -> bool {
        self.waiting.clear();
        self.cursor == 0
    }

    /// Takes bytes in place of those that wait there: wrong ones, or those of a lease that ended. What was passed on stays as
    /// it was.
    pub(crate) fn put(&mut self, mut offset: u64, data: Vec<Bytes>) {
        for mut chunk in data {
            let passed_on = self.cursor.saturating_sub(offset).min(chunk.len() as u64);
            chunk = chunk.slice(passed_on as usize..);
            offset += passed_on;
            let end = offset + chunk.len() as u64;
            if !chunk.is_empty() {
                self.make_room(&(offset..end));
                self.waiting.insert(offset, chunk);
            }
            offset = end;
        }
    }

    /// Drops what waits of `range`: it was wrong, or it would not come again.
    fn make_room(&mut self, range: &Range<u64>) {
        let end = |at: u64, chunk: &Bytes| at + chunk.len() as u64;
        let first = self.waiting.range(..range.start).next_back().filter(|(at, chunk)| end(**at, chunk) > range.start);
        let from = first.map_or(range.start, |(at, _)| *at);
        while let Some((&at, _)) =
            self.waiting.range(from..range.end).find(|(at, chunk)| end(**at, chunk) > range.start)
        {
            let Some(chunk) = self.waiting.remove(&at) else { return };
            if at < range.start {
                self.waiting.insert(at, chunk.slice(..(range.start - at) as usize));
            }
            if end(at, &chunk) > range.end {
                self.waiting.insert(range.end, chunk.slice((range.end - at) as usize..));
            }
        }
    }

    /// The next bytes for the sink, of those before `sealed_end`.
    pub(crate) fn take_next(&mut self, sealed_end: u64) -> Option<(u64, Vec<Bytes>)> {
        let offset = self.cursor;
        let (mut data, mut len) = (Vec::new(), 0);
        while len < MAX_WRITE
            && let Some(first) = self.waiting.first_entry()
            && *first.key() == self.cursor
            && self.cursor + first.get().len() as u64 <= sealed_end
        {
            let chunk = first.remove();
            self.remember(&chunk);
            self.cursor += chunk.len() as u64;
            len += chunk.len();
            data.push(chunk);
        }
        (!data.is_empty()).then_some((offset, data))
    }

    fn remember(&mut self, chunk: &Bytes) {
        let skip = chunk.len().saturating_sub(HISTORY as usize);
        // A copy, so that a few bytes don't keep a large buffer alive.
        self.history.push_back((self.cursor + skip as u64, Bytes::copy_from_slice(&chunk[skip..])));
        let end = self.cursor + chunk.len() as u64;
        while self.history.front().is_some_and(|(at, old)| at + old.len() as u64 + HISTORY <= end) {
            self.history.pop_front();
        }
    }

    /// What may be leased now: as far ahead of the cursor as the sink allows, and never less than the piece there.
    pub(crate) fn window(&self, entry: EntryId, info: &SinkInfo, ledger: &Ledger) -> Option<Span> {
        let end = self.cursor.saturating_add(info.window.unwrap_or(WINDOW));
        let piece_end = ledger.piece_range_at(entry, self.cursor).map_or(0, |range| range.end);
        Some(Span::new(entry, self.cursor..end.max(piece_end)))
    }

    pub(crate) fn read(&self, range: &Range<u64>) -> Result<Bytes> {
        let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        let waiting = self.waiting.range(..range.end).rev().take_while(|(o, c)| **o + c.len() as u64 > range.start);
        let mut chunks: Vec<(u64, &Bytes)> = waiting.map(|(offset, chunk)| (*offset, chunk)).collect();
        chunks.extend(self.history.iter().rev().map(|(offset, chunk)| (*offset, chunk)));
        for (offset, chunk) in chunks.into_iter().rev() {
            let end = offset + chunk.len() as u64;
            if (offset..end).contains(&at) && at < range.end {
                let part = (at - offset) as usize..(end.min(range.end) - offset) as usize;
                at += part.len() as u64;
                out.extend_from_slice(&chunk[part]);
            }
        }
        if at == range.end {
            return Ok(out.freeze());
        }
        Err(Error::new(ErrorKind::Unsupported, "these bytes were passed on and can't be read back").with("offset", at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_takes_the_place_of_what_waits() {
        let mut s = Sequencer::new();
        s.put(0, vec![Bytes::from_static(b"ab")]);
        s.put(3, vec![Bytes::from_static(b"XXXX"), Bytes::from_static(b"ij")]);
        s.put(2, vec![Bytes::from_static(b"cd"), Bytes::from_static(b"ef")]);
        s.put(6, vec![Bytes::from_static(b"g")]);
        let (_, data) = s.take_next(9).unwrap();
        assert_eq!(data.concat(), b"abcdefgij");
        s.put(7, vec![Bytes::from_static(b"Z"), Bytes::from_static(b"Zj")]);
        assert_eq!(s.take_next(10), Some((9, vec![Bytes::from_static(b"j")])));
        assert!(s.waiting.is_empty());
    }

    #[test]
    fn bytes_leave_in_order_and_only_when_sealed() {
        let mut s = Sequencer::new();
        s.put(4, vec![Bytes::from_static(b"ef"), Bytes::from_static(b"gh")]);
        assert_eq!(s.take_next(8), None);
        s.put(0, vec![Bytes::from_static(b"abcd")]);
        assert_eq!(&s.read(&(2..7)).unwrap()[..], b"cdefg");
        assert_eq!(s.take_next(6), Some((0, vec![Bytes::from_static(b"abcd"), Bytes::from_static(b"ef")])));
        assert_eq!(s.cursor(), 6);
        assert_eq!(&s.read(&(1..8)).unwrap()[..], b"bcdefgh");
        assert_eq!(s.read(&(6..9)).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn bytes_that_come_again_in_other_chunks_take_the_place_of_the_first() {
        let mut s = Sequencer::new();
        s.put(0, vec![Bytes::from_static(b"xxx"), Bytes::from_static(b"xxx"), Bytes::from_static(b"xxxij")]);
        s.put(1, vec![Bytes::from_static(b"bcde"), Bytes::from_static(b"fgh")]);
        s.put(0, vec![Bytes::from_static(b"a")]);
        assert_eq!(&s.read(&(0..10)).unwrap()[..], b"abcdefghxi");
        s.put(8, vec![Bytes::from_static(b"i")]);
        let (offset, data) = s.take_next(11).unwrap();
        assert_eq!((offset, data.concat().as_slice()), (0, &b"abcdefghiij"[..]));
        assert_eq!(s.take_next(11), None);
    }
}
