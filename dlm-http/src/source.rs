//! [`HttpSource`]: one URL as a source of ranges.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Identity, Locator, Opened, RangeRequest, RangeSource, Ranges, Result, Strength};
use futures::stream::StreamExt;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE};
use http::response::Parts;
use http::{Request, Response, StatusCode};
use url::Url;

use crate::answer::{self, Comparison, SCHEME_MODIFIED, Served};
use crate::body::Body;
use crate::client::HttpClient;
use crate::content::Exact;
use crate::error;
use crate::headers;
use crate::redirect::{self, Chain};
use crate::wire::{RangeSpec, multipart};

/// One URL as a source of ranges (RFC 9110 section 14).
///
/// Every request is a GET; the first one brings content, and nothing is asked for with HEAD. A range that must be of a known
/// content is asked for with `If-Range`, and the validator of the answer is compared all the same, since some servers ignore
/// the header, and others take every tag in it for a stale one.
///
/// Redirects are followed, and where they led is remembered: further requests go there at once, until an answer of 401, 403,
/// 404 or 410 says that the place is gone, as it is when a signed URL expires. Then the URL that was given is asked again. The
/// origin of an [`Identity`] is that of the URL at which the redirects ended, for it is that server which speaks of the content.
///
/// What the user gave (headers, credentials) is sent to the origin of the URL that was given, and to no other one.
pub struct HttpSource {
    client: HttpClient,
    locator: Locator,
    /// The URL that was given, without user info and fragment.
    url: Url,
    /// For the origin of `url` only.
    given: HeaderMap,
    /// Where redirects led.
    found: Mutex<Option<Url>>,
    /// Whether the server answers `If-Range` with the whole although nothing has changed.
    distrusts_if_range: AtomicBool,
}

/// An answer that is no redirect.
struct Answer {
    /// The URL that gave it.
    url: Url,
    parts: Parts,
    body: Body,
    /// Whether it was asked for with `If-Range`.
    is_conditional: bool,
}

