//! What is told to a tracker and what it tells, whatever the protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use crate::InfoHash;

/// The most peers that are taken from one answer. Usual are 50 to 200.
pub const MAX_PEERS: usize = 1000;

/// The shortest time between two announces, whatever a tracker asks for: it may be somebody else's machine.
pub const MIN_INTERVAL: Duration = Duration::from_secs(60);

/// The longest: a tracker that wants to be asked less often forgets us before.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The time between two announces if a tracker doesn't say: what nearly all of them say.
const USUAL_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// What has happened, if an announce is not just one of many.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums)] // BEP 3 has no other.
pub enum Event {
    /// The first that this tracker hears of us.
    Started,
    /// All of it is here now, and was not when we started.
    Completed,
    /// We leave.
    Stopped,
}

/// What a tracker is told (BEP 3).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What we call ourselves in its swarm.
    pub peer_id: [u8; 20],
    /// The port that peers can connect to.
    pub port: u16,
    /// The bytes sent to peers since we started.
    pub uploaded: u64,
    /// The bytes that came from peers since we started.
    pub downloaded: u64,
    /// The bytes missing.
    pub left: u64,
    /// What has happened.
    pub event: Option<Event>,
    /// How many peers we want; the tracker decides if not said.
    pub num_want: Option<u32>,
    /// A number that only the tracker and we know, so that it recognises us when our address changes.
    pub key: u32,
    /// What this tracker told us to give back. HTTP only.
    pub tracker_id: Option<Bytes>,
    /// Our address, if it is not the one that the tracker sees.
    pub ip: Option<Ipv4Addr>,
    /// Our other address (BEP 7). HTTP only.
    pub ipv6: Option<Ipv6Addr>,
}

impl Announce {
    /// Of one who has just come and has nothing to tell.
    pub fn new(info_hash: InfoHash, peer_id: [u8; 20], port: u16) -> Self {
        Self {
            info_hash,
            peer_id,
            port,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            num_want: None,
            key: 0,
            tracker_id: None,
            ip: None,
            ipv6: None,
        }
    }
}

/// What a tracker answers to an announce.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AnnounceReply {
    /// Peers, at most [`MAX_PEERS`], none twice, and none that can't be connected to.
    pub peers: Vec<SocketAddr>,
    /// How long to wait before the next announce: from [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
    pub interval: Duration,
    /// How long to wait at least, even if more peers are needed. Within the same bounds.
    pub min_interval: Option<Duration>,
    /// A text for the user, without control characters.
    pub warning: Option<String>,
    /// What to give back with the next announce.
    pub tracker_id: Option<Bytes>,
    /// The address that the tracker sees us at (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// The number of peers that have all of it.
    pub complete: Option<u32>,
    /// The number of those that don't.
    pub incomplete: Option<u32>,
}

impl AnnounceReply {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            peers: Vec::new(),
            interval,
            min_interval: None,
            warning: None,
            tracker_id: None,
            external_ip: None,
            complete: None,
            incomplete: None,
        }
    }

    /// Adds a peer if there may be one at this address.
    pub(super) fn push(&mut self, ip: IpAddr, port: u16) {
        let ip = ip.to_canonical();
        let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if port != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && self.peers.len() < MAX_PEERS {
            self.peers.push(SocketAddr::new(ip, port));
        }
    }

    /// Adds peers in the short form (BEP 23, BEP 7): addresses of `N` bytes, each with a port. What is left over is not
    /// looked at.
    pub(super) fn push_compact<const N: usize>(&mut self, bytes: &[u8])
    where
        IpAddr: From<[u8; N]>,
    {
        // No more than could be taken, in case none of them can be.
        for peer in bytes.chunks_exact(N + 2).take(2 * MAX_PEERS) {
            if let (Ok(ip), Ok(port)) = (<[u8; N]>::try_from(&peer[..N]), <[u8; 2]>::try_from(&peer[N..])) {
                self.push(ip.into(), u16::from_be_bytes(port));
            }
        }
    }

    /// Takes away who is there twice; the order stays.
    pub(super) fn dedup(&mut self) {
        let mut known = std::collections::HashSet::new();
        self.peers.retain(|peer| known.insert(*peer));
    }
}

/// The numbers of a swarm, as a scrape gives them (BEP 48).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Swarm {
    /// The number of peers that have all of it.
    pub complete: u32,
    /// The number of those that don't.
    pub incomplete: u32,
    /// How often it was downloaded as a whole.
    pub downloaded: u32,
}

/// How long to wait if a tracker said so many seconds.
pub(super) fn interval(seconds: Option<i64>) -> Duration {
    clamped(seconds).unwrap_or(USUAL_INTERVAL)
}

/// The same where nothing else is usual.
pub(super) fn clamped(seconds: Option<i64>) -> Option<Duration> {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL))
}
