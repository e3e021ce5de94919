//! What tests with peers share.

use std::path::Path;

use dlm_api::{Client, Report, Result};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort};
use dlm_testing::{Content, Peer, Torrent};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn config() -> BitTorrentConfig {
    // What happens between peers is told where `RUST_LOG` asks for it.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    BitTorrentConfig::new().with_listen(Some(([127, 0, 0, 1], 0).into()))
}

pub(crate) fn with_peer(config: BitTorrentConfig, peer: &dyn Peer) -> BitTorrentConfig {
    let address = peer.address();
    config.with_peer(HostPort::new(&address.ip().to_string(), address.port()).unwrap())
}

pub(crate) fn client(config: BitTorrentConfig) -> Client {
    Client::builder().threads(2).protocol(BitTorrent::with_config(config).unwrap()).build()
}

/// Downloads a torrent into a folder.
pub(crate) async fn fetch(config: BitTorrentConfig, torrent: &Torrent, to: &Path) -> Result<Report> {
    let bytes = std::fs::read(torrent.path()).unwrap();
    client(config).download_container("file:///made.torrent", bytes).to_dir(to).await
}

/// A folder of files of many lengths, which the torrent's pieces cross.
pub(crate) fn folder(root: &Path) -> Vec<(String, Content)> {
    let lens = [0, 1, 16_383, 16_384, 16_385, 300_000, 65_536, 1_000_001, 7, 0, 2_500_000];
    let files = lens.into_iter().enumerate().map(|(i, len)| {
        let name = format!("content/{}/file {i}.bin", i % 3);
        let content = Content::new(100 + i as u64, len);
        std::fs::create_dir_all(root.join(&name).parent().unwrap()).unwrap();
        content.write_file(root.join(&name)).unwrap();
        (name, content)
    });
    files.collect()
}

pub(crate) fn check_folder(root: &Path, files: &[(String, Content)]) {
    for (name, content) in files {
        content.check_file(root.join(name)).unwrap();
    }
}
