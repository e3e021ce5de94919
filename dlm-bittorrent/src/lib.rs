//! BitTorrent for dlm.

pub mod bencode;
mod host_port;
mod info_hash;
pub mod magnet;
pub mod metainfo;
mod percent;
pub mod tracker;

pub use host_port::HostPort;
pub use info_hash::InfoHash;
pub use magnet::Magnet;
pub use metainfo::{File, Geometry, Info, Metainfo};
