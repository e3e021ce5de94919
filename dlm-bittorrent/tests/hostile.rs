//! Peers that do what no honest one does, each said word by word by its test.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dlm_api::{Algorithm, Client, Download, ErrorKind, Event, Handle, Report, State};
use dlm_bittorrent::metainfo::create::{NewFile, Options, Plan};
use dlm_bittorrent::wire::extension::{self, Extension, ExtensionHandshake, encode_dont_have};
use dlm_bittorrent::wire::{Block, Decoder, Handshake, Message, PeerId, Reserved, encode};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, HostPort, InfoHash, Metainfo, SeedGoal};
use dlm_testing::Content;
use futures::StreamExt;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const BLOCK: u32 = 16 << 10;

/// Longer than anything here takes, on a machine however busy: what is not there then never comes.
const NEVER: Duration = Duration::from_secs(60);

/// A torrent of one file.
#[derive(Clone)]
struct Made {
    torrent: Bytes,
    info_hash: InfoHash,
    content: Bytes,
    piece_len: u32,
}

impl Made {
    /// Of so many pieces of so many blocks.
    fn new(pieces: u32, blocks: u32) -> Self {
        Self::planned(pieces, blocks, |len, options| Plan::single("file.bin", len, options))
    }

    fn planned(pieces: u32, blocks: u32, plan: impl FnOnce(u64, Options) -> dlm_api::Result<Plan>) -> Self {
        let piece_len = blocks * BLOCK;
        let len = u64::from(pieces * piece_len);
        let content = Bytes::from(Content::new(77, len).bytes());
        let hashes: Vec<u8> =
            content.chunks(piece_len as usize).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
        let plan = plan(len, Options::default().with_piece_len(piece_len)).unwrap();
        let torrent = plan.encode(hashes.into()).unwrap();
        let info_hash = Metainfo::parse(torrent.clone()).unwrap().info_hash();
        Self { torrent, info_hash, content, piece_len }
    }

    fn piece(&self, block: Block) -> Message {
        let start = block.piece as usize * self.piece_len as usize + block.begin as usize;
        let data = self.content.slice(start..start + block.len as usize);
        Message::Piece { piece: block.piece, begin: block.begin, data }
    }

    /// That these pieces are had, and no others.
    fn having(&self, pieces: &[u32]) -> Message {
        let all = self.content.len().div_ceil(self.piece_len as usize);
        let mut bits = vec![0u8; all.div_ceil(8)];
        pieces.iter().for_each(|piece| bits[*piece as usize / 8] |= 0x80 >> (piece % 8));
        Message::Bitfield(bits.into())
    }

    /// Fetches it from these peers.
    fn fetch(&self, config: BitTorrentConfig, peers: &[&Peer]) -> Download {
        let client = Client::builder().threads(2).protocol(torrents(config, peers)).build();
        client.download_container("file:///made.torrent", self.torrent.to_vec())
    }

    /// Fetches it, and looks at it.
    async fn is_fetched(&self, config: BitTorrentConfig, peers: &[&Peer]) -> Report {
        let to = tempfile::tempdir().unwrap();
        let fetched = timeout(NEVER, self.fetch(config, peers).to_dir(to.path())).await.expect("it is never complete");
        let report = fetched.unwrap_or_else(|e| panic!("{}", e.chain()));
        assert!(std::fs::read(to.path().join("file.bin")).unwrap() == self.content, "the content differs");
        report
    }
}

/// BitTorrent that knows of these peers.
fn torrents(config: BitTorrentConfig, peers: &[&Peer]) -> BitTorrent {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let with = |config: BitTorrentConfig, peer: &&Peer| {
        config.with_peer(HostPort::new(&peer.address.ip().to_string(), peer.address.port()).unwrap())
    };
    BitTorrent::with_config(peers.iter().fold(config.with_listen(None), with)).unwrap()
}

