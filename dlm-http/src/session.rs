//! [`Session`]: one HTTP/1.1 connection, and one exchange after another on it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use url::Url;

use crate::config::HttpConfig;
use crate::connect::connect;
use crate::error;
use crate::tls::Tls;

/// The largest head of an answer, in bytes. Apache and nginx refuse request heads of more than 8 KiB a line, but cookies and
/// security policies make long answers. The number of headers is limited to 100 by hyper.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// How long a connection out of the pool may take to be ready for a request. Its last answer was read to the end, so its
/// task only has to be polled once more, unless the server has not read the last request's body yet.
const READY_WAIT: Duration = Duration::from_millis(100);

/// The most bytes of a request's body that are handed over at once, so that a slow upload is seen to move.
const UPLOAD_CHUNK: usize = 64 * 1024;

/// One connection. Dropping it closes it at once, whatever is on its way.
#[derive(Debug)]
pub(crate) struct Session {
    sender: SendRequest<Upload>,
    /// Held for its `Drop`.
    _driver: Driver,
    rtt: Duration,
}

/// The task that reads and writes. It runs on the runtime that opened the connection.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        // Left alone, it would first try to read what is left of a body that nobody wants.
        self.0.abort();
    }
}

/// Why an exchange came to nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether the connection had broken before the server can have done anything that a second request would do twice.
    pub(crate) may_repeat: bool,
}

impl Session {
    /// Connects to the origin of `url`.
    pub(crate) async fn open(url: &Url, tls: &Tls, config: &HttpConfig) -> Result<Self> {
        match timeout(config.connect_timeout, Self::handshake(url, tls, config)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "connecting took too long")),
        }
    }

    async fn handshake(url: &Url, tls: &Tls, config: &HttpConfig) -> Result<Self> {
        let (stream, rtt) = connect(url, tls, config.allow_local).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(config.read_buffer)
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(error::of_exchange)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever waits for the answer gets the error too.
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(Self { sender, _driver: Driver(driver.abort_handle()), rtt })
    }

    /// How long TCP took to connect: a round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Whether it can take a request now.
    pub(crate) async fn is_ready(&mut self) -> bool {
        matches!(timeout(READY_WAIT, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request in origin form and waits for the head of the answer: `patience` long from the last byte of the
    /// request that could be sent.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Bytes>,
        patience: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let is_idempotent = request.method().is_idempotent();
        let sent = Arc::new(AtomicU64::new(0));
        let request = request.map(|rest| Upload { rest, sent: sent.clone() });
        let answer = self.sender.try_send_request(request);
        tokio::pin!(answer);
        let mut seen = 0;
        let outcome = loop {
            match timeout(patience, &mut answer).await {
                Ok(outcome) => break outcome,
                Err(_) if sent.load(Ordering::Relaxed) != seen => seen = sent.load(Ordering::Relaxed),
                Err(_) => {
                    let error = Error::new(ErrorKind::Timeout, "the server did not answer in time");
                    return Err(Failed { error, may_repeat: false });
                }
            }
        };
        outcome.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            let error = failed.into_error();
            let may_repeat = unsent || (is_idempotent && !error.is_parse() && !error.is_user());
            Failed { error: error::of_exchange(error), may_repeat }
        })
    }
}

/// The body of a request, handed over in chunks.
#[derive(Debug)]
struct Upload {
    rest: Bytes,
    /// How many bytes were handed over.
    sent: Arc<AtomicU64>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(UPLOAD_CHUNK);
        self.sent.fetch_add(len as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
