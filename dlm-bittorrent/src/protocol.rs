//! [`BitTorrent`]: from torrent files and magnet links to sources.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{Container, Limiter, Listed, Locator, Protocol, Registry, Resolved, Result};
use futures::{StreamExt, stream};

use crate::config::BitTorrentConfig;
use crate::driver::{Common, Listeners, Room, random_peer_id};
use crate::source::TorrentSource;
use crate::tracker::client::TrackerClient;
use crate::tracker::{Swarm, TrackerUrl};
use crate::{InfoHash, Magnet, Metainfo};

/// What torrent files are, and how long one may be: twice what the hashes of the most pieces take.
const TORRENT: Container = Container { suffix: ".torrent", media_type: "application/x-bittorrent", max_len: 64 << 20 };

/// BitTorrent: torrent files and magnet links. All its torrents share their limits and the port that peers connect to.
#[derive(Clone)]
pub struct BitTorrent(Arc<Common>);

impl BitTorrent {
    /// With the defaults.
    ///
    /// # Errors
    ///
    /// As of [`with_config`](Self::with_config).
    pub fn new() -> Result<Self> {
        Self::with_config(BitTorrentConfig::default())
    }

    /// With a configuration.
    ///
    /// # Errors
    ///
    /// As of [`HttpClient::new`](dlm_http::HttpClient::new), for what trackers are asked with.
    pub fn with_config(config: BitTorrentConfig) -> Result<Self> {
        Ok(Self(Arc::new(Common {
            peer_id: random_peer_id(),
            trackers: TrackerClient::new(config.http.clone())?,
            uploads: Limiter::new(config.upload_rate),
            room: Room::new(config.max_connections, config.max_half_open_of_all),
            listeners: Listeners::default(),
            config,
        })))
    }

    /// A torrent as a source.
    pub fn torrent(&self, torrent: &Metainfo) -> TorrentSource {
        TorrentSource::of_torrent(self.0.clone(), torrent)
    }

    /// What a magnet link leads to as a source.
    pub fn magnet(&self, magnet: &Magnet) -> TorrentSource {
        TorrentSource::of_magnet(self.0.clone(), magnet)
    }

    /// Asks a tracker how large the swarms of these torrents are (BEP 48), in that order; `None` for one that it doesn't know.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](dlm_api::ErrorKind::Unsupported) for a tracker that can't be asked that by its URL,
    /// [`Denied`](dlm_api::ErrorKind::Denied) for one that refuses, and otherwise what went wrong on the way.
    pub async fn scrape(&self, tracker: &TrackerUrl, torrents: &[InfoHash]) -> Result<Vec<Option<Swarm>>> {
        self.0.trackers.scrape(tracker, torrents).await
    }

    /// Changes the limit of what all torrents together give to others, in bytes a second.
    pub fn set_upload_rate(&self, rate: Option<u64>) {
        self.0.uploads.set_rate(rate);
    }
}

/// The web seeds of a torrent (BEP 19): each file at each of them.
async fn web_seeds(torrent: &Metainfo, others: &Registry) -> Vec<Result<Listed>> {
    let mut listed = Vec::new();
    for seed in torrent.web_seeds() {
        for (i, file) in torrent.files().iter().enumerate().filter(|(_, file)| file.is_wanted() && file.len > 0) {
            let Some(url) = torrent.info().web_seed_url(seed, i) else { continue };
            // One that this program has no protocol for is one less.
            if let Ok(Resolved::Source(source)) = others.open(&Locator::from(url)).await {
                listed.push(Ok(Listed { path: file.path.clone(), len: Some(file.len), source }));
            }
        }
    }
    listed
}

#[async_trait]
impl Protocol for BitTorrent {
    fn schemes(&self) -> &[&str] {
        &["magnet"]
    }

    async fn open(&self, locator: &Locator) -> Result<Resolved> {
        let magnet: Magnet = locator.url().as_str().parse()?;
        Ok(Resolved::Many(Arc::new(self.magnet(&magnet))))
    }

    fn containers(&self) -> &[Container] {
        &[TORRENT]
    }

    async fn open_container(&self, bytes: Bytes, _: &Locator, others: &Registry) -> Result<Resolved> {
        let torrent = Metainfo::parse(bytes)?;
        let swarm = Resolved::Many(Arc::new(self.torrent(&torrent)));
        let seeds = web_seeds(&torrent, others).await;
        if seeds.is_empty() {
            return Ok(swarm);
        }
        Ok(Resolved::All(vec![swarm, Resolved::Listing(stream::iter(seeds).boxed())]))
    }
}

impl fmt::Debug for BitTorrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitTorrent").field("config", &self.0.config).finish_non_exhaustive()
    }
}
