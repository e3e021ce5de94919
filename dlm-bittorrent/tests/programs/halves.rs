//! Two of us, of whom each has what the other one lacks, and nobody else.

use std::net::TcpStream;
use std::path::Path;

use dlm_api::{Handle, Report, State};
use dlm_bittorrent::{BitTorrentConfig, HostPort, SeedGoal};
use dlm_testing::{Content, Libtorrent, Torrent, free_address, wait_for};
use futures::{StreamExt, join};
use tempfile::TempDir;

use super::common::{MIB, check_folder, client, config, folder, with_peer};

const PIECE: u32 = 32 << 10;

/// Puts the content in place, right in every second piece only: those with an even number, or with an odd one. Says how many
/// bytes are right.
fn put_half(root: &Path, files: &[(String, Content)], parity: u64) -> u64 {
    // In the order in which they are in the torrent.
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|(name, _)| name.split('/').collect::<Vec<_>>());
    let (mut at, mut right) = (0, 0);
    for (name, content) in files {
        let mut bytes = content.bytes();
        for byte in &mut bytes {
            if at / u64::from(PIECE) % 2 == parity {
                right += 1;
            } else {
                *byte = !*byte;
            }
            at += 1;
        }
        std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        std::fs::write(root.join(name), bytes).unwrap();
    }
    right
}

fn start(config: BitTorrentConfig, torrent: &Torrent, to: &Path) -> Handle {
    let bytes = std::fs::read(torrent.path()).unwrap();
    let client = client(config.with_seed(SeedGoal::FOREVER));
    client.download_container("file:///made.torrent", bytes).to_dir(to).start()
}

/// One of us, who has fetched one half from the only one who has anything, and has ended then.
async fn one_with_half(torrent: &Torrent, files: &[(String, Content)], parity: u64) -> (TempDir, u64) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let half = put_half(from.path(), files, parity);
    let other = Libtorrent::leech(torrent.path(), from.path());
    let handle = start(with_peer(config(), &other), torrent, to.path());
    let mut events = handle.events();
    while handle.progress().received < half {
        events.next().await.expect("it has ended");
    }
    handle.stop();
    handle.wait().await.unwrap_err();
    (to, half)
}

/// Waits until all of it is there, and the other one has all of it too.
async fn complete(one: Handle, other: Handle) -> (Report, Report) {
    for handle in [&one, &other] {
        let mut events = handle.events();
        while handle.state() != State::Sharing {
            events.next().await.expect("it has ended");
        }
    }
    one.stop();
    other.stop();
    let (one, other) = join!(one.wait(), other.wait());
    (one.unwrap(), other.unwrap())
}

#[tokio::test]
async fn two_halves_make_two_wholes() {
    let from = tempfile::tempdir().unwrap();
    let file = ("file.bin".to_owned(), Content::new(7, 3 * MIB + 5));
    file.1.write_file(from.path().join(&file.0)).unwrap();
    for (name, files) in [("file.bin", vec![file]), ("content", folder(from.path()))] {
        let torrent = Torrent::builder().piece(PIECE).make(&from.path().join(name));
        let ((here, even), (there, odd)) =
            join!(one_with_half(&torrent, &files, 0), one_with_half(&torrent, &files, 1));
        let all: u64 = files.iter().map(|(_, content)| content.len).sum();
        assert_eq!(even + odd, all);

        let address = free_address();
        let one = start(config().with_listen(Some(address)), &torrent, here.path());
        // Who finds nobody tries again only after some seconds.
        let listens = move || wait_for("one to listen", || TcpStream::connect(address).ok());
        tokio::task::spawn_blocking(listens).await.unwrap();
        let peer = HostPort::new(&address.ip().to_string(), address.port()).unwrap();
        let other = start(config().with_peer(peer), &torrent, there.path());
        let (one, other) = complete(one, other).await;
        for (to, report, had, lacked) in [(here, one, even, odd), (there, other, odd, even)] {
            check_folder(to.path(), &files);
            assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
            assert_eq!((report.resumed, report.transferred - report.wasted), (had, lacked), "{report:?}");
            assert!(report.uploaded >= had, "{report:?}");
        }
    }
}
