//! BitTorrent for dlm.