/// Somebody who can be connected to, and does each time what it was told.
struct Peer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    async fn new<F: Future<Output = ()> + Send>(made: &Made, act: impl Fn(Wire) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = made.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Some(wire) = Wire::begin(stream, &made, address).await {
                    act(wire).await;
                }
            }
        });
        Self { address, task }
    }

    /// One that has these pieces, and gives them as soon as it may.
    async fn honest(made: &Made, pieces: &[u32], may: Arc<Notify>) -> Self {
        let (having, torrent) = (made.having(pieces), made.clone());
        Self::new(made, move |mut wire| {
            let (having, may, made) = (having.clone(), may.clone(), torrent.clone());
            async move {
                wire.say(&[having]).await;
                may.notified().await;
                may.notify_one();
                wire.say(&[Message::Unchoke]).await;
                while let Some(block) = wire.request().await {
                    wire.say(&[made.piece(block)]).await;
                }
            }
        })
        .await
    }
}

/// A connection after its handshakes.
struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Wire {
    async fn begin(mut stream: TcpStream, made: &Made, address: SocketAddr) -> Option<Self> {
        let mut theirs = [0; Handshake::LEN];
        stream.read_exact(&mut theirs).await.ok()?;
        let mut id = *b"-XX0000-000000000000";
        id[18..].copy_from_slice(&address.port().to_be_bytes());
        let info_hash = *made.info_hash.as_bytes();
        let ours = Handshake { reserved: Reserved::FAST.with(Reserved::EXTENSIONS), info_hash, peer_id: PeerId(id) };
        stream.write_all(&ours.encode()).await.ok()?;
        Some(Self { stream, decoder: Decoder::new(None), buffer: BytesMut::new() })
    }

    /// All at once. Whether it is heard is no matter.
    async fn say(&mut self, messages: &[Message]) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|message| encode(message, &mut out));
        let _ = self.stream.write_all(&out).await;
    }

    /// The next message; nothing when the connection has ended.
    async fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next that satisfies this.
    async fn hear_until(&mut self, is_it: impl Fn(&Message) -> bool) -> Option<Message> {
        loop {
            let message = self.hear().await?;
            if is_it(&message) {
                return Some(message);
            }
        }
    }

    async fn request(&mut self) -> Option<Block> {
        match self.hear_until(|message| matches!(message, Message::Request(_))).await? {
            Message::Request(block) => Some(block),
            _ => None,
        }
    }
}

/// What came before the broken rule counts as there: nobody is asked for it again.
#[tokio::test]
async fn a_good_block_before_a_broken_rule_is_kept() {
    let made = Made::new(1, 4);
    let said = Arc::new(Notify::new());
    let (torrent, done) = (made.clone(), said.clone());
    let hostile = Peer::new(&made, move |mut wire| {
        let (made, done) = (torrent.clone(), done.clone());
        async move {
            wire.say(&[Message::HaveAll, Message::Unchoke]).await;
            if let Some(block) = wire.request().await {
                wire.say(&[made.piece(block), Message::Have(9_999_999)]).await;
                while wire.hear().await.is_some() {}
            }
            done.notify_one();
        }
    });
    let hostile = hostile.await;
    let honest = Peer::honest(&made, &[0], said).await;
    made.is_fetched(BitTorrentConfig::new(), &[&hostile, &honest]).await;
}

/// A peer asks for what the limit doesn't let pass, and sends what is missing: one has nothing to do with the other.
#[tokio::test]
async fn a_limit_of_what_is_given_stops_nothing_that_comes() {
    let made = Made::new(2, 2);
    let (torrent, having, may) = (made.clone(), made.having(&[1]), Arc::new(Notify::new()));
    let begin = may.clone();
    let greedy = Peer::new(&made, move |mut wire| {
        let (made, having, begin) = (torrent.clone(), having.clone(), begin.clone());
        async move {
            wire.say(&[having, Message::Interested]).await;
            wire.hear_until(|message| *message == Message::HaveNone).await;
            begin.notify_one();
            wire.hear_until(|message| *message == Message::Have(0)).await;
            wire.say(&[Message::Request(Block { piece: 0, begin: 0, len: BLOCK })]).await;
            // What is asked for is asked for before anything comes.
            wire.say(&[Message::Unchoke]).await;
            while let Some(block) = wire.request().await {
                wire.say(&[made.piece(block)]).await;
            }
        }
    });
    let greedy = greedy.await;
    let honest = Peer::honest(&made, &[0], may).await;
    made.is_fetched(BitTorrentConfig::new().with_upload_rate(Some(1)), &[&greedy, &honest]).await;
}

