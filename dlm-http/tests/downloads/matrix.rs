//! Every fault, met at the first request, at later ones beside one that delivers, and by a download that is resumed; each with
//! a checksum and without.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use dlm_api::Verification;
use dlm_fault_server::{Fault, FaultServer, File, Framing, Gate};
use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::harness::{Ended, HALF, LEN, Place, assert_honest, download, finish_named, half, sha256, stop_at};

/// How many cells of the matrix are run at once. Most of their time is waiting.
const AT_ONCE: usize = 32;

/// When a fault is met.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// From the first request on.
    First,
    /// By every request but the first, which delivers.
    Later,
    /// By a download that had the first half from a good server.
    Resumed,
}

/// How a download must end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Ends {
    /// With the content as it was first.
    Well,
    /// With the content that it has changed to.
    Changed,
    /// As it likes, as long as it is honest.
    Honestly,
}

use Ends::{Changed, Honestly, Well};

/// A fault, and how downloads end that meet it in the three phases.
#[derive(Clone)]
struct Row(Vec<Fault>, [Ends; 3]);

fn rows() -> Vec<Row> {
    use Fault::*;
    let row = |fault: Fault, ends| Row(vec![fault], ends);
    vec![
        row(ChangesAt(0), [Changed, Changed, Changed]),
        row(ChangesSilentlyAt(0), [Changed, Changed, Changed]),
        row(IgnoresRange, [Well, Well, Well]),
        row(Shifted(1), [Well, Well, Well]),
        row(Shifted(5000), [Well, Well, Well]),
        row(BodyFromZero, [Well, Well, Well]),
        row(Short(100_000), [Well, Well, Honestly]),
        row(Short(1 << 20), [Well, Well, Well]),
        row(OpenEnded, [Well, Well, Well]),
        row(Multipart, [Well, Well, Well]),
        row(TwoParts, [Well, Well, Well]),
        row(NoContentRange, [Well, Well, Well]),
        row(ContentRange("bytes */3145728"), [Well, Well, Well]),
        row(ContentRange("bytes 0-4095/3145728"), [Well, Well, Well]),
        row(ContentRange("lines 1-2/3"), [Well, Well, Well]),
        row(LongerThanRange(10), [Well, Well, Well]),
        row(Excess(10), [Well, Well, Well]),
        row(CutAt(300_000), [Honestly, Honestly, Honestly]),
        row(CutAt(1 << 20), [Well, Well, Well]),
        row(ResetAt(1 << 20), [Well, Well, Well]),
        row(StallAt(1 << 20), [Well, Well, Well]),
        row(CutAt(1000), [Honestly, Honestly, Honestly]),
        row(Framed(Framing::Chunked), [Well, Well, Well]),
        row(Framed(Framing::UnfinishedChunks), [Well, Well, Well]),
        row(Framed(Framing::Close), [Well, Well, Well]),
        row(Framed(Framing::Declared(LEN as u64 + 1)), [Honestly, Honestly, Honestly]),
        row(Coded("gzip"), [Well, Well, Well]),
        row(DistrustsIfRange, [Well, Well, Well]),
        row(IgnoresIfRange, [Well, Well, Well]),
        row(TagPerRequest, [Well, Well, Well]),
        row(NoDateInRanges, [Well, Well, Well]),
        row(MaxSpan(1 << 20), [Well, Well, Well]),
        row(Head(405), [Well, Well, Well]),
        row(Failing { requests: 2, status: 503, retry_after: Some("1") }, [Well, Well, Well]),
        row(Failing { requests: 2, status: 429, retry_after: Some("0") }, [Well, Well, Well]),
        row(Failing { requests: 2, status: 500, retry_after: None }, [Well, Well, Well]),
        row(Failing { requests: 1000, status: 404, retry_after: None }, [Honestly, Honestly, Honestly]),
        row(Failing { requests: 1000, status: 416, retry_after: None }, [Honestly, Well, Honestly]),
        // Two at once.
        Row(vec![IgnoresRange, CutAt(1 << 20)], [Honestly, Honestly, Honestly]),
        Row(vec![IgnoresRange, Framed(Framing::UnfinishedChunks)], [Honestly, Honestly, Honestly]),
        Row(vec![Coded("gzip"), Short(1 << 20)], [Well, Well, Well]),
        Row(vec![Coded("gzip"), CutAt(1 << 20)], [Honestly, Honestly, Honestly]),
        Row(vec![IgnoresIfRange, ChangesAt(0)], [Changed, Changed, Changed]),
        Row(vec![IgnoresIfRange, ChangesSilentlyAt(0), IgnoresRange], [Changed, Honestly, Changed]),
    ]
}

