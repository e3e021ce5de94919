//! [`Runner`]: one source, as the conductor sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Retry, Scope};
use crate::source::Source;
use crate::span::SourceId;
use crate::transfer::{Task, Transfer};

/// How often a source that isn't a range source, which retries by itself, is run again after errors without a byte in between.
const RETRIES: u32 = 5;

/// The pause before it is; doubled with each error in a row.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One source, as the conductor sees it.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) id: SourceId,
    pub(super) source: Arc<dyn Source>,
    pub(super) transfer: Transfer,
    pub(super) name: String,
    /// Which of the places that the caller named it is.
    pub(super) origin: Option<usize>,
    pub(super) state: RunnerState,
    failures: u32,
    /// What it had delivered when it was started last.
    before: u64,
    /// There is something to do again. It may have seen before that there was not, and be about to end.
    roused: bool,
}

#[derive(Debug)]
pub(super) enum RunnerState {
    /// To be started.
    Idle,
    Running(Task<Result<()>>),
    /// To be started at this time.
    Resting(Instant),
    /// It has nothing more to deliver.
    Done,
    Benched(Error),
}

/// What follows from the end of a run.
pub(super) enum Next {
    GoOn,
    /// It is run again after this pause.
    Retry(Error, Duration),
    /// It is not used any more.
    Bench(Error),
    /// The download fails.
    Fail(Error),
}

impl Runner {
    pub(super) fn new(
        id: SourceId,
        source: Arc<dyn Source>,
        transfer: Transfer,
        name: String,
        origin: Option<usize>,
    ) -> Self {
        Self { id, source, transfer, name, origin, state: RunnerState::Idle, failures: 0, before: 0, roused: false }
    }

    pub(super) fn start(&mut self) {
        self.before = self.transfer.transferred();
        self.roused = false;
        let (source, transfer) = (self.source.clone(), self.transfer.clone());
        self.state = RunnerState::Running(self.transfer.spawn(async move { source.run(transfer).await }));
    }

    /// It may have something to do again.
    pub(super) fn rouse(&mut self) {
        match self.state {
            RunnerState::Done => self.state = RunnerState::Idle,
            RunnerState::Running(_) => self.roused = true,
            _ => {}
        }
    }

    /// Ends a run; what it was leased returns.
    pub(super) fn halt(&mut self) {
        if !matches!(self.state, RunnerState::Benched(_)) {
            self.state = RunnerState::Idle;
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        !matches!(self.state, RunnerState::Benched(_))
    }

    /// Whether it is benched because what it said, or sent, was not what others had.
    pub(super) fn has_disagreed(&self) -> bool {
        matches!(&self.state, RunnerState::Benched(error) if error.kind() == ErrorKind::Changed)
    }

    /// What follows from the end of its run.
    pub(super) fn ended(&mut self, result: Result<()>) -> Next {
        let Err(error) = result else {
            self.state = if self.roused { RunnerState::Idle } else { RunnerState::Done };
            return Next::GoOn;
        };
        if error.scope() == Scope::Download {
            return Next::Fail(error);
        }
        if self.transfer.transferred() > self.before {
            self.failures = 0;
        }
        let least = match error.retry() {
            Retry::Never => return Next::Bench(error),
            _ if self.failures >= RETRIES => return Next::Bench(error),
            Retry::Now => Duration::ZERO,
            Retry::After(pause) => pause,
        };
        let usual = PAUSE.saturating_mul(1 << self.failures).min(LONGEST_PAUSE);
        self.failures += 1;
        // A server may ask for a pause that no clock can hold.
        Next::Retry(error, least.saturating_add(usual.mul_f64(0.5 + fastrand::f64())))
    }
}
