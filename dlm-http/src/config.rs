//! [`HttpConfig`]: everything that can be chosen.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long DNS, TCP and TLS together may take. A SYN that is lost twice is sent a third time after 3 s, and a fourth time
/// after 7 s, so this outlives three losses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the head of an answer may take. Servers that fetch from an archive first take their time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a body may bring nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an unused connection is kept. Most servers close theirs after 5 to 75 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many unused connections to one origin are kept.
const MAX_IDLE_PER_ORIGIN: usize = 16;

/// How many redirects are followed, as browsers do.
const MAX_REDIRECTS: usize = 20;

/// The longest wait that a `Retry-After` can ask for. Whoever asks for an hour would hold a download hostage.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// The most that is read from a socket at once. From 128 KiB to 1 MiB no difference in CPU time could be measured; below, there
/// are more system calls, and above, the buffers leave the cache. Reads grow up to this only while they come back full, so a
/// slow connection never holds buffers of this size.
const READ_BUFFER: usize = 512 * 1024;

/// What can be chosen about HTTP.
///
/// `Debug` shows no header's value, and no password.
#[non_exhaustive]
#[derive(Clone)]
pub struct HttpConfig {
    /// The `User-Agent`; by default `dlm/VERSION`.
    pub user_agent: String,
    /// Headers sent with every request to the origin of the URL that was given, and to no other: not to a host that it
    /// redirects to. Names that say how a message is framed or which range is wanted are refused, since they would
    /// contradict what is sent anyway.
    pub headers: Vec<(String, String)>,
    /// User and password for basic authentication (RFC 7617), sent as `headers` are. Those in a URL come first.
    pub credentials: Option<Credentials>,
    /// How long DNS, TCP and TLS together may take; 15 s by default.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take after the request was sent; 60 s by default.
    pub head_timeout: Duration,
    /// How long a body may bring nothing; 30 s by default.
    pub read_timeout: Duration,
    /// How long an unused connection is kept for the next request; 20 s by default.
    pub idle_timeout: Duration,
    /// How many unused connections to one origin are kept; 16 by default, 0 for none.
    pub max_idle_per_origin: usize,
    /// How many redirects are followed for one request; 20 by default, 0 for none.
    pub max_redirects: usize,
    /// Whether a redirect from `https` to `http` is followed. By default it is refused: it would take away what the user
    /// asked for.
    pub allow_downgrade: bool,
    /// Whether addresses of this machine and of those beside it ([`is_local`](crate::is_local)) are connected to; they are by
    /// default. If not, this holds for every connection, whatever a name resolves to when it is made.
    pub allow_local: bool,
    /// The longest wait that a `Retry-After` can ask for; 5 min by default.
    pub max_retry_after: Duration,
    /// The most that is read from a connection at once, in bytes: 64 KiB to 16 MiB, 512 KiB by default. A read that comes
    /// back full doubles the next one up to this.
    pub read_buffer: usize,
    /// Files of certificate authorities in PEM form, believed besides those of the system.
    pub ca_certificates: Vec<PathBuf>,
    /// Whether any certificate is accepted. Then anybody on the way can read and change everything, passwords too. Every
    /// answer carries a warning that says so.
    pub insecure: bool,
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// A user and a password. The user must have no `:` in it (RFC 7617 section 2).
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl HttpConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            user_agent: concat!("dlm/", env!("CARGO_PKG_VERSION")).to_owned(),
            headers: Vec::new(),
            credentials: None,
            connect_timeout: CONNECT_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            max_idle_per_origin: MAX_IDLE_PER_ORIGIN,
            max_redirects: MAX_REDIRECTS,
            allow_downgrade: false,
            allow_local: true,
            max_retry_after: MAX_RETRY_AFTER,
            read_buffer: READ_BUFFER,
            ca_certificates: Vec::new(),
            insecure: false,
        }
    }

    /// Sets [`user_agent`](Self::user_agent).
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Adds one of the [`headers`](Self::headers).
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets [`credentials`](Self::credentials).
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets [`head_timeout`](Self::head_timeout).
    #[must_use]
    pub fn with_head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// Sets [`read_timeout`](Self::read_timeout).
    #[must_use]
    pub fn with_read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets [`max_idle_per_origin`](Self::max_idle_per_origin).
    #[must_use]
    pub fn with_max_idle_per_origin(mut self, connections: usize) -> Self {
        self.max_idle_per_origin = connections;
        self
    }

    /// Sets [`max_redirects`](Self::max_redirects).
    #[must_use]
    pub fn with_max_redirects(mut self, redirects: usize) -> Self {
        self.max_redirects = redirects;
        self
    }

    /// Sets [`allow_downgrade`](Self::allow_downgrade).
    #[must_use]
    pub fn with_allow_downgrade(mut self, allow: bool) -> Self {
        self.allow_downgrade = allow;
        self
    }

    /// Sets [`allow_local`](Self::allow_local).
    #[must_use]
    pub fn with_allow_local(mut self, allow: bool) -> Self {
        self.allow_local = allow;
        self
    }

    /// Sets [`max_retry_after`](Self::max_retry_after).
    #[must_use]
    pub fn with_max_retry_after(mut self, longest: Duration) -> Self {
        self.max_retry_after = longest;
        self
    }

    /// Sets [`read_buffer`](Self::read_buffer).
    #[must_use]
    pub fn with_read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes;
        self
    }

    /// Adds one of the [`ca_certificates`](Self::ca_certificates).
    #[must_use]
    pub fn with_ca_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_certificates.push(file.into());
        self
    }

    /// Sets [`insecure`](Self::insecure).
    #[must_use]
    pub fn with_insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpConfig")
            .field("user_agent", &self.user_agent)
            .field("headers", &names)
            .field("credentials", &self.credentials)
            .field("connect_timeout", &self.connect_timeout)
            .field("head_timeout", &self.head_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_idle_per_origin", &self.max_idle_per_origin)
            .field("max_redirects", &self.max_redirects)
            .field("allow_downgrade", &self.allow_downgrade)
            .field("allow_local", &self.allow_local)
            .field("max_retry_after", &self.max_retry_after)
            .field("read_buffer", &self.read_buffer)
            .field("ca_certificates", &self.ca_certificates)
            .field("insecure", &self.insecure)
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let config = HttpConfig::new()
            .with_header("Cookie", "session=SECRET")
            .with_credentials(Credentials::new("SECRET", "SECRET"));
        let text = format!("{config:?}");
        assert!(text.contains("Cookie") && !text.contains("SECRET"), "{text}");
    }
}
