//! [`WriterSink`]: a stream, such as standard output, a pipe or an upload.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result, Scope};
use crate::sink::{Entry, EntryKind, Prepared, Sink, SinkInfo};
use crate::span::{EntryId, Span};

/// How far ahead of the first missing byte bytes may arrive by default: 16 MiB, enough for a few connections to be busy
/// while the slowest is waited for.
const DEFAULT_WINDOW: u64 = 16 << 20;

/// A stream that one entry is written to, from its first byte to its last.
///
/// It can take back nothing: content that changes on the way, or that turns out to be wrong, fails the download.
pub struct WriterSink<W> {
    window: u64,
    stream: Mutex<Stream<W>>,
}

struct Stream<W> {
    writer: W,
    /// The offset that comes next.
    at: u64,
    state: State,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum State {
    Open,
    /// A write has begun. If that is seen by the next one, it failed or was dropped, and nobody knows how much came through.
    Writing,
    Finished,
}

impl<W: AsyncWrite + Send + Unpin + 'static> WriterSink<W> {
    /// A sink that writes to `writer`.
    pub fn new(writer: W) -> Self {
        Self { window: DEFAULT_WINDOW, stream: Mutex::new(Stream { writer, at: 0, state: State::Open }) }
    }

    /// Sets how far ahead of the first missing byte bytes may arrive, in bytes: they wait in memory. Default: 16 MiB.
    #[must_use]
    pub fn with_window(mut self, window: u64) -> Self {
        self.window = window;
        self
    }

    async fn of(&self, entry: EntryId) -> Result<MutexGuard<'_, Stream<W>>> {
        if entry != EntryId::FIRST {
            return Err(Error::new(ErrorKind::Unsupported, "a stream takes one entry only")
                .with("entry", entry)
                .with_scope(Scope::Download));
        }
        Ok(self.stream.lock().await)
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin + 'static> Sink for WriterSink<W> {
    fn info(&self) -> SinkInfo {
        SinkInfo::sequential(self.window)
    }

    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        if entry.kind != EntryKind::File {
            // All that a stream takes comes out of it.
            return Err(Error::new(ErrorKind::Unsupported, "a stream takes only what is wanted")
                .with("entry", entry.id)
                .with_scope(Scope::Download));
        }
        self.of(entry.id).await.map(|_| Prepared::empty())
    }

    async fn write(&self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()> {
        let mut stream = self.of(entry).await?;
        let Stream { writer, at, state } = &mut *stream;
        match state {
            State::Open if offset == *at => {}
            State::Open => {
                return Err(Error::new(ErrorKind::InvalidInput, "a stream takes its bytes in order only")
                    .with("offset", offset)
                    .with("expected", *at));
            }
            State::Writing => return Err(Error::new(ErrorKind::Storage, "an earlier write to the stream failed")),
            State::Finished => return Err(Error::new(ErrorKind::InvalidInput, "the stream is finished")),
        }
        *state = State::Writing;
        for chunk in &data {
            writer
                .write_all(chunk)
                .await
                .map_err(|e| Error::storage("cannot write to the stream", e).with("offset", *at))?;
            *at += chunk.len() as u64;
        }
        *state = State::Open;
        Ok(())
    }

    async fn read(&self, _span: &Span) -> Result<Bytes> {
        Err(Error::new(ErrorKind::Unsupported, "a stream can't be read back").with_scope(Scope::Download))
    }

    async fn sync(&self, entry: EntryId) -> Result<()> {
        let mut stream = self.of(entry).await?;
        if stream.state == State::Writing {
            return Err(Error::new(ErrorKind::Storage, "an earlier write to the stream failed"));
        }
        stream.writer.flush().await.map_err(|e| Error::storage("cannot flush the stream", e))
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        let stream = self.of(entry).await?;
        if stream.at == 0 && stream.state == State::Open {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Changed, "the content changed after a part of it had gone to the stream")
            .with("bytes", stream.at)
            .with_scope(Scope::Download))
    }

    async fn finish(&self, entry: &Entry) -> Result<()> {
        let mut stream = self.of(entry.id).await?;
        match stream.state {
            State::Finished => return Ok(()),
            State::Writing => return Err(Error::new(ErrorKind::Storage, "an earlier write to the stream failed")),
            State::Open => {}
        }
        if let Some(len) = entry.len.filter(|len| *len != stream.at) {
            return Err(Error::new(ErrorKind::Corrupt, "not as long as it must be")
                .with("bytes", stream.at)
                .with("expected", len)
                .with_scope(Scope::Download));
        }
        stream.writer.flush().await.map_err(|e| Error::storage("cannot flush the stream", e))?;
        stream.writer.shutdown().await.map_err(|e| Error::storage("cannot close the stream", e))?;
        stream.state = State::Finished;
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self, _entry: EntryId) -> Option<PathBuf> {
        None
    }
}

