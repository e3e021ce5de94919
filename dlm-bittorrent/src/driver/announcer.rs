//! [`Announcer`]: tells trackers of us, and us of the peers that they know.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dlm_api::Transfer;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time;

use super::{Common, now, or_never};
use crate::InfoHash;
use crate::peer::Origin;
use crate::tracker::{Announce, AnnounceReply, Ask, Event, Swarm, Tiers};

/// What is said to be missing while nobody knows: anything but nothing, which would mean that we have it all.
const UNKNOWN_LEFT: u64 = 16 << 10;

/// How long an announce that we leave may take, of each tracker.
const FAREWELL: Duration = Duration::from_millis(900);

/// A question how large the swarm is.
type Scraping = BoxFuture<'static, dlm_api::Result<Vec<Option<Swarm>>>>;

/// How far we are, as trackers are told.
#[derive(Debug)]
pub(crate) struct Figures {
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    left: AtomicU64,
}

impl Figures {
    pub(crate) fn set(&self, uploaded: u64, downloaded: u64, left: Option<u64>) {
        self.uploaded.store(uploaded, Ordering::Relaxed);
        self.downloaded.store(downloaded, Ordering::Relaxed);
        self.left.store(left.unwrap_or(UNKNOWN_LEFT), Ordering::Relaxed);
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
    /// The announce that is under way.
    asking: Option<BoxFuture<'static, dlm_api::Result<AnnounceReply>>>,
    tracker_ids: HashMap<usize, bytes::Bytes>,
    asked: usize,
    warned: Option<String>,
    /// The tracker that is asked how large the swarm is, as its answer to the announce didn't say.
    scraping: Option<(usize, Scraping)>,
    /// Trackers that don't tell that.
    silent: HashSet<usize>,
    /// How large the swarm is, as each tracker knows it: who has everything, and who doesn't.
    sizes: HashMap<usize, (u32, u32)>,
    /// Our address, as trackers see it, of which nobody was told yet.
    seen: Vec<(usize, IpAddr)>,
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
        Self {
            common,
            transfer,
            info_hash,
            // Trackers take nobody without a port. Who connects to this one is refused.
            port: port.unwrap_or(1),
            key: fastrand::u32(..),
            tiers: Tiers::new(tiers, fastrand::u64(..)),
            figures: Figures {
                uploaded: AtomicU64::new(0),
                downloaded: AtomicU64::new(0),
                left: AtomicU64::new(UNKNOWN_LEFT),
            },
            peers,
            asking: None,
            tracker_ids: HashMap::new(),
            asked: 0,
            warned: None,
            scraping: None,
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
            let mut due = None;
            if self.asking.is_none() {
                match self.tiers.poll(now()) {
                    Ask::Announce { tracker, event } => self.ask(tracker, event),
                    Ask::Wait(until) => due = Some(until),
                    Ask::Idle => {}
                }
            }
            tokio::select! {
                answer = or_never(self.asking.as_mut()) => {
                    self.asking = None;
                    self.answered(answer);
                }
                swarms = or_never(self.scraping.as_mut().map(|(_, scraping)| scraping)) => self.scraped(swarms),
                () = or_never(due.map(|until| time::sleep_until(until.into()).boxed())) => {}
            }
        }
    }

    /// Tells those who know us that we leave.
    pub(crate) async fn stop(&mut self) {
        (self.asking, self.scraping) = (None, None);
        self.tiers.failed(dlm_api::Retry::Now, now());
        self.tiers.stop();
        while let Ask::Announce { tracker, event } = self.tiers.poll(now()) {
            self.ask(tracker, event);
            let Some(asking) = self.asking.take() else { return };
            let late = || Err(dlm_api::Error::new(dlm_api::ErrorKind::Timeout, "the tracker doesn't answer"));
            let answer = time::timeout(FAREWELL, asking).await.unwrap_or_else(|_| late());
            self.answered(answer);
        }
    }

    fn ask(&mut self, tracker: usize, event: Option<Event>) {
        let Some(url) = self.tiers.url(tracker).cloned() else { return };
        self.asked = tracker;
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
        self.asking = Some(async move { common.trackers.announce(&url, question).await }.boxed());
    }

    /// Asks the tracker that has just answered how large the swarm is.
    fn scrape(&mut self) {
        let tracker = self.asked;
        let Some(url) = self.tiers.url(tracker).cloned().filter(|_| !self.silent.contains(&tracker)) else { return };
        let (common, torrent) = (self.common.clone(), self.info_hash);
        let scraping = async move { common.trackers.scrape(&url, &[torrent]).await };
        self.scraping = Some((tracker, scraping.boxed()));
    }

    fn scraped(&mut self, swarms: dlm_api::Result<Vec<Option<Swarm>>>) {
        let Some((tracker, _)) = self.scraping.take() else { return };
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

    fn answered(&mut self, answer: dlm_api::Result<AnnounceReply>) {
        match answer {
            Ok(reply) => {
                self.tiers.succeeded(&reply, now());
                if let Some(id) = &reply.tracker_id {
                    self.tracker_ids.insert(self.asked, id.clone());
                }
                if let Some(warning) = reply.warning.filter(|warning| self.warned.as_ref() != Some(warning)) {
                    self.transfer.warn(format!("the tracker says: {warning}"));
                    self.warned = Some(warning);
                }
                match reply.complete.zip(reply.incomplete) {
                    Some(size) => _ = self.sizes.insert(self.asked, size),
                    None => self.scrape(),
                }
                self.seen.extend(reply.external_ip.map(|address| (self.asked, address)));
                // Whoever is behind with so many lists has enough peers.
                let _ = self.peers.try_send((Origin::Tracker, reply.peers));
            }
            Err(error) => {
                let url = self.tiers.url(self.asked).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(%url, %error, "a tracker failed");
                if error.kind() == dlm_api::ErrorKind::Denied {
                    self.transfer.warn(format!("{url}: {}", error.chain()));
                }
                self.tiers.failed(error.retry(), now());
            }
        }
    }
}
