//! Power cuts, kills and failing syncs at any moment: what is called durable is, and the next run ends right.

mod common;

use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Crash, Script, SimDisk, client_here, content};
use dlm_api::{
    CheckpointStore, Entry, EntryId, ErrorKind, Job, Loaded, Prepared, Ranged, Record, Report, Result, Sink, SinkInfo,
    Span,
};

const SEEDS: u64 = 60;
const PIECE: usize = 128 * KIB;

/// A download as the seed has it: with or without digests, of one or two mirrors, of which one may lie.
fn job(seed: u64, run: u64, bytes: &Bytes, sink: impl Sink, store: impl CheckpointStore) -> Job {
    fastrand::seed(seed * 100 + run);
    let mut random = fastrand::Rng::with_seed(seed);
    let kind = random.u8(..4);
    let mut download = client_here().download_from_sources().connections(random.usize(1..4));
    let rates = [random.u64(60_000..500_000), random.u64(60_000..500_000)];
    for (i, rate) in rates.into_iter().enumerate().take(1 + random.usize(..2)) {
        let name = format!("script://mirror{i}/f");
        let script = Script::new(&name, bytes.clone()).unwrap().with_rate(rate).with_chunk(random.usize(9_000..70_000));
        script.act([Act::BreakAfter(random.usize(..MIB)), Act::StallAfter(random.usize(..MIB))]);
        if i == 1 && kind == 0 {
            script.always(Act::LieFrom(random.u64(..MIB as u64)));
        }
        download = download.source(Ranged::new(script));
    }
    match kind {
        0 | 1 => download = download.pieces(PIECE as u64, pieces(bytes, PIECE)),
        2 => download = download.checksum(sha256(bytes)),
        _ => {}
    }
    download.to_sink_with_checkpoints(sink, store)
}

fn bytes(seed: u64) -> Bytes {
    content(seed, MIB + (seed as usize * 7919) % MIB)
}

