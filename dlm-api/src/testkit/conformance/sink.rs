//! What every sink has to do.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::limited::polled;
use crate::error::{ErrorKind, Result};
use crate::path::EntryPath;
use crate::sink::{Entry, EntryKind, Sink};
use crate::span::{EntryId, Span};
use crate::testkit::content;

const LEN: usize = 300_000;
const FIRST: EntryId = EntryId::FIRST;

/// How the content of a finished entry is looked at; `None` if there is none.
type Look = Arc<dyn Fn(EntryId) -> Option<Bytes> + Send + Sync>;

/// A sink at an empty place, and a way to see what became of it.
pub struct SinkUnderTest {
    sink: Arc<dyn Sink>,
    look: Option<Look>,
}

impl SinkUnderTest {
    /// A sink of which the finished entries are files, at [`Sink::location`].
    pub fn new(sink: impl Sink) -> Self {
        Self { sink: Arc::new(sink), look: None }
    }

    /// Sets how a finished entry is looked at: `None` while it isn't there under its final name.
    #[must_use]
    pub fn with_look(mut self, look: impl Fn(EntryId) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        self.look = Some(Arc::new(look));
        self
    }

    fn finished(&self, entry: EntryId) -> Option<Bytes> {
        match &self.look {
            Some(look) => look(entry),
            None => std::fs::read(self.sink.location(entry)?).ok().map(Bytes::from),
        }
    }

    #[track_caller]
    fn must_be(&self, entry: EntryId, wanted: &[u8], what: impl fmt::Display) {
        match self.finished(entry) {
            None => panic!("{what}: the entry is not there"),
            Some(got) => assert!(got == wanted, "{what}: the entry has other bytes, {} of {}", got.len(), wanted.len()),
        }
    }

    async fn prepare(&self, len: Option<u64>) -> Entry {
        let entry = entry(FIRST, len);
        let prepared = self.sink.prepare(&entry).await.unwrap_or_else(|e| panic!("prepare: {}", e.chain()));
        assert!(prepared.existing.is_empty(), "the factory must give an empty place");
        entry
    }

    /// Writes chunks of many sizes, in any order where that is allowed.
    async fn write(&self, entry: EntryId, bytes: &Bytes, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut chunks = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + random.usize(1..40_000));
            chunks.push(at..end);
            at = end;
        }
        if self.sink.info().random_access {
            random.shuffle(&mut chunks);
        }
        for chunk in chunks {
            let middle = random.usize(chunk.clone());
            let data = vec![bytes.slice(chunk.start..middle), bytes.slice(middle..chunk.end)];
            let written = self.sink.write(entry, chunk.start as u64, data).await;
            written.unwrap_or_else(|e| panic!("write of {chunk:?}: {}", e.chain()));
        }
    }

    async fn read_back(&self, entry: EntryId, bytes: &Bytes, what: &str) {
        if !self.sink.info().readable {
            let read = self.sink.read(&Span::new(entry, 0..1)).await;
            assert_eq!(kind(read), Some(ErrorKind::Unsupported), "{what}: a read of a sink that isn't readable");
            return;
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..40 {
            let start = random.usize(..bytes.len());
            let end = random.usize(start + 1..=bytes.len());
            let read = self.sink.read(&Span::new(entry, start as u64..end as u64)).await;
            let read = read.unwrap_or_else(|e| panic!("{what}: read of {start}..{end}: {}", e.chain()));
            assert!(read == bytes[start..end], "{what}: read of {start}..{end} gives other bytes");
        }
    }
}

impl fmt::Debug for SinkUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkUnderTest").field("sink", &self.sink).finish_non_exhaustive()
    }
}

fn entry(id: EntryId, len: Option<u64>) -> Entry {
    let path = EntryPath::from_untrusted(["folder".to_owned(), format!("file{id}")]);
    let entry = Entry::new(id, path.unwrap_or_else(|e| panic!("a path: {}", e.chain())));
    len.map_or(entry.clone(), |len| entry.with_len(len))
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs every check on sinks that `make` gives, each at an empty place of its own.
///
/// # Panics
///
/// Where the sink does not do what it must.
pub async fn sink(make: impl Fn() -> SinkUnderTest) {
    writes_reads_and_finishes(make()).await;
    prepares_again(make()).await;
    takes_an_empty_entry(make()).await;
    refuses_what_is_not_whole(make()).await;
    refuses_a_gap_if_it_is_sequential(make()).await;
    resets(make()).await;
    aborts(make()).await;
    keeps_what_is_final(make()).await;
    takes_many_entries(make()).await;
    keeps_no_padding(make()).await;
    keeps_what_is_not_wanted_for_a_while(make()).await;
    survives_a_write_that_is_dropped(&make).await;
    survives_a_finish_that_is_dropped(&make).await;
}

async fn writes_reads_and_finishes(test: SinkUnderTest) {
    let bytes = content(1, LEN);
    assert_eq!(test.sink.info(), test.sink.info(), "what a sink can do never changes");
    let entry = test.prepare(Some(LEN as u64)).await;
    test.write(FIRST, &bytes, 1).await;
    test.read_back(FIRST, &bytes, "before a sync").await;
    test.sink.sync(FIRST).await.unwrap_or_else(|e| panic!("sync: {}", e.chain()));
    test.read_back(FIRST, &bytes, "after a sync").await;
    test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish: {}", e.chain()));
    test.must_be(FIRST, &bytes, "after finish");
    test.read_back(FIRST, &bytes, "after finish").await;
    test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("a second finish: {}", e.chain()));
    test.must_be(FIRST, &bytes, "after a second finish");
}

