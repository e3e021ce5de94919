//! What was there before: it is looked at before anything is fetched, and counts as far as the digests of its pieces say so.

use futures::StreamExt;
use tokio::task;

use super::conductor::Conductor;
use crate::error::{Error, ErrorKind, Result, Scope};
use crate::event::{Event, State};
use crate::ledger::PieceId;
use crate::pipeline::{READ_BACK, Ready, Shared};
use crate::runs::RangeSet;
use crate::span::{EntryId, SourceId, Span};
use crate::transfer::Task;

/// How many entries are looked at before something else gets its turn.
const LOOKED_AT_TOGETHER: usize = 256;

/// How many groups of pieces are checked again at once, and how many pieces are in one: enough to keep a few cores busy.
const RECHECKS_AT_ONCE: usize = 8;
const RECHECKED_TOGETHER: usize = 16;

/// Which pieces are right.
pub(super) type Rechecked = Vec<(PieceId, bool)>;

impl Conductor {
    /// What stands for what was there before.
    pub(super) fn past(&mut self) -> SourceId {
        *self.past.get_or_insert_with(|| self.shared.ledger(|ledger| ledger.add_past()))
    }

    /// Looks at what the sink has of entries that were learned since.
    pub(super) async fn look(&mut self) -> Result<()> {
        let unseen = self.shared.ledger(|ledger| ledger.unseen(LOOKED_AT_TOGETHER));
        if unseen.is_empty() {
            return Ok(());
        }
        let by = self.past();
        for id in unseen {
            let found = self.shared.look(id).await?;
            if found.is_none() {
                self.left.insert(id, self.shared.sink.location(id));
            }
            self.shared.ledger(|ledger| match found {
                Some(found) if self.shared.setup.look_first => ledger.seen(id, found, by),
                Some(_) => ledger.seen(id, RangeSet::new(), by),
                None => {
                    // What it has of pieces that it shares is fetched all the same, and put aside.
                    ledger.seen(id, RangeSet::new(), by);
                    ledger.set_wanted(id, false);
                }
            });
        }
        // There may be more of them.
        self.shared.notify();
        Ok(())
    }

    /// The only entry was prepared already: what is there of it may be right, if a digest will say so.
    pub(super) fn found(&mut self, entry: EntryId, ready: &Ready) {
        if !self.shared.setup.look_first {
            return;
        }
        let by = self.past();
        let found = ready.prepared.existing.iter().map(|span| span.range.clone()).collect();
        self.shared.ledger(|ledger| {
            ledger.seen(entry, found, by);
            if ledger.has_user_digest(entry) && !ledger.has_pieces(entry) {
                ledger.adopt_unproven(entry);
            }
        });
    }

    /// Tells what came of the check, once there is nothing left to be checked.
    pub(super) fn tell_checked(&mut self) -> Result<()> {
        if self.is_checked || !self.shared.setup.look_first {
            return Ok(());
        }
        let (is_known, is_checking) = self.shared.ledger(|l| (l.is_layout_complete(), l.is_checking()));
        if is_checking {
            self.set_state(State::Checking);
        }
        if is_checking || !is_known {
            return Ok(());
        }
        let (pieces, right) = self.shared.ledger(|ledger| ledger.count_pieces());
        // Of one file the layout is known from the start, and its pieces are not.
        if pieces == 0 && !self.shared.setup.keep_as_is {
            return Ok(());
        }
        self.is_checked = true;
        if self.set_state(State::Running) == State::Checking || self.shared.setup.keep_as_is {
            self.shared.send(Event::Checked { pieces, right });
        }
        if self.shared.setup.keep_as_is && right == 0 {
            let error = Error::new(ErrorKind::Corrupt, "nothing of what is there is right");
            return Err(error.with_scope(Scope::Download).with("pieces", pieces));
        }
        Ok(())
    }

    /// Pieces that were learned after their bytes had come are checked, several at once on the engine's threads.
    pub(super) fn recheck(&mut self) {
        self.unchecked.extend(self.shared.ledger(|ledger| ledger.take_recheck()));
        while self.rechecks.len() < RECHECKS_AT_ONCE && !self.unchecked.is_empty() {
            let some: Vec<PieceId> = self.unchecked.drain(..self.unchecked.len().min(RECHECKED_TOGETHER)).collect();
            let shared = self.shared.clone();
            let check = async move {
                let mut checked = Vec::with_capacity(some.len());
                for id in some {
                    checked.push((id, check(&shared, id).await?));
                    task::yield_now().await;
                }
                Ok(checked)
            };
            self.rechecks.push(Task::new(&self.shared.setup.spawner, check));
        }
    }

    /// What rechecks came to.
    pub(super) async fn rechecked(&mut self, checked: Option<Result<Rechecked>>) -> Result<()> {
        let gone = || Err(Error::new(ErrorKind::Internal, "the task of a recheck is gone"));
        for (id, good) in checked.unwrap_or_else(gone)? {
            if good {
                self.shared.ledger(|ledger| ledger.rechecked(id, good));
            } else {
                self.wrong(id).await?;
            }
        }
        self.shared.notify();
        Ok(())
    }

    /// A piece is wrong: what has its final name loses it, and is mended.
    async fn wrong(&mut self, id: PieceId) -> Result<()> {
        let piece = self.shared.ledger(|ledger| ledger.piece(id));
        let Span { entry, range } = piece.spans[0].clone();
        if self.shared.setup.keep_as_is {
            self.shared.ledger(|ledger| ledger.rechecked(id, false));
            return Ok(());
        }
        let is_finished = |span: &&Span| self.shared.ledger(|ledger| ledger.is_finished(span.entry));
        let finished: Vec<EntryId> = piece.spans.iter().filter(is_finished).map(|span| span.entry).collect();
        // Those on their way to their names come there first: what is in between can't be taken back.
        while !finished.is_empty()
            && let Some(group) = self.finishing.next().await
        {
            self.finished_some(group)?;
        }
        self.shared.ledger(|ledger| ledger.rechecked(id, false));
        for entry in finished {
            self.shared.take_back(entry).await?;
        }
        if !self.shared.setup.look_first {
            // Of what was looked at there may be thousands: how many is told at the end.
            self.shared.send(Event::PieceCorrupt { entry, range, source: "an earlier response".into() });
        }
        Ok(())
    }
}

/// Whether the sealed bytes of a piece match its digest.
async fn check(shared: &Shared, id: PieceId) -> Result<bool> {
    let piece = shared.ledger(|ledger| ledger.piece(id));
    let mut hasher = piece.digest.function().start();
    for span in &piece.spans {
        // Padding that was there before was never written to.
        shared.prepare(span.entry).await?;
        let mut at = span.range.start;
        while at < span.range.end {
            let end = span.range.end.min(at + READ_BACK);
            hasher.update(&shared.read(&Span::new(span.entry, at..end)).await?);
            at = end;
        }
    }
    Ok(piece.digest.matches(hasher))
}
