//! [`Seams`]: overlaps of neighbouring responses, compared.
//!
//! A range is asked for with a few bytes that come before it. If these are not what somebody else delivered there, the two
//! responses don't belong together, whatever their headers say.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Shared;
use crate::error::{Error, ErrorKind, Result, Retry, Scope};
use crate::ledger::Ledger;
use crate::span::{EntryId, SourceId, Span};
use crate::sync::lock;

/// How many overlaps may wait for their neighbour. There are few more than requests are open, since those whose bytes are there
/// are compared several times a second; more are not kept.
const MAX_WAITING: usize = 1024;

/// How many bytes at the front of what is there are fetched again where what comes before them is missing.
const FRONT: u64 = 4 << 10;

/// Bytes that a response brought of somebody else's span.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) entry: EntryId,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    pub(crate) source: SourceId,
}

impl Witness {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Overlaps that wait for the bytes which they are compared with.
#[derive(Default)]
pub(crate) struct Seams {
    waiting: Mutex<Vec<Witness>>,
    count: AtomicUsize,
}

impl Seams {
    /// Compares a chunk, about to be written, with the overlaps that wait for it. Says whose overlap it contradicts. The overlap
    /// stays: who writes there in place of a source that is not believed is compared with it, too.
    pub(crate) fn check(&self, entry: EntryId, offset: u64, chunk: &[u8]) -> Option<SourceId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let end = offset + chunk.len() as u64;
        let waiting = lock(&self.waiting);
        let differs = |w: &&Witness| {
            let (from, to) = (w.offset.max(offset), w.end().min(end));
            from < to
                && w.entry == entry
                && chunk[(from - offset) as usize..(to - offset) as usize]
                    != w.bytes[(from - w.offset) as usize..(to - w.offset) as usize]
        };
        waiting.iter().find(differs).map(|w| w.source)
    }

    fn keep(&self, witness: Witness) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push(witness);
        }
        self.count.store(waiting.len(), Ordering::Release);
    }

    /// Takes the overlaps of which every byte is sealed.
    fn take_ready(&self, shared: &Shared) -> Vec<Witness> {
        let mut waiting = lock(&self.waiting);
        let ready = shared.ledger(|ledger| {
            waiting.extract_if(.., |w| ledger.sealed(w.entry).contains(&(w.offset..w.end()))).collect()
        });
        self.count.store(waiting.len(), Ordering::Release);
        ready
    }

    /// An entry starts again: what was seen of it before counts no more.
    pub(crate) fn forget(&self, entry: EntryId) {
        self.retain(|w| w.entry != entry);
    }

    /// A source is not believed any more: others must not be measured by what it brought.
    pub(crate) fn forget_source(&self, source: SourceId) {
        self.retain(|w| w.source != source);
    }

    fn retain(&self, keep: impl Fn(&Witness) -> bool) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(keep);
        self.count.store(waiting.len(), Ordering::Release);
    }
}

impl Shared {
    /// Compares an overlap with what is there already; the rest of it waits for the bytes to come.
    pub(crate) async fn witness(&self, witness: Witness) -> Result<()> {
        let span = Span::new(witness.entry, witness.offset..witness.end());
        let all_there = self.ledger(|l| l.sealed(span.entry).contains(&span.range));
        if all_there {
            return self.compare(witness).await;
        }
        self.seams.keep(witness);
        Ok(())
    }

    /// A request for the very first bytes has none before it to compare. Where bytes behind them are here already, those at
    /// the front of these are fetched again with what is missing, and compared when they come.
    pub(crate) async fn guard_fronts(&self) -> Result<()> {
        let count = self.ledger(|ledger| ledger.entry_count());
        for entry in (0..count as u32).map(EntryId::new) {
            let Some((range, source)) = self.ledger(|ledger| ledger.first_after_gap(entry, FRONT)) else { continue };
            let span = Span::new(entry, range);
            match self.read(&span).await {
                Ok(bytes) => self.seams.keep(Witness { entry, offset: span.range.start, bytes, source }),
                Err(error) if error.kind() == ErrorKind::Unsupported => continue,
                Err(error) => return Err(error),
            }
            self.ledger(|ledger| ledger.take_back(entry, span.range.clone()));
        }
        Ok(())
    }

    async fn compare(&self, witness: Witness) -> Result<()> {
        let span = Span::new(witness.entry, witness.offset..witness.end());
        let there = match self.read(&span).await {
            // Passed on already, and compared when it was.
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            result => result?,
        };
        let Some(differs) = there.iter().zip(&witness.bytes).position(|(a, b)| a != b) else { return Ok(()) };
        // Where a digest says what is right, an overlap says nothing more: the bytes of either may be the wrong ones.
        if self.ledger(|ledger| is_all_in_pieces(ledger, &span)) {
            return Ok(());
        }
        // It may have been taken back in between.
        let by = self.ledger(|l| {
            let at = span.range.start + differs as u64;
            l.sealed(span.entry).contains(&span.range).then(|| l.delivered_by(span.entry, at)).flatten()
        });
        let Some(other) = by else { return Ok(()) };
        let (accused, error) = self.judge(witness.source, other, &span);
        if accused != witness.source {
            // Whoever writes there next is compared with it, too.
            self.seams.keep(witness);
        }
        Err(error)
    }

    /// Two responses brought different bytes for the same place. One source that contradicts itself has changed, or makes up what it
    /// sends; of two sources, the one that gave less is not believed.
    pub(crate) fn disagreement(&self, source: SourceId, other: SourceId, span: &Span) -> Error {
        self.judge(source, other, span).1
    }

    /// Who is not believed any more, and the error of `source`.
    fn judge(&self, source: SourceId, other: SourceId, span: &Span) -> (SourceId, Error) {
        let error = |who: &str| {
            Error::new(ErrorKind::Changed, "two responses have different bytes at the same place")
                .with("offset", span.range.start)
                .with("other", who)
        };
        let (accused, error) = self.ledger(|ledger| {
            let names = [source, other].map(|s| ledger.source_name(s).to_owned());
            if source != other && ledger.is_in_doubt(span.entry, other) {
                // What is there is on its way out; whoever brings something else may be the one who is right.
                return (other, error(&names[1]).with_retry(Retry::Now).with_scope(Scope::Span));
            }
            if source != other {
                let shares = ledger.shares(span.entry);
                let share = |s: SourceId| shares.iter().find(|(by, _)| *by == s).map_or(0, |(_, bytes)| *bytes);
                if share(other) < share(source) {
                    ledger.accuse(other, error(&names[0]));
                    return (other, error(&names[1]).with_retry(Retry::Now).with_scope(Scope::Span));
                }
            }
            if source == other {
                // What it says of its ranges is worth nothing.
                ledger.set_solo(span.entry);
            }
            ledger.accuse(source, error(&names[1]));
            (source, error(&names[1]))
        });
        self.seams.forget_source(accused);
        (accused, error)
    }

    /// Compares every overlap whose bytes are there by now, up to the first that contradicts; the others stay.
    pub(crate) async fn check_seams(&self) -> Result<()> {
        let mut ready = self.seams.take_ready(self).into_iter();
        while let Some(witness) = ready.next() {
            if let Err(error) = self.compare(witness).await {
                ready.for_each(|witness| self.seams.keep(witness));
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Whether each byte of the range has a piece, and thereby a digest.
pub(crate) fn is_all_in_pieces(ledger: &Ledger, span: &Span) -> bool {
    let mut at = span.range.start;
    while at < span.range.end {
        let Some(piece) = ledger.piece_range_at(span.entry, at) else { return false };
        at = piece.end;
    }
    true
}
