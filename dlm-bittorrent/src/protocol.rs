//! [`BitTorrent`]: from torrent files and magnet links to sources.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{Container, Limiter, Listed, Locator, Protocol, Registry, Resolved, Result};
use dlm_http::{has_local_host, is_local};
use futures::{StreamExt, stream};
use tokio::net::lookup_host;
use url::Url;

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

/// How many names of servers are looked up at once.
const LOOKUPS: usize = 8;

/// The web seeds of a torrent (BEP 19): each file at each of them. What is beside the user's machine is only asked if the torrent
/// is from there too, since its maker must not reach through us what he can't reach himself.
async fn web_seeds(torrent: &Metainfo, base: &Locator, others: &Registry) -> Vec<Result<Listed>> {
    let mut listed = Vec::new();
    if torrent.web_seeds().is_empty() {
        return listed;
    }
    let is_ours = base.is_of_user() && (base.scheme() == "file" || is_local_place(base.url()).await);
    let are_local: Vec<bool> = stream::iter(torrent.web_seeds()).map(is_local_place).buffered(LOOKUPS).collect().await;
    for (seed, is_local) in torrent.web_seeds().iter().zip(are_local) {
        if is_local && !is_ours {
            tracing::debug!(url = %dlm_api::redact(seed), "a torrent from elsewhere names a local web seed");
            continue;
        }
        for (i, file) in torrent.files().iter().enumerate().filter(|(_, file)| file.is_wanted() && file.len > 0) {
            let Some(url) = torrent.info().web_seed_url(seed, i) else { continue };
            // One that this program has no protocol for is one less.
            if let Ok(Resolved::Source(source)) = others.open(&Locator::named_by_content(url, is_local)).await {
                listed.push(Ok(Listed { path: file.path.clone(), len: Some(file.len), source }));
            }
        }
    }
    listed
}

/// Whether all that a URL's host resolves to is local.
async fn is_local_place(url: &Url) -> bool {
    let Some(name) = url.domain().filter(|_| !has_local_host(url)) else { return has_local_host(url) };
    let port = url.port_or_known_default().unwrap_or(80);
    let Ok(mut addresses) = lookup_host((name, port)).await else { return false };
    let mut rest = addresses.by_ref().peekable();
    rest.peek().is_some() && rest.all(|address| is_local(address.ip()))
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

    async fn open_container(&self, bytes: Bytes, base: &Locator, others: &Registry) -> Result<Resolved> {
        let torrent = Metainfo::parse(bytes)?;
        let swarm = Resolved::Many(Arc::new(self.torrent(&torrent)));
        let seeds = web_seeds(&torrent, base, others).await;
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