/// Runs until the download is over or the machine is.
async fn run(disk: &SimDisk, job: Job) -> Option<Result<Report>> {
    let handle = job.start();
    tokio::select! {
        result = handle.wait() => Some(result),
        () = disk.crashed() => None,
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_cut_off_is_carried_on_and_nothing_false_is_called_durable() {
    let (mut crashes, mut resumed, mut failed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let bytes = bytes(seed);
        let mut random = fastrand::Rng::with_seed(seed + 7);
        let mut disk = SimDisk::new(seed, [bytes.clone()]);
        for attempt in 0.. {
            if attempt < 4 {
                disk = disk.crashing_at(random.u64(1..150));
                if random.u8(..3) == 0 {
                    disk = disk.failing_sync(random.u64(1..6));
                }
            }
            let recorded = disk.recorded();
            let ended = run(&disk, job(seed, attempt, &bytes, disk.clone(), disk.clone())).await;
            assert_eq!(disk.violations(), [""; 0], "seed {seed}, run {attempt}");
            match ended {
                Some(Ok(report)) => {
                    let kept = report.resumed >= recorded || report.entries[0].skipped;
                    assert!(kept, "seed {seed}: {recorded} were durable, {report:?}");
                    resumed += u64::from(report.resumed > 0);
                    break;
                }
                Some(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Storage, "seed {seed}, run {attempt}: {}", error.chain());
                    failed += 1;
                }
                None => crashes += 1,
            }
            disk = disk.restarted(if random.bool() { Crash::Power } else { Crash::Kill });
        }
        same(disk.finished(EntryId::FIRST).unwrap(), &bytes, format_args!("seed {seed}"));
    }
    // Otherwise nothing was shown.
    assert!(crashes > SEEDS / 2 && resumed > SEEDS / 6 && failed > 0, "{crashes} {resumed} {failed}");
}

/// The process dies between a sync that failed and whatever follows from that: the log still claims bytes that are in the cache
/// only, and that the cache believes to be on the disk.
#[tokio::test(start_paused = true)]
async fn a_log_is_not_believed_across_a_failed_sync_and_a_kill() {
    for seed in 0..8 {
        let bytes = bytes(seed);
        for failing in 1..4 {
            let fresh = || SimDisk::new(seed, [bytes.clone()]).failing_sync(failing);
            let disk = fresh();
            let Some(Err(_)) = run(&disk, job(seed, 0, &bytes, disk.clone(), disk.clone())).await else { continue };
            // The last operations are those after the failure.
            for before_the_end in 0..5 {
                let disk = fresh().crashing_at(disk.operations() - before_the_end);
                run(&disk, job(seed, 0, &bytes, disk.clone(), disk.clone())).await;
                let disk = disk.restarted(Crash::Kill);
                run(&disk, job(seed, 1, &bytes, disk.clone(), disk.clone())).await.unwrap().unwrap();
                let what = format!("seed {seed}, sync {failing}, {before_the_end} operations before the end");
                assert_eq!(disk.violations(), [""; 0], "{what}");
                same(disk.finished(EntryId::FIRST).unwrap(), &bytes, what);
            }
        }
    }
}

/// Sinks and stores that do it in the wrong order.
#[derive(Clone, Debug)]
struct Wrong {
    disk: SimDisk,
    /// Says that it synced, and did not.
    never_syncs: bool,
    /// Records what was only written.
    records_early: bool,
}

#[async_trait]
impl Sink for Wrong {
    fn info(&self) -> SinkInfo {
        Sink::info(&self.disk)
    }
    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        self.disk.prepare(entry).await
    }
    async fn write(&self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()> {
        self.disk.write(entry, offset, data).await
    }
    async fn read(&self, span: &Span) -> Result<Bytes> {
        self.disk.read(span).await
    }
    async fn sync(&self, entry: EntryId) -> Result<()> {
        if self.never_syncs { Ok(()) } else { self.disk.sync(entry).await }
    }
    async fn reset(&self, entry: EntryId) -> Result<()> {
        self.disk.reset(entry).await
    }
    async fn finish(&self, entry: &Entry) -> Result<()> {
        self.disk.finish(entry).await
    }
    async fn abort(&self) -> Result<()> {
        self.disk.abort().await
    }
    fn location(&self, entry: EntryId) -> Option<PathBuf> {
        self.disk.location(entry)
    }
}

#[async_trait]
impl CheckpointStore for Wrong {
    async fn load(&self) -> Result<Loaded> {
        self.disk.load().await
    }
    async fn save(&self, record: &Record) -> Result<()> {
        self.disk.save(record).await
    }
    async fn append(&self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        if !self.records_early {
            return self.disk.append(written).await;
        }
        let mut record = self.disk.load().await?.record.unwrap_or_default();
        for (entry, range) in written {
            let durable = &mut record.entries[entry.index()].durable;
            let all: dlm_api::RangeSet = durable.drain(..).chain([range.clone()]).collect();
            *durable = all.ranges().collect();
        }
        self.disk.save(&record).await
    }
    async fn remove(&self) -> Result<()> {
        self.disk.remove().await
    }
}

async fn violations(never_syncs: bool, records_early: bool) -> usize {
    let mut found = 0;
    for seed in 0..10 {
        let bytes = bytes(seed);
        let disk = SimDisk::new(seed, [bytes.clone()]);
        let wrong = Wrong { disk: disk.clone(), never_syncs, records_early };
        run(&disk, job(seed, 0, &bytes, wrong.clone(), wrong)).await.unwrap().unwrap();
        found += disk.violations().len();
    }
    found
}

#[tokio::test(start_paused = true)]
async fn the_simulated_disk_finds_who_records_before_the_data_is_synced() {
    assert_eq!(violations(false, false).await, 0);
    assert!(violations(true, false).await > 0, "a sync that does nothing");
    assert!(violations(false, true).await > 0, "a record before the sync");
}
