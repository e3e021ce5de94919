//! What the tests share: a folder, a client, and what must hold whatever a server does.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use dlm_api::{Algorithm, Client, Digest, Download, Event, Handle, Job, Report, Result, Verification};
use dlm_fault_server::{FaultServer, File, Gate, Reply, Request};
use dlm_http::{Http, HttpConfig};
use futures::StreamExt;
use tempfile::TempDir;

/// The length of the usual file: enough for a record of how far it is, and for a second connection to be worth it.
pub(crate) const LEN: usize = 3 << 20;

/// Where a body waits that is to be only begun.
pub(crate) const HALF: u64 = LEN as u64 / 2;

/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(100);

/// A folder and the file that a download is to make in it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) file: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file.bin");
        Self { folder, file }
    }

    /// The finished file, if there is one.
    pub(crate) fn content(&self) -> Option<Vec<u8>> {
        std::fs::read(&self.file).ok()
    }

    /// The names in the folder, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// How a download ended, and what it told meanwhile.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<Report>,
    pub(crate) events: Vec<Event>,
}

impl Ended {
    pub(crate) fn report(&self) -> &Report {
        self.result.as_ref().unwrap_or_else(|error| panic!("{}; {:#?}", error.chain(), self.news()))
    }

    pub(crate) fn verification(&self) -> &Verification {
        &self.report().entries[0].verification
    }

    /// The events but for progress.
    pub(crate) fn news(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| !matches!(event, Event::Progress(_))).collect()
    }

    /// How often the content was started again from nothing.
    pub(crate) fn restarts(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Restarted { .. })).count()
    }

    /// Who was given up, and why.
    pub(crate) fn benched(&self) -> Vec<String> {
        let benched = |event: &Event| match event {
            Event::SourceBenched { source, reason, .. } => Some(format!("{source}: {reason}")),
            _ => None,
        };
        self.events.iter().filter_map(benched).collect()
    }
}

pub(crate) fn client() -> Client {
    // A server that stalls may also never answer what comes next on that connection.
    client_with(HttpConfig::new().with_head_timeout(Duration::from_secs(8)))
}

pub(crate) fn client_with(config: HttpConfig) -> Client {
    Client::builder().protocol(Http::with_config(config).expect("a configuration")).threads(1).build()
}

/// A download of the server's file that does not try for ever.
pub(crate) fn download(server: &FaultServer) -> Download {
    client().download(server.url("/file.bin")).retries(2)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// Runs a job to its end.
pub(crate) async fn finish(job: Job) -> Ended {
    finish_named("the download", job.start()).await
}

pub(crate) async fn finish_named(what: &str, handle: Handle) -> Ended {
    let events = tokio::spawn(handle.events().collect::<Vec<Event>>());
    let result = tokio::time::timeout(HANGS, handle.wait()).await;
    let result = result.unwrap_or_else(|_| panic!("{what} hangs at {:?}", handle.progress()));
    // With the handle go the last who could tell anything.
    drop(handle);
    let events = tokio::time::timeout(HANGS, events).await.expect("the download is not gone").expect("no panic");
    Ended { result, events }
}

/// The answer of a good server that sends nothing behind the first half before the gate is open, however often it is asked.
pub(crate) fn half(file: &File, request: &Request, gate: &Gate) -> Reply {
    let start = request.range().map_or(0, |(start, _)| start);
    file.reply(request).with_gate(HALF.saturating_sub(start), gate)
}

/// Starts a job, and stops it when it has `bytes`.
pub(crate) async fn stop_at(job: Job, bytes: u64) {
    let handle = job.start();
    let mut events = handle.events();
    let has = |event: &Event| matches!(event, Event::Progress(progress) if progress.received >= bytes);
    let reached = async { while !events.next().await.as_ref().is_some_and(has) {} };
    tokio::time::timeout(HANGS, reached).await.expect("the first half does not come");
    handle.stop();
    let error = handle.wait().await.expect_err("it was stopped");
    assert_eq!(error.kind(), dlm_api::ErrorKind::Cancelled, "{}", error.chain());
}

/// What must hold whatever a server does: one version of the content bit for bit, or an error and no file; never a HEAD; no
/// flood of requests; and not much more traffic than the content is long.
pub(crate) fn assert_honest(what: &str, ended: &Ended, place: &Place, server: &FaultServer, versions: &[Bytes]) {
    match &ended.result {
        Ok(report) => {
            let file = place.content().unwrap_or_else(|| panic!("{what}: no file"));
            let is_one = versions.iter().any(|version| *version == file);
            assert!(is_one, "{what}: the file is wrong: {report:#?} {:#?}", ended.news());
            assert!(!place.names().iter().any(|name| name.contains(".part")), "{what}: {:?}", place.names());
            assert!(report.wasted <= 5 * LEN as u64, "{what}: {} wasted", report.wasted);
        }
        Err(error) => {
            assert_eq!(place.content(), None, "{what}: a file in spite of {}", error.chain());
        }
    }
    let requests = server.requests();
    assert!(requests.iter().all(|e| e.request.method == "GET"), "{what}: only GET");
    assert!(requests.len() <= 40, "{what}: {} requests; {:#?}", requests.len(), ended.news());
}
