//! [`Lease`]: a source's exclusive right to write some spans.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result, Retry, Scope};
use crate::event::Event;
use crate::fact::Piece;
use crate::ledger::{Grant, PieceId};
use crate::pipeline::{READ_BACK, is_all_in_pieces, now};
use crate::span::{EntryId, LeaseId, OPEN_END, Span};
use crate::transfer::{Transfer, too_large};

/// Bytes are given to the sink when this many are there: few large writes cost less than many small ones, but bytes that
/// leave the cache before they are written cost more.
const COALESCE: usize = 256 << 10;

/// Or when the oldest has waited for this long, so that a kill costs no more than this at any rate.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Whether a lease wants more.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[must_use]
#[allow(clippy::exhaustive_enums)]
pub enum Flow {
    /// It does.
    More,
    /// It has all it wants: it is served, or what was left of it was taken away.
    Stop,
}

/// A source's exclusive right to write some spans. What it hasn't sealed when it is dropped goes back to the pool.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    transfer: Transfer,
    spans: Vec<Span>,
    hedge: bool,
    buffer: Buffer,
    /// Pieces whose first bytes are hashed.
    running: HashMap<PieceId, Running>,
    prepared: Option<EntryId>,
    /// What is written to has the final name, and may lose it by that.
    is_in_place: bool,
    /// Bytes that were wanted, of all that were handed over.
    admitted: u64,
}

/// The digest of a piece, hashed as far as its bytes came in order.
struct Running {
    hasher: Box<dyn Hasher>,
    next: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Lease {
    pub(crate) fn new(transfer: Transfer, grant: Grant) -> Self {
        let Grant { lease: id, spans, hedge } = grant;
        Self {
            id,
            transfer,
            spans,
            hedge,
            buffer: Buffer::default(),
            running: HashMap::new(),
            prepared: None,
            is_in_place: false,
            admitted: 0,
        }
    }

    /// The spans as they were given out. What is [`remaining`](Self::remaining) of them can become less at any time.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// What has not been handed over of what the lease still holds.
    pub fn remaining(&self) -> Vec<Span> {
        self.transfer.shared.ledger(|ledger| ledger.remaining(self.id))
    }

    /// How many of the bytes that were handed over were wanted.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Takes what is free right behind the lease, for a body that goes on there.
    pub(crate) fn extend(&mut self) {
        self.transfer.shared.ledger(|ledger| ledger.extend(self.id));
    }

    /// Hands over bytes of an entry. They may come in any order within the lease; bytes outside it are thrown away.
    ///
    /// Waits for the rate limit and for the sink: that is the back-pressure, a source doesn't read on meanwhile.
    /// [`ErrorKind::Corrupt`] says that a piece is whole now and wrong; the lease has lost it then, and can go on with the rest.
    pub async fn write(&mut self, entry: EntryId, offset: u64, data: Bytes) -> Result<Flow> {
        let shared = self.transfer.shared.clone();
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= OPEN_END);
        let end =
            end.ok_or_else(|| Error::new(ErrorKind::Protocol, "bytes beyond the end of any file").with("at", offset))?;
        shared.pass(data.len() as u64).await;
        self.transfer.count(data.len() as u64, false);
        if let Some(max) = shared.setup.max_size
            && end > max
            && shared.ledger(|ledger| ledger.is_wanted(entry))
        {
            return Err(too_large(end, max));
        }
        // Where a digest says what is right, an overlap says nothing more: the bytes of either may be the wrong ones.
        if let Some(other) = shared.seams.check(entry, offset, &data)
            && !shared.ledger(|ledger| is_all_in_pieces(ledger, &Span::new(entry, offset..end)))
        {
            return Err(shared.disagreement(self.transfer.source(), other, &Span::new(entry, offset..end)));
        }
        if self.prepared != Some(entry) {
            let prepared = shared.prepare_to_write(entry).await?.prepared;
            if prepared.skip {
                let others = shared.ledger(|ledger| ledger.skip_one_of_many(entry));
                shared.notify();
                if others {
                    return Ok(if self.remaining().is_empty() { Flow::Stop } else { Flow::More });
                }
                return Err(Error::new(ErrorKind::Cancelled, "the file is there already and is left as it is"));
            }
            self.prepared = Some(entry);
            self.is_in_place |= prepared.taken_over;
        }
        let (mut at, mut last) = (offset, false);
        while at < end && !last {
            let admitted = shared.ledger(|ledger| ledger.admit(self.id, entry, at..end, now()));
            last = admitted.last;
            let from = at + admitted.skip;
            let to = from + admitted.take;
            self.admitted += admitted.take;
            if admitted.take > 0 {
                self.buffer.push(entry, from, data.slice((from - offset) as usize..(to - offset) as usize));
            }
            shared.counters.wasted.fetch_add(admitted.skip, Ordering::Relaxed);
            at = to;
        }
        shared.counters.wasted.fetch_add(end - at, Ordering::Relaxed);
        if self.hedge {
            if last {
                self.win().await?;
            }
        } else if last || self.buffer.is_due() {
            self.flush().await?;
        }
        Ok(if last { Flow::Stop } else { Flow::More })
    }

