//! BitTorrent for dlm.
//!
//! The protocol and its policy are pure state machines: no I/O, no clock, no locks. Each call takes the time, and
//! randomness comes from a generator that the caller seeds.
//!
//! - [`metainfo`] reads and makes torrent files, [`magnet`] links to them, on top of [`bencode`];
//! - [`tracker`] knows what trackers are asked and answer, and which is asked when;
//! - [`wire`] parses and writes what peers say to each other;
//! - [`piece`] knows which pieces there are, who has them, and which is to be fetched next;
//! - [`peer`] decides whom to connect to and whom to upload to;
//! - [`swarm`] joins it all into one torrent.

pub mod bencode;
mod config;
mod driver;
mod host_port;
mod info_hash;
pub mod magnet;
pub mod metainfo;
pub mod peer;
mod percent;
pub mod piece;
mod protocol;
mod session;
mod source;
pub mod swarm;
pub mod tracker;
pub mod wire;

pub use config::{BitTorrentConfig, SeedGoal};
pub use host_port::HostPort;
pub use info_hash::InfoHash;
pub use magnet::Magnet;
pub use metainfo::{File, Geometry, Info, Metainfo};
pub use protocol::BitTorrent;
pub use source::TorrentSource;
