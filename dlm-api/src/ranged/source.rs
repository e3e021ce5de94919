//! [`RangeSource`]: all that a protocol with ranges implements.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::digest::Digest;
use crate::error::Result;
use crate::fact::Identity;
use crate::locator::Locator;

/// A place from which any range of one file can be asked for: HTTP, FTP, S3.
///
/// It answers one request; everything else (how many at once, which range next, retries, stalls, whether two answers may
/// be joined) is [`Ranged`](crate::Ranged)'s.
#[async_trait]
pub trait RangeSource: Debug + Send + Sync + 'static {
    /// Asks for a range. One request both probes and starts: the answer's head says what is really served, and its body
    /// follows. The answer may be another range than the one asked for; it must say so truly.
    ///
    /// Dropping the returned body ends the request. A connection that can't be used again then is closed.
    async fn open(&self, request: &RangeRequest) -> Result<Opened>;

    /// Where it is, as given. `Display` hides its secrets.
    fn locator(&self) -> &Locator;

    /// What the limit of connections holds for: `https://host:port` for HTTP. The same for everything at the same server.
    fn origin(&self) -> String;
}

/// What is asked for.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeRequest {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; `None` for all that follow.
    pub end: Option<u64>,
    /// What the content must still be. A source that can ask the server for that (`If-Range`, `If-Match`) does.
    pub expect: Option<Identity>,
}

impl RangeRequest {
    /// The whole content.
    pub const fn whole() -> Self {
        Self { start: 0, end: None, expect: None }
    }

    /// The bytes from `start` to before `end`.
    pub const fn new(start: u64, end: Option<u64>) -> Self {
        Self { start, end, expect: None }
    }

    /// Sets what the content must still be.
    #[must_use]
    pub fn expecting(mut self, identity: Option<Identity>) -> Self {
        self.expect = identity;
        self
    }

    /// Whether it asks for the whole content, so that no range has to be named.
    pub const fn is_whole(&self) -> bool {
        self.start == 0 && self.end.is_none()
    }
}

/// The answer to a [`RangeRequest`].
#[non_exhaustive]
pub struct Opened {
    /// The first byte that the body brings.
    pub start: u64,
    /// The byte after the last one that the body brings; `None` if only the body's end will tell.
    pub end: Option<u64>,
    /// The length of the whole content, if the answer tells it.
    pub len: Option<u64>,
    /// Whether this content can be asked for in ranges.
    pub ranges: Ranges,
    /// What the content is, by every validator that came with the answer, the strongest first.
    pub identities: Vec<Identity>,
    /// The name suggested for the file, not made safe yet.
    pub name: Option<String>,
    /// The media type of the content, with its parameters.
    pub media_type: Option<String>,
    /// When the content was last changed.
    pub modified: Option<SystemTime>,
    /// Digests of the whole content.
    pub digests: Vec<Digest>,
    /// How long the other side takes to answer at all: a round trip.
    pub rtt: Option<Duration>,
    /// Whether a body that is cut off can be told from a complete one. Yes unless it is set.
    pub is_delimited: bool,
    /// Something that the user should know, but that is no error.
    pub warnings: Vec<String>,
    /// The bytes from `start` on. An error where the body ends before `end`.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// Whether a content can be asked for in ranges.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Ranges {
    /// The answer was a range, so yes.
    Yes,
    /// The answer doesn't tell: it was asked for the whole.
    Unknown,
    /// No: a range was asked for and the whole came, or the body is transformed on the way.
    No,
}

impl Opened {
    /// An answer that brings `body` from `start` on, and of which nothing else is known.
    pub fn new(start: u64, body: BoxStream<'static, Result<Bytes>>) -> Self {
        Self {
            start,
            end: None,
            len: None,
            ranges: Ranges::Unknown,
            identities: Vec::new(),
            name: None,
            media_type: None,
            modified: None,
            digests: Vec::new(),
            rtt: None,
            is_delimited: true,
            warnings: Vec::new(),
            body,
        }
    }
}

impl Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("start", &self.start)
            .field("end", &self.end)
            .field("len", &self.len)
            .field("ranges", &self.ranges)
            .field("identities", &self.identities)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
