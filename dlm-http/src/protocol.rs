//! [`Http`]: from a locator to a source.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{Container, Error, ErrorKind, Locator, Protocol, Ranged, Registry, Resolved, Result};
use http::HeaderMap;

use crate::client::HttpClient;
use crate::config::HttpConfig;
use crate::headers;
use crate::source::HttpSource;

/// HTTP and HTTPS. All its sources share their connections.
#[derive(Clone)]
pub struct Http {
    client: HttpClient,
    /// For places that must not be local.
    global: HttpClient,
    headers: HeaderMap,
}

impl Http {
    /// HTTP with the defaults.
    ///
    /// # Errors
    ///
    /// As of [`with_config`](Self::with_config).
    pub fn new() -> Result<Self> {
        Self::with_config(HttpConfig::new())
    }

    /// HTTP as configured.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](dlm_api::ErrorKind::InvalidInput) for a header that can't be sent, a value out of range, or a file of
    /// certificates that can't be used.
    pub fn with_config(config: HttpConfig) -> Result<Self> {
        let headers = headers::given(&config)?;
        let client = HttpClient::new(config)?;
        Ok(Self { global: client.without_local(), client, headers })
    }

    /// The connections, for requests that are no downloads.
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// One URL as a source of ranges. Nothing is asked yet. What the configuration says about headers and credentials is for
    /// URLs of the user only, and what content names connects to local addresses only if it may: see
    /// [`Locator::named_by_content`].
    ///
    /// # Errors
    ///
    /// [`Unsupported`](dlm_api::ErrorKind::Unsupported) for a scheme other than `http` and `https`,
    /// [`InvalidInput`](dlm_api::ErrorKind::InvalidInput) for credentials that can't be sent.
    pub fn range_source(&self, locator: &Locator) -> Result<HttpSource> {
        let client = if locator.may_be_local() { &self.client } else { &self.global };
        let headers = if locator.is_of_user() { self.headers.clone() } else { HeaderMap::new() };
        HttpSource::new(client.clone(), headers, locator.clone())
    }
}

#[async_trait]
impl Protocol for Http {
    fn schemes(&self) -> &[&str] {
        &["http", "https"]
    }

    async fn open(&self, locator: &Locator) -> Result<Resolved> {
        Ok(Resolved::Source(Arc::new(Ranged::new(self.range_source(locator)?))))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, base: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "HTTP has no containers").with("from", base))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("config", self.client.config()).finish_non_exhaustive()
    }
}
