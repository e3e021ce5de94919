//! [`Announcer`]: tells trackers of us, and us of the peers that they know.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dlm_api::{ErrorKind, Farewell, Result, Retry, Transfer};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time;

use super::{Common, now, or_never};
use crate::InfoHash;
use crate::peer::Origin;
use crate::tracker::{Announce, AnnounceReply, Ask, Event, Swarm, Tiers};

/// What is said to be missing while nobody knows: anything but nothing, which would mean that we have it all.
const UNKNOWN_LEFT: u64 = 16 << 10;

/// How long trackers are told, at the end, that we leave. It is a courtesy, and nobody is to wait for it.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a tracker answers.
enum Answer {
    /// To an announce.
    Announce(Result<AnnounceReply>),
    /// To the question how large the swarm is.
    Size(Result<Vec<Option<Swarm>>>),
}

/// How far we are, as trackers are told.
#[derive(Debug)]
pub(crate) struct Figures {
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    left: AtomicU64,
}

impl Figures {
    pub(crate) fn set(&self, uploaded: u64, downloaded: u64, left: u64) {
        self.uploaded.store(uploaded, Ordering::Relaxed);
        self.downloaded.store(downloaded, Ordering::Relaxed);
        self.left.store(left, Ordering::Relaxed);
    }
}

/// Tells trackers of us.
pub(crate) struct Announcer {
    common: Arc<Common>,
    transfer: Transfer,
    info_hash: InfoHash,
    port: u16,
    key: u32,
    tiers: Tiers,
    figures: Figures,
    peers: mpsc::Sender<(Origin, Vec<SocketAddr>)>,
    /// The questions that are under way: as many announces as [`Tiers`] gives out, each followed by one of the other kind at most.
    asking: FuturesUnordered<BoxFuture<'static, (usize, Answer)>>,
    tracker_ids: HashMap<usize, bytes::Bytes>,
    /// What the user was told of each tracker, so that he is told of it once: the kind of a failure, or that it had a warning.
    warned: HashSet<(usize, Option<ErrorKind>)>,
    /// Trackers that don't tell that.
    silent: HashSet<usize>,
    /// How large the swarm is, as each tracker knows it: who has everything, and who doesn't.
    sizes: HashMap<usize, (u32, u32)>,
    /// Our address, as trackers see it, of which nobody was told yet.
    seen: Vec<(usize, IpAddr)>,
    /// Those who know us are still to be told that we leave.
    farewell: Option<Farewell>,
}

