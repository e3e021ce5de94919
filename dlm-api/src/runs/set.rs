//! [`RangeSet`]: a set of bytes.

use std::fmt;
use std::ops::Range;

use super::bits::Bits;
use super::{Runs, gaps};

/// A set of bytes. Every operation costs O(log n) in the number of runs.
///
/// Where content is divided into pieces of one length, a set can have a grid: a bit for each cell that is there as a
/// whole, and runs only for the rest. Whatever the order in which a million pieces come, it stays in the processor's cache.
#[derive(Clone, Default)]
pub struct RangeSet {
    /// What is there of cells that are not there as a whole, and what lies outside of the grid.
    rest: Runs<()>,
    cells: Option<Box<Cells>>,
}

/// Cells of one length, one after the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    /// Where the first begins.
    pub(crate) origin: u64,
    /// How long each is.
    pub(crate) cell: u64,
    /// How many there are.
    pub(crate) cells: usize,
}

#[derive(Clone)]
struct Cells {
    grid: Grid,
    /// Cells that are there as a whole, and those that are not: a run's end is looked for, too.
    there: Bits,
    missing: Bits,
    count: u64,
}

impl RangeSet {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.rest.bytes() + self.cells.as_ref().map_or(0, |cells| cells.count * cells.grid.cell)
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Puts `range` in.
    pub fn insert(&mut self, range: Range<u64>) {
        let Self { rest, cells: Some(cells) } = self else { return self.rest.insert(range) };
        let (whole, edges) = cells.divide(&range);
        if !whole.is_empty() {
            rest.remove(cells.bytes_of(&whole));
            cells.fill(whole, true);
        }
        for edge in edges {
            for (part, cell) in cells.parts(edge) {
                match cell {
                    Some(i) if cells.there.get(i) => {}
                    Some(i) => {
                        rest.insert(part);
                        let all = cells.bytes_of(&(i..i + 1));
                        if rest.get(all.start).is_some_and(|(run, ())| run.end >= all.end) {
                            rest.remove(all);
                            cells.fill(i..i + 1, true);
                        }
                    }
                    None => rest.insert(part),
                }
            }
        }
    }

    /// Takes every byte of `range` out, and says how many there were.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        let mut removed = self.rest.remove(range.clone());
        let Self { rest, cells: Some(cells) } = self else { return removed };
        let (whole, edges) = cells.divide(&range);
        removed += cells.fill(whole, false) * cells.grid.cell;
        for edge in edges {
            for (part, cell) in cells.parts(edge) {
                let Some(i) = cell.filter(|i| cells.there.get(*i)) else { continue };
                cells.fill(i..i + 1, false);
                let all = cells.bytes_of(&(i..i + 1));
                rest.insert(all.start..part.start);
                rest.insert(part.end..all.end);
                removed += part.end - part.start;
            }
        }
        removed
    }

    /// The run that has the byte `at`.
    pub fn get(&self, at: u64) -> Option<(Range<u64>, ())> {
        let mut run = self.part(at)?;
        if self.cells.is_some() {
            while let Some(before) = run.start.checked_sub(1).and_then(|at| self.part(at)) {
                run.start = before.start;
            }
            run.end = self.reach(run.clone());
        }
        Some((run, ()))
    }

    /// The first run that has a byte at or after `from`, cut off before it.
    pub fn next_from(&self, from: u64) -> Option<(Range<u64>, ())> {
        let Some(cells) = &self.cells else { return self.rest.next_from(from) };
        if let Some(part) = self.part(from) {
            return Some((from..self.reach(part), ()));
        }
        let in_rest = self.rest.next_from(from).map(|(run, ())| run.start);
        let start = in_rest.into_iter().chain(cells.next_from(from)).min()?;
        self.part(start).map(|part| (start..self.reach(part), ()))
    }

    /// The last run.
    pub fn last(&self) -> Option<Range<u64>> {
        let in_rest = self.rest.iter().next_back().map(|(run, ())| run);
        let Some(cells) = &self.cells else { return in_rest };
        let end = in_rest.map(|run| run.end).into_iter().chain(cells.end()).max()?;
        self.get(end - 1).map(|(run, ())| run)
    }

    /// The runs inside `range`, cut off at its ends.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, ())> + '_ {
        let plain = self.cells.is_none().then(|| self.rest.within(range.clone()));
        let mut at = range.start;
        let in_grid = std::iter::from_fn(move || {
            let (run, ()) = self.next_from(at).filter(|(run, ())| run.start < range.end)?;
            at = run.end;
            Some((run.start..run.end.min(range.end), ()))
        });
        plain.into_iter().flatten().chain(in_grid.take(if self.cells.is_some() { usize::MAX } else { 0 }))
    }

    /// Whether a byte of `range` is there.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        !range.is_empty() && self.next_from(range.start).is_some_and(|(run, ())| run.start < range.end)
    }

    /// Whether every byte of `range` is there. True for an empty range.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self.part(range.start).is_some_and(|part| part.end >= range.end || self.reach(part) >= range.end)
    }

    /// The bytes of `range` that are not there.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        gaps(range.clone(), self.within(range).map(|(run, ())| run))
    }

    /// The number of bytes of `range` that are there.
    pub fn bytes_within(&self, range: Range<u64>) -> u64 {
        self.within(range).map(|(run, ())| run.end - run.start).sum()
    }

    /// All ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.within(0..u64::MAX).map(|(run, ())| run)
    }

    /// The number of ranges. Counts them.
    pub fn count(&self) -> usize {
        self.ranges().count()
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Has a bit for each cell of `grid` from now on. What the set is does not change.
    pub(crate) fn lay_grid(&mut self, grid: Grid) {
        let moved: Vec<Range<u64>> = match &self.cells {
            Some(cells) if cells.grid == grid => return,
            Some(cells) if cells.grid.is_start_of(&grid) => {
                self.rest.within(cells.grid.end()..grid.end()).map(|(run, ())| run).collect()
            }
            _ => {
                let moved = self.ranges().collect();
                *self = Self { rest: Runs::new(), cells: Some(Box::new(Cells::new(grid.origin, grid.cell))) };
                moved
            }
        };
        if let Some(cells) = &mut self.cells {
            cells.grow(grid.cells);
        }
        // Whole cells among these leave the rest by that.
        moved.into_iter().for_each(|run| self.insert(run));
    }

    /// Whole cells that touch, or a run of the rest: what has the byte `at`, without what touches it.
    fn part(&self, at: u64) -> Option<Range<u64>> {
        let in_cells = self.cells.as_ref().and_then(|cells| cells.run_at(at));
        in_cells.or_else(|| self.rest.get(at).map(|(run, ())| run))
    }

    /// Where the run ends to which `part` belongs.
    fn reach(&self, part: Range<u64>) -> u64 {
        std::iter::successors(Some(part), |part| self.part(part.end)).last().map_or(0, |part| part.end)
    }
}

