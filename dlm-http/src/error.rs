//! What statuses and broken connections mean.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use dlm_api::{Error, ErrorKind, Retry, Scope};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::wire::retry_after;

/// What an answer with this status, which brings no content, means. `Retry-After` is believed up to `max_retry_after`.
pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap, now: SystemTime, max_retry_after: Duration) -> Error {
    let (kind, retry, message) = classify(status);
    let mut error = Error::new(kind, message).with("status", status);
    if let Some(retry) = retry {
        error = error.with_retry(retry).with_scope(Scope::Span);
        let asked = headers.get(RETRY_AFTER).and_then(|value| retry_after::parse(value.as_bytes(), now));
        if let Some(asked) = asked {
            error = error.with_retry(Retry::After(asked.min(max_retry_after)));
        }
    }
    error
}

/// The kind, whether asking again can help (`None` for never), and the message.
fn classify(status: StatusCode) -> (ErrorKind, Option<Retry>, &'static str) {
    /// How long a server that is overloaded is left alone when it does not say so itself.
    const BREATHER: Retry = Retry::After(Duration::from_secs(1));
    match status.as_u16() {
        401 => (ErrorKind::Denied, None, "the server asks for credentials, or refuses those given"),
        402 | 403 | 451 => (ErrorKind::Denied, None, "the server refuses access"),
        407 => (ErrorKind::Denied, None, "the proxy asks for credentials"),
        404 | 410 => (ErrorKind::NotFound, None, "there is no such thing at the server"),
        408 => (ErrorKind::Timeout, Some(Retry::Now), "the server waited too long for the request"),
        412 => (ErrorKind::Changed, None, "the content has changed at the server"),
        429 => (ErrorKind::Throttled, Some(BREATHER), "the server asks for fewer requests"),
        503 => (ErrorKind::Throttled, Some(BREATHER), "the server is overloaded or under repair"),
        400..=499 => (ErrorKind::Protocol, None, "the server refuses the request"),
        501 | 505 => (ErrorKind::Unsupported, None, "the server can't do what was asked for"),
        500..=599 => (ErrorKind::Network, Some(Retry::Now), "the server failed"),
        _ => (ErrorKind::Protocol, None, "the server gave an answer that does not fit the request"),
    }
}

/// What it means that a request got no answer's head.
pub(crate) fn of_exchange(error: hyper::Error) -> Error {
    if error.is_parse() {
        return Error::new(ErrorKind::Protocol, "the server's answer is not HTTP, or its head is too large")
            .with_source(error);
    }
    Error::new(broken(&error), "the connection broke before an answer came").with_source(error)
}

/// What it means that a body broke off.
pub(crate) fn of_body(error: hyper::Error) -> Error {
    Error::new(broken(&error), "the connection broke before the content was complete").with_source(error)
}

fn broken(error: &hyper::Error) -> ErrorKind {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return ErrorKind::Timeout;
        }
        cause = error.source();
    }
    ErrorKind::Network
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(300);

    fn error(status: u16, retry_after: Option<&'static str>) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, http::HeaderValue::from_static(value));
        }
        of_status(StatusCode::from_u16(status).unwrap(), &headers, SystemTime::UNIX_EPOCH, CAP)
    }

    #[test]
    fn statuses_are_told_apart() {
        let expected = [
            (ErrorKind::NotFound, false, &[404, 410][..]),
            (ErrorKind::Denied, false, &[401, 403, 407]),
            (ErrorKind::Changed, false, &[412]),
            (ErrorKind::Throttled, true, &[429, 503]),
            (ErrorKind::Timeout, true, &[408]),
            (ErrorKind::Network, true, &[500, 502, 504, 507, 520, 521, 522, 523, 524, 599]),
            (ErrorKind::Unsupported, false, &[501, 505]),
            (ErrorKind::Protocol, false, &[400, 405, 418, 421, 431, 201, 304, 700]),
        ];
        for (kind, retried, statuses) in expected {
            for status in statuses {
                let error = error(*status, None);
                assert_eq!((error.kind(), error.retry() != Retry::Never), (kind, retried), "{status}");
                assert!(error.to_string().contains(&status.to_string()), "{error}");
            }
        }
    }

    #[test]
    fn retry_after_is_believed_up_to_a_limit() {
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        assert_eq!(error(429, Some("7")).retry(), after(7));
        assert_eq!(error(503, Some("Thu, 01 Jan 1970 00:02:00 GMT")).retry(), after(120));
        assert_eq!(error(503, Some("99999999999")).retry(), after(300));
        assert_eq!(error(500, Some("3")).retry(), after(3));
        assert_eq!(error(429, Some("nonsense")).retry(), after(1));
        // A status that is final stays so.
        assert_eq!(error(404, Some("7")).retry(), Retry::Never);
    }
}