impl<W> fmt::Debug for WriterSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSink").field("window", &self.window).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::path::EntryPath;

    const FIRST: EntryId = EntryId::FIRST;

    fn entry(len: u64) -> Entry {
        Entry::new(FIRST, EntryPath::new("f").unwrap()).with_len(len)
    }

    fn data(text: &'static str) -> Vec<Bytes> {
        text.as_bytes().chunks(3).map(Bytes::from_static).collect()
    }

    #[tokio::test]
    async fn bytes_go_through_in_order_and_the_stream_ends() {
        let (writer, mut reader) = tokio::io::duplex(64);
        let sink = WriterSink::new(writer).with_window(1000);
        assert_eq!(sink.info(), SinkInfo::sequential(1000));
        sink.prepare(&entry(11)).await.unwrap();
        sink.reset(FIRST).await.unwrap();
        sink.write(FIRST, 0, data("hello ")).await.unwrap();
        assert_eq!(sink.write(FIRST, 7, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(sink.write(FIRST, 0, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(sink.finish(&entry(11)).await.unwrap_err().kind(), ErrorKind::Corrupt);
        sink.write(FIRST, 6, data("world")).await.unwrap();
        assert_eq!(sink.reset(FIRST).await.unwrap_err().kind(), ErrorKind::Changed);
        sink.sync(FIRST).await.unwrap();
        sink.finish(&entry(11)).await.unwrap();
        sink.finish(&entry(11)).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }

    #[tokio::test]
    async fn a_second_entry_and_a_read_are_unsupported() {
        let sink = WriterSink::new(tokio::io::sink());
        let second = Entry::new(EntryId::new(1), EntryPath::new("g").unwrap());
        let error = sink.prepare(&second).await.unwrap_err();
        assert_eq!((error.kind(), error.scope()), (ErrorKind::Unsupported, Scope::Download));
        assert_eq!(sink.read(&Span::new(FIRST, 0..1)).await.unwrap_err().kind(), ErrorKind::Unsupported);
        let padding = entry(1).with_kind(EntryKind::Padding);
        assert_eq!(sink.prepare(&padding).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[tokio::test]
    async fn a_broken_pipe_ends_the_download() {
        let (writer, reader) = tokio::io::duplex(64);
        drop(reader);
        let sink = WriterSink::new(writer);
        let error = sink.write(FIRST, 0, data("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.scope()), (ErrorKind::Storage, Scope::Download));
        assert!(sink.write(FIRST, 0, data("x")).await.is_err());
        assert!(sink.sync(FIRST).await.is_err() && sink.finish(&entry(0)).await.is_err());
    }

    #[tokio::test]
    async fn a_write_that_was_dropped_half_way_is_not_taken_for_done() {
        let (writer, _reader) = tokio::io::duplex(2);
        let sink = WriterSink::new(writer);
        let mut write = Box::pin(sink.write(FIRST, 0, data("more than two")));
        assert!(futures::poll!(&mut write).is_pending());
        drop(write);
        let again = sink.write(FIRST, 0, data("x")).now_or_never().expect("refused at once");
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Storage);
        assert!(sink.finish(&entry(0)).now_or_never().expect("refused at once").is_err());
    }
}
