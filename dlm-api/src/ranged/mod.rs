//! [`Ranged`]: makes a source of anything that answers requests for ranges.

mod lane;
mod ramp;
mod source;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time;

use lane::Lane;
use ramp::Ramp;
use worker::Worker;

pub use source::{Opened, RangeRequest, RangeSource, Ranges};

use crate::error::{Error, ErrorKind, Result};
use crate::origin::Permit;
use crate::pipeline::now;
use crate::source::Source;
use crate::span::EntryId;
use crate::transfer::{Task, Transfer};

/// How often connections are looked after.
const TICK: Duration = Duration::from_millis(250);

/// How a [`Ranged`] source behaves.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangedConfig {
    /// The most connections at once; at least 1.
    pub connections: usize,
    /// How often a connection may fail in a row, without having brought a byte, before the source is given up.
    pub retries: u32,
    /// How many bytes before its range a request asks for, to be compared with what others delivered there. 0 for none.
    /// Not used where pieces have digests.
    pub overlap: u64,
}

impl Default for RangedConfig {
    /// 8 connections, 5 retries, an overlap of 4 KiB.
    fn default() -> Self {
        Self { connections: 8, retries: 5, overlap: 4 << 10 }
    }
}

impl RangedConfig {
    /// Sets the most connections at once.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets how often a connection may fail in a row.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how many bytes before its range a request asks for.
    #[must_use]
    pub fn with_overlap(mut self, overlap: u64) -> Self {
        self.overlap = overlap;
        self
    }
}

/// A source of one entry over a [`RangeSource`]: connections claim spans, ask for them and write what comes, as many of them
/// as make the download faster.
pub struct Ranged<R> {
    source: Arc<R>,
    config: RangedConfig,
}

impl<R: RangeSource> Ranged<R> {
    /// A source over `source`.
    pub fn new(source: R) -> Self {
        Self { source: Arc::new(source), config: RangedConfig::default() }
    }

    /// Sets how it behaves.
    #[must_use]
    pub fn with_config(mut self, config: RangedConfig) -> Self {
        self.config = config;
        self
    }
}

/// Its locator: a source that is given to a download by itself is called so in events and reports.
impl<R: RangeSource> Debug for Ranged<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self.source.locator(), f)
    }
}

/// The entry that a range source delivers: the one it is bound to, or the first.
fn entry_of(transfer: &Transfer) -> EntryId {
    transfer.bound_to().unwrap_or(EntryId::FIRST)
}

#[async_trait]
impl<R: RangeSource> Source for Ranged<R> {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        let _permit = transfer.permit(&self.source.origin()).await;
        let opened = self.source.open(&source::RangeRequest::whole()).await?;
        lane::learn(transfer, entry_of(transfer), &opened)
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let config = transfer.ranged_config(&self.config);
        let lane = Arc::new(Lane::new(entry_of(&transfer), transfer.clone()));
        let mut crew = Crew { source: self.source.clone(), config, lane, workers: FuturesUnordered::new() };
        let first = crew.lane.first_permit(&self.source.origin()).await;
        crew.hire(first);
        let mut ramp = Ramp::new(crew.config.connections);
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ended) = crew.workers.next() => {
                    if let Err(error) = ended.unwrap_or_else(|| Err(gone())) {
                        crew.excuse(error)?;
                        ramp.limit(crew.workers.len());
                    }
                    if crew.workers.is_empty() {
                        return Ok(());
                    }
                }
                _ = tick.tick() => {
                    let lane = &crew.lane;
                    ramp.limit(if lane.is_single() { 1 } else { crew.config.connections.min(lane.limit()) });
                    let target = ramp.tick(now(), lane.bytes(), crew.workers.len(), transfer.left());
                    lane.set_target(target);
                    if lane.replace_laggards(now()) {
                        ramp.reconsider(now());
                    }
                    while crew.workers.len() < target {
                        let Some(permit) = lane.take_permit(&self.source.origin()) else {
                            ramp.limit(crew.workers.len());
                            break;
                        };
                        crew.hire(permit);
                    }
                }
            }
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "a connection's task is gone")
}

/// The connections of a source.
struct Crew<R> {
    source: Arc<R>,
    config: RangedConfig,
    lane: Arc<Lane>,
    workers: FuturesUnordered<Task<Result<()>>>,
}

impl<R: RangeSource> Crew<R> {
    fn hire(&self, permit: Permit) {
        let worker = Worker::new(self.source.clone(), self.lane.clone(), self.config.clone(), permit);
        self.workers.push(self.lane.transfer().spawn(worker.run()));
    }

    /// A connection failed for good. If others deliver, the server just doesn't want so many.
    fn excuse(&self, error: Error) -> Result<()> {
        let of_one_connection = matches!(
            error.kind(),
            ErrorKind::Denied | ErrorKind::Throttled | ErrorKind::Network | ErrorKind::Timeout | ErrorKind::NotFound
        );
        if !of_one_connection || self.workers.is_empty() || !self.lane.delivers(now()) {
            return Err(error);
        }
        self.lane.set_limit(self.workers.len());
        self.lane.transfer().retrying(&error, Duration::ZERO);
        Ok(())
    }
}
