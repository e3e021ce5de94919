//! [`TorrentSource`]: a torrent and its swarm as a source.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dlm_api::{Error, ErrorKind, Result, Source, Transfer};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time;

use crate::driver::{Announcer, Common, Found, LISTS, Layout, Listener, Named, Plan, drive, fetch_metadata};
use crate::magnet::Selection;
use crate::metainfo::Info;
use crate::tracker::{Swarm, TrackerUrl};
use crate::{HostPort, InfoHash, Magnet, Metainfo};

/// How many trackers are asked at once how large the swarm is.
const SCRAPED_AT_ONCE: usize = 8;

/// How long each may take for it: enough for a datagram to be sent a second time, and somebody waits.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(20);

/// A torrent and its swarm. It learns the files and the pieces of the torrent, those of a magnet link from its peers first,
/// fetches from peers and gives to them, and goes on with that when everything is here if it is to.
pub struct TorrentSource {
    common: Arc<Common>,
    info_hash: InfoHash,
    info: Option<Info>,
    trackers: Vec<Vec<String>>,
    peers: Vec<HostPort>,
    selection: Selection,
}

impl TorrentSource {
    pub(crate) fn of_torrent(common: Arc<Common>, torrent: &Metainfo) -> Self {
        Self {
            common,
            info_hash: torrent.info_hash(),
            info: Some(torrent.info().clone()),
            trackers: torrent.trackers().to_vec(),
            peers: Vec::new(),
            selection: Selection::ALL,
        }
    }

    pub(crate) fn of_magnet(common: Arc<Common>, magnet: &Magnet) -> Self {
        Self {
            common,
            info_hash: magnet.info_hash,
            info: None,
            // Nothing says which is better: each is a tier of its own, so that all are tried.
            trackers: magnet.trackers.iter().map(|tracker| vec![tracker.clone()]).collect(),
            peers: magnet.peers.clone(),
            selection: magnet.select.clone(),
        }
    }

    /// The torrent.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// All trackers. Who looks for peers of a private torrent elsewhere is thrown out.
    fn tiers(&self) -> Vec<Vec<String>> {
        let mut tiers = self.trackers.clone();
        if self.info.as_ref().is_none_or(|info| !info.is_private()) {
            tiers.extend(self.common.config.trackers.iter().map(|tracker| vec![tracker.clone()]));
        }
        tiers
    }

    /// Asks each of the trackers how large the swarm is (BEP 48). Each answers for those who announce themselves to it, so that
    /// the numbers are not to be added. Needs a tokio runtime.
    ///
    /// A tracker that doesn't know the torrent is [`NotFound`](ErrorKind::NotFound); for other errors see
    /// [`BitTorrent::scrape`](crate::BitTorrent::scrape).
    pub async fn scrape(&self) -> Vec<(TrackerUrl, Result<Swarm>)> {
        let tiers = self.tiers();
        let trackers = tiers.iter().flatten().filter_map(|url| TrackerUrl::parse(url).ok());
        let ask = |tracker: TrackerUrl| async move {
            let late = |_| Error::new(ErrorKind::Timeout, "the tracker doesn't answer");
            let torrents = [self.info_hash];
            let asking = self.common.trackers.scrape(&tracker, &torrents);
            let swarms = time::timeout(SCRAPE_PATIENCE, asking).await.map_err(late).and_then(|swarms| swarms);
            let unknown = || Error::new(ErrorKind::NotFound, "the tracker doesn't know the torrent");
            let swarm = swarms.and_then(|swarms| swarms.into_iter().next().flatten().ok_or_else(unknown));
            (tracker, swarm)
        };
        // Collected first: a closure over borrowed parts would tie the stream to them.
        let asking: Vec<_> = trackers.map(ask).collect();
        stream::iter(asking).buffered(SCRAPED_AT_ONCE).collect().await
    }

    async fn listener(&self, transfer: &Transfer) -> Option<Arc<Listener>> {
        match self.common.listeners.get(self.common.config.listen?).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                transfer.warn(format!("nobody can connect to us: {}", error.chain()));
                None
            }
        }
    }

    /// What the torrent is, from its peers if need be, with all that is needed to go on.
    async fn prepare(&self, transfer: &Transfer) -> Result<Plan> {
        let (sender, mut peers) = mpsc::channel(LISTS);
        let listener = self.listener(transfer).await;
        let named = Named::new(&self.common, &self.peers);
        // Names are resolved by the system, which may take as long as it likes.
        let lookup = {
            let (named, transfer, sender) = (named.clone(), transfer.clone(), sender.clone());
            async move { named.look_up(&transfer, &sender).await }
        };
        let lookup = transfer.spawn(lookup);
        let port = listener.as_ref().map(|listener| listener.port());
        let (common, tiers) = (self.common.clone(), self.tiers());
        let mut announcer = Announcer::new(common.clone(), transfer.clone(), self.info_hash, port, &tiers, sender);
        let Found { info, known, bans } = match &self.info {
            Some(info) => Found { info: info.clone(), known: Vec::new(), bans: Vec::new() },
            None => fetch_metadata(&common, transfer, self.info_hash, &mut announcer, &named, &mut peers).await?,
        };
        if info.is_private() {
            // Of a link that is known only now.
            announcer.keep_only(&self.trackers);
        }
        let (transfer, selection) = (transfer.clone(), self.selection.clone());
        Ok(Plan { common, transfer, info, selection, listener, announcer, named, known, bans, peers, lookup })
    }
}

#[async_trait]
impl Source for TorrentSource {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        let info = match &self.info {
            Some(info) => info.clone(),
            None => {
                let Plan { info, mut announcer, .. } = self.prepare(transfer).await?;
                announcer.stop().await;
                info
            }
        };
        Layout::learn(&info, &self.selection, transfer).map(|_| ())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        drive(self.prepare(&transfer).await?).await
    }
}

impl fmt::Debug for TorrentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torrent {}", self.info_hash)
    }
}

#[cfg(test)]
mod tests;
