//! [`Script`]: a range source that does what a test tells it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::{self, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fact::{Identity, Strength};
use crate::locator::Locator;
use crate::ranged::{Opened, RangeRequest, RangeSource, Ranges};
use crate::sync::lock;

/// Bytes that look random and are the same each time, for a seed.
pub fn content(seed: u64, len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes.into()
}

/// How often in a second [`Act::Trickle`] sends something.
const TRICKLES: usize = 10;

/// What a [`Script`] does with one request.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Act {
    /// What a good server does.
    Serve,
    /// Refuses with an error of this kind.
    Refuse(ErrorKind),
    /// Breaks off after this many bytes.
    BreakAfter(usize),
    /// Sends nothing more after this many bytes.
    StallAfter(usize),
    /// Sends no more than `rate` bytes a second once `after` bytes were sent, a few at a time, so that it is never silent.
    Trickle {
        /// Bytes that come as usual.
        after: usize,
        /// Bytes a second from then on.
        rate: u64,
    },
    /// Sends bytes that are wrong, from this offset of the content on.
    LieFrom(u64),
    /// Sends the whole although a range was asked for.
    IgnoreRange,
    /// Sends fewer bytes than asked for, and says so.
    Short(u64),
    /// Says that the right range comes, and sends bytes from the beginning of the content.
    BodyFromZero,
    /// The content is another one from now on.
    Change(Bytes),
}

/// A request, and what became of its body.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Served {
    /// What was asked for.
    pub request: RangeRequest,
    /// The first byte of the body.
    pub start: u64,
    /// How many bytes of the body were fetched.
    pub bytes: u64,
    /// When the body was opened.
    pub opened: Instant,
    /// When it was let go, at its end or before.
    pub closed: Option<Instant>,
}

impl Served {
    /// The bytes that it brought.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }

    /// How long it was open; `None` if it still is.
    pub fn lasted(&self) -> Option<Duration> {
        Some(self.closed?.duration_since(self.opened))
    }
}

/// A range source over bytes in memory. Each request is served as the next [`Act`] says; when there are none, well.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    locator: Locator,
    content: Mutex<(Bytes, u32)>,
    acts: Mutex<VecDeque<Act>>,
    always: Mutex<Option<Act>>,
    requests: Mutex<Vec<RangeRequest>>,
    served: Mutex<Vec<Served>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    rate: Option<u64>,
    rtt: Option<Duration>,
    chunk: usize,
    tells_len: bool,
    validator: Option<Strength>,
    name: Option<String>,
    media_type: Option<String>,
}

impl Script {
    /// A source of `content` called `name`, which is a URL.
    pub fn new(name: &str, content: Bytes) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            locator: name.parse()?,
            content: Mutex::new((content, 0)),
            acts: Mutex::default(),
            always: Mutex::default(),
            requests: Mutex::default(),
            served: Mutex::default(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            rate: None,
            rtt: None,
            chunk: 64 << 10,
            tells_len: true,
            validator: Some(Strength::Strong),
            name: None,
            media_type: None,
        })))
    }

    fn change(self, f: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = self.0;
        if let Some(inner) = Arc::get_mut(&mut inner) {
            f(inner);
        }
        Self(inner)
    }

    /// Each connection brings this many bytes a second. Before it is cloned only.
    #[must_use]
    pub fn with_rate(self, rate: u64) -> Self {
        self.change(|inner| inner.rate = Some(rate))
    }

    /// An answer takes this long to begin, and says so. Before it is cloned only.
    #[must_use]
    pub fn with_rtt(self, rtt: Duration) -> Self {
        self.change(|inner| inner.rtt = Some(rtt))
    }

    /// The size of a chunk in bytes; 64 KiB unless it is set. Before it is cloned only.
    #[must_use]
    pub fn with_chunk(self, chunk: usize) -> Self {
        self.change(|inner| inner.chunk = chunk.max(1))
    }

    /// It doesn't tell the length. Before it is cloned only.
    #[must_use]
    pub fn without_len(self) -> Self {
        self.change(|inner| inner.tells_len = false)
    }

    /// It has a validator of this strength, or none; a strong one unless it is set. Before it is cloned only.
    #[must_use]
    pub fn with_validator(self, validator: Option<Strength>) -> Self {
        self.change(|inner| inner.validator = validator)
    }

    /// It suggests a name for its content. Before it is cloned only.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        self.change(|inner| inner.name = Some(name.to_owned()))
    }

    /// It tells the media type of its content. Before it is cloned only.
    #[must_use]
    pub fn with_media_type(self, media_type: &str) -> Self {
        self.change(|inner| inner.media_type = Some(media_type.to_owned()))
    }

    /// What it does with the next requests, one each.
    pub fn act(&self, acts: impl IntoIterator<Item = Act>) -> &Self {
        lock(&self.0.acts).extend(acts);
        self
    }

    /// What it does with all requests for which there is no other act.
    pub fn always(&self, act: Act) -> &Self {
        *lock(&self.0.always) = Some(act);
        self
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<RangeRequest> {
        lock(&self.0.requests).clone()
    }

    /// The requests so far that were answered, in the order of the answers.
    pub fn served(&self) -> Vec<Served> {
        lock(&self.0.served).clone()
    }

    /// The most connections that were open at once.
    pub fn most_open(&self) -> usize {
        self.0.most_open.load(Ordering::SeqCst)
    }
}