impl Grid {
    fn end(&self) -> u64 {
        self.origin + self.cells as u64 * self.cell
    }

    fn is_start_of(&self, other: &Self) -> bool {
        (self.origin, self.cell) == (other.origin, other.cell) && self.cells <= other.cells
    }
}

impl Cells {
    fn new(origin: u64, cell: u64) -> Self {
        Self { grid: Grid { origin, cell, cells: 0 }, there: Bits::default(), missing: Bits::default(), count: 0 }
    }

    fn grow(&mut self, cells: usize) {
        self.there.grow(cells);
        self.missing.grow(cells);
        self.missing.fill(self.grid.cells..cells, true);
        self.grid.cells = cells;
    }

    /// Says how many cells it changed.
    fn fill(&mut self, cells: Range<usize>, there: bool) -> u64 {
        let changed = self.there.fill(cells.clone(), there);
        if changed > 0 {
            self.missing.fill(cells, !there);
        }
        if there {
            self.count += changed;
        } else {
            self.count -= changed;
        }
        changed
    }

    /// The cells that lie wholly in `range`, and what of it lies before and behind them.
    fn divide(&self, range: &Range<u64>) -> (Range<usize>, [Range<u64>; 2]) {
        let Grid { origin, cell, cells } = self.grid;
        let first = range.start.saturating_sub(origin).div_ceil(cell);
        let end = (range.end.saturating_sub(origin) / cell).min(cells as u64);
        if first >= end {
            return (0..0, [range.clone(), 0..0]);
        }
        let whole = first as usize..end as usize;
        let bytes = self.bytes_of(&whole);
        (whole, [range.start..bytes.start, bytes.end..range.end])
    }

    fn bytes_of(&self, cells: &Range<usize>) -> Range<u64> {
        let start = |i: usize| self.grid.origin + i as u64 * self.grid.cell;
        start(cells.start)..start(cells.end)
    }

    fn cell_at(&self, at: u64) -> Option<usize> {
        let i = at.checked_sub(self.grid.origin)? / self.grid.cell;
        (i < self.grid.cells as u64).then_some(i as usize)
    }

    /// `range`, cut where a cell begins or ends. For what [`divide`](Self::divide) leaves, these are few.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Option<usize>)> + use<> {
        let Self { grid, .. } = *self;
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (cell, end) = if at < grid.origin {
                (None, grid.origin)
            } else if at >= grid.end() {
                (None, u64::MAX)
            } else {
                let i = (at - grid.origin) / grid.cell;
                (Some(i as usize), grid.origin + (i + 1) * grid.cell)
            };
            let part = at..end.min(range.end);
            at = part.end;
            Some((part, cell))
        })
    }

    /// The whole cells around `at` that touch.
    fn run_at(&self, at: u64) -> Option<Range<u64>> {
        let i = self.cell_at(at).filter(|i| self.there.get(*i))?;
        let start = self.missing.last_to(i).map_or(0, |missing| missing + 1);
        let end = self.missing.next(i).unwrap_or(self.grid.cells);
        Some(self.bytes_of(&(start..end)))
    }

    /// Where the first whole cell begins at or after `from`.
    fn next_from(&self, from: u64) -> Option<u64> {
        let i = from.saturating_sub(self.grid.origin).div_ceil(self.grid.cell);
        let next = self.there.next(usize::try_from(i).ok()?)?;
        Some(self.bytes_of(&(next..next)).start)
    }

    /// Where the last whole cell ends.
    fn end(&self) -> Option<u64> {
        let last = self.there.last_to(self.grid.cells.checked_sub(1)?)?;
        Some(self.bytes_of(&(last..last + 1)).end)
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

/// Whatever their grids are: the same bytes.
impl PartialEq for RangeSet {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes() && self.ranges().eq(other.ranges())
    }
}

impl Eq for RangeSet {}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}
