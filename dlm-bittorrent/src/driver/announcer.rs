//! [`Announcer`]: tells trackers of us, and us of the peers that they know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dlm_api::Transfer;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time;

use super::{Common, now};
use crate::InfoHash;
use crate::peer::Origin;
use crate::tracker::client::announce;
use crate::tracker::{Announce, AnnounceReply, Ask, Event, Tiers};

/// What is said to be missing while nobody knows: anything but nothing, which would mean that we have it all.
const UNKNOWN_LEFT: u64 = 16 << 10;

/// How long an announce that we leave may take, of each tracker.
const FAREWELL: Duration = Duration::from_millis(900);

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
    tracker_ids: std::collections::HashMap<usize, bytes::Bytes>,
    asked: usize,
    warned: Option<String>,
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
            tracker_ids: std::collections::HashMap::new(),
            asked: 0,
            warned: None,
        }
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// All of it is here, and was not from the start.
    pub(crate) fn completed(&mut self) {
        self.tiers.completed();
    }

    /// Announces as it becomes due. Returns never; may be dropped and called again at any time.
    pub(crate) async fn run(&mut self) {
        loop {
            if let Some(asking) = &mut self.asking {
                let answer = asking.await;
                self.asking = None;
                self.answered(answer);
                continue;
            }
            match self.tiers.poll(now()) {
                Ask::Announce { tracker, event } => self.ask(tracker, event),
                Ask::Wait(until) => time::sleep_until(until.into()).await,
                Ask::Idle => std::future::pending().await,
            }
        }
    }

    /// Tells those who know us that we leave.
    pub(crate) async fn stop(&mut self) {
        self.asking = None;
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
        let http = self.common.http.clone();
        self.asking = Some(async move { announce(&http, &url, question).await }.boxed());
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
