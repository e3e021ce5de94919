//! The default scheduler.

use std::time::{Duration, Instant};

use super::{Ask, Pick, Scheduler, Want};
use crate::ledger::{LeaseView, View};
use crate::span::{EntryId, Span};

/// The shortest tail that is worth stealing, in bytes: below this a new request costs more than it brings.
const MIN_STEAL: u64 = 256 << 10;

/// A lease that will be done sooner than this is left alone: taking its tail costs a connection.
const MIN_STEAL_TIME: Duration = Duration::from_secs(1);

/// A lease this old that has no rate has brought nothing at all.
const SILENT: Duration = Duration::from_secs(2);

/// How many bytes may be staged in memory for hedges, in all. At the end of a download no more than a few pieces are open.
const HEDGE_BUDGET: u64 = 16 << 20;

/// A hedge must be this many times faster than the lease it races.
const HEDGE_FACTOR: f64 = 2.0;

/// Gives out what is free from the front, steals the tail of the lease that would end last, and at the end races the
/// slowest pieces. Whoever reads, or a sequential sink, is served first.
#[derive(Clone, Default, Debug)]
pub struct Balanced(());

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
            Want::Exactly(_) => Pick::Wait,
            Want::Any { max } => take(view, ask, *max)
                .or_else(|| steal(view, ask, now))
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
    // Where all that is free is known to fail with this source, it may still try when there is nobody else.
    let picky = view.has_failures() && view.live_sources() > 1;
    let free_in = |entry: EntryId| {
        let start = if entry == from.0 { from.1 } else { 0 };
        let first = |at| first_good(view, ask, entry, at, picky);
        let run = first(start).or_else(|| if start > 0 { first(0) } else { None })?;
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
fn first_good(view: &View<'_>, ask: &Ask, entry: EntryId, mut at: u64, picky: bool) -> Option<std::ops::Range<u64>> {
    loop {
        let run = view.free_from(entry, at)?;
        if !picky || !view.has_failed(ask.source, entry, run.start) {
            return Some(run);
        }
        at = view.piece_range_at(entry, run.start)?.end;
    }
}

/// Where the first piece begins, after the one at `start`, that has failed with the source that asks.
fn end_of_good(view: &View<'_>, ask: &Ask, entry: EntryId, start: u64, end: u64) -> u64 {
    let mut at = start;
    while let Some(piece) = view.piece_range_at(entry, at).filter(|p| p.end < end) {
        if view.has_failed(ask.source, entry, piece.end) {
            return piece.end;
        }
        at = piece.end;
    }
    end
}

/// How long a lease needs for what is left of it.
fn time_left(lease: &LeaseView, fallback: Option<u64>, now: Instant) -> Duration {
    let silent = now.saturating_duration_since(lease.since) > SILENT;
    let rate = lease.rate.or(if silent { Some(0) } else { fallback }).unwrap_or(0);
    if rate == 0 {
        return Duration::MAX;
    }
    Duration::try_from_secs_f64(lease.tail.len() as f64 / rate as f64).unwrap_or(Duration::MAX)
}

fn steal(view: &View<'_>, ask: &Ask, now: Instant) -> Option<Pick> {
    let may = |l: &LeaseView| {
        !l.hedge
            && l.tail.len() >= 2 * MIN_STEAL
            && view.len(l.tail.entry).is_some()
            && ask.entry.is_none_or(|entry| entry == l.tail.entry)
            && (view.live_sources() < 2 || !view.has_failed(ask.source, l.tail.entry, l.tail.range.end - 1))
    };
    let victim = view.leases().filter(may).max_by_key(|l| time_left(l, ask.rate, now))?;
    if time_left(&victim, ask.rate, now) <= MIN_STEAL_TIME {
        return None;
    }
    let tail = victim.tail.range.clone();
    let mut end = tail.end;
    if let Some(window) = view.window().filter(|w| w.entry == victim.tail.entry) {
        end = end.min(window.range.end);
    }
    let stealable = end.checked_sub(tail.start)?.checked_sub(MIN_STEAL)?;
    // Both would be done at the same time.
    let share = match (victim.rate, ask.rate) {
        (Some(own), Some(other)) if own + other > 0 => own as f64 / (own + other) as f64,
        (None, _) if now.saturating_duration_since(victim.since) > SILENT => 0.0,
        (Some(0), _) => 0.0,
        _ => 0.5,
    };
    let mut at = tail.start + (((end - tail.start) as f64 * share) as u64).min(stealable);
    if let Some((entry, focus)) = view.focus()
        && entry == victim.tail.entry
        && (tail.start + MIN_STEAL..end).contains(&focus)
    {
        at = focus;
    }
    Some(Pick::Steal { lease: victim.id, at })
}

fn hedge(view: &View<'_>, ask: &Ask, now: Instant) -> Option<Pick> {
    let rate = ask.rate.filter(|rate| *rate > 0)?;
    let hedges: Vec<LeaseView> = view.leases().filter(|l| l.hedge).collect();
    let staged: u64 = hedges.iter().map(|l| l.tail.len()).sum();
    let may = |l: &LeaseView| {
        let at = l.tail.range.start;
        !l.hedge
            && !l.tail.is_empty()
            && ask.entry.is_none_or(|entry| entry == l.tail.entry)
            && !view.has_failed(ask.source, l.tail.entry, at)
            && !hedges.iter().any(|h| h.tail.entry == l.tail.entry && h.tail.range.contains(&at))
    };
    let of_piece = |l: LeaseView| Some((view.piece_at(l.tail.entry, l.tail.range.start)?, l));
    let (piece, lease) =
        view.leases().filter(may).filter_map(of_piece).max_by_key(|(_, l)| time_left(l, ask.rate, now))?;
    let len: u64 = piece.iter().map(Span::len).sum();
    let ours = Duration::from_secs_f64(len as f64 / rate as f64);
    let worth = time_left(&lease, None, now) > ours.mul_f64(HEDGE_FACTOR).max(MIN_STEAL_TIME);
    (worth && staged + len <= HEDGE_BUDGET).then(|| Pick::Hedge(piece.to_vec()))
}
