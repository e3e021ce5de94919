//! Whoever reads a torrent while it arrives gets what he waits for first.

use std::io::SeekFrom;
use std::time::Duration;

use dlm_api::{Client, MemorySink};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort, SeedGoal};
use dlm_testing::{Content, Libtorrent, PATIENCE, Torrent};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const MIB: u64 = 1 << 20;

fn config(peers: &[&Libtorrent]) -> BitTorrentConfig {
    let config = BitTorrentConfig::new().with_listen(Some(([127, 0, 0, 1], 0).into()));
    let peer = |peer: &&Libtorrent| HostPort::new("127.0.0.1", peer.address().port()).unwrap();
    peers.iter().map(peer).fold(config, BitTorrentConfig::with_peer)
}

fn client(config: BitTorrentConfig) -> Client {
    Client::builder().threads(2).protocol(BitTorrent::with_config(config).unwrap()).build()
}

fn torrent(len: u64, piece: u32) -> (TempDir, Content, Torrent) {
    let from = tempfile::tempdir().unwrap();
    let content = Content::new(3, len);
    content.write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().piece(piece).make(&from.path().join("file.bin"));
    (from, content, torrent)
}

#[tokio::test]
async fn a_reader_who_seeks_gets_what_is_there_first() {
    const AT: u64 = 30 * MIB;
    let (from, content, torrent) = torrent(48 * MIB, 64 << 10);
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let bytes = std::fs::read(torrent.path()).unwrap();
    let download = client(config(&[&seed])).download_container("file:///made.torrent", bytes).rate_limit(2 * MIB);
    let mut reader = download.to_memory(MemorySink::new(u64::MAX)).reader();
    reader.seek(SeekFrom::Start(AT)).await.unwrap();
    let mut read = vec![0; 2 * MIB as usize];
    reader.read_exact(&mut read).await.unwrap();
    assert!(read == content.bytes()[AT as usize..][..read.len()]);
    // What was asked for before it sought, and what comes behind what it read.
    let received = reader.handle().progress().received;
    assert!(received <= 16 * MIB, "{received}");
    // And back again.
    reader.seek(SeekFrom::Start(0)).await.unwrap();
    reader.read_exact(&mut read).await.unwrap();
    assert!(read == content.bytes()[..read.len()]);
    let received = reader.handle().progress().received;
    assert!(received <= 28 * MIB, "{received}");
}

/// A pipe of whose bytes nobody takes more than a few at a time.
#[tokio::test]
async fn a_pipe_gets_everything_in_order() {
    for piece in [16 << 10, 4 << 20] {
        let (from, content, torrent) = torrent(40 * MIB + 77, piece);
        let (seed, other) =
            (Libtorrent::seed(torrent.path(), from.path()), Libtorrent::seed(torrent.path(), from.path()));
        let bytes = std::fs::read(torrent.path()).unwrap();
        let (sender, mut receiver) = tokio::io::duplex(64 << 10);
        let download = client(config(&[&seed, &other])).download_container("file:///made.torrent", bytes);
        let handle = download.to_writer(sender).start();
        let mut all = Vec::new();
        receiver.read_to_end(&mut all).await.unwrap();
        assert!(all == content.bytes(), "{} bytes", all.len());
        let report = handle.wait().await.unwrap();
        assert!(report.wasted < 8 * MIB, "{}", report.wasted);
    }
}

/// Each of two peers has what the other one lacks, and wants it from us, who give it as slowly as can be.
#[tokio::test]
async fn what_goes_slowly_does_not_slow_what_comes() {
    let (from, content, torrent) = torrent(16 * MIB, 256 << 10);
    let half = |which: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = content.bytes();
        bytes[which * 8 * MIB as usize..][..8 * MIB as usize].fill(0);
        std::fs::write(folder.path().join("file.bin"), bytes).unwrap();
        folder
    };
    drop(from);
    let folders = [half(0), half(1)];
    let peers = folders.each_ref().map(|folder| Libtorrent::leech(torrent.path(), folder.path()));
    let config = config(&[&peers[0], &peers[1]]).with_upload_rate(Some(4 << 10)).with_seed(SeedGoal::OFF);
    let (to, bytes) = (tempfile::tempdir().unwrap(), std::fs::read(torrent.path()).unwrap());
    let job = client(config).download_container("file:///made.torrent", bytes).to_dir(to.path());
    let report = tokio::time::timeout(PATIENCE.max(Duration::from_secs(60)), job).await.expect("it waits").unwrap();
    content.check_file(to.path().join("file.bin")).unwrap();
    assert!(report.uploaded < 2 * MIB, "{}", report.uploaded);
}