async fn prepares_again(test: SinkUnderTest) {
    let bytes = content(2, LEN);
    let (unknown, known) = (entry(FIRST, None), entry(FIRST, Some(LEN as u64)));
    let first = test.sink.prepare(&unknown).await.unwrap_or_else(|e| panic!("prepare: {}", e.chain()));
    let second = test.sink.prepare(&unknown).await.unwrap_or_else(|e| panic!("a second prepare: {}", e.chain()));
    assert_eq!(first, second, "the same question, the same answer");
    let third = test.sink.prepare(&known).await.unwrap_or_else(|e| panic!("prepare with a length: {}", e.chain()));
    assert_eq!((first.stamp, &first.path), (third.stamp, &third.path), "a length makes no other file");
    test.write(FIRST, &bytes, 2).await;
    let fourth = test.sink.prepare(&known).await.unwrap_or_else(|e| panic!("prepare after writes: {}", e.chain()));
    assert_eq!(first.stamp, fourth.stamp, "writes make no other file");
    test.sink.finish(&known).await.unwrap_or_else(|e| panic!("finish: {}", e.chain()));
    test.must_be(FIRST, &bytes, "prepared several times");
}

async fn takes_an_empty_entry(test: SinkUnderTest) {
    let entry = test.prepare(Some(0)).await;
    test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish of an empty entry: {}", e.chain()));
    test.must_be(FIRST, &[], "an empty entry");
}

async fn refuses_what_is_not_whole(test: SinkUnderTest) {
    let entry = test.prepare(Some(LEN as u64)).await;
    test.write(FIRST, &content(3, LEN - 1), 3).await;
    assert!(test.sink.finish(&entry).await.is_err(), "a finish of an entry of which the last byte is missing");
}

async fn refuses_a_gap_if_it_is_sequential(test: SinkUnderTest) {
    if test.sink.info().random_access {
        return;
    }
    test.prepare(Some(LEN as u64)).await;
    assert!(test.sink.write(FIRST, 1, vec![Bytes::from_static(b"x")]).await.is_err(), "a write that leaves a gap");
}

async fn resets(test: SinkUnderTest) {
    let entry = test.prepare(Some(LEN as u64 / 2)).await;
    test.sink.reset(FIRST).await.unwrap_or_else(|e| panic!("reset before a write: {}", e.chain()));
    test.write(FIRST, &content(4, LEN), 4).await;
    if !test.sink.info().random_access {
        assert_eq!(kind(test.sink.reset(FIRST).await), Some(ErrorKind::Changed), "what went out can't be taken back");
        return;
    }
    test.sink.reset(FIRST).await.unwrap_or_else(|e| panic!("reset: {}", e.chain()));
    let bytes = content(5, LEN / 2);
    test.write(FIRST, &bytes, 5).await;
    test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish after a reset: {}", e.chain()));
    test.must_be(FIRST, &bytes, "after a reset");
}

async fn aborts(test: SinkUnderTest) {
    test.prepare(Some(LEN as u64)).await;
    test.write(FIRST, &content(6, LEN), 6).await;
    let readable = test.sink.info().readable;
    test.sink.abort().await.unwrap_or_else(|e| panic!("abort: {}", e.chain()));
    if readable {
        assert!(test.sink.read(&Span::new(FIRST, 0..1)).await.is_err(), "nothing is left after an abort");
        assert!(test.finished(FIRST).is_none(), "nothing has the final name after an abort");
    }
    test.sink.abort().await.unwrap_or_else(|e| panic!("a second abort: {}", e.chain()));
}

async fn keeps_what_is_final(test: SinkUnderTest) {
    let bytes = content(7, LEN);
    let entry = test.prepare(Some(LEN as u64)).await;
    test.write(FIRST, &bytes, 7).await;
    test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish: {}", e.chain()));
    test.sink.abort().await.unwrap_or_else(|e| panic!("abort after finish: {}", e.chain()));
    test.must_be(FIRST, &bytes, "an abort after the finish");
    let late = test.sink.write(FIRST, 0, vec![Bytes::from_static(b"x")]).await;
    assert!(late.is_err(), "a write to a finished entry");
    test.must_be(FIRST, &bytes, "a write after the finish");
}

