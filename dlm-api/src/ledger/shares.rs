//! [`Shares`]: who delivered what.

use std::ops::Range;

use crate::runs::{Grid, RangeSet};
use crate::span::SourceId;

/// Who delivered what is sealed of an entry: a set for each source, since there are few of these, and none shares a byte with another.
#[derive(Default, Debug)]
pub(super) struct Shares(Vec<(SourceId, RangeSet)>);

impl Shares {
    /// The source delivered bytes that nobody else did.
    pub(super) fn add(&mut self, range: Range<u64>, source: SourceId, grid: Option<Grid>) {
        let i = self.0.iter().position(|(by, _)| *by == source).unwrap_or_else(|| {
            let mut set = RangeSet::new();
            grid.into_iter().for_each(|grid| set.lay_grid(grid));
            self.0.push((source, set));
            self.0.len() - 1
        });
        self.0[i].1.insert(range);
    }

    pub(super) fn remove(&mut self, range: &Range<u64>) {
        for (_, set) in &mut self.0 {
            set.remove(range.clone());
        }
    }

    /// The sources and what each delivered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SourceId, &RangeSet)> {
        self.0.iter().map(|(by, set)| (*by, set)).filter(|(_, set)| !set.is_empty())
    }

    /// Who delivered bytes of `range`.
    pub(super) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = SourceId> {
        self.0.iter().filter(|(_, set)| set.overlaps(range)).map(|(by, _)| *by)
    }

    /// Who delivered the byte `at`, and what touches it.
    pub(super) fn at(&self, at: u64) -> Option<(SourceId, Range<u64>)> {
        self.iter().find_map(|(by, set)| set.get(at).map(|(run, ())| (by, run)))
    }

    pub(super) fn lay_grid(&mut self, grid: Grid) {
        self.0.iter_mut().for_each(|(_, set)| set.lay_grid(grid));
    }
}
