//! [`Exact`]: as many bytes of a body as its head has promised, no more and no less.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result};
use futures::stream::{Stream, StreamExt};

use crate::body::Body;
use crate::wire::ContentRange;
use crate::wire::multipart::{self, Head, Tail};

/// The `left` bytes of a range, out of a body that may be longer or in the form of `multipart/byteranges`.
///
/// A body that ends before is an error. One that goes on is closed: what follows is not what was asked for.
#[derive(Debug)]
pub(crate) struct Exact {
    /// `None` once all is said.
    body: Option<Body>,
    left: u64,
    /// The only part of a multipart body, if it is one.
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    boundary: String,
    /// What was read of the body and not looked at yet. While there are bytes left to deliver, it is content.
    ahead: Bytes,
}

impl Exact {
    /// The next `len` bytes of a body.
    pub(crate) fn new(body: Body, len: u64) -> Self {
        Self { body: Some(body), left: len, part: None }
    }

    /// The content of the first part of a multipart body, and the range that it is.
    pub(crate) async fn part(mut body: Body, boundary: String) -> Result<(Self, ContentRange)> {
        let mut read = BytesMut::new();
        loop {
            let (len, range) = match multipart::parse_head(&read, &boundary) {
                Head::Part { len, range } => (len, range),
                Head::Invalid => return Err(bad_part("the server's multipart answer makes no sense")),
                Head::Partial => match body.next().await.transpose()? {
                    Some(chunk) => {
                        read.extend_from_slice(&chunk);
                        continue;
                    }
                    None => return Err(cut_off()),
                },
            };
            let ContentRange::Satisfied { start, end, .. } = range else {
                return Err(bad_part("the server's multipart answer has no content"));
            };
            let part = Part { boundary, ahead: read.split_off(len).freeze() };
            return Ok((Self { body: Some(body), left: end - start, part: Some(part) }, range));
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if let Some(part) = self.part.as_mut().filter(|part| !part.ahead.is_empty()) {
            return Poll::Ready(Some(Ok(std::mem::take(&mut part.ahead))));
        }
        match &mut self.body {
            Some(body) => body.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }

    /// Checks that no second part follows.
    fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(part) = &self.part {
            match multipart::parse_tail(&part.ahead, &part.boundary) {
                Tail::Closed => self.part = None,
                Tail::Other => return Poll::Ready(Err(bad_part("the server sent more than one range"))),
                Tail::Partial => {
                    // The tail is shorter than a boundary and 6 bytes, so little is copied.
                    let mut seen = BytesMut::from(&part.ahead[..]);
                    let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
                    match ready!(body.poll_next_unpin(cx)).transpose()? {
                        Some(chunk) => seen.extend_from_slice(&chunk),
                        None => return Poll::Ready(Err(cut_off())),
                    }
                    self.part = self.part.take().map(|part| Part { ahead: seen.freeze(), ..part });
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes>>> {
        self.body = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Exact {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.body.is_none() {
            return Poll::Ready(None);
        }
        if this.left > 0 {
            return match ready!(this.poll_chunk(cx)) {
                Some(Ok(mut chunk)) => {
                    let fits = usize::try_from(this.left).unwrap_or(usize::MAX).min(chunk.len());
                    let excess = chunk.split_off(fits);
                    this.left -= fits as u64;
                    match &mut this.part {
                        Some(part) => part.ahead = excess,
                        // What follows a range was not asked for, and may have no end.
                        None if !excess.is_empty() => this.body = None,
                        None => {}
                    }
                    Poll::Ready(Some(Ok(chunk)))
                }
                Some(Err(error)) => this.fail(error),
                None => this.fail(cut_off()),
            };
        }
        if let Err(error) = ready!(this.poll_tail(cx)) {
            return this.fail(error);
        }
        if let Some(body) = this.body.take() {
            body.finish_in_background();
        }
        Poll::Ready(None)
    }
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Network, "the content ended before it was complete")
}

fn bad_part(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