/// The validators that a file has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Validators {
    Strong,
    Weak,
    None,
}

fn file(validators: Validators) -> File {
    // Made once: that takes longer than to download it.
    static FILE: LazyLock<File> = LazyLock::new(|| File::new(7, LEN));
    let file = FILE.anew();
    match validators {
        Validators::Strong => file,
        Validators::Weak => file.with_etag(Some("W/\"7\"")).with_modified(None),
        Validators::None => file.with_etag(None).with_modified(None),
    }
}

/// Runs one cell of the matrix.
async fn run(phase: Phase, row: Row, validators: Validators, has_checksum: bool) {
    let what = format!("{:?} {phase:?} {validators:?} checksum: {has_checksum}", row.0);
    let good = file(validators);
    let (old, new) = (good.content(), good.changed_content());
    // A clone, so that the faults that count requests do so from where they begin.
    let faulty = row.0.iter().cloned().fold(file(validators), File::with);
    let gate = Gate::new();
    let is_faulty = Arc::new(AtomicBool::new(phase == Phase::First));
    let server = FaultServer::start({
        let (gate, is_faulty) = (gate.clone(), is_faulty.clone());
        move |request| {
            if is_faulty.load(Ordering::Relaxed) {
                gate.open();
                return faulty.reply(request);
            }
            is_faulty.store(phase == Phase::Later, Ordering::Relaxed);
            half(&good, request, &gate)
        }
    });
    let place = Place::new();
    let ends = row.1[phase as usize];
    let expected = if ends == Changed { &new } else { &old };
    let job = || {
        let download = download(&server);
        if has_checksum { download.checksum(sha256(expected)) } else { download }
    };
    if phase == Phase::Resumed {
        stop_at(job().retries(100).to_file(&place.file), HALF).await;
        is_faulty.store(true, Ordering::Relaxed);
    }
    let ended = finish_named(&what, job().to_file(&place.file).start()).await;
    assert_honest(&what, &ended, &place, &server, &[old.clone(), new.clone()]);
    if ends != Honestly {
        assert!(ended.result.is_ok(), "{what}: {:?}; {:#?}", ended.result, ended.news());
        assert!(place.content().is_some_and(|file| file == *expected), "{what}: the other content");
    }
    let answers = server.requests().iter().filter(|e| e.status < 300 && e.sent > 0).count();
    // Of answers that came beside one that brought all, none need have been used.
    let has_parts = answers > 1 && phase != Phase::Later && ended.restarts() == 0;
    assert_verification(&what, &ended, validators, has_checksum, has_parts);
}

/// What a report claims must be so.
fn assert_verification(what: &str, ended: &Ended, validators: Validators, has_checksum: bool, has_parts: bool) {
    let Ok(report) = &ended.result else { return };
    let claimed = &report.entries[0].verification;
    if has_checksum {
        assert_eq!(*claimed, Verification::Digest("sha-256".into()), "{what}");
    } else if validators != Validators::Strong && has_parts {
        assert_eq!(*claimed, Verification::Unverified, "{what}: nothing proves that the parts belong together");
    }
}

async fn run_all(phase: Phase, validators: Validators) {
    // Under a checksum, validators make no difference that is not seen with strong ones.
    let checksums: &[bool] = if validators == Validators::Strong { &[true, false] } else { &[false] };
    let cells = rows().into_iter().flat_map(|row| checksums.iter().map(move |checksum| (row.clone(), *checksum)));
    // Each on its own, so that all that fail are seen.
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let runs = cells.map(|(row, checksum)| {
        let slots = slots.clone();
        tokio::spawn(async move {
            let _slot = slots.acquire().await;
            run(phase, row, validators, checksum).await;
        })
    });
    let failed = join_all(runs).await.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 0, "some failed: see above");
}

#[tokio::test]
async fn a_fault_at_the_first_request() {
    run_all(Phase::First, Validators::Strong).await;
}
#[tokio::test]
async fn a_fault_at_the_first_request_without_validators() {
    run_all(Phase::First, Validators::None).await;
}

#[tokio::test]
async fn a_fault_beside_a_connection_that_delivers() {
    run_all(Phase::Later, Validators::Strong).await;
}

#[tokio::test]
async fn a_fault_beside_a_connection_that_delivers_with_weak_validators() {
    run_all(Phase::Later, Validators::Weak).await;
}

#[tokio::test]
async fn a_fault_when_a_download_is_resumed() {
    run_all(Phase::Resumed, Validators::Strong).await;
}

#[tokio::test]
async fn a_fault_when_a_download_is_resumed_without_validators() {
    run_all(Phase::Resumed, Validators::None).await;
}
