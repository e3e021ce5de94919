//! What the ledger knows of a lease.

use std::ops::Range;
use std::time::Instant;

use crate::meter::Meter;
use crate::runs::RangeSet;
use crate::span::{EntryId, SourceId, Span};

/// A span of a lease, with what became of its bytes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) span: Span,
    /// Bytes that the source has handed over. Nobody can take them from the lease any more.
    pub(super) admitted: RangeSet,
    /// Of these, bytes that are in the sink but not sealed.
    pub(super) landed: RangeSet,
}

impl Held {
    pub(super) fn new(span: Span) -> Self {
        Self { span, admitted: RangeSet::new(), landed: RangeSet::new() }
    }

    /// The bytes at the end that have not been handed over.
    pub(super) fn tail(&self) -> Range<u64> {
        let range = &self.span.range;
        let from = self.admitted.last().map_or(range.start, |last| last.end);
        from..range.end
    }

    /// The first bytes of `range` that are in this span and were not handed over before.
    pub(super) fn fresh(&self, entry: EntryId, range: &Range<u64>) -> Option<Range<u64>> {
        let within = range.start.max(self.span.range.start)..range.end.min(self.span.range.end);
        if self.span.entry != entry || within.is_empty() {
            return None;
        }
        self.admitted.gaps(within).next()
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.contains(&self.span.range)
    }
}

#[derive(Debug)]
pub(super) struct LeaseState {
    pub(super) source: SourceId,
    pub(super) hedge: bool,
    pub(super) held: Vec<Held>,
    /// Bytes that were handed over before the lease lost them. The source may still have them in a buffer.
    pub(super) lost: Vec<Span>,
    pub(super) meter: Meter,
    pub(super) since: Instant,
}

impl LeaseState {
    pub(super) fn new(source: SourceId, hedge: bool, spans: &[Span], now: Instant) -> Self {
        let held = spans.iter().cloned().map(Held::new).collect();
        Self { source, hedge, held, lost: Vec::new(), meter: Meter::new(now), since: now }
    }

    pub(super) fn held_at(&mut self, entry: EntryId, at: u64) -> Option<&mut Held> {
        self.held.iter_mut().find(|h| h.span.entry == entry && h.span.range.contains(&at))
    }

    /// Whether all of `span` is in one of its spans.
    pub(super) fn holds(&self, span: &Span) -> bool {
        self.held.iter().any(|h| h.span.contains(span))
    }

    /// The longest of the ends of its spans that have not been handed over: what can be stolen at once.
    pub(super) fn tail(&self) -> Option<Span> {
        self.tails().max_by_key(Span::len)
    }

    /// The end of one of its spans, not handed over, that has all of `span` in it.
    pub(super) fn tail_with(&self, span: &Span) -> Option<Span> {
        self.tails().find(|tail| tail.contains(span))
    }

    fn tails(&self) -> impl Iterator<Item = Span> {
        self.held.iter().map(|held| Span::new(held.span.entry, held.tail()))
    }

    /// Whether all of `span` is its, and nothing of it was handed over, or of what follows.
    pub(super) fn has_untouched(&self, span: &Span) -> bool {
        let of_entry = self.tails().filter(|tail| tail.entry == span.entry);
        of_entry.map(|tail| tail.range).collect::<RangeSet>().contains(&span.range)
    }

    /// Whether it holds these spans and nothing else.
    pub(super) fn holds_just(&self, spans: &[Span]) -> bool {
        self.held.len() == spans.len() && spans.iter().all(|span| self.held.iter().any(|h| h.span == *span))
    }

    /// What of `span` it holds.
    pub(super) fn parts_of(&self, span: &Span) -> impl Iterator<Item = Span> {
        let of_entry = self.held.iter().map(|h| &h.span).filter(move |held| held.entry == span.entry);
        let part = |held: &Span| held.range.start.max(span.range.start)..held.range.end.min(span.range.end);
        of_entry.map(move |held| Span::new(span.entry, part(held))).filter(|part| !part.is_empty())
    }

    /// Takes `range` out of the lease, cutting a span in two where it must.
    pub(super) fn carve(&mut self, entry: EntryId, range: &Range<u64>) {
        let mut rest = Vec::with_capacity(self.held.len());
        for mut held in self.held.drain(..) {
            let Range { start, end } = held.span.range;
            if held.span.entry != entry || end <= range.start || range.end <= start {
                rest.push(held);
                continue;
            }
            self.lost.extend(held.admitted.within(range.clone()).map(|(run, ())| Span::new(entry, run)));
            held.admitted.remove(range.clone());
            held.landed.remove(range.clone());
            for part in [start..range.start, range.end..end] {
                if part.is_empty() {
                    continue;
                }
                let mut kept = Held::new(Span::new(entry, part.clone()));
                kept.admitted = held.admitted.within(part.clone()).map(|(r, ())| r).collect();
                kept.landed = held.landed.within(part).map(|(r, ())| r).collect();
                rest.push(kept);
            }
        }
        self.held = rest;
    }

    pub(super) fn has_landed(&self, span: &Span) -> bool {
        self.held.iter().any(|h| h.span.entry == span.entry && !span.is_empty() && h.landed.contains(&span.range))
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.held.iter().map(|held| held.span.len()).sum()
    }

    /// How many of its bytes are in the sink and not sealed.
    pub(super) fn landed_bytes(&self) -> u64 {
        self.held.iter().map(|held| held.landed.bytes()).sum()
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.held.iter().all(Held::is_admitted)
    }
}
