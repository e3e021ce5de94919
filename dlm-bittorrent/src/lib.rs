//! BitTorrent for dlm.

pub mod bencode;
