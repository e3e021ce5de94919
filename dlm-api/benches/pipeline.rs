//! What a byte costs on its way through a lease into a sink that does nothing, into memory, and into a file; and what a
//! write to a file and a read of a finished one cost by themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dlm_api::{
    Algorithm, Balanced, Digest, Entry, EntryId, EntryPath, Fact, FileSink, MemorySink, Piece, Prepared, Result, Sink,
    SinkInfo, Span, Transfer, Want,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const LEN: u64 = 64 << 20;
const CHUNK: usize = 256 << 10;
const PIECE: u64 = 1 << 20;
/// What a swarm writes and reads at once.
const BLOCK: u64 = 16 << 10;
const FIRST: EntryId = EntryId::FIRST;

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct NullSink;

#[async_trait]
impl Sink for NullSink {
    fn info(&self) -> SinkInfo {
        SinkInfo::random_access()
    }

    async fn prepare(&self, _entry: &Entry) -> Result<Prepared> {
        Ok(Prepared::empty())
    }

    async fn write(&self, _entry: EntryId, _offset: u64, _data: Vec<Bytes>) -> Result<()> {
        Ok(())
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        Ok(Bytes::from(vec![0; span.len() as usize]))
    }

    async fn sync(&self, _entry: EntryId) -> Result<()> {
        Ok(())
    }

    async fn reset(&self, _entry: EntryId) -> Result<()> {
        Ok(())
    }

    async fn finish(&self, _entry: &Entry) -> Result<()> {
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self, _entry: EntryId) -> Option<PathBuf> {
        None
    }
}

/// A transfer whose length, and pieces if there are digests, are known.
fn transfer(sink: Arc<dyn Sink>, pieces: Option<&Digest>) -> Transfer {
    let transfer = Transfer::standalone(sink, Balanced::new());
    transfer.learn(Fact::Len(FIRST, LEN)).expect("nobody disagrees");
    if let Some(digest) = pieces {
        let piece = |i| Piece::new(Span::new(FIRST, i * PIECE..(i + 1) * PIECE), digest.clone());
        transfer.learn(Fact::Pieces((0..LEN / PIECE).map(piece).collect())).expect("nobody disagrees");
    }
    transfer
}

async fn deliver(transfer: Transfer, chunk: Bytes) {
    let mut lease = transfer.claim(Want::Any { max: LEN }, None).expect("everything is free");
    for offset in (0..LEN).step_by(CHUNK) {
        let _ = lease.write(FIRST, offset, chunk.clone()).await.expect("the bytes are right");
    }
    assert!(transfer.is_sealed(&Span::new(FIRST, 0..LEN)));
}

/// A folder in memory where there is one: the disk is not what is measured.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a temporary folder")
}

fn pipeline(c: &mut Criterion) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Bytes(LEN)).sample_size(20);
    let digests = [None, Some(Algorithm::Sha1), Some(Algorithm::Sha256), Some(Algorithm::Blake3)];
    for sink in ["null", "memory"] {
        let make =
            || -> Arc<dyn Sink> { if sink == "null" { Arc::new(NullSink) } else { Arc::new(MemorySink::new(LEN)) } };
        for algorithm in digests {
            let digest = algorithm.map(|a| Digest::of(a, &vec![0; PIECE as usize]));
            let name = algorithm.map_or("no pieces".to_owned(), |a| format!("{a:?} pieces"));
            group.bench_function(format!("{sink}, {name}"), |b| {
                b.to_async(&runtime).iter_batched(
                    || transfer(make(), digest.as_ref()),
                    |transfer| deliver(transfer, chunk.clone()),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    let dir = folder();
    group.bench_function("file, no pieces", |b| {
        b.to_async(&runtime).iter_batched(
            || transfer(Arc::new(FileSink::new(dir.path())), None),
            |transfer| deliver(transfer, chunk.clone()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn file(c: &mut Criterion) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let entry = Entry::new(FIRST, EntryPath::new("f").expect("a path")).with_len(BLOCK);
    runtime.block_on(sink.prepare(&entry)).expect("a free name");
    let block = Bytes::from(vec![0; BLOCK as usize]);
    let mut group = c.benchmark_group("file");
    group.throughput(Throughput::Bytes(BLOCK));
    group.bench_function("write", |b| {
        b.to_async(&runtime).iter(|| async { sink.write(FIRST, 0, vec![block.clone()]).await.expect("space") });
    });
    runtime.block_on(sink.finish(&entry)).expect("it is complete");
    group.bench_function("read of a finished one", |b| {
        b.to_async(&runtime).iter(|| async { sink.read(&Span::new(FIRST, 0..BLOCK)).await.expect("it is there") });
    });
    group.finish();
}

criterion_group!(benches, pipeline, file);
criterion_main!(benches);
