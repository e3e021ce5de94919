//! Claims: a scheduler's pick, checked and made a lease.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use super::lease::LeaseState;
use super::{Ledger, View};
use crate::runs::RangeSet;
use crate::scheduler::{Ask, Pick, Scheduler, Want};
use crate::span::{EntryId, LeaseId, OPEN_END, Span};

/// A lease that was given out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Its number.
    pub lease: LeaseId,
    /// Its bytes.
    pub spans: Vec<Span>,
    /// Whether somebody else is fetching them too, so that they are staged in memory until they are verified.
    pub hedge: bool,
}

/// Why there is no lease.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum NotNow {
    /// Nothing at present; ask again when the ledger has changed.
    Wait,
    /// Nothing any more.
    Done,
}

impl Ledger {
    /// Gives a source the bytes that the scheduler picks for it.
    pub fn claim(&mut self, ask: &Ask, scheduler: &mut dyn Scheduler, now: Instant) -> Result<Grant, NotNow> {
        let entry_done = |e: EntryId| self.entries.get(e.index()).is_some_and(|e| e.wanted && e.is_complete());
        if self.is_benched(ask.source) || self.is_complete() || ask.entry.is_some_and(entry_done) {
            return Err(NotNow::Done);
        }
        if self.keeps || self.exclusive.is_some_and(|only| only != ask.source) {
            return Err(NotNow::Wait);
        }
        if let Some(entry) = ask.entry.filter(|entry| !self.is_wanted(*entry)) {
            return self.take_edge(ask, entry, now);
        }
        let is_wanted = |span: &Span| self.entries.get(span.entry.index()).is_none_or(|e| e.wanted);
        if matches!(&ask.want, Want::Exactly(spans) if !spans.iter().any(is_wanted)) {
            return Err(NotNow::Wait);
        }
        let ask = &*self.without_sealed(ask);
        if matches!(&ask.want, Want::Exactly(spans) if spans.is_empty()) {
            return Err(NotNow::Wait);
        }
        match scheduler.pick(&View { ledger: self, now }, ask, now) {
            Pick::Take(spans) => self.take(ask, spans, now),
            Pick::Steal { lease, at } => self.steal(ask, lease, at, now),
            Pick::Hedge(spans) => self.hedge(ask, &spans, now),
            Pick::Wait => Err(NotNow::Wait),
            Pick::Done => Err(NotNow::Done),
        }
    }

