//! A sink of one's own: counts the lines of a download without keeping it: `cargo run --example custom_sink -- URL`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{Client, Entry, EntryId, Error, ErrorKind, Prepared, Result, Sink, SinkInfo, Span};
use dlm_http::Http;

/// How far ahead of the first missing byte others may arrive, in bytes.
const WINDOW: u64 = 4 << 20;

#[derive(Clone, Debug, Default)]
struct LineCount(Arc<AtomicU64>);

#[async_trait]
impl Sink for LineCount {
    fn info(&self) -> SinkInfo {
        // Lines can be counted in any order, but then the count of a repaired piece would have to be taken back.
        SinkInfo::sequential(WINDOW)
    }

    async fn prepare(&self, _: &Entry) -> Result<Prepared> {
        Ok(Prepared::empty())
    }

    async fn write(&self, _: EntryId, _: u64, data: Vec<Bytes>) -> Result<()> {
        let lines: usize = data.iter().map(|chunk| chunk.iter().filter(|byte| **byte == b'\n').count()).sum();
        self.0.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn read(&self, _: &Span) -> Result<Bytes> {
        Err(Error::new(ErrorKind::Unsupported, "the bytes were counted, not kept"))
    }

    async fn sync(&self, _: EntryId) -> Result<()> {
        Ok(())
    }

    async fn reset(&self, _: EntryId) -> Result<()> {
        self.0.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(&self, _: &Entry) -> Result<()> {
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self, _: EntryId) -> Option<PathBuf> {
        None
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Some(url) = std::env::args().nth(1) else { panic!("usage: custom_sink URL") };

    let client = Client::builder().protocol(Http::new()?).build();
    let lines = LineCount::default();
    client.download(url).to_sink(lines.clone()).await?;

    println!("{} lines", lines.0.load(Ordering::Relaxed));
    Ok(())
}
