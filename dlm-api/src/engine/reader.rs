//! [`Reader`]: reads a download while it arrives.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::watch;

use super::handle::{Handle, is_end};
use crate::event::State;
use crate::pipeline::Shared;
use crate::span::{EntryId, Span};
use crate::transfer::Task;

/// How much is read from the sink at once, in bytes.
const READ: u64 = 256 << 10;

/// Reads a download of one file while it arrives: `AsyncRead` and `AsyncSeek`. Bytes come once they are sealed, so that with
/// pieces only verified ones are read. Where it reads is fetched first.
///
/// Without pieces, bytes come before a digest of the whole can be checked; their end does not: who reads to the end has what
/// was checked. A download that fails, and one that drops bytes after some were read, ends with an error.
pub struct Reader {
    handle: Handle,
    at: u64,
    buffer: Bytes,
    pending: Option<BoxFuture<'static, io::Result<Part>>>,
    /// The ledger's version of what was read first. What is read later is of the same.
    version: Option<u64>,
    seek: Option<SeekFrom>,
    len: Option<BoxFuture<'static, io::Result<u64>>>,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, at: 0, buffer: Bytes::new(), pending: None, version: None, seek: None, len: None }
    }

    /// The download: its progress, pause and resume.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The download, which goes on without a reader.
    pub fn into_handle(self) -> Handle {
        self.handle.shared.set_focus(None);
        self.handle
    }
}

const ENTRY: EntryId = EntryId::FIRST;

/// What was read at once.
struct Part {
    /// Empty at the end.
    bytes: Bytes,
    version: u64,
}

/// Waits until bytes at `at` are sealed, and reads them; at the end, until the whole is checked.
async fn read_at(
    shared: Arc<Shared>,
    mut state: watch::Receiver<State>,
    at: u64,
    wanted: Option<u64>,
) -> io::Result<Part> {
    shared.set_focus(Some((ENTRY, at)));
    let mut changed = shared.changed.subscribe();
    loop {
        let state_now = *state.borrow_and_update();
        let known = shared.ledger(|ledger| {
            let known = ledger.entry_count() > 0;
            known.then(|| {
                let end = ledger.trusted_from(ENTRY, at);
                (end, ledger.len(ENTRY), ledger.version(ENTRY))
            })
        });
        if let Some((end, len, version)) = known {
            if wanted.is_some_and(|wanted| wanted != version) {
                return Err(io::Error::other("the content changed while it was read"));
            }
            if let Some(end) = end {
                let read = read_on(&shared, Span::new(ENTRY, at..end.min(at + READ))).await;
                // Meanwhile the place may have got other bytes.
                if shared.ledger(|ledger| ledger.version(ENTRY)) != version {
                    continue;
                }
                return Ok(Part { bytes: read?, version });
            }
            if state_now == State::Complete && len.is_some_and(|len| at >= len) {
                return Ok(Part { bytes: Bytes::new(), version });
            }
        }
        if is_end(state_now) {
            return Err(io::Error::other("the download ended before these bytes came"));
        }
        tokio::select! {
            _ = changed.changed() => {}
            closed = state.changed() => if closed.is_err() {
                return Err(io::Error::other("the download is gone"));
            }
        }
    }
}

/// Reads on the engine's threads: a sink may block, and who polls a reader is on a runtime of its own.
async fn read_on(shared: &Arc<Shared>, span: Span) -> io::Result<Bytes> {
    let read = {
        let (shared, span) = (shared.clone(), span.clone());
        Task::new(&shared.setup.spawner.clone(), async move { shared.read(&span).await })
    };
    let bytes = match read.await {
        Some(bytes) => bytes,
        // The threads ended with the last client; what is there can still be read.
        None => shared.read(&span).await,
    };
    bytes.map_err(io::Error::other)
}

async fn wait_for_len(shared: Arc<Shared>, mut state: watch::Receiver<State>) -> io::Result<u64> {
    let mut changed = shared.changed.subscribe();
    loop {
        if let Some(len) = shared.ledger(|l| (l.entry_count() > 0).then(|| l.len(ENTRY)).flatten()) {
            return Ok(len);
        }
        if is_end(*state.borrow_and_update()) {
            return Err(io::Error::other("the download ended before its length was known"));
        }
        tokio::select! {
            _ = changed.changed() => {}
            closed = state.changed() => if closed.is_err() {
                return Err(io::Error::other("the download is gone"));
            }
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            let (shared, state, at, version) =
                (self.handle.shared.clone(), self.handle.state.clone(), self.at, self.version);
            let pending = self.pending.get_or_insert_with(|| Box::pin(read_at(shared, state, at, version)));
            let read = ready!(pending.as_mut().poll(cx));
            self.pending = None;
            let Part { bytes, version } = read?;
            self.version = Some(version);
            self.buffer = bytes;
        }
        let n = out.remaining().min(self.buffer.len());
        out.put_slice(&self.buffer[..n]);
        self.buffer.advance(n);
        self.at += n as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        self.len = None;
        self.seek = Some(position);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Some(seek) = self.seek else { return Poll::Ready(Ok(self.at)) };
        let (base, offset) = match seek {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(offset) => (self.at, offset),
            SeekFrom::End(offset) => {
                let (shared, state) = (self.handle.shared.clone(), self.handle.state.clone());
                let len = self.len.get_or_insert_with(|| Box::pin(wait_for_len(shared, state)));
                (ready!(len.as_mut().poll(cx))?, offset)
            }
        };
        self.seek = None;
        self.len = None;
        let at = base
            .checked_add_signed(offset)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning"))?;
        if at != self.at {
            (self.at, self.buffer, self.pending) = (at, Bytes::new(), None);
        }
        Poll::Ready(Ok(at))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).finish_non_exhaustive()
    }
}