impl HttpSource {
    /// A source that asks by `client`. `headers` are those of the user that are already checked.
    pub(crate) fn new(client: HttpClient, mut headers: HeaderMap, locator: Locator) -> Result<Self> {
        let mut url = locator.url().clone();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::new(ErrorKind::Unsupported, "not an HTTP URL").with("scheme", url.scheme()));
        }
        let configured = client.config().credentials.as_ref().filter(|_| locator.is_of_user());
        headers::authorize(&mut headers, &url, configured)?;
        // These fail only for URLs without a host, and those of HTTP have one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self {
            client,
            locator,
            url,
            given: headers,
            found: Mutex::new(None),
            distrusts_if_range: AtomicBool::new(false),
        })
    }

    /// The answer to `asked`, with `If-Range` unless the server is known to misunderstand it.
    async fn answer(&self, asked: &RangeRequest) -> Result<Answer> {
        if self.distrusts_if_range.load(Ordering::Relaxed) {
            return self.locate(asked, false).await;
        }
        let answer = self.locate(asked, true).await?;
        if answer.is_conditional && answer.parts.status == StatusCode::OK {
            let found = answer::identities(&answer.parts.headers, &redirect::origin(&answer.url));
            if answer::compare(asked.expect.as_ref(), &found) == Comparison::Same {
                // Nothing has changed, so there was no reason for the whole. Closing the connection is cheaper than reading it.
                drop(answer);
                self.distrusts_if_range.store(true, Ordering::Relaxed);
                return self.locate(asked, false).await;
            }
        }
        Ok(answer)
    }

    /// Asks where redirects led before, and again from the beginning if that place is gone.
    async fn locate(&self, asked: &RangeRequest, conditional: bool) -> Result<Answer> {
        let found = self.found().clone();
        if let Some(url) = found {
            match self.follow(url, asked, conditional).await {
                Ok(answer) if !is_gone(answer.parts.status) => return Ok(answer),
                Ok(answer) => answer.body.discard().await,
                Err(error) => {
                    // The next attempt begins at the URL that was given, which may lead to a server that works.
                    *self.found() = None;
                    return Err(error);
                }
            }
            *self.found() = None;
        }
        self.follow(self.url.clone(), asked, conditional).await
    }

    /// Asks at `url`, and wherever it redirects to.
    async fn follow(&self, url: Url, asked: &RangeRequest, conditional: bool) -> Result<Answer> {
        let config = self.client.config();
        let mut chain = Chain::new(url, config.max_redirects, config.allow_downgrade);
        loop {
            let url = chain.current();
            let (request, is_conditional) = self.request(url, asked, conditional)?;
            let (parts, body) = self.client.send(request).await.map(Response::into_parts)?;
            if !redirect::is_redirect(parts.status) {
                return Ok(Answer { url: url.clone(), parts, body, is_conditional });
            }
            let Some(location) = parts.headers.get(LOCATION) else {
                return Err(Error::new(ErrorKind::Protocol, "the server redirects to nowhere")
                    .with("status", parts.status)
                    .with_url(url));
            };
            chain.follow(location.as_bytes())?;
            body.discard().await;
        }
    }

    /// The request, and whether it has an `If-Range`.
    fn request(&self, url: &Url, asked: &RangeRequest, conditional: bool) -> Result<(Request<Bytes>, bool)> {
        let invalid = |message: &'static str| Error::new(ErrorKind::InvalidInput, message).with_url(url);
        let mut request = Request::get(url.as_str())
            .body(Bytes::new())
            .map_err(|e| invalid("the URL can't be asked").with_source(e))?;
        let headers = request.headers_mut();
        if redirect::same_origin(url, &self.url) {
            headers.clone_from(&self.given);
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if asked.is_whole() {
            return Ok((request, false));
        }
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| invalid("the range can't be asked for"));
        let range = RangeSpec { start: asked.start, end: asked.end };
        headers.insert(RANGE, value(&range.to_string())?);
        let origin = redirect::origin(url);
        match answer::if_range(asked.expect.as_ref(), &origin).filter(|_| conditional) {
            Some(validator) => {
                headers.insert(IF_RANGE, value(validator)?);
                Ok((request, true))
            }
            None => Ok((request, false)),
        }
    }

    /// Makes of an answer what it brings.
    async fn read(&self, asked: &RangeRequest, answer: Answer) -> Result<Opened> {
        let Answer { url, parts, body, is_conditional } = answer;
        let Parts { status, headers, .. } = parts;
        answer::check_transfer(&headers)?;
        let body_len = body.exact_len();
        let rtt = body.rtt();
        let mut identities = answer::identities(&headers, &redirect::origin(&url));
        let comparison = answer::compare(asked.expect.as_ref(), &identities);
        let (served, ranges, stream) = match status {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                let served = Served { start: 0, end: body_len, len: body_len };
                // To an `If-Range` of another content the whole is the right answer, and says nothing about ranges.
                let changed = is_conditional && comparison == Comparison::Differs;
                let ranges = if asked.is_whole() || changed { Ranges::Unknown } else { Ranges::No };
                (served, ranges, body.boxed())
            }
            StatusCode::PARTIAL_CONTENT => {
                if comparison == Comparison::Differs {
                    return Err(Error::new(ErrorKind::Changed, "the content has changed at the server"));
                }
                if is_conditional {
                    confirm_date(asked.expect.as_ref(), &mut identities);
                }
                let (served, stream) = partial(asked, &headers, body).await?;
                (served, Ranges::Yes, stream.boxed())
            }
            StatusCode::RANGE_NOT_SATISFIABLE if !asked.is_whole() => {
                let served = answer::unsatisfied(asked, answer::content_range(&headers)?)?;
                body.discard().await;
                (served, Ranges::Yes, futures::stream::empty().boxed())
            }
            _ => {
                let longest = self.client.config().max_retry_after;
                let error = error::of_status(status, &headers, SystemTime::now(), longest);
                body.discard().await;
                return Err(error);
            }
        };
        let mut opened = Opened::new(served.start, stream);
        opened.end = served.end;
        opened.len = served.len;
        opened.ranges = ranges;
        opened.identities = identities;
        opened.rtt = Some(rtt);
        if status != StatusCode::RANGE_NOT_SATISFIABLE {
            answer::describe(&mut opened, &headers, body_len, &url, self.locator.file_name().as_deref());
        }
        if self.client.config().insecure && url.scheme() == "https" {
            opened.warnings.push("the server's certificate was not checked: anybody may have sent this".to_owned());
        }
        if url != self.url {
            *self.found() = Some(url);
        }
        Ok(opened)
    }

    fn found(&self) -> MutexGuard<'_, Option<Url>> {
        // It is replaced whole, so a panic elsewhere leaves nothing half done.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RangeSource for HttpSource {
    /// Asks for a range.
    ///
    /// # Errors
    ///
    /// - [`Changed`](ErrorKind::Changed): a range came, but of another content than the one expected.
    /// - [`Protocol`](ErrorKind::Protocol): the answer contradicts itself or what was asked (RFC 9110 sections 14.4 and 15.3.7),
    ///   or redirects lead nowhere.
    /// - [`Throttled`](ErrorKind::Throttled): 429 or 503, with the `Retry-After` of the answer.
    /// - [`NotFound`](ErrorKind::NotFound), [`Denied`](ErrorKind::Denied), [`Network`](ErrorKind::Network),
    ///   [`Timeout`](ErrorKind::Timeout): as they say.
    async fn open(&self, asked: &RangeRequest) -> Result<Opened> {
        if asked.end.is_some_and(|end| end <= asked.start) {
            return Err(Error::new(ErrorKind::InvalidInput, "an empty range can't be asked for")
                .with("start", asked.start)
                .with_url(&self.url));
        }
        let answer = self.answer(asked).await?;
        let url = answer.url.clone();
        self.read(asked, answer).await.map_err(|e| {
            // A place that fails is not remembered; see `locate`.
            *self.found() = None;
            e.with_url(&url)
        })
    }

    fn locator(&self) -> &Locator {
        &self.locator
    }

    fn origin(&self) -> String {
        redirect::origin(&self.url)
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("locator", &self.locator).finish_non_exhaustive()
    }
}

