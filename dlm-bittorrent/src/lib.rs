//! BitTorrent for dlm.
//!
//! The protocol and its policy are pure state machines: no I/O, no clock, no locks. Each call takes the time, and
//! randomness comes from a generator that the caller seeds.
//!
//! - [`wire`] parses and writes what peers say to each other;
//! - [`piece`] knows which pieces there are, who has them, and which is to be fetched next;
//! - [`peer`] decides whom to connect to and whom to upload to;
//! - [`swarm`] joins it all into one torrent.

pub mod bencode;
pub mod peer;
pub mod piece;
pub mod swarm;
pub mod wire;
