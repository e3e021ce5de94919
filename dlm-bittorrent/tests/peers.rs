//! Downloads from real peers, and to them.

use std::path::Path;

use dlm_api::{Client, Event, Report, Result, State, Verification};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort, SeedGoal};
use dlm_testing::{Content, Libtorrent, Opentracker, Torrent, wait_for};
use futures::StreamExt;

const MIB: u64 = 1 << 20;

fn config() -> BitTorrentConfig {
    BitTorrentConfig::new().with_listen(Some(([127, 0, 0, 1], 0).into()))
}

fn with_peer(config: BitTorrentConfig, peer: &Libtorrent) -> BitTorrentConfig {
    let address = peer.address();
    config.with_peer(HostPort::new(&address.ip().to_string(), address.port()).unwrap())
}

fn client(config: BitTorrentConfig) -> Client {
    Client::builder().threads(2).protocol(BitTorrent::with_config(config).unwrap()).build()
}

/// Downloads a torrent into a folder.
async fn fetch(config: BitTorrentConfig, torrent: &Torrent, to: &Path) -> Result<Report> {
    let bytes = std::fs::read(torrent.path()).unwrap();
    client(config).download_container("file:///made.torrent", bytes).to_dir(to).await
}

#[tokio::test]
async fn a_file_comes_from_libtorrent() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(1, 40 * MIB + 12_345);
    content.write_file(from.path().join("file.bin")).unwrap();
    for piece in [16 << 10, 256 << 10, 4 << 20] {
        let torrent = Torrent::builder().piece(piece).make(&from.path().join("file.bin"));
        let seed = Libtorrent::seed(torrent.path(), from.path());
        let to = to.path().join(piece.to_string());
        let report = fetch(with_peer(config(), &seed), &torrent, &to).await.unwrap();
        content.check_file(to.join("file.bin")).unwrap();
        assert_eq!(report.entries[0].verification, Verification::Pieces);
        assert!(report.wasted < MIB, "{}", report.wasted);
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
    }
}
