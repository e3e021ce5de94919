//! What every source has to do.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::{task, time};

use super::limited::Budget;
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Result};
use crate::fact::{Fact, Piece};
use crate::ledger::{View, Voice};
use crate::pipeline::Setup;
use crate::scheduler::{Ask, Balanced, Pick, Scheduler, Want};
use crate::sink::{MemorySink, Sink};
use crate::source::Source;
use crate::span::{EntryId, Span};
use crate::testkit::content;
use crate::transfer::Transfer;

const LEN: usize = 300_000;
const PIECE: u64 = 32 << 10;
const FIRST: EntryId = EntryId::FIRST;

/// The longest that a run may take, however it is disturbed. Virtual where the clock is held still.
const PATIENCE: Duration = Duration::from_secs(600);

/// After so many polls one in a few is enough to see the rest of the awaits.
const EACH: usize = 200;

/// What a source is to be made over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// What is there.
    pub content: Bytes,
    /// What goes wrong.
    pub fault: Fault,
}

/// What goes wrong on the other side.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    None,
    /// Answers bring fewer bytes than was asked for, and say so.
    Short,
    /// The first answers break off.
    Breaks,
    /// The other side doesn't say how long the content is.
    UnknownLen,
    /// After the first answer, which breaks off, the content is this one.
    Changes(Bytes),
    /// The first answer has wrong bytes.
    LiesOnce,
    /// All answers have wrong bytes.
    Lies,
    /// The first answer stops, and never ends.
    Stalls,
}

/// Runs every check on sources that `make` gives, in downloads of one file. It gives `None` for a case that it can't arrange.
///
/// # Panics
///
/// Where the source does not do what it must.
pub async fn source(make: impl Fn(&Case) -> Option<Arc<dyn Source>>) {
    for len in [LEN, 1, 0] {
        resolves(&make, len).await;
        for fault in [Fault::None, Fault::Short, Fault::Breaks, Fault::UnknownLen, Fault::Stalls] {
            let case = Case { content: content(1, len), fault };
            delivers(&make, &case, Balanced::new()).await;
        }
    }
    let whole = Case { content: content(2, LEN), fault: Fault::None };
    delivers(&make, &whole, Slices(fastrand::Rng::with_seed(1))).await;
    never_splices(&make).await;
    gets_over_a_lie(&make).await;
    never_seals_a_lie(&make).await;
    can_be_dropped_anywhere(&make).await;
}

/// A download without an engine.
struct Trial {
    memory: MemorySink,
    transfer: Transfer,
}

impl Trial {
    fn new(scheduler: impl Scheduler, setup: Setup) -> Self {
        let memory = MemorySink::new(u64::MAX);
        let sink: Arc<dyn Sink> = Arc::new(memory.clone());
        Self { transfer: Transfer::standalone_with(sink, scheduler, setup), memory }
    }

    /// Somebody else knows what each piece hashes to.
    fn with_digests(self, bytes: &Bytes) -> Self {
        let piece = |range: Range<u64>| {
            let digest = Digest::of(Algorithm::Sha256, &bytes[range.start as usize..range.end as usize]);
            Piece::new(Span::new(FIRST, range), digest)
        };
        let len = bytes.len() as u64;
        let pieces = (0..len).step_by(PIECE as usize).map(|start| piece(start..len.min(start + PIECE))).collect();
        self.transfer.shared.ledger(|ledger| {
            for fact in [Fact::Len(FIRST, len), Fact::Pieces(pieces)] {
                ledger.learn(Voice::User, fact).unwrap_or_else(|e| panic!("the user's word: {}", e.chain()));
            }
        });
        self
    }

    fn is_complete(&self) -> bool {
        self.transfer.shared.ledger(|ledger| ledger.is_complete())
    }

    /// Runs a source until all is there; one that serves on is ended then.
    async fn run(&self, source: &Arc<dyn Source>) -> Result<()> {
        let mut changes = self.transfer.changes();
        let complete = async {
            while !self.is_complete() {
                changes.next().await;
            }
            // A run that has nothing more to do may end by itself, and say how.
            for _ in 0..100 {
                task::yield_now().await;
            }
        };
        let run = source.run(self.transfer.clone());
        let ended = time::timeout(PATIENCE, async {
            tokio::select! {
                biased;
                result = run => result,
                () = complete => Ok(()),
            }
        });
        ended.await.unwrap_or_else(|_| panic!("the source hangs: {:?}", self.transfer.shared.ledger(|l| l.totals())))
    }

    /// Nothing is leased, and nothing is on its way.
    async fn must_be_quiet(&self, what: &str) {
        let mut changes = self.transfer.changes();
        let quiet = async {
            while !self.transfer.shared.ledger(|ledger| ledger.is_quiet()) {
                changes.next().await;
            }
        };
        assert!(time::timeout(PATIENCE, quiet).await.is_ok(), "{what}: a lease is left");
    }

