//! [`Download`] and [`Job`]: what to fetch, and where to put it.

use std::fmt;
use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::AsyncWrite;

use super::conductor::{Conductor, Plan};
use super::handle::Handle;
use super::opening::Origin;
use super::{Client, Reader};
use crate::checkpoint::{CheckpointStore, FileCheckpoint, SourceRecord, source_key};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Report;
use crate::limit::Limiter;
use crate::locator::Locator;
use crate::path::EntryPath;
use crate::pipeline::{Select, Setup, Shared};
use crate::protocol::Container;
use crate::scheduler::Scheduler;
use crate::sink::{FileOptions, FileSink, MemorySink, OnExists, Sink, WriterSink};
use crate::source::Source;

/// What to fetch, and how. [`Client::download`] starts one; [`to_file`](Self::to_file) and its siblings say where to put it.
#[must_use = "a download does nothing before it has a place to go, and is awaited or started"]
pub struct Download {
    client: Client,
    origins: Vec<Origin>,
    locators: Vec<Locator>,
    digests: Vec<Digest>,
    pieces: Vec<(u64, Digest)>,
    scheduler: Option<Box<dyn Scheduler>>,
    connections: Option<usize>,
    retries: Option<u32>,
    rate_limit: Option<u64>,
    max_size: Option<u64>,
    resume: bool,
    keep_mtime: bool,
    follow: bool,
    select: Option<Select>,
    share_only: bool,
    on_exists: OnExists,
    /// The first thing that makes no sense.
    wrong: Option<Error>,
}