    /// Gives all that was handed over to the sink. A source calls this when nothing more may come for a while; otherwise
    /// it happens by itself, a tenth of a second late at the most.
    pub async fn flush(&mut self) -> Result<()> {
        if self.hedge {
            return Ok(());
        }
        let mut wrong = Ok(());
        for (entry, offset, data) in self.buffer.take() {
            // A piece that is wrong is no reason to throw away what came with it.
            let stored = self.store(entry, offset, data).await;
            wrong = wrong.and(stored);
        }
        wrong
    }

    /// Whether bytes wait that [`flush`](Self::flush) would give to the sink.
    pub fn is_dirty(&self) -> bool {
        !self.hedge && !self.buffer.runs.is_empty()
    }

    async fn store(&mut self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()> {
        let shared = self.transfer.shared.clone();
        let landed = shared.put(self.id, entry, offset, data.clone()).await?;
        if self.is_in_place {
            self.is_in_place = shared.is_still_in_place(entry).await?;
        }
        // Not before they are in the sink: bytes that never got there must not make a piece right.
        self.hash(entry, offset, &data);
        let len: usize = data.iter().map(Bytes::len).sum();
        if landed.sealed == len as u64 && shared.info.random_access {
            shared.whole.offer(entry, offset, &data, landed.version);
        }
        let mut wrong = None;
        for id in landed.pieces {
            wrong = self.check(id).await?.or(wrong);
        }
        shared.drain(entry).await?;
        shared.notify();
        wrong.map_or(Ok(()), Err)
    }

    /// Feeds the digests of the pieces that these bytes go on with.
    fn hash(&mut self, entry: EntryId, offset: u64, data: &[Bytes]) {
        let len: usize = data.iter().map(Bytes::len).sum();
        let span = Span::new(entry, offset..offset + len as u64);
        let parts: Vec<(PieceId, u64, Span, Option<Digest>)> = self.transfer.shared.ledger(|ledger| {
            let mut parts = Vec::new();
            for id in ledger.pieces_within(&span) {
                let mut base = 0;
                let piece = ledger.piece(id);
                for part in &piece.spans {
                    if part.entry == entry && part.range.start < span.range.end && span.range.start < part.range.end {
                        let from = part.range.start.max(offset);
                        let linear = base + (from - part.range.start);
                        let new = (linear == 0).then(|| piece.digest.clone());
                        parts.push((id, linear, Span::new(entry, from..part.range.end.min(span.range.end)), new));
                    }
                    base += part.len();
                }
            }
            parts
        });
        for (id, linear, part, first) in parts {
            if let Some(digest) = first {
                self.running.insert(id, Running { hasher: digest.function().start(), next: 0 });
            }
            let Some(running) = self.running.get_mut(&id).filter(|r| r.next == linear) else { continue };
            let mut at = offset;
            for chunk in data {
                let end = at + chunk.len() as u64;
                let (from, to) = (part.range.start.max(at), part.range.end.min(end));
                if from < to {
                    running.hasher.update(&chunk[(from - at) as usize..(to - at) as usize]);
                }
                at = end;
            }
            running.next += part.len();
        }
    }

    /// Checks a piece that is whole now, and seals it or gives it back. `Some` is what is wrong with it.
    async fn check(&mut self, id: PieceId) -> Result<Option<Error>> {
        let shared = &self.transfer.shared;
        let piece = shared.ledger(|ledger| ledger.piece(id));
        let fresh = || Running { hasher: piece.digest.function().start(), next: 0 };
        let mut running = self.running.remove(&id).unwrap_or_else(fresh);
        let mut base = 0;
        for span in &piece.spans {
            // What came out of order was not hashed on its way.
            while running.next < base + span.len() {
                let from = span.range.start + (running.next - base);
                let back = Span::new(span.entry, from..span.range.end.min(from + READ_BACK));
                let data = shared.read(&back).await?;
                running.hasher.update(&data);
                running.next += back.len();
            }
            base += span.len();
        }
        Ok(self.judge(id, &piece, &running.hasher.finish()))
    }

    fn judge(&self, id: PieceId, piece: &Piece, found: &[u8]) -> Option<Error> {
        let shared = &self.transfer.shared;
        let spans = &piece.spans;
        let (entry, range) = (spans[0].entry, spans[0].range.clone());
        if found == piece.digest.bytes() {
            if let (true, true) = shared.ledger(|ledger| ledger.seal_piece(self.id, id)) {
                shared.send(Event::Repaired { entry, range });
            }
            return None;
        }
        let source = shared.ledger(|ledger| {
            if !ledger.fail_piece(self.id, id) {
                return None;
            }
            ledger.testify(self.transfer.source(), id, found);
            Some(ledger.source_name(self.transfer.source()).to_owned())
        })?;
        let len: u64 = spans.iter().map(Span::len).sum();
        shared.counters.wasted.fetch_add(len, Ordering::Relaxed);
        shared.send(Event::PieceCorrupt { entry, range: range.clone(), source });
        let error = Error::new(ErrorKind::Corrupt, "a piece does not match its digest");
        let error = error.with("entry", entry).with("start", range.start).with("end", range.end);
        Some(error.with_scope(Scope::Span).with_retry(Retry::Now))
    }

    /// A hedge has its piece. If it is right, and nobody else was faster, it takes the place of what others have of it.
    async fn win(&mut self) -> Result<()> {
        let shared = self.transfer.shared.clone();
        let Some(id) = shared.ledger(|ledger| ledger.piece_at(self.spans[0].entry, self.spans[0].range.start)) else {
            return Ok(());
        };
        let piece = shared.ledger(|ledger| ledger.piece(id));
        let runs = self.buffer.take();
        let mut hasher = piece.digest.function().start();
        for span in &piece.spans {
            let of_span = runs.iter().filter(|(entry, offset, _)| *entry == span.entry && span.range.contains(offset));
            of_span.flat_map(|(_, _, data)| data).for_each(|chunk| hasher.update(chunk));
        }
        let found = hasher.finish();
        if found != piece.digest.bytes() {
            return self.judge(id, &piece, &found).map_or(Ok(()), Err);
        }
        let mut changes = self.transfer.changes();
        if !shared.ledger(|ledger| ledger.take_over(self.id, id)) {
            shared.counters.wasted.fetch_add(piece.len(), Ordering::Relaxed);
            return Ok(());
        }
        self.hedge = false;
        // The loser's last write must not land on top of ours.
        while shared.ledger(|ledger| ledger.is_writing(&piece.spans)) {
            changes.next().await;
        }
        for (entry, offset, data) in runs {
            shared.put(self.id, entry, offset, data).await?;
        }
        self.judge(id, &piece, &found);
        for span in &piece.spans {
            shared.drain(span.entry).await?;
        }
        shared.notify();
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.transfer.shared.ledger(|ledger| ledger.release(self.id));
        self.transfer.shared.notify();
    }
}

/// Bytes that were handed over and wait for the sink, in runs.
#[derive(Default, Debug)]
struct Buffer {
    runs: Vec<(EntryId, u64, Vec<Bytes>)>,
    bytes: usize,
    since: Option<Instant>,
}

impl Buffer {
    fn push(&mut self, entry: EntryId, offset: u64, data: Bytes) {
        self.since.get_or_insert_with(now);
        self.bytes += data.len();
        match self.runs.last_mut() {
            Some((e, start, chunks)) if *e == entry && *start + total(chunks) == offset => chunks.push(data),
            _ => self.runs.push((entry, offset, vec![data])),
        }
    }

    fn is_due(&self) -> bool {
        self.bytes >= COALESCE || self.since.is_some_and(|since| now().saturating_duration_since(since) >= FLUSH_AFTER)
    }

    /// Everything, in order, as few runs as can be.
    fn take(&mut self) -> Vec<(EntryId, u64, Vec<Bytes>)> {
        self.bytes = 0;
        self.since = None;
        let mut runs = std::mem::take(&mut self.runs);
        runs.sort_by_key(|(entry, offset, _)| (*entry, *offset));
        let mut merged: Vec<(EntryId, u64, Vec<Bytes>)> = Vec::with_capacity(runs.len());
        for (entry, offset, chunks) in runs {
            match merged.last_mut() {
                Some((e, start, before)) if *e == entry && *start + total(before) == offset => before.extend(chunks),
                _ => merged.push((entry, offset, chunks)),
            }
        }
        merged
    }
}

fn total(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

#[cfg(test)]
mod tests;
