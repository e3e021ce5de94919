//! [`Scheduler`]: who fetches what next. Pure policy: no I/O, no clock, no locks.

use std::fmt::Debug;
use std::time::Instant;

use crate::ledger::View;
use crate::span::{EntryId, LeaseId, SourceId, Span};

mod balanced;

pub use balanced::Balanced;

/// Decides which bytes a source that asks for work is given.
///
/// It sees the ledger through a [`View`] and answers with a [`Pick`]. The ledger checks the answer, and grants only what
/// may be granted: a scheduler can be slow or unfair, but it can't make a download wrong. A span that a pick names and
/// that isn't free is left out, ends are moved to the edges of pieces, and an answer of which nothing is left counts as
/// [`Pick::Wait`].
pub trait Scheduler: Debug + Send + 'static {
    /// What `ask` is given at `now`.
    fn pick(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Pick;
}

/// A source's request for work.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// Who asks.
    pub source: SourceId,
    /// The only entry of which the source can deliver, if it is bound to one.
    pub entry: Option<EntryId>,
    /// What it wants.
    pub want: Want,
    /// The rate of the connection that asks, in bytes a second, where it is known.
    pub rate: Option<u64>,
}

impl Ask {
    /// A request of a source for work on any entry.
    pub fn new(source: SourceId, want: Want) -> Self {
        Self { source, entry: None, want, rate: None }
    }

    /// Of this entry only.
    #[must_use]
    pub fn with_entry(mut self, entry: EntryId) -> Self {
        self.entry = Some(entry);
        self
    }

    /// For a connection of this rate, in bytes a second.
    #[must_use]
    pub fn with_rate(mut self, rate: u64) -> Self {
        self.rate = Some(rate);
        self
    }
}

/// What a source wants.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Want {
    /// Any bytes, up to this many, one after the other.
    Any {
        /// The most that is asked for, in bytes. A piece is never split, so a lease can be longer than this.
        max: u64,
    },
    /// Just these spans; each piece they touch must be there as a whole.
    Exactly(Vec<Span>),
}

/// A [`Scheduler`]'s answer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Pick {
    /// These bytes, which are free.
    Take(Vec<Span>),
    /// The tail of a lease. Who asked for [`Want::Any`] is given it, from the byte `at` on. Who asked for [`Want::Exactly`] is
    /// given just that, whatever `at` is: the lease ends where it begins, and what lies behind it is free.
    Steal {
        /// The lease that loses its tail.
        lease: LeaseId,
        /// The first byte that it loses.
        at: u64,
    },
    /// These whole pieces, which somebody else is fetching: the first who has them right wins. Staged in memory.
    Hedge(Vec<Span>),
    /// Nothing now; ask again when the ledger has changed.
    Wait,
    /// Nothing any more.
    Done,
}