/// An open body.
struct Open {
    inner: Arc<Inner>,
    /// Its place among what was served.
    number: usize,
}

impl Open {
    fn new(inner: &Arc<Inner>, request: &RangeRequest, start: u64) -> Self {
        let open = inner.open.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_open.fetch_max(open, Ordering::SeqCst);
        let mut served = lock(&inner.served);
        served.push(Served { request: request.clone(), start, bytes: 0, opened: Instant::now(), closed: None });
        Self { inner: inner.clone(), number: served.len() - 1 }
    }

    fn served(&self, change: impl FnOnce(&mut Served)) {
        change(&mut lock(&self.inner.served)[self.number]);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.open.fetch_sub(1, Ordering::SeqCst);
        self.served(|served| served.closed = Some(Instant::now()));
    }
}

/// How a body ends.
enum End {
    Well,
    Broken,
    Silence,
}

#[async_trait]
impl RangeSource for Script {
    async fn open(&self, request: &RangeRequest) -> Result<Opened> {
        let inner = &self.0;
        lock(&inner.requests).push(request.clone());
        if let Some(rtt) = inner.rtt {
            time::sleep(rtt).await;
        }
        let act = lock(&inner.acts).pop_front().or_else(|| lock(&inner.always).clone()).unwrap_or(Act::Serve);
        if let Act::Change(new) = &act {
            let mut content = lock(&inner.content);
            *content = (new.clone(), content.1 + 1);
        }
        let (content, version) = lock(&inner.content).clone();
        let len = content.len() as u64;
        let mut range = request.start.min(len)..request.end.unwrap_or(len).min(len);
        let mut ranges = if request.is_whole() { Ranges::Unknown } else { Ranges::Yes };
        let mut end = End::Well;
        // With how many bytes left it becomes slow, and how slow.
        let mut trickle = None;
        let mut body = content.slice(range.start as usize..range.end.max(range.start) as usize);
        match act {
            Act::Serve | Act::Change(_) => {}
            Act::Refuse(kind) => return Err(Error::new(kind, "refused")),
            Act::BreakAfter(n) => (body, end) = (body.slice(..n.min(body.len())), End::Broken),
            Act::StallAfter(n) => (body, end) = (body.slice(..n.min(body.len())), End::Silence),
            Act::Trickle { after, rate } => trickle = Some((body.len().saturating_sub(after), rate)),
            Act::LieFrom(from) => {
                let from = from.clamp(range.start, range.end) - range.start;
                let mut lie = body.to_vec();
                lie[from as usize..].iter_mut().for_each(|byte| *byte ^= 0x55);
                body = lie.into();
            }
            Act::IgnoreRange => {
                range = 0..len;
                body = content.clone();
                ranges = if request.is_whole() { Ranges::Unknown } else { Ranges::No };
            }
            Act::Short(n) => {
                range.end = range.end.min(range.start + n);
                body = body.slice(..(range.end - range.start) as usize);
            }
            Act::BodyFromZero => body = content.slice(..body.len()),
        }
        let (usual, open) = ((inner.chunk, inner.rate), Open::new(inner, request, range.start));
        let chunks = stream::unfold((body, end, open), move |(mut body, end, open)| async move {
            // So that a test's runtime can do something else in between.
            tokio::task::yield_now().await;
            if !body.is_empty() {
                let (chunk, rate) = match trickle {
                    Some((left, rate)) if body.len() <= left => ((rate as usize / TRICKLES).max(1), Some(rate)),
                    Some((left, _)) => (usual.0.min(body.len() - left), usual.1),
                    None => usual,
                };
                let part = body.split_to(chunk.min(body.len()));
                if let Some(rate) = rate {
                    time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
                }
                open.served(|served| served.bytes += part.len() as u64);
                return Some((Ok(part), (body, end, open)));
            }
            match end {
                End::Well => None,
                End::Broken => Some((Err(Error::new(ErrorKind::Network, "broken off")), (body, End::Well, open))),
                End::Silence => std::future::pending().await,
            }
        });
        let mut opened = Opened::new(range.start, chunks.boxed());
        if inner.tells_len {
            (opened.len, opened.end) = (Some(len), Some(range.end));
        }
        opened.ranges = ranges;
        opened.name = inner.name.clone();
        opened.media_type = inner.media_type.clone();
        opened.rtt = inner.rtt;
        opened.identities.extend(inner.validator.map(|strength| Identity {
            scheme: "version".into(),
            value: version.to_string(),
            strength,
            origin: Some(self.origin()),
        }));
        Ok(opened)
    }

    fn locator(&self) -> &Locator {
        &self.0.locator
    }

    fn origin(&self) -> String {
        // Of a scheme that it does not know, the origin of a URL is opaque: all would have the same one.
        let url = self.0.locator.url();
        format!("{}://{}", url.scheme(), url.authority())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.locator)
    }
}
