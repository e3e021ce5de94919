//! `dlm torrent show --scrape`: how large the swarm is.

use dlm_api::{Error, ErrorKind, Result};
use dlm_bittorrent::tracker::{Swarm, TrackerUrl};
use dlm_bittorrent::{BitTorrent, TorrentSource};
use serde::Serialize;

use crate::cli::escape::plain;

/// What a tracker says of the swarm.
#[derive(Serialize)]
pub(super) struct Scraped {
    pub(super) tracker: String,
    seeds: Option<u32>,
    leechers: Option<u32>,
    downloaded: Option<u32>,
    error: Option<String>,
}

impl Scraped {
    fn new((tracker, said): (TrackerUrl, Result<Swarm>)) -> Self {
        let swarm = said.as_ref().ok();
        Self {
            tracker: tracker.as_str().to_owned(),
            seeds: swarm.map(|swarm| swarm.complete),
            leechers: swarm.map(|swarm| swarm.incomplete),
            downloaded: swarm.map(|swarm| swarm.downloaded),
            error: said.as_ref().err().map(Error::chain),
        }
    }

    /// For people: `3 seeds, 1 leecher, downloaded 7 times`, or why that is not known.
    pub(super) fn line(&self) -> String {
        let plural = |n| if n == 1 { "" } else { "s" };
        match (self.seeds, self.leechers, self.downloaded) {
            (Some(seeds), Some(leechers), Some(times)) => format!(
                "{seeds} seed{}, {leechers} leecher{}, downloaded {times} time{}",
                plural(seeds),
                plural(leechers),
                plural(times)
            ),
            _ => plain(self.error.as_deref().unwrap_or_default()).into_owned(),
        }
    }
}

/// Asks all trackers.
///
/// # Errors
///
/// Why the first of them didn't tell, if none did.
pub(super) fn scrape(source: impl FnOnce(&BitTorrent) -> TorrentSource) -> Result<Vec<Scraped>> {
    let broken = |e| Error::new(ErrorKind::Internal, "cannot start").with_source(e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let said = runtime.block_on(async {
        let torrents = BitTorrent::new()?;
        Ok::<_, Error>(source(&torrents).scrape().await)
    })?;
    let is_known = said.iter().any(|(_, said)| said.is_ok());
    match said.into_iter().map(Scraped::new).collect::<Vec<_>>() {
        none if none.is_empty() => Err(Error::new(ErrorKind::InvalidInput, "there is no tracker that could be asked")),
        scraped if is_known => Ok(scraped),
        scraped => {
            let why: Vec<String> = scraped.iter().map(|one| format!("{}: {}", one.tracker, one.line())).collect();
            Err(Error::new(ErrorKind::NotFound, format!("no tracker knows: {}", why.join("; "))))
        }
    }
}
