//! [`Source`]: a place that can deliver.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::Result;
use crate::transfer::Transfer;

/// A place that can deliver: one URL, one swarm, one CID.
///
/// A source isn't told what to fetch. It pulls work from the [`Transfer`]'s ledger, because only it knows what it can
/// have next: a range is the caller's choice, a swarm's next piece depends on its peers, and the children of a DAG's node are
/// unknown until the node has been decoded.
///
/// Whoever speaks a protocol in which any range can be asked for implements [`RangeSource`](crate::RangeSource) instead, and is
/// made a source by [`Ranged`](crate::Ranged).
///
/// Its `Debug` is short and without secrets: events and reports call it so where it has no locator.
#[async_trait]
pub trait Source: Debug + Send + Sync + 'static {
    /// Learns what there is (entries, lengths, names, digests) through [`Transfer::learn`], and fetches no content that is
    /// not needed for that. What is learned may be partial.
    async fn resolve(&self, transfer: &Transfer) -> Result<()>;

    /// Delivers until nothing more is wanted, and returns `Ok` then. What it meets on the way it [learns](Transfer::learn).
    ///
    /// Dropping the future at any await is safe: what was not sealed goes back to the pool. An error says by its
    /// [`scope`](crate::Error::scope) and [`retry`](crate::Error::retry) whether the source may be run again.
    async fn run(&self, transfer: Transfer) -> Result<()>;
}
