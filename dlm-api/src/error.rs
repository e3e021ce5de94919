//! The one error type of dlm.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use url::Url;

use crate::locator;

/// `Result` with dlm's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// [`kind`](Self::kind) says what happened, [`retry`](Self::retry) whether asking again can help, and
/// [`scope`](Self::scope) how much is lost: a span (it is asked for again), a source (it is benched), or the download
/// (it fails). `Display` gives the message and its context, never the cause: that is [`source`](StdError::source)'s.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    scope: Scope,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What happened.
#[non_exhaustive]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// There is no such thing at that place.
    NotFound,
    /// The other side refuses us: credentials are missing, wrong or not enough.
    Denied,
    /// The content is not the content that was there before.
    Changed,
    /// Bytes are not what their digest, or other sources, say they should be.
    Corrupt,
    /// Something that this build, this server or this sink cannot do.
    Unsupported,
    /// The caller gave something that makes no sense.
    InvalidInput,
    /// The other side said something that its protocol does not allow.
    Protocol,
    /// The connection failed or broke.
    Network,
    /// Nothing came within the time allowed.
    Timeout,
    /// The other side asks us to slow down or come back later.
    Throttled,
    /// No space is left where the bytes should go.
    NoSpace,
    /// The file is there already.
    Exists,
    /// A configured limit would be passed.
    TooLarge,
    /// The sink failed: the disk, a pipe, a store.
    Storage,
    /// The caller gave it up.
    Cancelled,
    /// A fault of dlm itself: a task of its own is gone.
    Internal,
}

/// Whether, and when, asking again can help.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Retry {
    /// It cannot.
    Never,
    /// At once, or after the usual growing pause when it happens again.
    Now,
    /// Not before this long has passed.
    After(Duration),
}

/// How much of the work an error concerns.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Scope {
    /// One request: its span goes back to the pool.
    Span,
    /// One source: it is benched, the others go on.
    Source,
    /// The whole download: it fails.
    Download,
}

impl Error {
    /// An error of this kind. The message is a short sentence without the cause and without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let (retry, scope) = kind.usual();
        Self(Box::new(Inner { kind, retry, scope, message: message.into(), context: Vec::new(), source: None }))
    }

    /// What an `io::Error` of a network connection means.
    pub fn network(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Network,
        };
        Self::new(kind, message).with_source(source)
    }

    /// What an `io::Error` of a file or other sink means.
    pub fn storage(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::FileTooLarge => ErrorKind::TooLarge,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            _ => ErrorKind::Storage,
        };
        Self::new(kind, message).with_scope(Scope::Download).with_source(source)
    }

    /// Says when asking again can help, in place of what is usual for the kind.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says how much is lost, in place of what is usual for the kind.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.0.scope = scope;
        self
    }

    /// Adds one thing that helps to find the place: a status, an offset, a path.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Takes all context of this key away: what is in the way, or tells more than may be told where the error goes.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.context.retain(|(other, _)| *other != key);
        self
    }

    /// Adds a URL, without its secrets: no user info, and no values in its query.
    #[must_use]
    pub fn with_url(self, url: &Url) -> Self {
        self.with("url", locator::redact(url))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether asking again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// How much is lost.
    pub fn scope(&self) -> Scope {
        self.0.scope
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The context pairs, in the order in which they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The message, the context and every cause, on one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

impl ErrorKind {
    fn usual(self) -> (Retry, Scope) {
        match self {
            Self::Network | Self::Timeout => (Retry::Now, Scope::Span),
            Self::Throttled => (Retry::After(Duration::from_secs(1)), Scope::Span),
            Self::NotFound | Self::Denied | Self::Changed | Self::Corrupt | Self::Protocol | Self::Unsupported => {
                (Retry::Never, Scope::Source)
            }
            Self::InvalidInput
            | Self::NoSpace
            | Self::Exists
            | Self::TooLarge
            | Self::Storage
            | Self::Cancelled
            | Self::Internal => (Retry::Never, Scope::Download),
        }
    }

    /// The name in snake case, as it stands in events and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Changed => "changed",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::InvalidInput => "invalid_input",
            Self::Protocol => "protocol",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::NoSpace => "no_space",
            Self::Exists => "exists",
            Self::TooLarge => "too_large",
            Self::Storage => "storage",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Error");
        s.field("kind", &self.0.kind).field("message", &self.0.message);
        for (key, value) in &self.0.context {
            s.field(key, value);
        }
        s.field("retry", &self.0.retry).field("scope", &self.0.scope);
        if let Some(source) = &self.0.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_has_context_but_not_the_cause() {
        let cause = io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer");
        let error = Error::network("the connection broke", cause).with("offset", 42).with("host", "a.example");
        assert_eq!(error.to_string(), "the connection broke (offset: 42, host: a.example)");
        assert_eq!(error.chain(), "the connection broke (offset: 42, host: a.example): reset by peer");
    }

    #[test]
    fn a_url_in_an_error_has_no_secrets() {
        let url = Url::parse("https://me:secret@h.example/f?token=abc&x").unwrap();
        let text = Error::new(ErrorKind::Denied, "refused").with_url(&url).to_string();
        assert!(!text.contains("secret") && !text.contains("abc") && !text.contains("me:"), "{text}");
        assert!(text.contains("h.example/f"), "{text}");
    }

    #[test]
    fn context_can_be_taken_away() {
        let error = Error::new(ErrorKind::Denied, "refused").with("url", 1).with("status", 2).with("url", 3);
        assert_eq!(error.without("url").to_string(), "refused (status: 2)");
    }

    #[test]
    fn a_full_disk_ends_the_download() {
        let error = Error::storage("cannot write", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((error.kind(), error.scope(), error.retry()), (ErrorKind::NoSpace, Scope::Download, Retry::Never));
    }
}
