//! [`Body`]: the content of an answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result};
use futures::stream::{Stream, StreamExt};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::error;
use crate::pool::{Key, Pool};
use crate::session::Session;

/// The most that is read of a body which nobody wants, so that its connection can be used again: about what arrives within
/// the time a new connection would take.
const MAX_DRAIN: usize = 64 * 1024;

/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The content of an answer: a stream of chunks as they were read, not copied.
///
/// Read to its end, it gives the connection back for the next request. Dropped before, it closes the connection. The end of
/// the stream is the end of the content: a body that was cut off ends with an error of kind
/// [`Network`](ErrorKind::Network), one that brings nothing for [`read_timeout`](crate::HttpConfig::read_timeout) with one
/// of kind [`Timeout`](ErrorKind::Timeout). After an error there is nothing more.
pub struct Body {
    incoming: Incoming,
    /// `None` once the body has ended.
    connection: Option<Connection>,
    /// Runs while there is nothing to read.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    read_timeout: Duration,
    rtt: Duration,
}

struct Connection {
    session: Session,
    pool: Arc<Pool<Session>>,
    key: Key,
}

impl Body {
    pub(crate) fn new(
        incoming: Incoming,
        session: Session,
        pool: Arc<Pool<Session>>,
        key: Key,
        read_timeout: Duration,
    ) -> Self {
        let rtt = session.rtt();
        let connection = Some(Connection { session, pool, key });
        let mut body = Self { incoming, connection, timer: None, is_waiting: false, read_timeout, rtt };
        body.release_at_end();
        body
    }

    /// How long TCP took when this connection was made: a round trip.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Its length in bytes, where the head tells it. `None` where only the end of the body does: chunks, or the end of the
    /// connection.
    pub fn exact_len(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// All of it, if it has no more than `limit` bytes; else an error of kind [`TooLarge`](ErrorKind::TooLarge).
    pub async fn collect(mut self, limit: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await.transpose()? {
            if all.len() + chunk.len() > limit {
                return Err(Error::new(ErrorKind::TooLarge, "the answer is too large").with("limit", limit));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Throws it away: reads what is left if that is little, so that the connection can be used again, else closes the
    /// connection.
    pub async fn discard(mut self) {
        let drain = async {
            let mut left = MAX_DRAIN;
            while let Some(Ok(chunk)) = self.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Whether it came to its end shows in whether the connection was given back.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain).await;
    }

    /// Throws away what is left without making anybody wait for it: the last chunk, which says nothing but that it is the last,
    /// often comes later than the bytes before it.
    pub(crate) fn finish_in_background(self) {
        if self.connection.is_some() {
            tokio::spawn(self.discard());
        }
    }

    /// Gives the connection back if nothing more can come.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(Connection { session, pool, key }) = self.connection.take() {
            pool.put(key, session, Instant::now());
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes>>> {
        self.connection = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Whether nothing has come for too long.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.read_timeout)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(tokio::time::Instant::now() + self.read_timeout);
        }
        timer.as_mut().poll(cx)
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.connection.is_some() {
            let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
                return match this.poll_timeout(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => this.fail(Error::new(ErrorKind::Timeout, "the server stopped sending")),
                };
            };
            this.is_waiting = false;
            match frame {
                Some(Ok(frame)) => {
                    this.release_at_end();
                    // What is not data is trailers, which nobody asked for.
                    match frame.into_data() {
                        Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                        _ => {}
                    }
                }
                Some(Err(error)) => return this.fail(error::of_body(error)),
                None => this.release(),
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
