//! [`World`]: a ledger with a disk below it and sources above it, in virtual time, without I/O.
//!
//! What is on the disk is a tag for each byte: [`TRUE`], or the number of the liar who made it up.

use std::time::{Duration, Instant};

use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind};
use crate::fact::{Fact, Piece};
use crate::ledger::{Ledger, NotNow, PieceId, Voice};
use crate::path::EntryPath;
use crate::runs::Runs;
use crate::scheduler::{Ask, Balanced, Scheduler, Want};
use crate::span::{EntryId, LeaseId, SourceId, Span};

/// The tag of the content that is meant.
pub(super) const TRUE: u8 = 0;

/// How long a step of [`World::settle`] is, and how many there can be.
const STEP: Duration = Duration::from_millis(250);
const MAX_STEPS: usize = 800;

/// A source gives up a lease on which nothing comes for this long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A source that delivers a wrong piece this often is not used any more.
const MAX_CORRUPT: u32 = 3;

/// What a source is like.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Honest,
    Slow,
    Stalling,
    /// Makes up bytes, and digests that fit them.
    Liar,
    /// Delivers the right bytes, but says a wrong length.
    Short,
}

impl Kind {
    fn rate(self) -> u64 {
        match self {
            Self::Slow => 60_000,
            Self::Stalling => 0,
            _ => 2_000_000,
        }
    }
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) kind: Kind,
    corrupt: u32,
    named_pieces: bool,
}

/// A connection of a source, with what it holds.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) source: usize,
    pub(super) bound: Option<EntryId>,
    lease: Option<LeaseId>,
    /// Admitted, but not on its way to the disk.
    buffer: Vec<Span>,
    active: Instant,
}

/// A write on its way to the disk.
#[derive(Debug)]
struct Write {
    lease: LeaseId,
    span: Span,
    source: usize,
}

/// What was sealed of an entry, to see that it stays as it is.
struct Seen {
    version: u64,
    sealed: Vec<(std::ops::Range<u64>, u8)>,
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) scheduler: Box<dyn Scheduler>,
    pub(super) now: Instant,
    pub(super) lens: Vec<u64>,
    pub(super) sources: Vec<Source>,
    pub(super) connections: Vec<Connection>,
    writes: Vec<Write>,
    /// Pieces that are whole and wait for their digest: whose, which, and who delivered them.
    checks: Vec<(LeaseId, PieceId, usize)>,
    disk: Vec<Runs<u8>>,
    seen: Vec<Seen>,
}

impl World {
    pub(super) fn new(lens: &[u64], kinds: &[Kind], scheduler: Box<dyn Scheduler>) -> Self {
        let mut ledger = Ledger::new();
        for i in 0..lens.len() {
            let path = EntryPath::new(&format!("entry-{i}")).unwrap();
            ledger.learn(Voice::User, Fact::Entry { path, len: None }).unwrap();
        }
        let now = Instant::now();
        let source = |(i, kind): (usize, &Kind)| {
            let id = ledger.add_source(format!("source {i}"));
            Source { id, kind: *kind, corrupt: 0, named_pieces: false }
        };
        let sources: Vec<Source> = kinds.iter().enumerate().map(source).collect();
        let connection = |i: usize| Connection {
            source: i / 2,
            bound: (i % 4 == 3).then(|| EntryId::new((i / 4 % lens.len()) as u32)),
            lease: None,
            buffer: Vec::new(),
            active: now,
        };
        Self {
            ledger,
            scheduler,
            now,
            lens: lens.to_vec(),
            connections: (0..2 * sources.len()).map(connection).collect(),
            sources,
            writes: Vec::new(),
            checks: Vec::new(),
            disk: lens.iter().map(|_| Runs::new()).collect(),
            seen: lens.iter().map(|_| Seen { version: 0, sealed: Vec::new() }).collect(),
        }
    }

    /// What a source's bytes are.
    fn tag(&self, source: usize) -> u8 {
        if self.sources[source].kind == Kind::Liar { source as u8 + 1 } else { TRUE }
    }

    fn digest(tag: u8) -> Digest {
        Digest::of(Algorithm::Blake3, &[tag])
    }

    pub(super) fn say(&mut self, source: usize, fact: Fact) {
        if let Err(error) = self.ledger.learn(Voice::Source(self.sources[source].id), fact)
            && error.kind() == ErrorKind::Changed
        {
            self.ledger.bench(self.sources[source].id);
        }
    }

