//! [`Reader`]: reads a download while it arrives.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::handle::Handle;
use crate::event::State;
use crate::pipeline::Shared;
use crate::span::{EntryId, Span};

/// How much is read from the sink at once, in bytes.
const READ: u64 = 256 << 10;

/// Reads a download of one file while it arrives: `AsyncRead` and `AsyncSeek`. Bytes come once they are sealed, so that with
/// pieces only verified ones are read. Where it reads is fetched first.
pub struct Reader {
    handle: Handle,
    at: u64,
    buffer: Bytes,
    pending: Option<BoxFuture<'static, io::Result<Bytes>>>,
    seek: Option<SeekFrom>,
    len: Option<BoxFuture<'static, io::Result<u64>>>,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, at: 0, buffer: Bytes::new(), pending: None, seek: None, len: None }
    }

    /// The download: its progress, pause and resume.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The download, which goes on without a reader.
    pub fn into_handle(self) -> Handle {
        self.handle.shared.ledger(|ledger| ledger.set_focus(None));
        self.handle
    }
}

const ENTRY: EntryId = EntryId::FIRST;

/// Waits until bytes at `at` are sealed, and reads them. Empty at the end.
async fn read_at(shared: Arc<Shared>, mut state: tokio::sync::watch::Receiver<State>, at: u64) -> io::Result<Bytes> {
    shared.ledger(|ledger| ledger.set_focus(Some((ENTRY, at))));
    let mut changed = shared.changed.subscribe();
    loop {
        let ended = matches!(*state.borrow_and_update(), State::Failed | State::Stopped);
        let (end, len) = shared.ledger(|ledger| {
            let run = (ledger.entry_count() > 0).then(|| ledger.sealed(ENTRY).get(at)).flatten();
            (run.map(|(run, ())| run.end), (ledger.entry_count() > 0).then(|| ledger.len(ENTRY)).flatten())
        });
        if let Some(end) = end {
            let span = Span::new(ENTRY, at..end.min(at + READ));
            return shared.read(&span).await.map_err(io::Error::other);
        }
        if len.is_some_and(|len| at >= len) {
            return Ok(Bytes::new());
        }
        if ended {
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

async fn wait_for_len(shared: Arc<Shared>, mut state: tokio::sync::watch::Receiver<State>) -> io::Result<u64> {
    let mut changed = shared.changed.subscribe();
    loop {
        if let Some(len) = shared.ledger(|l| (l.entry_count() > 0).then(|| l.len(ENTRY)).flatten()) {
            return Ok(len);
        }
        if matches!(*state.borrow_and_update(), State::Failed | State::Stopped) {
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
            let (shared, state, at) = (self.handle.shared.clone(), self.handle.state.clone(), self.at);
            let pending = self.pending.get_or_insert_with(|| Box::pin(read_at(shared, state, at)));
            let read = ready!(pending.as_mut().poll(cx));
            self.pending = None;
            self.buffer = read?;
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