/// The range that a 206 brings, and its bytes.
async fn partial(asked: &RangeRequest, headers: &HeaderMap, body: Body) -> Result<(Served, Exact)> {
    if let Some(coding) = answer::coding(headers) {
        // Its offsets count coded bytes, and coding need not give the same ones each time.
        return Err(Error::new(ErrorKind::Protocol, "the server sent a range of coded content").with("coding", coding));
    }
    if let Some(range) = answer::content_range(headers)? {
        let served = answer::check_range(asked, range)?;
        answer::check_length(served, body.exact_len())?;
        let len = served.end.unwrap_or(served.start) - served.start;
        return Ok((served, Exact::new(body, len)));
    }
    let Some(boundary) = headers.get(CONTENT_TYPE).and_then(|value| multipart::boundary(value.as_bytes())) else {
        return Err(Error::new(ErrorKind::Protocol, "the server sent a range without saying which"));
    };
    let (content, range) = Exact::part(body, boundary).await?;
    Ok((answer::check_range(asked, range)?, content))
}

/// A 206 to an `If-Range` with a date may leave the date out (RFC 9110 section 15.3.7): the status has confirmed it.
fn confirm_date(expected: Option<&Identity>, found: &mut Vec<Identity>) {
    if let Some(expected) = expected {
        let is_silent = expected.scheme == SCHEME_MODIFIED && found.iter().all(|i| !i.is_comparable(expected));
        if is_silent && expected.strength == Strength::Strong {
            found.push(expected.clone());
        }
    }
}

/// Whether a place that redirects had led to is no longer the right one.
fn is_gone(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 410)
}