    /// Who wants exactly a piece of which a part is sealed is given the rest of it.
    fn without_sealed<'a>(&self, ask: &'a Ask) -> Cow<'a, Ask> {
        let is_sealed =
            |span: &Span| self.entries.get(span.entry.index()).is_some_and(|e| e.sealed.contains(&span.range));
        match &ask.want {
            Want::Exactly(spans) if spans.iter().any(is_sealed) => {
                let missing = spans.iter().filter(|span| !is_sealed(span)).cloned().collect();
                Cow::Owned(Ask { want: Want::Exactly(missing), ..ask.clone() })
            }
            _ => Cow::Borrowed(ask),
        }
    }

    fn take(&mut self, ask: &Ask, spans: Vec<Span>, now: Instant) -> Result<Grant, NotNow> {
        let spans: Vec<Span> = match &ask.want {
            Want::Any { .. } => spans.into_iter().find_map(|span| self.fit(ask, span)).unwrap_or_default(),
            Want::Exactly(_) => {
                let free = |span: &Span| self.entries[span.entry.index()].free.contains(&span.range);
                if !self.may_lease_exactly(ask, &spans) || !spans.iter().all(free) {
                    return Err(NotNow::Wait);
                }
                spans
            }
        };
        if spans.is_empty() {
            return Err(NotNow::Wait);
        }
        for span in &spans {
            self.entries[span.entry.index()].free.remove(span.range.clone());
            self.touch(span.entry);
        }
        Ok(self.grant(ask, spans, false, now))
    }

    /// Of an entry that nobody wants, what it has of a piece that somebody does.
    fn take_edge(&mut self, ask: &Ask, id: EntryId, now: Instant) -> Result<Grant, NotNow> {
        let is_wanted = |span: &Span| self.is_wanted(span.entry);
        let edges = self.entries[id.index()].len.filter(|len| *len > 0).into_iter().flat_map(|len| [0, len - 1]);
        let wanted =
            edges.filter(|at| self.pieces.at(id, *at).is_some_and(|p| self.pieces.spans(p).iter().any(is_wanted)));
        let mut parts = wanted.filter_map(|at| self.pieces.range_at(id, at)).collect::<Vec<_>>();
        let entry = &self.entries[id.index()];
        parts.retain(|part| !entry.sealed.contains(part));
        match parts.iter().find(|part| entry.free.contains(part)) {
            Some(part) => self.take(ask, vec![Span::new(id, part.clone())], now),
            None if parts.is_empty() => Err(NotNow::Done),
            // Somebody else is at it.
            None => Err(NotNow::Wait),
        }
    }

    /// Adds to a lease what is free right behind it, in whole pieces. One that goes on in another entry stays where it is: the
    /// body for which this is done ends before it. Nor does the lease get back what it was handed before it lost it: a copy of
    /// that may wait to be written, and would land on what has been sealed meanwhile.
    pub fn extend(&mut self, lease: LeaseId) {
        let Some(state) = self.leases.get(&lease).filter(|l| !l.hedge) else { return };
        let Some(Span { entry, range: Range { end, .. } }) = state.held.last().map(|h| h.span.clone()) else { return };
        let is_blocked = self.entries[entry.index()].blocked;
        let Some((run, ())) = self.entries[entry.index()].free.get(end).filter(|_| !is_blocked) else { return };
        let lost = state.lost.iter().filter(|lost| lost.entry == entry && lost.range.end > end);
        let free_end = lost.map(|lost| lost.range.start.max(end)).fold(run.end, u64::min);
        let whole = self.align(entry, end..free_end, free_end).and_then(|range| self.without_crossing(entry, range));
        let Some(more) = whole.filter(|more| more.start == end) else { return };
        if let Some(held) = self.leases.get_mut(&lease).and_then(|l| l.held.last_mut()) {
            held.span.range.end = more.end;
            self.entries[entry.index()].free.remove(more);
            self.touch(entry);
        }
    }

    fn grant(&mut self, ask: &Ask, spans: Vec<Span>, hedge: bool, now: Instant) -> Grant {
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        self.sources[ask.source.index()].active = true;
        self.leases.insert(lease, LeaseState::new(ask.source, hedge, &spans, now));
        Grant { lease, spans, hedge }
    }

    fn may_deliver(&self, ask: &Ask, entry: EntryId) -> bool {
        ask.entry.is_none_or(|only| only == entry) && self.entries.get(entry.index()).is_some_and(|e| !e.blocked)
    }

    /// Whether one stream has to bring the entry: not where each piece proves itself.
    fn is_one_stream(&self, entry: EntryId) -> bool {
        self.entries[entry.index()].solo && !self.is_covered_by_pieces(entry)
    }

    fn is_leased(&self, entry: EntryId) -> bool {
        self.leases.values().any(|l| l.held.iter().any(|h| h.span.entry == entry))
    }

    /// What of `span` may be leased as it stands: from its first byte, to the edges of pieces. Pieces that cross entries
    /// bring their other spans with them, but for who can deliver only this entry: his part waits for those of others.
    fn fit(&self, ask: &Ask, span: Span) -> Option<Vec<Span>> {
        let id = span.entry;
        if !self.may_deliver(ask, id) {
            return None;
        }
        let entry = &self.entries[id.index()];
        let range = if entry.len.is_none() || self.is_one_stream(id) {
            // One stream brings all of it, as nobody can tell where a second one would have to start, or whether it would fit.
            let (first, ()) = entry.free.next_from(0).filter(|_| !self.is_leased(id))?;
            first
        } else {
            self.fit_range(id, span.range)?
        };
        let mut spans = vec![Span::new(id, range.clone())];
        for at in [range.start, range.end - 1] {
            let Some(piece) = self.pieces.at(id, at).filter(|_| ask.entry.is_none()) else { continue };
            for other in self.pieces.spans(piece).iter().filter(|s| s.entry != id) {
                if self.entries[other.entry.index()].sealed.contains(&other.range) {
                    continue;
                }
                if !self.may_deliver(ask, other.entry) || !self.entries[other.entry.index()].free.contains(&other.range)
                {
                    return self.without_crossing(id, range).map(|range| vec![Span::new(id, range)]);
                }
                if !spans.contains(other) {
                    spans.push(other.clone());
                }
            }
        }
        Some(spans)
    }

    /// What of `range` is free, from its first byte on, and in the window, to the edges of pieces.
    fn fit_range(&self, id: EntryId, mut range: Range<u64>) -> Option<Range<u64>> {
        let (run, ()) = self.entries[id.index()].free.get(range.start)?;
        range.end = range.end.min(run.end);
        if let Some(window) = self.window.as_ref().filter(|w| w.entry == id) {
            if !window.range.contains(&range.start) {
                return None;
            }
            // The lease that the sink waits for needs no bound: the window follows it.
            if range.start != window.range.start {
                range.end = range.end.min(window.range.end);
            }
        }
        self.align(id, range, run.end)
    }

    /// `range` moved to the edges of pieces, within the free run that ends at `free_end`. At least one piece.
    fn align(&self, entry: EntryId, mut range: Range<u64>, free_end: u64) -> Option<Range<u64>> {
        if let Some(piece) = self.pieces.range_at(entry, range.start)
            && piece.start < range.start
        {
            range.start = piece.end;
            range.end = range.end.max(range.start + 1).min(free_end);
        }
        if range.is_empty() {
            return None;
        }
        if let Some(piece) = self.pieces.range_at(entry, range.end - 1) {
            range.end = if piece.end <= free_end { piece.end } else { piece.start };
        }
        (!range.is_empty()).then_some(range)
    }

    /// `range` without its first and last piece where these cross into other entries.
    fn without_crossing(&self, entry: EntryId, mut range: Range<u64>) -> Option<Range<u64>> {
        let crosses = |at: u64| self.pieces.at(entry, at).is_some_and(|id| self.pieces.spans(id).len() > 1);
        if crosses(range.start) {
            range.start = self.pieces.range_at(entry, range.start)?.end;
        }
        if range.start < range.end && crosses(range.end - 1) {
            range.end = self.pieces.range_at(entry, range.end - 1)?.start;
        }
        (range.start < range.end).then_some(range)
    }

    /// These spans, grown until each piece that they touch is wholly in them. Sorted, and merged where they touch.
    pub fn grown_to_pieces(&self, spans: &[Span]) -> Vec<Span> {
        let mut grown: BTreeMap<EntryId, RangeSet> = BTreeMap::new();
        let mut todo = spans.to_vec();
        while let Some(span) = todo.pop() {
            let set = grown.entry(span.entry).or_default();
            if set.contains(&span.range) {
                continue;
            }
            set.insert(span.range.clone());
            for id in self.pieces.overlapping(&span) {
                todo.extend(self.pieces.spans(id).iter().filter(|s| **s != span).cloned());
            }
        }
        let of_entry = |(entry, set): (&EntryId, &RangeSet)| {
            let entry = *entry;
            set.ranges().map(|range| Span::new(entry, range)).collect::<Vec<_>>()
        };
        grown.iter().flat_map(of_entry).collect()
    }

    /// Whether the spans could be one lease, were they free: apart, in the window, and with all that is missing of each piece
    /// that they touch in them.
    fn may_lease_exactly(&self, ask: &Ask, spans: &[Span]) -> bool {
        let is_sealed = |part: &Span| self.entries[part.entry.index()].sealed.contains(&part.range);
        let inside = |part: &Span| spans.iter().any(|span| span.contains(part)) || is_sealed(part);
        let apart = |i: usize| spans[..i].iter().all(|before| !before.overlaps(&spans[i]));
        let in_window =
            |span: &Span| self.window.as_ref().is_none_or(|w| w.entry == span.entry && span.range.end <= w.range.end);
        spans.iter().enumerate().all(|(i, span)| {
            !span.is_empty()
                && apart(i)
                && in_window(span)
                && self.may_deliver(ask, span.entry)
                && !self.is_one_stream(span.entry)
                && self.pieces.overlapping(span).all(|id| self.pieces.spans(id).iter().all(inside))
        })
    }

    fn steal(&mut self, ask: &Ask, lease: LeaseId, at: u64, now: Instant) -> Result<Grant, NotNow> {
        let victim = self.leases.get(&lease).filter(|l| !l.hedge).ok_or(NotNow::Wait)?;
        let (lost, spans) = match &ask.want {
            Want::Any { max } => {
                let lost = self.tail_from(ask, victim, at).ok_or(NotNow::Wait)?;
                let Span { entry, range } = lost.clone();
                let end = range.start.saturating_add(*max).min(range.end).min(OPEN_END);
                (self.grown_within(victim, lost), vec![Span::new(entry, range.start..end)])
            }
            Want::Exactly(spans) => {
                let lost = self.tails_behind(ask, victim, spans).ok_or(NotNow::Wait)?;
                (lost, spans.clone())
            }
        };
        for span in lost {
            if let Some(victim) = self.leases.get_mut(&lease) {
                victim.carve(span.entry, &span.range);
            }
            self.entries[span.entry.index()].free.insert(span.range);
            self.touch(span.entry);
        }
        self.take(ask, spans, now)
    }

    /// What a lease can lose at its end, from the first piece at or after `at` on.
    fn tail_from(&self, ask: &Ask, victim: &LeaseState, at: u64) -> Option<Span> {
        let Span { entry, range: tail } = victim.tail()?;
        let state = &self.entries[entry.index()];
        if self.is_one_stream(entry) || state.len.is_none() || !self.may_deliver(ask, entry) {
            return None;
        }
        let mut at = at.max(tail.start);
        if let Some(piece) = self.pieces.range_at(entry, at)
            && piece.start < at
        {
            at = piece.end;
        }
        let beyond_window = self.window.as_ref().is_some_and(|w| w.entry == entry && at >= w.range.end);
        if at >= tail.end || beyond_window {
            return None;
        }
        let lost = Span::new(entry, at..tail.end);
        let may = |span: &Span| victim.has_untouched(span) && self.may_deliver(ask, span.entry);
        if self.grown_within(victim, lost.clone()).iter().all(may) {
            return Some(lost);
        }
        // A piece at its edge has begun in another entry.
        self.without_crossing(entry, lost.range).map(|range| Span::new(entry, range))
    }

    /// This span of a lease, with what the lease has of the pieces that cross its edges.
    fn grown_within(&self, victim: &LeaseState, span: Span) -> Vec<Span> {
        let mut grown = self.grown_to_pieces(&[span]);
        grown.retain(|span| victim.parts_of(span).next().is_some());
        grown
    }

    /// What a lease has to lose for somebody who wants just these spans: all from there on. A body brings its bytes in order, so
    /// those behind would have to wait until it has brought, for nothing, the ones that were taken out of its middle.
    fn tails_behind(&self, ask: &Ask, victim: &LeaseState, spans: &[Span]) -> Option<Vec<Span>> {
        if !self.may_lease_exactly(ask, spans) {
            return None;
        }
        let mut lost = Vec::new();
        for span in spans {
            let entry = &self.entries[span.entry.index()];
            if !entry.free.contains(&span.range) {
                let tail = victim.tail_with(span).filter(|_| entry.len.is_some())?;
                lost.push(Span::new(span.entry, span.range.start..tail.range.end));
            }
        }
        let mut lost = self.grown_to_pieces(&lost);
        lost.retain(|span| victim.parts_of(span).next().is_some());
        lost.iter().all(|span| victim.has_untouched(span)).then_some(lost)
    }

    /// One piece, so that a hedge that wins holds nothing that others hold too.
    fn hedge(&mut self, ask: &Ask, spans: &[Span], now: Instant) -> Result<Grant, NotNow> {
        let first = spans.first().ok_or(NotNow::Wait)?;
        let id = self.pieces.at(first.entry, first.range.start).ok_or(NotNow::Wait)?;
        let piece = self.pieces.spans(id).to_vec();
        let held_by = |hedge: bool, span: &Span| {
            self.leases.values().filter(|l| l.hedge == hedge).any(|l| l.held.iter().any(|h| h.span.overlaps(span)))
        };
        let may =
            piece.iter().all(|span| self.may_deliver(ask, span.entry) && held_by(false, span) && !held_by(true, span));
        if !may {
            return Err(NotNow::Wait);
        }
        Ok(self.grant(ask, piece, true, now))
    }
}
