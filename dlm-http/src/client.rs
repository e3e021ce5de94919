//! [`HttpClient`]: requests over pooled connections.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use tokio::runtime;
use url::Url;

use crate::body::Body;
use crate::config::HttpConfig;
use crate::pool::{Key, Pool};
use crate::redirect;
use crate::session::{Failed, MAX_HEAD, Session};
use crate::tls::Tls;

/// The largest read buffer that makes sense: a connection holds one, and its consumer another.
const MAX_READ_BUFFER: usize = 16 * 1024 * 1024;

/// Sends requests over HTTP/1.1, with and without TLS, and keeps connections for the next one.
///
/// This is the layer below [`HttpSource`](crate::HttpSource), for those whose protocol stands on HTTP without being a plain
/// download: buckets, gateways, trackers. It adds `Host`, `User-Agent` and `Content-Length`, and nothing else: it follows no
/// redirect, sends no credentials, keeps no cookies, and takes every status for an answer.
///
/// A clone shares its connections. It must be used within a tokio runtime whose I/O and time are enabled; a connection is
/// driven by the runtime that it was opened on, and is used again only there. Idle connections that have outlived
/// [`idle_timeout`](HttpConfig::idle_timeout) are closed when the client is next used, or dropped.
///
/// ```
/// # async fn example() -> dlm_api::Result<()> {
/// use bytes::Bytes;
/// use dlm_http::{HttpClient, HttpConfig};
///
/// let client = HttpClient::new(HttpConfig::new())?;
/// let request = http::Request::get("https://example.com/").body(Bytes::new()).expect("the parts are valid");
/// let response = client.send(request).await?;
/// println!("{}: {} bytes", response.status(), response.into_body().collect(1 << 20).await?.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: HttpConfig,
    user_agent: HeaderValue,
    tls: Arc<Tls>,
    pool: Arc<Pool<Session>>,
}

impl HttpClient {
    /// A client with its own connections. Of the configuration it uses what concerns connections: timeouts, TLS, buffers,
    /// and the user agent.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if a value is out of range or a file of certificates can't be used.
    pub fn new(config: HttpConfig) -> Result<Self> {
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "the user agent can't be sent").with_source(e))?;
        if !(MAX_HEAD..=MAX_READ_BUFFER).contains(&config.read_buffer) {
            return Err(Error::new(ErrorKind::InvalidInput, "the read buffer's size is out of range")
                .with("bytes", config.read_buffer)
                .with("least", MAX_HEAD)
                .with("most", MAX_READ_BUFFER));
        }
        let tls = Arc::new(Tls::new(&config)?);
        Ok(Self::with_tls(config, user_agent, tls))
    }

    fn with_tls(config: HttpConfig, user_agent: HeaderValue, tls: Arc<Tls>) -> Self {
        let pool = Arc::new(Pool::new(config.idle_timeout, config.max_idle_per_origin));
        Self { inner: Arc::new(Inner { config, user_agent, tls, pool }) }
    }

    /// The same client, with connections of its own, for what strangers name: it never connects to a local address. See
    /// [`HttpConfig::allow_local`].
    #[must_use]
    pub fn without_local(&self) -> Self {
        let Inner { config, user_agent, tls, .. } = &*self.inner;
        Self::with_tls(config.clone().with_allow_local(false), user_agent.clone(), tls.clone())
    }

    /// The configuration that it was made with.
    pub fn config(&self) -> &HttpConfig {
        &self.inner.config
    }

    /// Sends a request to an absolute `http` or `https` URI, and returns when the head of the answer is there.
    ///
    /// A connection out of the pool may have been closed by the server in the meantime. If it breaks before an answer's head
    /// has come, the request is sent once more on a new connection, unless its method is one that must not be repeated
    /// (RFC 9110 section 9.2.2) and it may have reached the server.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a URI that can't be asked, [`Network`](ErrorKind::Network) and
    /// [`Timeout`](ErrorKind::Timeout) when no answer came, [`Protocol`](ErrorKind::Protocol) when it was none or the
    /// server's certificate is not good. A status is never an error here.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>> {
        let url = absolute(request.uri())?;
        self.send_to(&url, request).await.map_err(|e| e.with_url(&url))
    }

    async fn send_to(&self, url: &Url, mut request: Request<Bytes>) -> Result<Response<Body>> {
        let Inner { config, tls, .. } = &*self.inner;
        self.complete(url, &mut request)?;
        let key = Key { origin: redirect::origin(url), runtime: runtime::Handle::current().id() };
        if let Some(mut session) = self.idle(&key).await {
            match session.exchange(request.clone(), config.head_timeout).await {
                Ok(response) => return Ok(self.finish(response, session, key)),
                Err(Failed { error, may_repeat: false }) => return Err(error),
                Err(Failed { error, .. }) => tracing::debug!(%error, "a pooled connection was dead"),
            }
        }
        let mut session = Session::open(url, tls, config).await?;
        match session.exchange(request, config.head_timeout).await {
            Ok(response) => Ok(self.finish(response, session, key)),
            Err(failed) => Err(failed.error),
        }
    }

    /// Brings the request into the form in which it is sent: its target in origin form (RFC 9112 section 3.2.1), and the
    /// headers that every request has.
    fn complete(&self, url: &Url, request: &mut Request<Bytes>) -> Result<()> {
        let invalid = |e: http::Error| Error::new(ErrorKind::InvalidInput, "the URL can't be asked").with_source(e);
        let target = match request.uri().path_and_query() {
            Some(target) => Uri::from(target.clone()),
            None => Uri::from_static("/"),
        };
        *request.uri_mut() = target;
        if !request.headers().contains_key(HOST) {
            let host = url.host_str().unwrap_or_default();
            let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            request.headers_mut().insert(HOST, HeaderValue::from_str(&host).map_err(|e| invalid(e.into()))?);
        }
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| self.inner.user_agent.clone());
        Ok(())
    }

    /// An idle connection that still stands, as far as can be told.
    async fn idle(&self, key: &Key) -> Option<Session> {
        while let Some(mut session) = self.inner.pool.take(key, Instant::now()) {
            if session.is_ready().await {
                return Some(session);
            }
        }
        None
    }

    fn finish(&self, response: Response<hyper::body::Incoming>, session: Session, key: Key) -> Response<Body> {
        let (pool, read_timeout) = (self.inner.pool.clone(), self.inner.config.read_timeout);
        response.map(|incoming| Body::new(incoming, session, pool, key, read_timeout))
    }
}

/// The URL of a request, checked to be one that can be connected to.
fn absolute(uri: &Uri) -> Result<Url> {
    let invalid = |message: &'static str| Error::new(ErrorKind::InvalidInput, message);
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid("the URI is not absolute, or its scheme is not HTTP"));
    }
    Url::parse(&uri.to_string()).map_err(|e| invalid("the URI is no URL").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_out_of_range_is_refused() {
        let small = HttpConfig::new().with_read_buffer(MAX_HEAD - 1);
        assert_eq!(HttpClient::new(small).unwrap_err().kind(), ErrorKind::InvalidInput);
        let broken = HttpConfig::new().with_user_agent("a\nb");
        assert_eq!(HttpClient::new(broken).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn only_absolute_http_is_sent() {
        for bad in ["/path", "ftp://h/f", "example.com:80"] {
            assert!(absolute(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert_eq!(absolute(&"http://h".parse().unwrap()).unwrap().as_str(), "http://h/");
    }
}