/// Waits until all is here and only given.
async fn shares(handle: &Handle) {
    let mut events = handle.events();
    while timeout(NEVER, events.next()).await.unwrap().expect("it has ended") != Event::State(State::Sharing) {}
}

fn at_once() -> Arc<Notify> {
    let may = Arc::new(Notify::new());
    may.notify_one();
    may
}

/// One that says what it heard, once it may ask for this block.
async fn leech(made: &Made, block: Block, may: Arc<Notify>) -> (Peer, mpsc::Receiver<Message>) {
    let (heard, hears) = mpsc::channel(100);
    let peer = Peer::new(made, move |mut wire| {
        let (may, heard) = (may.clone(), heard.clone());
        async move {
            let ours = ExtensionHandshake::ours("leech").encode();
            let ours = Message::Extended { id: extension::HANDSHAKE, payload: ours };
            wire.say(&[Message::HaveNone, ours, Message::Interested]).await;
            wire.hear_until(|message| *message == Message::Unchoke).await;
            may.notified().await;
            wire.say(&[Message::Request(block)]).await;
            while let Some(message) = wire.hear().await {
                if heard.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
    (peer.await, hears)
}

/// The disk has lost what is shared: that is told to who asks for it, and is no reason to end.
#[tokio::test]
async fn what_cannot_be_read_is_not_given() {
    let made = Made::new(2, 2);
    let to = tempfile::tempdir().unwrap();
    let may = Arc::new(Notify::new());
    let block = Block { piece: 1, begin: 0, len: BLOCK };
    let (leech, mut hears) = leech(&made, block, may.clone()).await;
    let honest = Peer::honest(&made, &[0, 1], at_once()).await;
    let config = BitTorrentConfig::new().with_seed(SeedGoal::FOREVER);
    let handle = made.fetch(config, &[&honest, &leech]).to_dir(to.path()).start();
    shares(&handle).await;
    std::fs::OpenOptions::new().write(true).open(to.path().join("file.bin")).unwrap().set_len(1).unwrap();
    may.notify_one();
    let gone = Message::Extended { id: Extension::DontHave.number(), payload: encode_dont_have(1) };
    let mut expected = vec![gone, Message::Reject(block)];
    while !expected.is_empty() {
        let message = timeout(NEVER, hears.recv()).await.unwrap().expect("the connection has ended");
        expected.retain(|expected| *expected != message);
    }
    handle.stop();
    handle.wait().await.unwrap();
}

/// Of two files one is wanted, and that is given once.
#[tokio::test]
async fn the_ratio_is_of_what_was_wanted() {
    let made = Made::planned(9, 1, |len, options| {
        let files =
            vec![NewFile::new(["small.bin"], BLOCK.into()), NewFile::new(["large.bin"], len - u64::from(BLOCK))];
        Plan::folder("folder", files, options)
    });
    let to = tempfile::tempdir().unwrap();
    let may = Arc::new(Notify::new());
    let (leech, _hears) = leech(&made, Block { piece: 0, begin: 0, len: BLOCK }, may.clone()).await;
    let honest = Peer::honest(&made, &[0], at_once()).await;
    let config = BitTorrentConfig::new().with_seed(SeedGoal::ratio(1.0));
    let download = made.fetch(config, &[&honest, &leech]).select(|path| path.to_string().contains("small"));
    let handle = download.to_dir(to.path()).start();
    shares(&handle).await;
    may.notify_one();
    let report = timeout(NEVER, handle.wait()).await.expect("the goal is never reached").unwrap();
    assert_eq!(report.uploaded, u64::from(BLOCK));
}

/// The user says how the content is cut. Pieces shorter than the torrent's are checked in theirs; longer ones no peer brings.
#[tokio::test]
async fn pieces_of_another_length_are_used_or_refused() {
    let made = Made::new(4, 2);
    let digests = |blocks: u32| {
        let pieces = made.content.chunks((blocks * BLOCK) as usize);
        pieces.map(|piece| dlm_api::Digest::new(Algorithm::Sha1, &Sha1::digest(piece)[..]).unwrap()).collect::<Vec<_>>()
    };
    for (blocks, fits) in [(1, true), (4, false)] {
        let to = tempfile::tempdir().unwrap();
        let honest = Peer::honest(&made, &[0, 1, 2, 3], at_once()).await;
        let torrent = Metainfo::parse(made.torrent.clone()).unwrap();
        let source = torrents(BitTorrentConfig::new(), &[&honest]).torrent(&torrent);
        let download = Client::builder().threads(2).build().download_from_sources().source(source);
        let job = download.pieces(u64::from(blocks * BLOCK), digests(blocks)).to_file(to.path().join("file.bin"));
        let fetched = timeout(NEVER, job).await.expect("it neither comes nor is refused");
        if fits {
            fetched.unwrap();
            assert!(std::fs::read(to.path().join("file.bin")).unwrap() == made.content);
        } else {
            assert_eq!(fetched.unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}

/// It has the metadata, as it says, and talks without end in place of giving it.
#[tokio::test]
async fn who_floods_a_magnet_link_is_left() {
    let made = Made::new(1, 1);
    let left = Arc::new(Notify::new());
    let leaves = left.clone();
    let hostile = Peer::new(&made, move |mut wire| {
        let left = leaves.clone();
        async move {
            let mut ours = ExtensionHandshake::ours("hostile");
            ours.metadata_len = Some(100);
            wire.say(&[Message::Extended { id: extension::HANDSHAKE, payload: ours.encode() }]).await;
            wire.hear_until(|message| matches!(message, Message::Extended { id, .. } if *id != extension::HANDSHAKE))
                .await;
            let mut nothing = BytesMut::new();
            encode(&Message::Extended { id: 99, payload: Bytes::from_static(b"de") }, &mut nothing);
            while wire.stream.write_all(&nothing).await.is_ok() {}
            left.notify_one();
        }
    });
    let hostile = hostile.await;
    let magnet = format!("magnet:?xt=urn:btih:{}", made.info_hash);
    let client = Client::builder().threads(2).protocol(torrents(BitTorrentConfig::new(), &[&hostile])).build();
    let to = tempfile::tempdir().unwrap();
    let handle = client.download(&magnet).to_dir(to.path()).start();
    timeout(NEVER, left.notified()).await.expect("it may go on for ever");
    drop(handle);
}

/// Who asks for much at once, and says nothing more, needn't say anything to be given all of it: at half a mebibyte each time
/// somebody looks whether there is something to do it would take longer than anybody waits.
#[tokio::test]
async fn who_asks_once_for_much_is_given_all_of_it() {
    let made = Made::new(8, 256);
    let to = tempfile::tempdir().unwrap();
    let blocks: Vec<Block> =
        (0..8).flat_map(|piece| (0..240).map(move |i| Block { piece, begin: i * BLOCK, len: BLOCK })).collect();
    let (given, all_given) = (Arc::new(Notify::new()), blocks.len());
    let (asked, got) = (blocks.clone(), given.clone());
    let greedy = Peer::new(&made, move |mut wire| {
        let (asked, got) = (asked.clone(), got.clone());
        async move {
            wire.say(&[Message::HaveNone]).await;
            for _ in 0..8 {
                wire.hear_until(|message| matches!(message, Message::Have(_))).await;
            }
            wire.say(&[Message::Interested]).await;
            wire.hear_until(|message| *message == Message::Unchoke).await;
            wire.say(&asked.iter().map(|block| Message::Request(*block)).collect::<Vec<_>>()).await;
            for _ in 0..all_given {
                wire.hear_until(|message| matches!(message, Message::Piece { .. })).await;
            }
            got.notify_one();
        }
    });
    let greedy = greedy.await;
    let honest = Peer::honest(&made, &[0, 1, 2, 3, 4, 5, 6, 7], at_once()).await;
    let config = BitTorrentConfig::new().with_seed(SeedGoal::FOREVER);
    let handle = made.fetch(config, &[&honest, &greedy]).to_dir(to.path()).start();
    timeout(NEVER, given.notified()).await.expect("not all of it is given");
    handle.stop();
    handle.wait().await.unwrap();
}
