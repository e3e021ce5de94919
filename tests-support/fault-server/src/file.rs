//! [`File`]: content made from a seed, served well but for its faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::{Ending, Framing, Reply, Request};

/// The boundary of multipart answers.
const BOUNDARY: &str = "THIS_STRING_SEPARATES";

/// When the content was last changed, unless said otherwise: long ago, so that the date is a strong validator.
const MODIFIED: Duration = Duration::from_secs(1_600_000_000);

/// A file on a [`FaultServer`](crate::FaultServer): content made from a seed, a strong `ETag`, a `Last-Modified`, ranges,
/// `If-Range`. A clone counts its requests together with the original.
#[derive(Clone, Debug)]
pub struct File {
    content: Bytes,
    changed: Bytes,
    etag: Option<String>,
    modified: Option<SystemTime>,
    headers: Vec<(String, String)>,
    faults: Vec<Fault>,
    asked: Arc<AtomicUsize>,
}

/// One way not to behave. Requests are counted from 0 on, and by file.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// From this request on the content is another one of the same length, with another validator.
    ChangesAt(usize),
    /// As `ChangesAt`, but the validators stay.
    ChangesSilentlyAt(usize),
    /// Every answer is the whole.
    IgnoresRange,
    /// From this request on every answer is the whole.
    IgnoresRangeFrom(usize),
    /// The range that comes, and its `Content-Range`, begin this much later.
    Shifted(u64),
    /// The header is right, but the bytes are those from 0 on.
    BodyFromZero,
    /// No range is longer than this.
    Short(u64),
    /// Ranges reach to the end, whatever was asked for.
    OpenEnded,
    /// A range comes as `multipart/byteranges`.
    Multipart,
    /// As `Multipart`, and a second part follows.
    TwoParts,
    /// 206 without `Content-Range`.
    NoContentRange,
    /// `Content-Range` is this.
    ContentRange(&'static str),
    /// `Content-Length` is that of the range and this much more, and the body too.
    LongerThanRange(u64),
    /// As many more bytes come in chunks, so that no length contradicts the range.
    Excess(u64),
    /// The connection ends after so many bytes of a body.
    CutAt(u64),
    /// The connection is reset after so many bytes of a body.
    ResetAt(u64),
    /// Nothing comes after so many bytes of a body.
    StallAt(u64),
    /// The body is framed so.
    Framed(Framing),
    /// Every answer claims this `Content-Encoding`.
    Coded(&'static str),
    /// The answer to `If-Range` is the whole.
    DistrustsIfRange,
    /// `If-Range` is ignored: a range comes whatever it says.
    IgnoresIfRange,
    /// Every answer has another `ETag`, as from nodes that don't agree.
    TagPerRequest,
    /// 206 leaves out `Last-Modified`, as it may.
    NoDateInRanges,
    /// Ranges longer than this are answered with 403.
    MaxSpan(u64),
    /// HEAD is answered with this status.
    Head(u16),
    /// The first so many requests are answered with this status.
    Failing {
        /// How many.
        requests: usize,
        /// The status.
        status: u16,
        /// The value of `Retry-After`, if any.
        retry_after: Option<&'static str>,
    },
}

impl File {
    /// A file of `len` bytes, the same ones for the same seed.
    pub fn new(seed: u64, len: usize) -> Self {
        Self {
            content: content(seed, len),
            changed: content(seed ^ u64::MAX, len),
            etag: Some(format!("\"{seed:x}\"")),
            modified: Some(UNIX_EPOCH + MODIFIED),
            headers: Vec::new(),
            faults: Vec::new(),
            asked: Arc::default(),
        }
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Sets the `ETag`, quotes and all, or takes it away.
    #[must_use]
    pub fn with_etag(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.map(str::to_owned);
        self
    }

    /// Sets the `Last-Modified`, or takes it away.
    #[must_use]
    pub fn with_modified(mut self, modified: Option<SystemTime>) -> Self {
        self.modified = modified;
        self
    }

    /// Adds a header to every answer that brings content.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same file, with its requests counted from 0 again.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { asked: Arc::default(), ..self.clone() }
    }

    /// The content, as long as it has not changed.
    pub fn content(&self) -> Bytes {
        self.content.clone()
    }

    /// The content it changes to.
    pub fn changed_content(&self) -> Bytes {
        self.changed.clone()
    }

    /// The answer to a request.
    pub fn reply(&self, request: &Request) -> Reply {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = self.refusal(request, number) {
            return reply;
        }
        let mut reply = self.content_reply(request, number);
        let len = reply.body.len() as u64;
        for fault in &self.faults {
            match *fault {
                // A body that ends before has had no fault.
                Fault::CutAt(bytes) | Fault::ResetAt(bytes) | Fault::StallAt(bytes) if bytes >= len => {}
                Fault::CutAt(bytes) => reply = reply.with_cut(bytes).with_ending(Ending::Close),
                Fault::ResetAt(bytes) => reply = reply.with_cut(bytes).with_ending(Ending::Reset),
                Fault::StallAt(bytes) => reply = reply.with_cut(bytes).with_ending(Ending::Stall),
                Fault::Framed(framing) => {
                    reply = reply.with_framing(framing);
                    if matches!(framing, Framing::UnfinishedChunks | Framing::Declared(_)) {
                        reply = reply.with_ending(Ending::Close);
                    }
                }
                Fault::Coded(coding) => reply = reply.with_header("Content-Encoding", coding),
                _ => {}
            }
        }
        reply
    }

    /// A status in place of content.
    fn refusal(&self, request: &Request, number: usize) -> Option<Reply> {
        self.faults.iter().find_map(|fault| match *fault {
            Fault::Failing { requests, status, retry_after } if number < requests => {
                let reply = Reply::new(status).with_body("an explanation");
                Some(match retry_after {
                    Some(value) => reply.with_header("Retry-After", value),
                    None => reply,
                })
            }
            Fault::Head(status) if request.method == "HEAD" => Some(Reply::new(status)),
            Fault::MaxSpan(most) => {
                let (start, end) = request.range()?;
                let end = end.unwrap_or(self.content.len() as u64);
                (end.saturating_sub(start) > most).then(|| Reply::new(403))
            }
            _ => None,
        })
    }

    /// The whole or a range.
    fn content_reply(&self, request: &Request, number: usize) -> Reply {
        let has_changed = self.has(|f| matches!(*f, Fault::ChangesAt(from) if number >= from));
        let is_other = has_changed || self.has(|f| matches!(*f, Fault::ChangesSilentlyAt(from) if number >= from));
        let content = if is_other { &self.changed } else { &self.content };
        let etag = self.etag.as_ref().map(|etag| {
            if self.has(|f| *f == Fault::TagPerRequest) {
                format!("\"node-{number}\"")
            } else if has_changed {
                etag.replacen('"', "\"changed-", 1)
            } else {
                etag.clone()
            }
        });
        let modified = self
            .modified
            .map(|at| if has_changed { at + Duration::from_secs(3600) } else { at })
            .map(httpdate::fmt_http_date);
        let mut head = Reply::new(200).with_header("Date", httpdate::fmt_http_date(SystemTime::now()));
        if let Some(etag) = &etag {
            head = head.with_header("ETag", etag);
        }
        for (name, value) in &self.headers {
            head = head.with_header(name, value);
        }

        let whole = |mut head: Reply| {
            if let Some(modified) = &modified {
                head = head.with_header("Last-Modified", modified);
            }
            head.with_header("Accept-Ranges", "bytes").with_body(content.clone())
        };
        let ignores_range =
            self.has(|f| matches!(*f, Fault::IgnoresRange) || matches!(*f, Fault::IgnoresRangeFrom(n) if number >= n));
        let Some(range) = request.range().filter(|_| !ignores_range) else { return whole(head) };
        if let Some(condition) = request.header("if-range") {
            let holds = Some(condition) == etag.as_deref().filter(|e| !e.starts_with("W/"))
                || Some(condition) == modified.as_deref();
            let distrusts = self.has(|f| *f == Fault::DistrustsIfRange);
            if distrusts || !(holds || self.has(|f| *f == Fault::IgnoresIfRange)) {
                return whole(head);
            }
        }
        let len = content.len() as u64;
        if range.0 >= len {
            return Reply { status: 416, ..head }.with_header("Content-Range", format!("bytes */{len}"));
        }
        if let Some(modified) = modified.filter(|_| !self.has(|f| *f == Fault::NoDateInRanges)) {
            head = head.with_header("Last-Modified", modified);
        }
        self.range_reply(Reply { status: 206, ..head }, content, range)
    }

    fn range_reply(&self, reply: Reply, content: &Bytes, asked: (u64, Option<u64>)) -> Reply {
        let len = content.len() as u64;
        let (mut start, mut end) = (asked.0, asked.1.unwrap_or(len).min(len));
        let mut excess = 0;
        let mut framing = Framing::Length;
        let (mut is_multipart, mut second_part, mut from_zero) = (false, false, false);
        let mut content_range = None;
        for fault in &self.faults {
            match *fault {
                Fault::Shifted(by) => (start, end) = (start + by, (end + by).min(len)),
                Fault::Short(most) => end = end.min(start + most),
                Fault::OpenEnded => end = len,
                Fault::BodyFromZero => from_zero = true,
                Fault::Multipart => is_multipart = true,
                Fault::TwoParts => (is_multipart, second_part) = (true, true),
                Fault::NoContentRange => content_range = Some(None),
                Fault::ContentRange(value) => content_range = Some(Some(value)),
                Fault::LongerThanRange(by) => excess = by,
                Fault::Excess(by) => (excess, framing) = (by, Framing::Chunked),
                _ => {}
            }
        }
        let from = if from_zero { 0 } else { start };
        let mut body = content.slice(from as usize..(from + (end - start)) as usize).to_vec();
        body.resize(body.len() + excess as usize, b'!');
        let value = format!("bytes {start}-{}/{len}", end - 1);
        if is_multipart {
            let part = |bytes: &[u8]| {
                let head = format!("--{BOUNDARY}\r\nContent-Type: a/b\r\nContent-Range: {value}\r\n\r\n");
                [head.as_bytes(), bytes, b"\r\n"].concat()
            };
            let mut parts = part(&body);
            if second_part {
                parts.extend(part(&body));
            }
            parts.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
            let media_type = format!("multipart/byteranges; boundary={BOUNDARY}");
            return reply.with_header("Content-Type", media_type).with_body(parts);
        }
        let value = match content_range {
            Some(other) => other.map(str::to_owned),
            None => Some(value),
        };
        let reply = reply.with_body(body).with_framing(framing);
        match value {
            Some(value) => reply.with_header("Content-Range", value),
            None => reply,
        }
    }

    fn has(&self, fault: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(fault)
    }
}

fn content(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}
