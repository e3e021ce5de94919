//! Steering a download: pause, stop, resume, remove, read along, where it goes, who decides, and what is told.

mod common;

use std::io::SeekFrom;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Crash, Script, SimDisk, Swarm, client_here, content};
use dlm_api::{
    Ask, Balanced, Client, Container, Download, EntryId, Error, ErrorKind, Event, Handle, Locator, OnExists, Pick,
    Protocol, Registry, Resolved, Result, Scheduler, Source, Span, State, Strength, Transfer, View, WriterSink,
};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time;

const LEN: usize = 4 * MIB;
const PIECE: usize = 128 * KIB;

fn slow(bytes: &Bytes) -> Script {
    script("a", bytes).with_rate(400_000).with_chunk(16 * KIB)
}

fn of(script: &Script) -> Download {
    client_here().download_from_sources().source(ranged(script)).connections(2)
}

/// Waits until so many bytes have come.
async fn received(handle: &Handle, bytes: u64) {
    while handle.progress().received < bytes {
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn state(handle: &Handle, wanted: State) {
    while handle.state() != wanted {
        time::sleep(Duration::from_millis(10)).await;
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_the_bytes_and_makes_them_durable() {
    let bytes = content(1, LEN);
    let disk = SimDisk::new(1, [bytes.clone()]);
    let script = slow(&bytes);
    let handle = of(&script).to_sink_with_checkpoints(disk.clone(), disk.clone()).start();
    received(&handle, MIB as u64).await;
    handle.pause();
    state(&handle, State::Paused).await;
    let there = handle.progress();
    assert!(there.received >= MIB as u64 && there.durable == there.received, "{there:?}");
    assert_eq!(disk.recorded(), there.durable);
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.progress().received, there.received, "nothing comes in a pause");
    handle.resume();
    handle.wait().await.unwrap();
    same(disk.finished(EntryId::FIRST).unwrap(), &bytes, "after a pause");
    assert_eq!(disk.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_resumed_by_a_later_run() {
    let bytes = content(2, LEN);
    let disk = SimDisk::new(2, [bytes.clone()]);
    let handle = of(&slow(&bytes)).to_sink_with_checkpoints(disk.clone(), disk.clone()).start();
    received(&handle, 2 * MIB as u64).await;
    handle.stop();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(handle.state(), State::Stopped);
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::InvalidInput, "the end is told once");

    // A stop makes everything durable: not even the power is needed.
    let disk = disk.restarted(Crash::Power);
    let script = slow(&bytes);
    let handle = of(&script).to_sink_with_checkpoints(disk.clone(), disk.clone()).start();
    let report = handle.wait().await.unwrap();
    same(disk.finished(EntryId::FIRST).unwrap(), &bytes, "resumed");
    assert!(report.resumed >= 2 * MIB as u64, "{report:?}");
    assert!(report.transferred <= (LEN as u64 - report.resumed) + 64 * KIB as u64, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_download_to_a_file_is_resumed_whoever_ended_it() {
    for by_drop in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.bin");
        let bytes = content(3, LEN);
        let handle = of(&slow(&bytes)).to_file(&file).start();
        received(&handle, 2 * MIB as u64).await;
        if !by_drop {
            handle.stop();
            handle.wait().await.unwrap_err();
        }
        drop(handle);
        // Its tasks let go of the file when they are next looked at.
        time::sleep(Duration::from_secs(1)).await;
        assert!(!file.exists(), "the final name shows finished files only");
        let report = of(&slow(&bytes)).to_file(&file).await.unwrap();
        same(std::fs::read(&file).unwrap(), &bytes, by_drop);
        assert!(report.resumed > MIB as u64, "by drop: {by_drop}: {report:?}");
        assert_eq!(names(dir.path()), ["f.bin"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_content_that_changed_between_runs_starts_again() {
    for strength in [Some(Strength::Strong), Some(Strength::Weak)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let (old, new) = (content(4, LEN), content(5, LEN));
        let script = slow(&old).with_validator(strength);
        let handle = of(&script).to_file(&file).start();
        received(&handle, 2 * MIB as u64).await;
        handle.stop();
        handle.wait().await.unwrap_err();
        drop(handle);
        time::sleep(Duration::from_secs(1)).await;
        script.act([Act::Change(new.clone())]);
        let handle = of(&script).to_file(&file).start();
        let events = listen(&handle);
        handle.wait().await.unwrap();
        same(std::fs::read(&file).unwrap(), &new, "changed");
        assert!(events.await.unwrap().iter().any(|e| matches!(e, Event::Restarted { .. })), "{strength:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_checksum_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(6, LEN);
    let job = of(&script("a", &bytes)).checksum(sha256(b"other")).to_file(dir.path().join("f"));
    assert_eq!(job.await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_download_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let handle = of(&slow(&content(7, LEN))).to_file(dir.path().join("f")).start();
    received(&handle, 2 * MIB as u64).await;
    assert_eq!(names(dir.path()), ["f.part", "f.part.dlm", "f.part.dlm-log"]);
    handle.remove();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_there_is_dealt_with_as_the_caller_says() {
    let bytes = content(8, 100 * KIB);
    for (on_exists, fetched) in
        [(OnExists::Fail, false), (OnExists::Overwrite, true), (OnExists::Rename, true), (OnExists::Skip, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.txt");
        std::fs::write(&file, "mine").unwrap();
        let script = script("a", &bytes);
        let result = of(&script).on_exists(on_exists).to_file(&file).await;
        match on_exists {
            OnExists::Fail => assert_eq!(result.unwrap_err().kind(), ErrorKind::Exists),
            OnExists::Skip => assert!(result.unwrap().entries[0].skipped),
            OnExists::Overwrite => drop(result.unwrap()),
            _ => {
                let entry = &result.unwrap().entries[0];
                assert_eq!(entry.path.as_str(), "f.1.txt");
                same(std::fs::read(entry.file.as_ref().unwrap()).unwrap(), &bytes, "renamed");
            }
        }
        let there = std::fs::read(&file).unwrap();
        same(&there, if on_exists == OnExists::Overwrite { &bytes[..] } else { b"mine" }, "the old file");
        assert_eq!(!script.requests().is_empty(), fetched, "{on_exists:?}");
    }
}

/// Four connections, a liar, and a pipe that can take nothing back.
#[tokio::test(start_paused = true)]
async fn a_pipe_gets_verified_bytes_in_order() {
    for seed in 0..6 {
        fastrand::seed(seed);
        let bytes = content(seed, LEN);
        let (honest, liar) = (slow(&bytes), script("liar", &bytes).with_rate(300_000).with_chunk(16 * KIB));
        liar.always(Act::LieFrom(seed * 300_000));
        let (writer, mut reader) = tokio::io::duplex(64 * KIB);
        let out = tokio::spawn(async move {
            let mut out = Vec::new();
            reader.read_to_end(&mut out).await.unwrap();
            out
        });
        let sources = if seed % 2 == 0 { [&honest, &liar] } else { [&liar, &honest] };
        let mut download = client_here().download_from_sources().connections(4);
        for script in sources {
            download = download.source(ranged(script));
        }
        let sink = WriterSink::new(writer).with_window(MIB as u64);
        let report = download
            .pieces(PIECE as u64, pieces(&bytes, PIECE))
            .to_sink(sink)
            .await
            .unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(out.await.unwrap(), &bytes, format_args!("seed {seed}"));
        assert!(report.sources.iter().all(|s| s.benched.is_none() || s.source.contains("liar")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_reads_along_and_seeks() {
    let bytes = content(9, LEN);
    for with_pieces in [true, false] {
        let mut download = of(&slow(&bytes));
        if with_pieces {
            download = download.pieces(PIECE as u64, pieces(&bytes, PIECE));
        }
        let mut reader = download.to_memory(memory()).reader();
        let mut buffer = vec![0; 50_000];
        for at in [0, 3 * MIB, MIB, LEN - 50_000] {
            reader.seek(SeekFrom::Start(at as u64)).await.unwrap();
            reader.read_exact(&mut buffer).await.unwrap();
            same(&buffer, &bytes[at..at + buffer.len()], at);
        }
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 0, "the end");
        assert_eq!(reader.seek(SeekFrom::End(-10)).await.unwrap(), LEN as u64 - 10);
        reader.seek(SeekFrom::Start(0)).await.unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        same(&all, &bytes, "all of it");
        reader.handle().wait().await.unwrap();
    }
}

/// What is read next is fetched first.
#[tokio::test(start_paused = true)]
async fn a_seek_goes_ahead_of_what_is_not_read() {
    let bytes = content(10, LEN);
    let mut reader = of(&slow(&bytes)).to_memory(memory()).reader();
    received(reader.handle(), 100_000).await;
    let start = time::Instant::now();
    reader.seek(SeekFrom::Start(3 * MIB as u64)).await.unwrap();
    let mut buffer = [0; 1000];
    reader.read_exact(&mut buffer).await.unwrap();
    same(buffer, &bytes[3 * MIB..3 * MIB + 1000], "seek");
    // In order it would take 7 s.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_download_that_fails_is_told() {
    let script = script("a", &content(11, LEN));
    script.act([Act::BreakAfter(MIB)]).always(Act::Refuse(ErrorKind::NotFound));
    let mut reader = of(&script).to_memory(memory()).reader();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap_err();
    assert!(all.len() <= MIB);
}

/// Gives out one piece at a time, the last first.
#[derive(Debug)]
struct Backwards {
    inner: Balanced,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Scheduler for Backwards {
    fn pick(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Pick {
        let Some(len) = view.len(EntryId::FIRST) else { return self.inner.pick(view, ask, now) };
        let pieces = (0..len).step_by(PIECE).map(|at| Span::new(EntryId::FIRST, at..len.min(at + PIECE as u64)));
        let Some(last) = pieces.filter(|piece| view.is_free(piece)).last() else { return Pick::Wait };
        self.seen.lock().unwrap().push(last.range.start);
        Pick::Take(vec![last])
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_of_the_callers_own_decides() {
    let bytes = content(12, MIB);
    let seen = std::sync::Arc::default();
    let script = script("a", &bytes);
    // The length is known before the first byte is asked for, so that it decides about all of them.
    let swarm = Swarm::new(0, PIECE as u64, [("f", bytes.clone())]).unwrap();
    let memory = memory();
    #[derive(Debug)]
    struct Layout(Swarm);
    #[async_trait::async_trait]
    impl Source for Layout {
        async fn resolve(&self, transfer: &Transfer) -> dlm_api::Result<()> {
            self.0.resolve(transfer).await
        }
        async fn run(&self, transfer: Transfer) -> dlm_api::Result<()> {
            self.0.resolve(&transfer).await
        }
    }
    client_here()
        .download_from_sources()
        .source(Layout(swarm))
        .source(ranged(&script))
        .connections(1)
        .scheduler(Backwards { inner: Balanced::new(), seen: std::sync::Arc::clone(&seen) })
        .to_memory(memory.clone())
        .await
        .unwrap();
    same(first(&memory).unwrap(), &bytes, "backwards");
    let order: Vec<u64> = (0..8).rev().map(|i| i * PIECE as u64).collect();
    assert_eq!(*seen.lock().unwrap(), order);
}

#[tokio::test(start_paused = true)]
async fn who_listens_too_late_is_told_how_much_was_missed() {
    let bytes = content(13, LEN);
    let script = script("a", &bytes);
    script.act((0..400).map(|_| Act::BreakAfter(9_000)));
    let handle = of(&script).to_memory(memory()).start();
    let events = handle.events();
    handle.wait().await.unwrap();
    let all: Vec<Event> = events.collect().await;
    assert!(matches!(all[0], Event::Missed(missed) if missed > 100), "{:?}", all[0]);
    assert!(all.len() <= 300, "the backlog is bounded: {}", all.len());
    assert_eq!(all.last(), Some(&Event::State(State::Complete)), "the end is never missed");
}

#[tokio::test(start_paused = true)]
async fn progress_only_grows_and_ends_whole() {
    let bytes = content(14, LEN);
    let handle = of(&slow(&bytes)).pieces(PIECE as u64, pieces(&bytes, PIECE)).to_memory(memory()).start();
    let mut events = handle.events();
    let mut last = 0;
    while let Some(event) = events.next().await {
        if let Event::Progress(progress) = event {
            assert!(progress.received >= last && progress.verified <= progress.received, "{progress:?}");
            assert!(progress.total.is_none_or(|total| total == LEN as u64));
            last = progress.received;
        }
    }
    assert_eq!(last, LEN as u64);
    assert_eq!(handle.progress().verified, LEN as u64);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_and_can_be_lifted() {
    let bytes = content(15, LEN);
    let start = time::Instant::now();
    let handle = of(&script("a", &bytes)).rate_limit(500_000).to_memory(memory()).start();
    received(&handle, 2 * MIB as u64).await;
    let rate = handle.progress().transferred as f64 / start.elapsed().as_secs_f64();
    assert!(rate < 600_000.0, "{rate}");
    handle.set_rate_limit(None);
    handle.wait().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// Never says what is at a place before it is let; then it is a file.
#[derive(Clone, Debug)]
struct Hanging {
    script: Script,
    opens: std::sync::Arc<tokio::sync::Semaphore>,
    begun: tokio::sync::watch::Sender<usize>,
}

impl Hanging {
    fn new(bytes: &Bytes) -> Self {
        let opens = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        Self { script: slow(bytes), opens, begun: tokio::sync::watch::Sender::new(0) }
    }

    /// Returns when it was asked so often.
    async fn begun(&self, times: usize) {
        self.begun.subscribe().wait_for(|begun| *begun >= times).await.unwrap();
    }

    fn download(&self) -> Download {
        let client = Client::builder().on_runtime(tokio::runtime::Handle::current()).protocol(self.clone()).build();
        client.download("script://a/f.bin")
    }
}

#[async_trait::async_trait]
impl Protocol for Hanging {
    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }

    fn schemes(&self) -> &[&str] {
        &["script"]
    }

    async fn open(&self, _: &Locator) -> dlm_api::Result<Resolved> {
        self.begun.send_modify(|begun| *begun += 1);
        self.opens.acquire().await.unwrap().forget();
        Ok(Resolved::Source(std::sync::Arc::new(ranged(&self.script))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_never_opens_is_given_up_at_once() {
    let start = time::Instant::now();
    for remove in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let hanging = Hanging::new(&content(16, LEN));
        let handle = hanging.download().to_file(dir.path().join("f")).start();
        hanging.begun(1).await;
        if remove {
            handle.remove();
        } else {
            handle.stop();
        }
        let ended = time::timeout(Duration::from_secs(60), handle.wait()).await.expect("it ends");
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(handle.state(), State::Stopped);
        assert_eq!(names(dir.path()), [""; 0]);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_opens_slowly_is_opened_anew_after_a_pause() {
    let bytes = content(17, LEN);
    let hanging = Hanging::new(&bytes);
    let memory = memory();
    let handle = hanging.download().to_memory(memory.clone()).start();
    let events = listen(&handle);
    hanging.begun(1).await;
    handle.pause();
    state(&handle, State::Paused).await;
    hanging.opens.add_permits(1);
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!((hanging.opens.available_permits(), handle.state()), (1, State::Paused), "nothing opens in a pause");
    handle.resume();
    handle.wait().await.unwrap();
    same(first(&memory).unwrap(), &bytes, "after a pause");
    assert_eq!(*hanging.begun.borrow(), 2);
    let states: Vec<State> =
        events.await.unwrap().iter().filter_map(|e| if let Event::State(s) = e { Some(*s) } else { None }).collect();
    use State::*;
    assert_eq!(states, [Starting, Paused, Starting, Running, Finishing, Complete]);

    // A pause can be the last that is heard of it.
    let handle = hanging.download().to_memory(memory.clone()).start();
    hanging.begun(3).await;
    handle.pause();
    state(&handle, Paused).await;
    handle.stop();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
}

/// What an earlier run left is neither lost by a pause or a stop nor left by a removal, though nobody has looked at it yet.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_left_is_kept_or_removed_before_its_place_opens() {
    for to_dir in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content(18, LEN);
        let hanging = Hanging::new(&bytes);
        let start = || match to_dir {
            true => hanging.download().to_dir(dir.path()).start(),
            false => hanging.download().to_file(dir.path().join("f.bin")).start(),
        };
        hanging.opens.add_permits(1);
        let handle = start();
        received(&handle, 2 * MIB as u64).await;
        handle.stop();
        handle.wait().await.unwrap_err();
        drop(handle);
        // Its tasks let go of the file when they are next looked at.
        time::sleep(Duration::from_secs(1)).await;
        let there = names(dir.path());
        assert!(there.contains(&"f.bin.part.dlm".to_owned()), "{there:?}");

        let handle = start();
        hanging.begun(2).await;
        handle.pause();
        state(&handle, State::Paused).await;
        handle.stop();
        handle.wait().await.unwrap_err();
        assert_eq!(names(dir.path()), there, "to a folder: {to_dir}");

        let handle = start();
        hanging.begun(3).await;
        handle.remove();
        assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(names(dir.path()), [""; 0], "to a folder: {to_dir}");
    }
    // What is there, and nobody knows what it is, stays.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f.bin.part"), "somebody's").unwrap();
    let hanging = Hanging::new(&content(19, LEN));
    let handle = hanging.download().to_file(dir.path().join("f.bin")).start();
    hanging.begun(1).await;
    handle.remove();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read(dir.path().join("f.bin.part")).unwrap(), b"somebody's");
}