impl Announcer {
    /// To the trackers in these tiers. What they tell goes to `peers`.
    pub(crate) fn new(
        common: Arc<Common>,
        transfer: Transfer,
        info_hash: InfoHash,
        port: Option<u16>,
        tiers: &[Vec<String>],
        peers: mpsc::Sender<(Origin, Vec<SocketAddr>)>,
    ) -> Self {
        let tiers = Tiers::new(tiers, fastrand::u64(..));
        Self {
            farewell: (!tiers.is_empty()).then(|| transfer.farewell()),
            tiers,
            common,
            transfer,
            info_hash,
            // Trackers take nobody without a port. Who connects to this one is refused.
            port: port.unwrap_or(1),
            key: fastrand::u32(..),
            figures: Figures {
                uploaded: AtomicU64::new(0),
                downloaded: AtomicU64::new(0),
                left: AtomicU64::new(UNKNOWN_LEFT),
            },
            peers,
            asking: FuturesUnordered::new(),
            tracker_ids: HashMap::new(),
            warned: HashSet::new(),
            silent: HashSet::new(),
            sizes: HashMap::new(),
            seen: Vec::new(),
        }
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// All of it is here, and was not from the start.
    pub(crate) fn completed(&mut self) {
        self.tiers.completed();
    }

    /// Whether there is anybody to tell.
    pub(crate) fn has_trackers(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// Leaves all trackers but these.
    pub(crate) fn keep_only(&mut self, tiers: &[Vec<String>]) {
        for tracker in 0..self.tiers.len() {
            let url = self.tiers.url(tracker).map(|url| url.as_str());
            if !tiers.iter().flatten().any(|kept| Some(kept.trim()) == url) {
                self.tiers.leave(tracker);
            }
        }
    }

    /// More peers are needed than are known.
    pub(crate) fn hurry(&mut self) {
        self.tiers.hurry(now());
    }

    /// How many there are who have everything, and how many who don't, as the tracker knows it that knows most of them.
    pub(crate) fn swarm_size(&self) -> Option<(u32, u32)> {
        self.sizes.values().max_by_key(|(seeds, others)| u64::from(*seeds) + u64::from(*others)).copied()
    }

    /// Our address, as trackers see it, since the last call, and which of them does.
    pub(crate) fn take_seen(&mut self) -> Vec<(usize, IpAddr)> {
        std::mem::take(&mut self.seen)
    }

    /// Announces as it becomes due. Returns never; may be dropped and called again at any time.
    pub(crate) async fn run(&mut self) {
        loop {
            let due = self.ask_all();
            tokio::select! {
                Some((tracker, answer)) = self.asking.next() => match answer {
                    Answer::Announce(answer) => self.answered(tracker, answer),
                    Answer::Size(swarms) => self.scraped(tracker, swarms),
                },
                () = or_never(due.map(|until| time::sleep_until(until.into()).boxed())) => {}
            }
        }
    }

    /// Tells those who know us that we leave.
    pub(crate) async fn stop(&mut self) {
        let _farewell = self.farewell.take();
        self.asking.clear();
        self.tiers.stop();
        let telling = async {
            self.ask_all();
            while let Some((tracker, answer)) = self.asking.next().await {
                match answer {
                    Answer::Announce(Ok(reply)) => self.tiers.succeeded(tracker, &reply, now()),
                    _ => self.tiers.failed(tracker, Retry::Never, now()),
                }
                self.ask_all();
            }
        };
        // It may fail, and nobody would care.
        let _ = time::timeout(FAREWELL, telling).await;
    }

    /// Asks whoever is due, and says when somebody will be.
    fn ask_all(&mut self) -> Option<Instant> {
        loop {
            match self.tiers.poll(now()) {
                Ask::Announce { tracker, event } => self.ask(tracker, event),
                Ask::Wait(until) => return Some(until),
                Ask::Idle => return None,
            }
        }
    }

    fn ask(&mut self, tracker: usize, event: Option<Event>) {
        let Some(url) = self.tiers.url(tracker).cloned() else { return };
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let mut question = Announce::new(self.info_hash, self.common.peer_id.0, self.port);
        question.uploaded = load(&self.figures.uploaded);
        question.downloaded = load(&self.figures.downloaded);
        question.left = load(&self.figures.left);
        question.event = event;
        question.key = self.key;
        question.tracker_id = self.tracker_ids.get(&tracker).cloned();
        if event == Some(Event::Stopped) {
            question.num_want = Some(0);
        }
        let common = self.common.clone();
        let asking = async move { (tracker, Answer::Announce(common.trackers.announce(&url, question).await)) };
        self.asking.push(asking.boxed());
    }

    /// Asks a tracker that has just answered how large the swarm is, as its answer doesn't say.
    fn scrape(&mut self, tracker: usize) {
        let Some(url) = self.tiers.url(tracker).cloned().filter(|_| !self.silent.contains(&tracker)) else { return };
        let (common, torrent) = (self.common.clone(), self.info_hash);
        let asking = async move { (tracker, Answer::Size(common.trackers.scrape(&url, &[torrent]).await)) };
        self.asking.push(asking.boxed());
    }

    fn scraped(&mut self, tracker: usize, swarms: Result<Vec<Option<Swarm>>>) {
        match swarms {
            Ok(swarms) => {
                let known = swarms.into_iter().next().flatten();
                self.sizes.extend(known.map(|swarm| (tracker, (swarm.complete, swarm.incomplete))));
            }
            Err(error) => {
                tracing::debug!(%error, "a tracker doesn't tell how large the swarm is");
                self.silent.insert(tracker);
            }
        }
    }

    fn answered(&mut self, tracker: usize, answer: Result<AnnounceReply>) {
        match answer {
            Ok(reply) => {
                self.tiers.succeeded(tracker, &reply, now());
                if let Some(id) = &reply.tracker_id {
                    self.tracker_ids.insert(tracker, id.clone());
                }
                if let Some(warning) = reply.warning.filter(|_| self.warned.insert((tracker, None))) {
                    let url = self.tiers.url(tracker).map(ToString::to_string).unwrap_or_default();
                    self.transfer.warn(format!("the tracker {url} says: {warning}"));
                }
                match reply.complete.zip(reply.incomplete) {
                    Some(size) => _ = self.sizes.insert(tracker, size),
                    None => self.scrape(tracker),
                }
                self.seen.extend(reply.external_ip.map(|address| (tracker, address)));
                // Whoever is behind with so many lists has enough peers.
                let _ = self.peers.try_send((Origin::Tracker, reply.peers));
            }
            Err(error) => {
                let url = self.tiers.url(tracker).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(%url, %error, "a tracker failed");
                if self.warned.insert((tracker, Some(error.kind()))) {
                    self.transfer.warn(format!("the tracker {url} tells nothing: {}", error.chain()));
                }
                self.tiers.failed(tracker, error.retry(), now());
            }
        }
    }
}

/// Those who know us hear that we leave wherever the source ends: its future may be dropped at any time.
impl Drop for Announcer {
    fn drop(&mut self) {
        let Some(farewell) = self.farewell.take() else { return };
        let (common, transfer, peers) = (self.common.clone(), self.transfer.clone(), self.peers.clone());
        let nobody = Self::new(common, transfer, self.info_hash, Some(self.port), &[], peers);
        let mut leaving = std::mem::replace(self, nobody);
        farewell.say(async move { leaving.stop().await });
    }
}