    pub(super) fn say_len(&mut self, source: usize, entry: usize) {
        let wrong = matches!(self.sources[source].kind, Kind::Short | Kind::Liar);
        let len = if wrong { self.lens[entry] / 2 + 1 } else { self.lens[entry] };
        self.say(source, Fact::Len(EntryId::new(entry as u32), len));
    }

    /// Pieces of this length, which cross entries.
    pub(super) fn layout(&self, piece: u64, tag: u8) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut spans, mut missing) = (Vec::new(), piece);
        for (i, &len) in self.lens.iter().enumerate() {
            let mut at = 0;
            while at < len {
                let end = len.min(at + missing);
                spans.push(Span::new(EntryId::new(i as u32), at..end));
                missing -= end - at;
                at = end;
                if missing == 0 {
                    pieces.push(std::mem::take(&mut spans));
                    missing = piece;
                }
            }
        }
        pieces.extend((!spans.is_empty()).then_some(spans));
        pieces.into_iter().map(|spans| Piece { spans: spans.into(), digest: Self::digest(tag) }).collect()
    }

    pub(super) fn say_pieces(&mut self, source: usize, piece: u64) {
        self.sources[source].named_pieces = true;
        let pieces = self.layout(piece, self.tag(source));
        self.say(source, Fact::Pieces(pieces));
    }

    pub(super) fn claim(&mut self, connection: usize, want: Want, rate: Option<u64>) -> Option<NotNow> {
        let c = &self.connections[connection];
        if c.lease.is_some() {
            return None;
        }
        let ask = Ask { source: self.sources[c.source].id, entry: c.bound, want, rate };
        match self.ledger.claim(&ask, self.scheduler.as_mut(), self.now) {
            Ok(grant) => {
                assert!(grant.spans.iter().all(|span| !span.is_empty()), "{grant:?}");
                assert_eq!(self.ledger.remaining(grant.lease), grant.spans);
                let c = &mut self.connections[connection];
                c.lease = Some(grant.lease);
                c.active = self.now;
                None
            }
            Err(not_now) => Some(not_now),
        }
    }

    /// A source hands over up to `len` bytes, `skip` bytes after the first that are missing. Says whether the lease is served.
    pub(super) fn deliver(&mut self, connection: usize, skip: u64, len: u64) -> bool {
        let c = &mut self.connections[connection];
        let Some(lease) = c.lease else { return false };
        let first = self.ledger.remaining(lease).into_iter().next();
        let Some(Span { entry, range }) = first else { return true };
        // As a server would, it sends what follows, too, whether the lease has it or not.
        let start = range.start + skip.min(range.end - range.start - 1);
        let truth = self.lens[entry.index()].max(range.end.min(1 << 40));
        let end = truth.min(start + len.max(1));
        let (mut at, mut last) = (start, false);
        while at < end && !last {
            let admitted = self.ledger.admit(lease, entry, at..end, self.now);
            let from = at + admitted.skip;
            assert!(from + admitted.take <= end);
            if admitted.take > 0 {
                c.buffer.push(Span::new(entry, from..from + admitted.take));
            }
            (at, last) = (from + admitted.take, admitted.last);
        }
        c.active = self.now;
        last
    }

    /// What was admitted is given to the disk; a hedge keeps it until it is whole and right, and nobody writes there.
    pub(super) fn flush(&mut self, connection: usize) {
        let Some(lease) = self.connections[connection].lease else { return };
        let source = self.connections[connection].source;
        if self.ledger.is_hedge(lease) && !self.win(lease, source) {
            return;
        }
        if self.ledger.is_writing(&self.connections[connection].buffer) {
            return;
        }
        for mut rest in std::mem::take(&mut self.connections[connection].buffer) {
            while let Some(part) = self.ledger.write_begins(lease, &rest) {
                rest.range.start = part.range.end;
                self.writes.push(Write { lease, span: part, source });
            }
        }
    }

    fn win(&mut self, lease: LeaseId, source: usize) -> bool {
        let first = self.ledger.leases[&lease].held.first().map(|h| h.span.clone());
        let whole = first.is_some() && self.ledger.remaining(lease).is_empty();
        let Some(id) = first.filter(|_| whole).and_then(|s| self.ledger.piece_at(s.entry, s.range.start)) else {
            return false;
        };
        if self.ledger.piece(id).digest != Self::digest(self.tag(source)) {
            self.ledger.fail_piece(lease, id);
            return false;
        }
        self.ledger.take_over(lease, id)
    }

    /// A write comes to its end.
    pub(super) fn land(&mut self, i: usize, good: bool) {
        if self.writes.is_empty() {
            return;
        }
        let Write { lease, span, source } = self.writes.swap_remove(i % self.writes.len());
        if !good {
            return self.ledger.write_failed(lease, &span);
        }
        let tag = self.tag(source);
        self.disk[span.entry.index()].set(span.range.clone(), tag);
        let landed = self.ledger.landed(lease, &span);
        self.checks.extend(landed.pieces.into_iter().map(|id| (lease, id, source)));
    }

    pub(super) fn check_piece(&mut self, i: usize) {
        if self.checks.is_empty() {
            return;
        }
        let (lease, id, source) = self.checks.swap_remove(i % self.checks.len());
        if self.is_right(id) {
            self.ledger.seal_piece(lease, id);
        } else if self.ledger.fail_piece(lease, id) {
            self.sources[source].corrupt += 1;
            // Whoever delivers what it says is right where the digest is right, too.
            let digest = self.ledger.piece(id).digest;
            assert!(self.tag(source) != TRUE || digest != Self::digest(TRUE), "an honest source is blamed");
            let author = self.sources.iter().find(|s| digest == Self::digest(s.id.index() as u8 + 1));
            let (author, kind) = (author.map(|a| a.id), author.map(|a| a.kind));
            let tag = self.tag(source);
            let was_accused = self.ledger.accused.len();
            self.ledger.testify(self.sources[source].id, id, &[tag]);
            if let Some((accused, _)) = self.ledger.accused.get(was_accused) {
                assert_eq!((Some(*accused), kind), (author, Some(Kind::Liar)), "an honest source is accused");
            }
            if self.sources[source].corrupt >= MAX_CORRUPT {
                self.ledger.bench(self.sources[source].id);
            }
        }
    }

    fn is_right(&self, id: PieceId) -> bool {
        let piece = self.ledger.piece(id);
        let tags: Vec<Option<u8>> = piece.spans.iter().map(|span| self.tag_of(span)).collect();
        tags.iter().all(|tag| tag.is_some() && *tag == tags[0])
            && tags[0].is_some_and(|tag| piece.digest == Self::digest(tag))
    }

    /// The tag that all of a span has.
    fn tag_of(&self, span: &Span) -> Option<u8> {
        self.disk[span.entry.index()].get(span.range.start).filter(|(run, _)| run.end >= span.range.end).map(|(_, t)| t)
    }

    pub(super) fn drop_lease(&mut self, connection: usize) {
        let c = &mut self.connections[connection];
        c.buffer.clear();
        if let Some(lease) = c.lease.take() {
            self.ledger.release(lease);
        }
    }

    /// The body goes on behind the lease.
    pub(super) fn extend(&mut self, connection: usize) {
        let Some(lease) = self.connections[connection].lease else { return };
        let whole = |ledger: &Ledger, span: &Span| {
            let end = span.range.end;
            ledger.pieces.range_at(span.entry, end).is_none_or(|piece| piece.start == end)
        };
        let of = |ledger: &Ledger| Some(ledger.leases.get(&lease)?.held.last()?.span.clone());
        let before = of(&self.ledger);
        self.ledger.extend(lease);
        let after = of(&self.ledger);
        assert!(before == after || after.is_some_and(|span| whole(&self.ledger, &span)), "a part of a piece");
    }

    pub(super) fn restart(&mut self, entry: EntryId, solo: bool) {
        self.ledger.block(entry);
        self.ledger.check();
        self.disk[entry.index()].clear();
        self.ledger.restart(entry, solo);
    }

    pub(super) fn checkpoint(&mut self) {
        for (entry, ranges) in self.ledger.dirty() {
            self.ledger.set_durable(entry, &ranges);
        }
        self.ledger.log_again();
    }

    pub(super) fn disown(&mut self, source: usize, why: ErrorKind) {
        self.ledger.accuse(self.sources[source].id, Error::new(why, "a test says so"));
    }

    /// What an engine does between two events.
    pub(super) fn turn(&mut self) {
        for (source, _) in self.ledger.take_accused() {
            self.ledger.disown(source);
            self.ledger.bench(source);
        }
        for source in &mut self.sources {
            if self.ledger.pardon(source.id) {
                self.ledger.unbench(source.id);
                source.corrupt = 0;
            }
        }
        for entry in self.ledger.take_restarts().into_keys() {
            self.restart(entry, false);
        }
        for id in self.ledger.take_recheck() {
            let good = self.is_right(id);
            self.ledger.rechecked(id, good);
        }
        self.ledger.check();
        self.ledger.end_quarantine();
        assert!(!self.ledger.has_quarantine());
    }

    /// Panics if an invariant is broken: the ledger's own, and those that only somebody with the disk can see.
    pub(super) fn check(&mut self) {
        self.ledger.check();
        for i in 0..self.lens.len() {
            let id = EntryId::new(i as u32);
            for run in self.ledger.sealed(id).ranges() {
                assert!(
                    self.disk[i].gaps(run.clone()).next().is_none(),
                    "{id}: {run:?} is sealed, but was not written"
                );
            }
            let version = self.ledger.version(id);
            if self.seen[i].version == version {
                for (run, tag) in &self.seen[i].sealed {
                    let now = self.disk[i].get(run.start).unwrap();
                    assert!(now.0.end >= run.end && now.1 == *tag, "{id}: sealed bytes {run:?} have changed");
                }
            }
            let sealed = self.ledger.sealed(id).ranges().flat_map(|run| self.disk[i].within(run).collect::<Vec<_>>());
            self.seen[i] = Seen { version, sealed: sealed.collect() };
            let pieces = self.ledger.pieces_within(&Span::new(id, 0..u64::MAX));
            for piece in pieces {
                let spans = &self.ledger.piece(piece).spans;
                let verified = |s: &Span| self.ledger.verified(s.entry).contains(&s.range);
                assert!(!spans.iter().all(verified) || self.is_right(piece), "{spans:?} is verified, but wrong");
            }
        }
    }

    /// Whether the download comes to its end when everybody just does his work.
    pub(super) fn settle(&mut self) -> bool {
        self.turn();
        self.scheduler = Box::new(Balanced::new());
        self.ledger.set_exclusive(None);
        self.ledger.set_focus(None);
        let window = self.ledger.window().is_some();
        for i in 0..self.sources.len() {
            // A digest that is made up fits nothing that anybody else has.
            if self.sources[i].kind == Kind::Liar && self.sources[i].named_pieces {
                self.ledger.disown(self.sources[i].id);
                self.ledger.bench(self.sources[i].id);
            }
        }
        self.ledger.unbench(self.sources[0].id);
        for (i, len) in self.lens.clone().into_iter().enumerate() {
            self.ledger.learn(Voice::User, Fact::Len(EntryId::new(i as u32), len)).unwrap();
        }
        self.ledger.learn(Voice::User, Fact::LayoutComplete).unwrap();
        for _ in 0..MAX_STEPS {
            self.now += STEP;
            self.turn();
            if window {
                let missing = |e: &usize| self.ledger.sealed(EntryId::new(*e as u32)).bytes() < self.lens[*e];
                let entry = EntryId::new((0..self.lens.len()).find(missing).unwrap_or(0) as u32);
                let cursor = self.ledger.sealed(entry).get(0).map_or(0, |(run, ())| run.end);
                self.ledger.set_window(Some(Span::new(entry, cursor..cursor + 500_000)));
            }
            for i in 0..self.connections.len() {
                self.work(i);
                self.ledger.check();
            }
            while !self.writes.is_empty() {
                self.land(0, true);
            }
            while !self.checks.is_empty() {
                self.check_piece(0);
            }
            self.check();
            if self.ledger.is_complete() && !self.ledger.has_quarantine() {
                return true;
            }
        }
        false
    }

    /// What a connection does in a step.
    fn work(&mut self, i: usize) {
        let (source, kind) = (&self.sources[self.connections[i].source], self.sources[self.connections[i].source].kind);
        if self.ledger.is_benched(source.id) {
            return self.drop_lease(i);
        }
        if self.connections[i].lease.is_none() {
            let rate = Some(kind.rate()).filter(|rate| *rate > 0);
            self.claim(i, Want::Any { max: 4 << 20 }, rate);
        } else if kind != Kind::Stalling {
            let served = self.deliver(i, 0, (kind.rate() as f64 * STEP.as_secs_f64()) as u64);
            self.flush(i);
            if served && self.connections[i].buffer.is_empty() {
                // Its writes go on without it otherwise.
                while !self.writes.is_empty() {
                    self.land(0, true);
                }
                while !self.checks.is_empty() {
                    self.check_piece(0);
                }
                self.drop_lease(i);
            }
        }
        if self.now.saturating_duration_since(self.connections[i].active) > TIMEOUT {
            self.drop_lease(i);
        }
    }
}