impl Download {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            origins: Vec::new(),
            locators: Vec::new(),
            digests: Vec::new(),
            pieces: Vec::new(),
            scheduler: None,
            connections: None,
            retries: None,
            rate_limit: None,
            max_size: None,
            resume: true,
            keep_mtime: true,
            follow: true,
            select: None,
            share_only: false,
            on_exists: OnExists::Fail,
            wrong: None,
        }
    }

    /// The download of a container into memory, as it is.
    pub(super) fn of_container(
        client: Client,
        locator: &Locator,
        container: Container,
        digests: Vec<Digest>,
        setup: &Setup,
    ) -> Self {
        let mut download = Self::new(client).max_size(container.max_len).follow_containers(false);
        download.origins.push(Origin::Locator(locator.clone()));
        download.digests = digests;
        download.retries = setup.retries;
        download
    }

    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.wrong.get_or_insert(error)).ok()
    }

    /// Adds another place for the same content. Places of different protocols may be mixed.
    pub fn mirror(mut self, url: impl AsRef<str>) -> Self {
        if let Some(locator) = self.note(url.as_ref().parse::<Locator>()) {
            self.origins.push(Origin::Locator(locator.clone()));
            self.locators.push(locator);
        }
        self
    }

    /// Adds what a container leads to. See [`Client::download_container`].
    pub fn container(mut self, url: impl AsRef<str>, container: impl Into<Bytes>) -> Self {
        if let Some(locator) = self.note(url.as_ref().parse::<Locator>()) {
            self.origins.push(Origin::Held(locator.clone(), container.into()));
            self.locators.push(locator);
        }
        self
    }

    /// Adds a source of the caller's own, of the one file that is downloaded.
    pub fn source(mut self, source: impl Source) -> Self {
        self.origins.push(Origin::Source(Arc::new(source)));
        self
    }

    /// Adds a source of the caller's own that learns by itself which files there are.
    pub fn source_of_many(mut self, source: impl Source) -> Self {
        self.origins.push(Origin::Many(Arc::new(source)));
        self
    }

    /// What the whole must hash to, as `ALGO:HEX` (`sha256:9f86...`). May be called for several algorithms.
    ///
    /// Where the URL leads to a container that is followed, it is what the container must hash to: a checksum is of what is at
    /// the URL.
    pub fn checksum(mut self, checksum: impl AsRef<str>) -> Self {
        let digest = self.note(checksum.as_ref().parse());
        self.digests.extend(digest);
        self
    }

    /// What each piece of `len` bytes must hash to, one after the other; the last piece is the one that is shorter.
    pub fn pieces(mut self, len: u64, digests: impl IntoIterator<Item = Digest>) -> Self {
        if len == 0 {
            let _ = self.note::<()>(Err(Error::new(ErrorKind::InvalidInput, "a piece without bytes")));
        }
        self.pieces = digests.into_iter().map(|digest| (len, digest)).collect();
        self
    }

    /// Decides who fetches what next, in place of [`Balanced`](crate::Balanced).
    pub fn scheduler(mut self, scheduler: impl Scheduler) -> Self {
        self.scheduler = Some(Box::new(scheduler));
        self
    }

    /// The most connections for each source; at least 1. 8 unless it is set.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections.max(1));
        self
    }

    /// How often a connection may fail in a row, without a byte in between, before its source is given up. 5 unless it is set.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// The limit for this download in bytes a second.
    pub fn rate_limit(mut self, rate: u64) -> Self {
        self.rate_limit = Some(rate);
        self
    }

    /// The most bytes that a file may have.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Whether what an earlier run left counts. Yes unless it is set.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Whether a finished file gets the time at which its content was last changed. Yes unless it is set.
    pub fn keep_mtime(mut self, keep: bool) -> Self {
        self.keep_mtime = keep;
        self
    }

    /// Whether a container (a torrent file, a Metalink) at a URL is followed to what it leads to. Yes unless it is set; if not,
    /// the container is what is downloaded.
    pub fn follow_containers(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Which files of many are wanted. All of them unless it is set. Of the others only what shares a piece with these is fetched.
    pub fn select(mut self, is_wanted: impl Fn(&EntryPath) -> bool + Send + Sync + 'static) -> Self {
        self.select = Some(Box::new(is_wanted));
        self
    }

    /// Fetches nothing: what the place for it has already is checked against the digests of its pieces, and what is right is
    /// shared until that is enough, or the caller stops it. With no piece right it fails with [`ErrorKind::Corrupt`].
    /// [`ExistingFiles`](crate::ExistingFiles) is such a place.
    pub fn share_only(mut self) -> Self {
        self.share_only = true;
        self
    }

    /// What becomes of a file that has the final name already. The download fails unless it is set.
    pub fn on_exists(mut self, on_exists: OnExists) -> Self {
        self.on_exists = on_exists;
        self
    }

    /// Into this file. Until it is complete it is `NAME.part`.
    pub fn to_file(mut self, path: impl AsRef<Path>) -> Job {
        let path = path.as_ref();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a path of a file").with("path", path.display()));
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let path = name.and_then(EntryPath::new);
        let path = self.note(path);
        Job { download: self, target: Target::Folder { folder, path } }
    }

    /// Into this folder, under the name that the server or the URL suggests, made safe.
    pub fn to_dir(self, folder: impl Into<PathBuf>) -> Job {
        Job { download: self, target: Target::Folder { folder: folder.into(), path: None } }
    }

    /// Into a sink of the caller's own. What it has is not recorded, so that a later run starts from nothing.
    pub fn to_sink(self, sink: impl Sink) -> Job {
        Job { download: self, target: Target::Sink(Arc::new(sink), None) }
    }

    /// Into a sink of the caller's own, with its checkpoints in `store`.
    pub fn to_sink_with_checkpoints(self, sink: impl Sink, store: impl CheckpointStore) -> Job {
        Job { download: self, target: Target::Sink(Arc::new(sink), Some(Arc::new(store))) }
    }

    /// Into a writer, in order: a pipe, standard output, a socket.
    pub fn to_writer(self, writer: impl AsyncWrite + Send + Unpin + 'static) -> Job {
        self.to_sink(WriterSink::new(writer))
    }

    /// Into memory. [`MemorySink`] is cheap to clone, and the clone has the bytes.
    pub fn to_memory(self, memory: MemorySink) -> Job {
        self.to_sink(memory)
    }
}

enum Target {
    Folder { folder: PathBuf, path: Option<EntryPath> },
    Sink(Arc<dyn Sink>, Option<Arc<dyn CheckpointStore>>),
}

/// A download that has a place to go. Await it, or [`start`](Self::start) it to watch and steer it.
#[must_use = "a job does nothing before it is awaited or started"]
pub struct Job {
    pub(super) download: Download,
    target: Target,
}

