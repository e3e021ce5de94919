//! Who is at an address that the user doesn't want to have anything to do with.

use std::net::{SocketAddr, TcpListener};

use dlm_api::{Client, Event, State};
use dlm_bittorrent::peer::IpFilter;
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort, InfoHash, SeedGoal};
use dlm_testing::{Content, Libtorrent, Torrent};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

fn host_port(address: SocketAddr) -> HostPort {
    HostPort::new(&address.ip().to_string(), address.port()).unwrap()
}

/// Connects from an address, and says what a peer of this torrent says first. The answer's length.
async fn shake_hands(from: [u8; 4], to: SocketAddr, torrent: InfoHash) -> usize {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let hello = [&b"\x13BitTorrent protocol"[..], &[0; 8], torrent.as_bytes(), &[b'x'; 20]].concat();
    let mut answer = [0; 68];
    // Who isn't listened to may be told so at once.
    if stream.write_all(&hello).await.is_err() {
        return 0;
    }
    stream.read_exact(&mut answer).await.unwrap_or(0)
}

#[tokio::test]
async fn a_filtered_peer_is_neither_connected_to_nor_listened_to() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(1, 3 << 20);
    content.write_file(from.path().join("file.bin")).unwrap();
    let torrent = Torrent::builder().make(&from.path().join("file.bin"));
    let seed = Libtorrent::seed(torrent.path(), from.path());
    let hash: InfoHash = torrent.info_hash().parse().unwrap();
    let unwanted = TcpListener::bind("127.0.0.2:0").unwrap();
    unwanted.set_nonblocking(true).unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = BitTorrentConfig::new()
        .with_listen(Some(listen))
        .with_peer(host_port(unwanted.local_addr().unwrap()))
        .with_peer(host_port(seed.address()))
        .with_filter("loopback but one:127.0.0.2-127.255.255.255".parse::<IpFilter>().unwrap())
        .with_seed(SeedGoal::FOREVER);
    let client = Client::builder().threads(1).protocol(BitTorrent::with_config(config).unwrap()).build();
    let bytes = std::fs::read(torrent.path()).unwrap();
    let handle = client.download_container("file:///made.torrent", bytes).to_dir(to.path()).start();
    let mut events = handle.events();
    while events.next().await.expect("it has ended") != Event::State(State::Sharing) {}
    content.check_file(to.path().join("file.bin")).unwrap();
    // It was told of before the peer that everything came from.
    assert_eq!(unwanted.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was connected to");
    assert_eq!(shake_hands([127, 0, 0, 1], listen, hash).await, 68);
    assert_eq!(shake_hands([127, 0, 0, 2], listen, hash).await, 0);
    handle.stop();
    handle.wait().await.unwrap();
}
