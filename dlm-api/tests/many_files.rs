//! Thousands of files under the usual limit of descriptors. Alone in its process, since the limit is the process's.

use std::path::Path;

use bytes::Bytes;
use dlm_api::{Entry, EntryId, EntryPath, FileOptions, FileSink, Result, Sink, Span};
use futures::{StreamExt, TryStreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

const FILES: u32 = 6_000;
/// Several folders, more than may be open.
const FOLDERS: u32 = 1_500;
const HALF: u64 = 50;
const LIMIT: u64 = 1_024;
/// How many entries are finished side by side.
const AT_ONCE: usize = 16;

/// A folder in memory where there is one: descriptors are what is tested, not the disk, and each file is synced.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.unwrap()
}

fn path(i: u32) -> String {
    format!("t/d{}/f{i}", i % FOLDERS)
}

fn entry(i: u32) -> Entry {
    Entry::new(EntryId::new(i), EntryPath::new(&path(i)).unwrap()).with_len(2 * HALF)
}

fn content(i: u32) -> Bytes {
    (0..2 * HALF as u32).map(|at| (i * 31 + at) as u8).collect::<Vec<u8>>().into()
}

async fn write_in_turns(sink: &FileSink) -> Result<()> {
    for i in 0..FILES {
        sink.prepare(&entry(i)).await?;
        sink.write(EntryId::new(i), HALF, vec![content(i).slice(HALF as usize..)]).await?;
    }
    for i in 0..FILES {
        sink.write(EntryId::new(i), 0, vec![content(i).slice(..HALF as usize)]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn six_thousand_unfinished_files_are_written_with_few_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..limit }).unwrap();

    // All of them don't fit: the limit is one.
    let dir = folder();
    let options = FileOptions::default().with_open_files(FILES as usize);
    assert!(write_in_turns(&FileSink::with_options(dir.path(), options)).await.is_err());

    let dir = folder();
    let sink = FileSink::new(dir.path());
    write_in_turns(&sink).await.unwrap();
    let finished = stream::iter((0..FILES).map(|i| {
        let sink = &sink;
        async move { sink.finish(&entry(i)).await }
    }));
    finished.buffer_unordered(AT_ONCE).try_collect::<()>().await.unwrap();
    for i in 0..FILES {
        let read = sink.read(&Span::new(EntryId::new(i), 0..2 * HALF)).await.unwrap();
        assert!(read == content(i), "file {i} as it is read by the sink");
        assert!(std::fs::read(dir.path().join(path(i))).unwrap() == content(i), "file {i}");
    }
}
