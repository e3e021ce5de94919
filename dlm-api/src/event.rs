//! What a running download tells about itself, and the report at its end.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::path::EntryPath;
use crate::span::EntryId;

/// Something that happened to a download.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The download entered this state.
    State(State),
    /// An entry got its path.
    Named {
        /// The entry.
        entry: EntryId,
        /// Its path, relative to the download's folder.
        path: EntryPath,
    },
    /// What was there before the download began was compared with the digests of its pieces.
    Checked {
        /// How many pieces there are.
        pieces: u64,
        /// How many of them are here and right.
        right: u64,
    },
    /// An earlier run left this many bytes that count.
    Resumed {
        /// Bytes taken over.
        bytes: u64,
    },
    /// A URL led to a container: a torrent file, a Metalink. What that leads to is fetched in its place.
    Container {
        /// Where the container is from, without secrets.
        source: String,
        /// Its length.
        bytes: u64,
    },
    /// How far it is. Sent a few times a second at most.
    Progress(Progress),
    /// A source failed and will be asked again.
    SourceRetry {
        /// The source, without secrets.
        source: String,
        /// What happened.
        reason: String,
        /// The pause before it is asked again.
        after: Duration,
    },
    /// A source is not used any more.
    SourceBenched {
        /// The source, without secrets.
        source: String,
        /// What happened.
        kind: ErrorKind,
        /// What happened, in words.
        reason: String,
    },
    /// A piece did not match its digest; it is fetched again.
    PieceCorrupt {
        /// The entry.
        entry: EntryId,
        /// The bytes.
        range: Range<u64>,
        /// The source that delivered it, without secrets.
        source: String,
    },
    /// Bytes that had been wrong are right now.
    Repaired {
        /// The entry.
        entry: EntryId,
        /// The bytes.
        range: Range<u64>,
    },
    /// An entry starts again from nothing, because its content is another one.
    Restarted {
        /// The entry.
        entry: EntryId,
        /// What happened.
        reason: String,
    },
    /// Something that the user should know.
    Warning(String),
    /// The listener was too slow; this many events are lost. Progress is never lost for good: the next one has it all.
    Missed(u64),
}

/// What a download is doing.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Sources are opened; nothing has been received.
    Starting,
    /// What was there before is compared with the digests of its pieces, while other bytes arrive already.
    Checking,
    /// Bytes arrive.
    Running,
    /// The caller paused it.
    Paused,
    /// All bytes are here: digests are checked, files synced and renamed.
    Finishing,
    /// Everything is here and finished, and is given to others until that is enough, or the caller stops it.
    Sharing,
    /// Done.
    Complete,
    /// It failed. What is durable stays for a later run, unless it was found to be wrong.
    Failed,
    /// The caller stopped it; a later run goes on.
    Stopped,
}

/// How far a download is.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// The length of all entries in bytes, once it is known.
    pub total: Option<u64>,
    /// Bytes that are in the sink and count, those of earlier runs among them.
    pub received: u64,
    /// Of these, how many were checked against a digest.
    pub verified: u64,
    /// Of these, how many are on stable storage and recorded.
    pub durable: u64,
    /// Payload bytes that sources delivered in this run, useful or not.
    pub transferred: u64,
    /// Of these, how many were thrown away.
    pub wasted: u64,
    /// Payload bytes that were given to others in this run.
    pub uploaded: u64,
    /// Bytes a second, smoothed over a few seconds.
    pub rate: u64,
    /// Bytes a second that are given to others, smoothed over a few seconds.
    pub upload_rate: u64,
    /// Those with whom a source exchanges pieces, if it has such.
    pub peers: Option<Peers>,
    /// Open connections, or peers, that deliver.
    pub connections: u32,
    /// The time that this run has taken.
    pub elapsed: Duration,
}

/// Those with whom a source exchanges pieces.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Peers {
    /// How many it is connected to.
    pub connected: u32,
    /// How many of these have everything.
    pub seeds: u32,
    /// How many copies of the whole they have together, ours among them, in thousandths: the copies of the rarest piece, and
    /// the part of the pieces of which there are more.
    pub copies_in_thousandths: u32,
    /// How many there are altogether who have everything, as far as somebody knows it.
    pub known_seeds: Option<u32>,
    /// How many there are altogether who don't, as far as somebody knows it.
    pub known_others: Option<u32>,
}

impl Peers {
    /// These numbers.
    pub const fn new(connected: u32, seeds: u32, copies_in_thousandths: u32) -> Self {
        Self { connected, seeds, copies_in_thousandths, known_seeds: None, known_others: None }
    }

    /// Of so many altogether who have everything, and so many who don't.
    #[must_use]
    pub const fn with_known(mut self, seeds: u32, others: u32) -> Self {
        (self.known_seeds, self.known_others) = (Some(seeds), Some(others));
        self
    }
}

impl Progress {
    /// The time that what is left takes at the present rate; `None` if that can't be told.
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.received);
        (self.rate > 0).then(|| Duration::from_millis(left.saturating_mul(1000) / self.rate))
    }
}

/// What came of a download.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its entries.
    pub entries: Vec<EntryReport>,
    /// Bytes that an earlier run left.
    pub resumed: u64,
    /// Payload bytes that sources delivered in this run, useful or not.
    pub transferred: u64,
    /// Of these, how many were thrown away.
    pub wasted: u64,
    /// Payload bytes that were given to others in this run.
    pub uploaded: u64,
    /// The time that this run took.
    pub elapsed: Duration,
    /// Its sources.
    pub sources: Vec<SourceReport>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What came of an entry.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct EntryReport {
    /// Its path, relative to the download's folder.
    pub path: EntryPath,
    /// The file, if it went to one.
    pub file: Option<PathBuf>,
    /// Its length in bytes.
    pub len: u64,
    /// How its content was checked.
    pub verification: Verification,
    /// Whether it was there before and was left as it is.
    pub skipped: bool,
}

impl EntryReport {
    /// The report of an entry that was fetched, and did not go to a file.
    pub fn new(path: EntryPath, len: u64, verification: Verification) -> Self {
        Self { path, file: None, len, verification, skipped: false }
    }
}

/// How a content was checked.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verification {
    /// The digest of the whole matched: the name of its hash function.
    Digest(String),
    /// Every piece matched its digest.
    Pieces,
    /// One response brought it all, or responses under one strong validator; there was no digest.
    SameContent,
    /// Parts were joined on the strength of equal lengths and overlaps alone.
    Unverified,
}

/// What a source gave.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// The source, without secrets.
    pub source: String,
    /// Payload bytes that it delivered.
    pub transferred: u64,
    /// Why it was benched, if it was.
    pub benched: Option<String>,
}

impl SourceReport {
    /// The report of a source that was not benched.
    pub fn new(source: impl Into<String>, transferred: u64) -> Self {
        Self { source: source.into(), transferred, benched: None }
    }
}