    async fn must_have(&self, wanted: &Bytes, what: &str) {
        assert!(self.is_complete(), "{what}: not all is there: {:?}", self.transfer.shared.ledger(|l| l.totals()));
        let finish = async {
            self.transfer.shared.prepare(FIRST).await?;
            self.transfer.shared.finish(FIRST).await
        };
        finish.await.unwrap_or_else(|e| panic!("{what}: finish: {}", e.chain()));
        let got = self.memory.bytes(FIRST).unwrap_or_default();
        assert!(got == wanted, "{what}: wrong bytes, {} of {}", got.len(), wanted.len());
    }
}

/// Gives out a slice at a time, anywhere.
#[derive(Debug)]
struct Slices(fastrand::Rng);

impl Scheduler for Slices {
    fn pick(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Pick {
        let Some(len) = view.len(FIRST).filter(|_| matches!(ask.want, Want::Any { .. })) else {
            return Balanced::new().pick(view, ask, now);
        };
        let start = self.0.u64(..len.max(1));
        let Some(run) = view.free_from(FIRST, start).or_else(|| view.free_from(FIRST, 0)) else { return Pick::Wait };
        Pick::Take(vec![Span::new(FIRST, run.start..run.end.min(run.start + 20_000))])
    }
}

async fn resolves(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>, len: usize) {
    let case = Case { content: content(1, len), fault: Fault::None };
    let Some(source) = make(&case) else { return };
    let trial = Trial::new(Balanced::new(), Setup::default());
    for what in ["resolve", "a second resolve"] {
        source.resolve(&trial.transfer).await.unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
        let known = trial.transfer.len(FIRST);
        assert!(known.is_none_or(|known| known == len as u64), "{what}: it says {known:?} of {len} bytes");
    }
    trial.must_be_quiet("resolve").await;
    trial.run(&source).await.unwrap_or_else(|e| panic!("a run after a resolve: {}", e.chain()));
    trial.must_have(&case.content, "a run after a resolve").await;
}

async fn delivers(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>, case: &Case, scheduler: impl Scheduler) {
    let Some(source) = make(case) else { return };
    let what = format!("{} bytes, {:?}", case.content.len(), case.fault);
    let trial = Trial::new(scheduler, Setup::default());
    trial.run(&source).await.unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
    trial.must_have(&case.content, &what).await;
    trial.must_be_quiet(&what).await;
}

/// Old and new bytes are never joined.
async fn never_splices(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>) {
    let (old, new) = (content(3, LEN), content(4, LEN));
    let Some(source) = make(&Case { content: old, fault: Fault::Changes(new.clone()) }) else { return };
    let trial = Trial::new(Balanced::new(), Setup::default());
    match trial.run(&source).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Changed, "a change on the way: {}", error.chain()),
        Ok(()) => trial.must_have(&new, "a change on the way").await,
    }
    drop(source);
    trial.must_be_quiet("a change on the way").await;
}

async fn gets_over_a_lie(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>) {
    let case = Case { content: content(5, LEN), fault: Fault::LiesOnce };
    let Some(source) = make(&case) else { return };
    let trial = Trial::new(Balanced::new(), Setup::default()).with_digests(&case.content);
    trial.run(&source).await.unwrap_or_else(|e| panic!("one lie: {}", e.chain()));
    trial.must_have(&case.content, "one lie").await;
}

async fn never_seals_a_lie(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>) {
    let case = Case { content: content(6, LEN), fault: Fault::Lies };
    let Some(source) = make(&case) else { return };
    let trial = Trial::new(Balanced::new(), Setup::default()).with_digests(&case.content);
    let error = trial.run(&source).await.expect_err("a source that always lies ended well");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "lies: {}", error.chain());
    let sealed = trial.transfer.shared.ledger(|ledger| ledger.totals().sealed);
    assert_eq!(sealed, 0, "lies were sealed");
}

/// A run is dropped after any number of polls, of it and of what it spawned; a fresh one brings the rest.
async fn can_be_dropped_anywhere(make: &impl Fn(&Case) -> Option<Arc<dyn Source>>) {
    let case = Case { content: content(7, LEN), fault: Fault::None };
    let mut polls = 0;
    loop {
        let Some(source) = make(&case) else { return };
        let budget = Budget::new(polls);
        let setup = Setup { spawner: budget.spawner(), ..Setup::default() };
        let trial = Trial::new(Balanced::new(), setup);
        let first = budget.run(trial.run(&source)).await;
        budget.lift();
        let what = format!("a run dropped after {polls} polls");
        trial.must_be_quiet(&what).await;
        if let Some(result) = first {
            result.unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
            trial.must_have(&case.content, &what).await;
            return;
        }
        trial.run(&source).await.unwrap_or_else(|e| panic!("after {what}: {}", e.chain()));
        trial.must_have(&case.content, &what).await;
        polls += 1 + polls / EACH * 7;
    }
}