async fn takes_many_entries(test: SinkUnderTest) {
    let ids: Vec<EntryId> = (0..3).map(EntryId::new).collect();
    for &id in &ids {
        match test.sink.prepare(&entry(id, Some(LEN as u64))).await {
            Err(error) if id != FIRST => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "a sink of one entry says that");
                return;
            }
            result => drop(result.unwrap_or_else(|e| panic!("prepare of entry {id}: {}", e.chain()))),
        }
    }
    for &id in &ids {
        test.write(id, &content(10 + id.index() as u64, LEN), 8).await;
    }
    for &id in &ids {
        let finish = test.sink.finish(&entry(id, Some(LEN as u64))).await;
        finish.unwrap_or_else(|e| panic!("finish of entry {id}: {}", e.chain()));
        test.must_be(id, &content(10 + id.index() as u64, LEN), format_args!("entry {id} of three"));
    }
}

/// An entry of another kind; `None` if the sink says that it doesn't take one.
async fn prepare_other(test: &SinkUnderTest, id: EntryId, kind: EntryKind) -> Option<Entry> {
    let entry = entry(id, Some(LEN as u64)).with_kind(kind);
    match test.sink.prepare(&entry).await {
        Ok(_) => Some(entry),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "an entry of a kind that it doesn't take");
            None
        }
    }
}

async fn keeps_no_padding(test: SinkUnderTest) {
    let Some(entry) = prepare_other(&test, FIRST, EntryKind::Padding).await else { return };
    let ok = |result: Result<()>, what: &str| result.unwrap_or_else(|e| panic!("{what} of padding: {}", e.chain()));
    let zeros = Bytes::from(vec![0; LEN]);
    ok(test.sink.write(FIRST, 0, vec![zeros.clone()]).await, "write");
    let other = test.sink.write(FIRST, 5, vec![Bytes::from_static(b"\0x")]).await;
    assert_eq!(kind(other), Some(ErrorKind::InvalidInput), "a write of padding that is not zeros");
    ok(test.sink.sync(FIRST).await, "sync");
    ok(test.sink.reset(FIRST).await, "reset");
    for when in ["before", "after"] {
        test.read_back(FIRST, &zeros, &format!("padding, {when} the finish")).await;
        ok(test.sink.finish(&entry).await, "finish");
        assert!(test.finished(FIRST).is_none(), "padding becomes no file");
    }
}

async fn keeps_what_is_not_wanted_for_a_while(test: SinkUnderTest) {
    let ids: Vec<EntryId> = (0..2).map(EntryId::new).collect();
    let mut entries = Vec::new();
    for &id in &ids {
        let kind = EntryKind::Unwanted { base: id.index() as u64 * LEN as u64 };
        let Some(entry) = prepare_other(&test, id, kind).await else { return };
        entries.push(entry);
    }
    let bytes: Vec<Bytes> = ids.iter().map(|id| content(20 + id.index() as u64, LEN)).collect();
    // As they lie beside each other, one must not reach into the other.
    for &id in &ids {
        test.write(id, &bytes[id.index()], 12).await;
    }
    for (entry, bytes) in entries.iter().zip(&bytes) {
        test.sink.sync(entry.id).await.unwrap_or_else(|e| panic!("sync of what is not wanted: {}", e.chain()));
        test.read_back(entry.id, bytes, "what is not wanted").await;
        for _ in 0..2 {
            let finish = test.sink.finish(entry).await;
            finish.unwrap_or_else(|e| panic!("finish of what is not wanted: {}", e.chain()));
        }
        assert!(test.finished(entry.id).is_none(), "what is not wanted becomes no file");
        let read = test.sink.read(&Span::new(entry.id, 0..1)).await;
        assert!(read.is_err(), "what is not wanted is gone when it is finished");
    }
}

/// The engine carries a write on to its end, but what is dropped must never pass for written.
async fn survives_a_write_that_is_dropped(make: &impl Fn() -> SinkUnderTest) {
    let bytes = content(9, LEN);
    for polls in 0.. {
        let test = make();
        let entry = test.prepare(Some(LEN as u64)).await;
        let done = polled(test.sink.write(FIRST, 0, vec![bytes.slice(..LEN / 2), bytes.slice(LEN / 2..)]), polls).await;
        let is_done = done.is_some();
        if let Some(written) = done {
            written.unwrap_or_else(|e| panic!("write: {}", e.chain()));
        } else if let Err(error) = test.sink.write(FIRST, 0, vec![bytes.clone()]).await {
            // Honest: it doesn't know how much of it went out.
            assert!(!test.sink.info().random_access, "a write after one that was dropped: {}", error.chain());
            assert!(test.sink.finish(&entry).await.is_err(), "finished, although a write was lost");
            continue;
        }
        test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish after {polls} polls: {}", e.chain()));
        test.must_be(FIRST, &bytes, format_args!("a write dropped after {polls} polls"));
        if is_done {
            return;
        }
    }
}

async fn survives_a_finish_that_is_dropped(make: &impl Fn() -> SinkUnderTest) {
    let bytes = content(11, LEN);
    for polls in 0.. {
        let test = make();
        let entry = test.prepare(Some(LEN as u64)).await;
        test.write(FIRST, &bytes, 9).await;
        let done = polled(test.sink.finish(&entry), polls).await;
        test.sink.finish(&entry).await.unwrap_or_else(|e| panic!("finish after {polls} polls: {}", e.chain()));
        test.must_be(FIRST, &bytes, format_args!("a finish dropped after {polls} polls"));
        if done.is_some() {
            return;
        }
    }
}
