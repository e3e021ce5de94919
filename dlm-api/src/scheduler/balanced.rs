//! The default scheduler.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Ask, Pick, Scheduler, Want};
use crate::ledger::{LeaseView, View};
use crate::span::{EntryId, Span};

/// The shortest tail that is worth stealing, in bytes: below this a new request costs more than it brings.
const MIN_STEAL: u64 = 256 << 10;

/// A lease that will be done sooner than this is left alone: taking its tail costs a connection.
const MIN_STEAL_TIME: Duration = Duration::from_secs(1);

/// A lease this old that has no rate has brought nothing at all, and loses all it has. Each time this happens it takes twice
/// as long, up to 64 seconds.
const SILENT: Duration = Duration::from_secs(2);
const MAX_SILENCES: u32 = 5;

/// As long as something else is free, a wanted piece is left to a lease that comes to it sooner than this: each steal out of
/// its middle costs it a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many bytes may be staged in memory for hedges, in all. At the end of a download no more than a few pieces are open.
const HEDGE_BUDGET: u64 = 16 << 20;

/// A hedge must be this many times faster than the lease it races.
const HEDGE_FACTOR: f64 = 2.0;

/// Gives out what is free from the front, steals the tail of the lease that would end last, and at the end races the
/// slowest pieces. Whoever reads, or a sequential sink, is served first.
#[derive(Clone, Default, Debug)]
pub struct Balanced {
    /// How often a silent lease was stolen, up to [`MAX_SILENCES`].
    silences: u32,
}

impl Balanced {
    /// The default scheduler.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Scheduler for Balanced {
    fn pick(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Pick {
        match &ask.want {
            Want::Exactly(spans) if spans.iter().all(|span| view.is_free(span)) => Pick::Take(spans.clone()),
            Want::Exactly(spans) => self.steal_exactly(view, ask, spans, now).unwrap_or(Pick::Wait),
            Want::Any { max } => take(view, ask, *max)
                .or_else(|| self.steal(view, ask, now))
                .or_else(|| hedge(view, ask, now))
                .unwrap_or(Pick::Wait),
        }
    }
}

fn take(view: &View<'_>, ask: &Ask, max: u64) -> Option<Pick> {
    let from = match (ask.entry, view.window()) {
        (Some(entry), Some(window)) if window.entry != entry => return None,
        (_, Some(window)) => (window.entry, window.range.start),
        (entry, None) => match view.focus() {
            Some(focus) if entry.is_none_or(|e| e == focus.0) => focus,
            _ => (entry.unwrap_or(EntryId::FIRST), 0),
        },
    };
    // What is known to fail with this source is left to others. When there is nobody else it may still try.
    let picky = view.has_failures();
    let free_in = |entry: EntryId| {
        let start = if entry == from.0 { from.1 } else { 0 };
        let first = |at| first_good(view, ask, entry, at, picky);
        let run = first(start).or_else(|| if start > 0 { first(0) } else { None })?;
        if view.window().is_some_and(|w| w.entry == entry && !w.range.contains(&run.start)) {
            return None;
        }
        let end = run.start.saturating_add(max).min(run.end);
        let end = if picky { end_of_good(view, ask, entry, run.start, end) } else { end };
        Some(Span::new(entry, run.start..end))
    };
    let span = match ask.entry {
        Some(entry) => free_in(entry),
        // What comes before the focus is wanted last.
        None => view.entries_with_free(from.0).chain(view.entries_with_free(EntryId::FIRST)).find_map(free_in),
    }?;
    Some(Pick::Take(vec![span]))
}

/// The first free run at or after `at` whose first piece has not failed with the source that asks.
fn first_good(view: &View<'_>, ask: &Ask, entry: EntryId, mut at: u64, picky: bool) -> Option<Range<u64>> {
    loop {
        let run = view.free_from(entry, at)?;
        if !picky || !view.is_for_others(ask.source, entry, run.start) {
            return Some(run);
        }
        at = view.piece_range_at(entry, run.start)?.end;
    }
}

/// Where the first piece begins, after the one at `start`, that has failed with the source that asks.
fn end_of_good(view: &View<'_>, ask: &Ask, entry: EntryId, start: u64, end: u64) -> u64 {
    let mut at = start;
    while let Some(piece) = view.piece_range_at(entry, at).filter(|p| p.end < end) {
        if view.is_for_others(ask.source, entry, piece.end) {
            return piece.end;
        }
        at = piece.end;
    }
    end
}

/// How long a lease needs for what is left of it.
fn time_left(lease: &LeaseView, fallback: Option<u64>, is_silent: bool) -> Duration {
    time_for(lease.tail.len(), rate_of(lease).or(fallback).filter(|_| !is_silent))
}

/// How long so many bytes take.
fn time_for(bytes: u64, rate: Option<u64>) -> Duration {
    let secs = rate.filter(|rate| *rate > 0).map(|rate| bytes as f64 / rate as f64);
    secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok()).unwrap_or(Duration::MAX)
}

/// Whether a lease brings nothing, and is not so new that it just waits for its first byte.
fn is_silent(lease: &LeaseView, patience: Duration, now: Instant) -> bool {
    rate_of(lease).is_none() && now.saturating_duration_since(lease.since) > patience
}

/// A rate of nothing is none: its first byte may be on its way.
fn rate_of(lease: &LeaseView) -> Option<u64> {
    lease.rate.filter(|rate| *rate > 0)
}