impl Job {
    /// Starts it. It runs on the engine's threads and ends early when the handle is dropped.
    pub fn start(self) -> Handle {
        let (shared, plan) = self.plan();
        Conductor::start(shared, plan)
    }

    pub(super) fn plan(self) -> (Arc<Shared>, Plan) {
        let Self { mut download, target } = self;
        let keep_modified = download.keep_mtime;
        let (sink, path, kept): (Arc<dyn Sink>, _, _) = match target {
            Target::Sink(sink, store) => (sink, None, Kept::Store(store)),
            Target::Folder { folder, path } => {
                let options =
                    FileOptions::default().with_on_exists(download.on_exists).with_keep_mtime(download.keep_mtime);
                let sink = FileSink::with_options(&folder, options);
                (Arc::new(sink), path, Kept::Folder(folder))
            }
        };
        let setup = Setup {
            limits: vec![download.client.0.limiter.clone(), Arc::new(Limiter::new(download.rate_limit))],
            origins: download.client.0.origins.clone(),
            spawner: {
                let plane = Arc::downgrade(&download.client.0.plane);
                Arc::new(move |future| match plane.upgrade() {
                    Some(plane) => plane.spawn(future),
                    // The client is gone, and this future with it.
                    None => tokio::spawn(std::future::ready(())).abort_handle(),
                })
            },
            fallback_name: download.locators.first().and_then(Locator::file_name),
            max_size: download.max_size,
            connections: download.connections,
            retries: download.retries,
            keep_modified,
            forget_record: match &kept {
                Kept::Folder(folder) => {
                    let folder = folder.clone();
                    Some(Box::new(move |path| {
                        let store = FileCheckpoint::new(&folder, path);
                        Box::pin(async move { store.remove().await })
                    }))
                }
                Kept::Store(_) => None,
            },
            select: download.select.take(),
            look_first: download.share_only || download.on_exists == OnExists::Check,
            minds_files: {
                let minds = matches!(download.on_exists, OnExists::Fail | OnExists::Skip);
                minds && matches!(kept, Kept::Folder(_))
            },
            keep_as_is: download.share_only,
            containers: download.follow.then(|| download.client.0.registry.clone()),
        };
        let shared = Arc::new(Shared::new(sink, setup));
        if let Some(scheduler) = download.scheduler.take() {
            crate::sync::lock(&shared.core).scheduler = scheduler;
        }
        let plan = Plan {
            client: download.client.clone(),
            wrong: download.wrong.take(),
            digests: std::mem::take(&mut download.digests),
            pieces: std::mem::take(&mut download.pieces),
            origins: std::mem::take(&mut download.origins),
            source_records: download.locators.iter().map(record_of).collect(),
            path,
            kept,
            resume: download.resume,
        };
        (shared, plan)
    }

    /// Starts it, and reads it from the beginning while it arrives. What is read next is fetched first.
    pub fn reader(self) -> Reader {
        Reader::new(self.start())
    }
}

fn record_of(locator: &Locator) -> SourceRecord {
    SourceRecord { key: source_key(locator), locator: locator.to_string(), state: Vec::new() }
}

/// Where checkpoints are kept.
#[derive(Debug)]
pub(super) enum Kept {
    Store(Option<Arc<dyn CheckpointStore>>),
    /// Beside the file.
    Folder(PathBuf),
}

impl Kept {
    /// The store for a download whose first entry has this path.
    pub(super) fn store(&self, path: &EntryPath) -> Option<Arc<dyn CheckpointStore>> {
        match self {
            Self::Store(store) => store.clone(),
            Self::Folder(folder) => Some(Arc::new(FileCheckpoint::new(folder, path.clone()))),
        }
    }
}

impl IntoFuture for Job {
    type Output = Result<Report>;
    type IntoFuture = BoxFuture<'static, Result<Report>>;

    fn into_future(self) -> Self::IntoFuture {
        let handle = self.start();
        async move { handle.wait().await }.boxed()
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("locators", &self.locators).finish_non_exhaustive()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.download.fmt(f)
    }
}
