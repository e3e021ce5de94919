//! [`Reply`]: an answer, right or wrong.

use bytes::Bytes;
use tokio::sync::watch;

/// An answer. Nothing about it has to be true.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    pub(crate) cut: Option<u64>,
    pub(crate) ending: Ending,
    pub(crate) raw: bool,
    pub(crate) gate: Option<(u64, Gate)>,
}

/// How the end of a body is told.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Framing {
    /// By `Content-Length`: the true one.
    Length,
    /// By a `Content-Length` that need not be true.
    Declared(u64),
    /// By chunks, and a last one.
    Chunked,
    /// By chunks; the last one never comes.
    UnfinishedChunks,
    /// By the end of the connection.
    Close,
}

/// What happens after an answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Ending {
    /// The connection waits for the next request.
    KeepAlive,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
    /// Nothing more is sent, and the connection stays open until the other side closes it.
    Stall,
}

/// Holds answers back until it is opened.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        // It can't be closed while `self` holds the sender.
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Reply {
    /// An answer without headers and body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            framing: Framing::Length,
            cut: None,
            ending: Ending::KeepAlive,
            raw: false,
            gate: None,
        }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200).with_body(body)
    }

    /// A redirect.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::new(status).with_header("Location", location)
    }

    /// These bytes and nothing else, whether they are HTTP or not. The connection is closed after them.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { raw: true, status: 0, ..Self::new(0).with_body(bytes).with_ending(Ending::Close) }
    }

    /// Closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self::raw("")
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets how the end of the body is told.
    #[must_use]
    pub fn with_framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Sets what happens afterwards.
    #[must_use]
    pub fn with_ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Sends no more than the first `bytes` of the body, then does what [`with_ending`](Self::with_ending) says, which should
    /// not be to keep the connection.
    #[must_use]
    pub fn with_cut(mut self, bytes: u64) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// Waits at a gate when `bytes` of the body are sent. At 0 the head waits too; behind all of them, the last chunk does.
    #[must_use]
    pub fn with_gate(mut self, bytes: u64, gate: &Gate) -> Self {
        self.gate = Some((bytes, gate.clone()));
        self
    }

    /// Everything before the body.
    pub(crate) fn head(&self) -> String {
        if self.raw {
            return String::new();
        }
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            // These have no body, and no length (RFC 9110 section 8.6).
            Framing::Length if self.status < 200 || self.status == 204 || self.status == 304 => {}
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Declared(len) => head.push_str(&format!("Content-Length: {len}\r\n")),
            Framing::Chunked | Framing::UnfinishedChunks => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::Close => head.push_str("Connection: close\r\n"),
        }
        head.push_str("\r\n");
        head
    }
}