impl Balanced {
    fn steal(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Option<Pick> {
        let patience = SILENT * (1 << self.silences);
        let may = |l: LeaseView| {
            let is_silent = is_silent(&l, patience, now);
            let range = stealable(view, &l)?;
            let least = if is_silent { 1 } else { 2 * MIN_STEAL };
            let fits = !l.hedge
                && range.end.saturating_sub(range.start) >= least
                && view.len(l.tail.entry).is_some()
                && ask.entry.is_none_or(|entry| entry == l.tail.entry)
                && !view.is_for_others(ask.source, l.tail.entry, l.tail.range.end - 1);
            fits.then(|| (time_left(&l, ask.rate, is_silent), range, is_silent, l))
        };
        let (left, range, is_silent, victim) = view.leases().filter_map(may).max_by_key(|(left, ..)| *left)?;
        if left <= MIN_STEAL_TIME {
            return None;
        }
        let mut at = range.start;
        if is_silent {
            // Who is slow to begin would lose its lease again and again if this didn't take longer each time.
            self.silences = (self.silences + 1).min(MAX_SILENCES);
        } else {
            // Both would be done at the same time.
            let share = match (rate_of(&victim), ask.rate) {
                (Some(own), Some(other)) => own as f64 / (own + other) as f64,
                _ => 0.5,
            };
            let own = ((range.end - range.start) as f64 * share) as u64;
            at += own.min(range.end - range.start - MIN_STEAL);
            if let Some((entry, focus)) = view.focus()
                && entry == victim.tail.entry
                && (range.start + MIN_STEAL..range.end).contains(&focus)
            {
                at = focus;
            }
        }
        Some(Pick::Steal { lease: victim.id, at })
    }
}

impl Balanced {
    /// Who can use only these pieces, as a swarm does, would wait for ever for a lease of everything else.
    fn steal_exactly(&mut self, view: &View<'_>, ask: &Ask, spans: &[Span], now: Instant) -> Option<Pick> {
        let mut taken = spans.iter().filter(|span| !view.is_free(span));
        let first = taken.next()?;
        let victim = view.holder(first)?;
        let is_of_victim = |span: &Span| view.holder(span).is_some_and(|holder| holder.id == victim.id);
        let is_for_others = |span: &Span| view.is_for_others(ask.source, span.entry, span.range.start);
        if !taken.all(is_of_victim) || spans.iter().any(is_for_others) {
            return None;
        }
        if is_silent(&victim, SILENT * (1 << self.silences), now) {
            self.silences = (self.silences + 1).min(MAX_SILENCES);
        } else {
            // A piece that it is about to bring would be taken to and fro.
            if first.range.start.saturating_sub(victim.tail.range.start) < MIN_STEAL {
                return None;
            }
            let is_idle = take(view, ask, 1).is_none();
            let len: u64 = spans.iter().map(Span::len).sum();
            let ours = ask.rate.map_or(Duration::ZERO, |rate| time_for(len, Some(rate)));
            let theirs = time_for(first.range.end - victim.tail.range.start, rate_of(&victim).or(ask.rate));
            if theirs <= ours.max(if is_idle { MIN_STEAL_TIME } else { PATIENCE }) {
                return None;
            }
        }
        Some(Pick::Steal { lease: victim.id, at: first.range.start })
    }
}

/// What of a lease's tail can be stolen: whole pieces, in the window.
fn stealable(view: &View<'_>, lease: &LeaseView) -> Option<Range<u64>> {
    let Span { entry, range: Range { mut start, mut end } } = lease.tail.clone();
    if let Some(piece) = view.piece_range_at(entry, start)
        && piece.start < start
    {
        start = piece.end;
    }
    if let Some(window) = view.window().filter(|w| w.entry == entry) {
        end = end.min(window.range.end);
    }
    (start < end).then_some(start..end)
}

fn hedge(view: &View<'_>, ask: &Ask, now: Instant) -> Option<Pick> {
    let rate = ask.rate.filter(|rate| *rate > 0)?;
    let hedges: Vec<LeaseView> = view.leases().filter(|l| l.hedge).collect();
    let staged: u64 = hedges.iter().map(|l| l.bytes).sum();
    let may = |l: &LeaseView| {
        let at = l.tail.range.start;
        !l.hedge
            && !l.tail.is_empty()
            && ask.entry.is_none_or(|entry| entry == l.tail.entry)
            && !view.has_failed(ask.source, l.tail.entry, at)
            && !hedges.iter().any(|h| h.tail.entry == l.tail.entry && h.tail.range.contains(&at))
    };
    let left = |l: &LeaseView, fallback| time_left(l, fallback, is_silent(l, SILENT, now));
    let of_piece = |l: LeaseView| Some((view.piece_at(l.tail.entry, l.tail.range.start)?, l));
    let (piece, lease) = view.leases().filter(may).filter_map(of_piece).max_by_key(|(_, l)| left(l, ask.rate))?;
    let len: u64 = piece.iter().map(Span::len).sum();
    let ours = Duration::from_secs_f64(len as f64 / rate as f64);
    let worth = left(&lease, ask.rate) > ours.mul_f64(HEDGE_FACTOR).max(MIN_STEAL_TIME);
    (worth && staged + len <= HEDGE_BUDGET).then_some(Pick::Hedge(piece))
}

#[cfg(test)]
mod tests;
