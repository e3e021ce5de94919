//! [`BitTorrentConfig`]: what can be chosen.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dlm_http::HttpConfig;

use crate::HostPort;
use crate::peer::IpFilter;

/// What can be chosen. Made with [`new`](Self::new) and changed with the `with_` methods.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BitTorrentConfig {
    /// Where peers can connect to us; `None` if nobody can. Any free port of every IPv4 address unless it is set.
    pub listen: Option<SocketAddr>,
    /// The most connections of one torrent. Default: 50.
    pub max_peers: usize,
    /// The most connections of one torrent that are being opened at a time. Default: 30.
    pub max_half_open: usize,
    /// The most connections of all torrents together, and of these being opened. Defaults: 200 and 50.
    pub max_connections: usize,
    /// See [`max_connections`](Self::max_connections).
    pub max_half_open_of_all: usize,
    /// How many peers of one torrent are uploaded to at a time, besides the one that is tried. Default: 8.
    pub upload_slots: usize,
    /// The limit of what all torrents together give to others, in bytes a second. Default: none.
    pub upload_rate: Option<u64>,
    /// What happens when everything is here. Default: that is the end.
    pub seed: SeedGoal,
    /// Which addresses peers may have: others are neither connected to nor listened to. Default: all.
    pub filter: Arc<IpFilter>,
    /// Peers that every torrent is told of.
    pub peers: Vec<HostPort>,
    /// Trackers that every torrent but private ones asks too, each a tier of its own.
    pub trackers: Vec<String>,
    /// How trackers are asked over HTTP.
    pub http: HttpConfig,
}

/// How long what is complete is given to others. The first that is reached is enough.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct SeedGoal {
    /// Until so many times the length of the content was given.
    pub ratio: Option<f64>,
    /// Until it was given for so long.
    pub time: Option<Duration>,
    /// Until it is stopped.
    pub forever: bool,
}

impl SeedGoal {
    /// Not at all.
    pub const OFF: Self = Self { ratio: None, time: None, forever: false };

    /// Until it is stopped.
    pub const FOREVER: Self = Self { ratio: None, time: None, forever: true };

    /// Until so many times the length of the content was given.
    pub const fn ratio(ratio: f64) -> Self {
        Self { ratio: Some(ratio), time: None, forever: false }
    }

    /// Until it was given for so long.
    pub const fn time(time: Duration) -> Self {
        Self { ratio: None, time: Some(time), forever: false }
    }

    /// Whether it is reached by `uploaded` bytes of a content of `len`, and by `since`, the time since it is complete.
    pub fn is_reached(&self, uploaded: u64, len: u64, since: Duration) -> bool {
        let by_ratio = self.ratio.is_some_and(|ratio| uploaded as f64 >= ratio * len as f64);
        let by_time = self.time.is_some_and(|time| since >= time);
        let is_off = self.ratio.is_none() && self.time.is_none() && !self.forever;
        by_ratio || by_time || is_off
    }
}

impl Default for BitTorrentConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            max_peers: 50,
            // Most addresses that trackers tell of are dead, and each costs seconds.
            max_half_open: 30,
            max_connections: 200,
            max_half_open_of_all: 50,
            upload_slots: 8,
            upload_rate: None,
            seed: SeedGoal::OFF,
            filter: Arc::default(),
            peers: Vec::new(),
            trackers: Vec::new(),
            http: HttpConfig::default(),
        }
    }
}

impl BitTorrentConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where peers can connect to us.
    #[must_use]
    pub fn with_listen(mut self, listen: Option<SocketAddr>) -> Self {
        self.listen = listen;
        self
    }

    /// Sets the most connections of one torrent, and of these being opened.
    #[must_use]
    pub fn with_peers_each(mut self, max: usize, half_open: usize) -> Self {
        (self.max_peers, self.max_half_open) = (max, half_open);
        self
    }

    /// Sets the most connections of all torrents together, and of these being opened.
    #[must_use]
    pub fn with_peers_of_all(mut self, max: usize, half_open: usize) -> Self {
        (self.max_connections, self.max_half_open_of_all) = (max, half_open);
        self
    }

    /// Sets how many peers of one torrent are uploaded to at a time.
    #[must_use]
    pub fn with_upload_slots(mut self, slots: usize) -> Self {
        self.upload_slots = slots;
        self
    }

    /// Sets the limit of what is given to others, in bytes a second.
    #[must_use]
    pub fn with_upload_rate(mut self, rate: Option<u64>) -> Self {
        self.upload_rate = rate;
        self
    }

    /// Sets what happens when everything is here.
    #[must_use]
    pub fn with_seed(mut self, seed: SeedGoal) -> Self {
        self.seed = seed;
        self
    }

    /// Sets which addresses peers may have.
    #[must_use]
    pub fn with_filter(mut self, filter: IpFilter) -> Self {
        self.filter = Arc::new(filter);
        self
    }

    /// Adds a peer that every torrent is told of.
    #[must_use]
    pub fn with_peer(mut self, peer: HostPort) -> Self {
        self.peers.push(peer);
        self
    }

    /// Adds a tracker that every torrent but private ones asks too.
    #[must_use]
    pub fn with_tracker(mut self, url: impl Into<String>) -> Self {
        self.trackers.push(url.into());
        self
    }

    /// Sets how trackers are asked over HTTP.
    #[must_use]
    pub fn with_http(mut self, http: HttpConfig) -> Self {
        self.http = http;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goal_that_is_reached_is_enough() {
        let minute = Duration::from_secs(60);
        assert!(SeedGoal::OFF.is_reached(0, 100, Duration::ZERO));
        assert!(!SeedGoal::FOREVER.is_reached(u64::MAX, 1, Duration::MAX));
        assert!(!SeedGoal::ratio(1.5).is_reached(149, 100, Duration::MAX));
        assert!(SeedGoal::ratio(1.5).is_reached(150, 100, Duration::ZERO));
        assert!(!SeedGoal::time(minute).is_reached(u64::MAX, 1, minute - Duration::from_secs(1)));
        let both = SeedGoal { ratio: Some(2.0), ..SeedGoal::time(minute) };
        assert!(both.is_reached(0, 100, minute) && both.is_reached(200, 100, Duration::ZERO));
        assert!(!both.is_reached(199, 100, Duration::ZERO));
    }
}
