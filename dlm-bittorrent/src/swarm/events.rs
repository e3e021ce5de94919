//! What a swarm answers.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::piece::Copies;
use crate::wire::PeerId;

/// What a message of a peer brought.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Received {
    /// Nothing that the caller has to do anything about.
    Nothing,
    /// A block that was asked for, to be written.
    Block {
        /// The piece.
        piece: u32,
        /// Where in it the block begins.
        begin: u32,
        /// Its bytes.
        data: Bytes,
        /// Whether it is the piece's last: all others were given out before.
        last: bool,
    },
    /// A block of so many bytes that nobody needs any more.
    Wasted(u32),
    /// A message of an extension (BEP 10), 0 being the extensions' handshake. What it says about the peer is to be told
    /// with [`set_request_limit`](super::Swarm::set_request_limit), [`set_upload_only`](super::Swarm::set_upload_only) and
    /// [`dont_have`](super::Swarm::dont_have).
    Extended {
        /// The number that we gave to the extension.
        id: u8,
        /// What the extension defines.
        payload: Bytes,
    },
    /// The port of the peer's DHT node (BEP 5).
    DhtPort(u16),
}

/// A rule that a peer broke. Its connection has to be closed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// There is no such connection (any more).
    Gone,
    /// It named a piece that doesn't exist.
    NoSuchPiece,
    /// Its bitfield doesn't fit the torrent.
    BadBitfield,
    /// It used an extension that was not agreed on.
    NotAgreed,
    /// A block is not as long as it was asked for.
    WrongLength,
    /// It sends blocks that nobody asked for.
    Unsolicited,
    /// It keeps asking for what does not exist or is not there.
    BadRequests,
    /// It says too much that means nothing.
    Flood,
}

impl Fault {
    /// Whether it is no accident: nobody at its address is spoken to again.
    pub fn is_malice(self) -> bool {
        matches!(self, Self::Unsolicited | Self::Flood)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the peer is gone",
            Self::NoSuchPiece => "the peer named a piece that does not exist",
            Self::BadBitfield => "the peer's bitfield is not one of this torrent",
            Self::NotAgreed => "the peer used an extension that was not agreed on",
            Self::WrongLength => "the peer sent a block of another length",
            Self::Unsolicited => "the peer sends blocks that were not requested",
            Self::BadRequests => "the peer requests what is not there",
            Self::Flood => "the peer floods us with messages",
        })
    }
}

impl Error for Fault {}

/// Why a connection is not wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It is for another torrent.
    OtherTorrent,
    /// We are talking to ourselves.
    Ourselves,
    /// There is a connection to this peer already.
    Duplicate,
    /// There are enough connections.
    Full,
    /// There are enough connections to this address.
    TooManyAtAddress,
    /// The address is banned, or filtered.
    Denied,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherTorrent => "the peer has another torrent",
            Self::Ourselves => "we are talking to ourselves",
            Self::Duplicate => "the peer is connected already",
            Self::Full => "there are enough peers",
            Self::TooManyAtAddress => "there are enough peers at this address",
            Self::Denied => "the peer's address is banned or filtered",
        })
    }
}

impl Error for Refusal {}

/// Why a connection is to be closed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Close {
    /// The peer broke a rule.
    Fault(Fault),
    /// It sent bytes that were proven wrong.
    Banned,
    /// Nothing came for minutes, or it never answers.
    Silent,
    /// Neither side wants anything of the other.
    Useless,
    /// Another connection to the same peer takes its place.
    Duplicate,
}

/// How a swarm goes.
#[derive(Copy, Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Connected peers.
    pub peers: usize,
    /// Those of them that have every piece.
    pub seeds: usize,
    /// How many copies they have together.
    pub copies: Copies,
    /// Bytes of blocks that came, wasted ones among them.
    pub downloaded: u64,
    /// Bytes of blocks that were sent.
    pub uploaded: u64,
    /// Bytes of blocks that nobody needed.
    pub wasted: u64,
    /// Bytes per second that come.
    pub down_rate: f64,
    /// Bytes per second that go.
    pub up_rate: f64,
    /// Pieces of which some blocks are requested or there.
    pub partial_pieces: usize,
}

/// How it goes with one peer.
#[derive(Copy, Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct PeerStats {
    /// Where it is.
    pub address: SocketAddr,
    /// What it calls itself.
    pub id: PeerId,
    /// Whether we connected to it.
    pub is_outgoing: bool,
    /// Whether it has every piece.
    pub is_seed: bool,
    /// How many pieces it has.
    pub pieces: u32,
    /// Whether it answers no requests.
    pub chokes_us: bool,
    /// Whether we answer none.
    pub is_choked: bool,
    /// Whether it wants something that we have.
    pub wants_us: bool,
    /// Whether we want something that it has.
    pub is_wanted: bool,
    /// Whether it owes us blocks and sends none.
    pub snubs: bool,
    /// Bytes of blocks that came from it.
    pub downloaded: u64,
    /// Bytes of blocks that it was sent.
    pub uploaded: u64,
    /// Bytes per second that come.
    pub down_rate: f64,
    /// Bytes per second that go.
    pub up_rate: f64,
    /// Requests that it has not answered.
    pub requests: usize,
    /// How many there may be.
    pub window: usize,
    /// Its requests that we have not answered.
    pub upload_queue: usize,
}
