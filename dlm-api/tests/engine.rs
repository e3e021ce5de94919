//! Downloads through the whole engine, from sources that do what a test tells them.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Script, content};
use dlm_api::{
    Algorithm, CheckpointStore, Client, Container, Digest, EntryId, EntryPath, EntryRecord, Error, ErrorKind,
    FileCheckpoint, Locator, MemorySink, Protocol, Ranged, Record, Registry, Resolved, Result, SourceRecord, Stamp,
    Verification, source_key,
};

const MIB: usize = 1 << 20;

fn client() -> Client {
    Client::builder().threads(2).build()
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

#[tokio::test]
async fn one_source_one_file() {
    for len in [0, 1, 4096, 5 * MIB + 3] {
        let bytes = content(1, len);
        let script = Script::new("script://a/f", bytes.clone()).unwrap();
        let memory = MemorySink::new(u64::MAX);
        let report = client()
            .download_from_sources()
            .source(Ranged::new(script.clone()))
            .checksum(sha256(&bytes))
            .to_memory(memory.clone())
            .await
            .unwrap();
        assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes, "{len}");
        assert_eq!(report.entries[0].verification, Verification::Digest("sha-256".into()));
        assert_eq!(script.requests().len(), 1, "one request is enough");
    }
}

#[tokio::test]
async fn a_wrong_checksum_fails() {
    let bytes = content(1, MIB);
    let script = Script::new("script://a/f", bytes.clone()).unwrap();
    let error = client()
        .download_from_sources()
        .source(Ranged::new(script))
        .checksum(sha256(b"something else"))
        .to_memory(MemorySink::new(u64::MAX))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_broke() {
    let bytes = content(2, 3 * MIB);
    let script = Script::new("script://a/f", bytes.clone()).unwrap();
    script.act([Act::BreakAfter(MIB), Act::Refuse(ErrorKind::Network), Act::BreakAfter(MIB)]);
    let memory = MemorySink::new(u64::MAX);
    // On a machine that is busy another connection would be worth trying, and has an overlap of its own.
    let download = client().download_from_sources().source(Ranged::new(script.clone())).connections(1);
    let report = download.to_memory(memory.clone()).await.unwrap();
    assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes);
    assert!(report.wasted <= 2 * 4096, "only the overlaps are fetched twice: {}", report.wasted);
    assert_eq!(report.entries[0].verification, Verification::SameContent);
}

#[tokio::test]
async fn a_server_without_ranges_is_not_asked_again_and_again() {
    // Slow enough for a second connection to be tried.
    let bytes = content(3, 12 * MIB);
    let script = Script::new("script://a/f", bytes.clone()).unwrap().with_rate(2 << 20);
    script.always(Act::IgnoreRange);
    let memory = MemorySink::new(u64::MAX);
    let report =
        client().download_from_sources().source(Ranged::new(script.clone())).to_memory(memory.clone()).await.unwrap();
    assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes);
    assert!(script.requests().len() <= 3, "{:?}", script.requests());
    assert!(report.transferred < 13 << 20, "the surviving stream brings it all: {}", report.transferred);
}

#[derive(Debug)]
struct Scripts(Script);

#[async_trait]
impl Protocol for Scripts {
    fn schemes(&self) -> &[&str] {
        &["script"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Ok(Resolved::Source(Arc::new(Ranged::new(self.0.clone()))))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

/// Killed between the last two steps: the file has its name, and the record is still there.
#[tokio::test]
async fn a_file_that_was_finished_just_before_a_kill_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("f"), EntryPath::new("f").unwrap());
    std::fs::write(&file, b"complete").unwrap();
    let there = file.metadata().unwrap();
    let mut entry = EntryRecord::new(path.clone());
    entry.len = Some(8);
    entry.stamp = Some(Stamp { device: there.dev(), inode: there.ino() });
    let ours = "script://a/f".parse().unwrap();
    let source = SourceRecord { key: source_key(&ours), locator: ours.to_string(), state: Vec::new() };
    let store = FileCheckpoint::new(folder.path(), path);
    let left = Record { entries: vec![entry], sources: vec![source] };
    store.save(&left).await.unwrap();

    let script = Script::new("script://a/f", content(1, 8)).unwrap();
    let client = Client::builder().threads(2).protocol(Scripts(script.clone())).build();
    let report = client.download("script://a/f").to_file(&file).await.unwrap();
    assert!(report.entries[0].skipped);
    assert_eq!(report.entries[0].file.as_deref(), Some(&*file));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the record is gone");

    // Somebody else's file of the same name is not taken for ours, nor is ours for what it was not checked against.
    let mut other = left.clone();
    other.entries[0].stamp = Some(Stamp { device: there.dev(), inode: there.ino() + 1 });
    store.save(&other).await.unwrap();
    assert_eq!(client.download("script://a/f").to_file(&file).await.unwrap_err().kind(), ErrorKind::Exists);
    store.save(&left).await.unwrap();
    let elsewhere = client.download("script://b/f").to_file(&file);
    assert_eq!(elsewhere.await.unwrap_err().kind(), ErrorKind::Exists);
    let checked = client.download("script://a/f").checksum(sha256(b"another")).to_file(&file);
    assert_eq!(checked.await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(script.requests().len(), 0);
}
