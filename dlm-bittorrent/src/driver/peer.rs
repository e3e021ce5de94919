//! One connection at work: what the peer says goes to the swarm, what the swarm says goes to the peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::store::{Outcome, is_fatal};
use super::{Connection, Torrent, now, or_never};
use crate::peer::{MetadataServer, Voter};
use crate::session::{Ready, Session};
use crate::swarm::{PeerKey, Received, Swarm};
use crate::wire::codec::piece_head;
use crate::wire::extension::{Extension, ExtensionHandshake, HANDSHAKE, MetadataMessage, decode_dont_have};
use crate::wire::{Block, Handshake, Message, Reserved, encode};

/// What we call ourselves among peers.
pub(super) const CLIENT: &str = concat!("dlm ", env!("CARGO_PKG_VERSION"));

/// How much may wait to be sent to a peer, in bytes: enough to keep the system's buffer full, and read at once.
const MAX_WAITING: usize = 512 << 10;

/// A block that has come.
struct Came {
    piece: u32,
    begin: u32,
    data: Bytes,
}

/// Runs a connection until it ends.
pub(super) async fn run(
    torrent: &Arc<Torrent>,
    stream: TcpStream,
    address: SocketAddr,
    is_outgoing: bool,
    theirs: &Handshake,
) {
    let (wake, closing) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let connected = {
        let mut swarm = torrent.swarm();
        let connected = swarm.connected(now(), address, is_outgoing, theirs);
        if let Ok(key) = connected {
            let connection = Connection { wake: wake.clone(), closing: closing.clone() };
            torrent.connections().insert(key, connection);
        }
        connected
    };
    match connected {
        Ok(key) => {
            let pieces = torrent.swarm().geometry().pieces();
            let mut peer = Peer {
                torrent: torrent.clone(),
                key,
                address,
                session: Session::new(stream, Some(pieces), wake),
                closing,
                messages: Vec::new(),
                came: Vec::new(),
                text: BytesMut::new(),
                asked: None,
                paid: Vec::new(),
                paying: None,
                has_paid: false,
                extensions: theirs.reserved.has(Reserved::EXTENSIONS).then(ExtensionHandshake::default),
                metadata: MetadataServer::new(now(), torrent.info.info_bytes().len() as u32),
            };
            let _connected = torrent.store.transfer().connected();
            let ended = peer.run().await;
            tracing::debug!(%address, ?ended, "a connection to a peer has ended");
            if let Err(error) = ended
                && is_fatal(&error)
            {
                torrent.fail(error);
            }
        }
        Err(refusal) => tracing::debug!(%address, %refusal, "a connection is not wanted"),
    }
    torrent.nudge.notify_one();
}

struct Peer {
    torrent: Arc<Torrent>,
    key: PeerKey,
    address: SocketAddr,
    session: Session,
    closing: Arc<AtomicBool>,
    messages: Vec<Message>,
    came: Vec<Came>,
    /// What is to be sent, but for the content of blocks.
    text: BytesMut,
    /// The request that is to be answered next, which did not go on where the one before it ended.
    asked: Option<Block>,
    /// What is sent next, once the limit lets it through, or when that is so.
    paid: Vec<Block>,
    paying: Option<BoxFuture<'static, ()>>,
    has_paid: bool,
    /// What the peer says of itself, if it speaks of extensions at all.
    extensions: Option<ExtensionHandshake>,
    metadata: MetadataServer,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.torrent.swarm().disconnected(now(), self.key);
        self.torrent.connections().remove(&self.key);
        self.torrent.wake();
    }
}

impl Peer {
    async fn run(&mut self) -> Result<()> {
        self.transmit();
        self.introduce();
        loop {
            if self.closing.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.upload().await?;
            // What comes does not wait for what goes.
            let ready = tokio::select! {
                ready = self.session.wait() => ready?,
                () = or_never(self.paying.as_mut()) => {
                    self.paying = None;
                    Ready::Woken
                }
            };
            match ready {
                Ready::Closed => return Ok(()),
                Ready::Received => self.received().await?,
                Ready::Woken => {}
            }
            self.transmit();
            self.torrent.wake();
        }
    }

    /// Says what we understand (BEP 10).
    fn introduce(&mut self) {
        if self.extensions.is_none() {
            return;
        }
        let mut ours = ExtensionHandshake::ours(CLIENT);
        ours.port = self.torrent.port;
        ours.metadata_len = u32::try_from(self.torrent.info.info_bytes().len()).ok();
        ours.your_address = Some(self.address.ip());
        ours.upload_only = Some(self.torrent.swarm().is_upload_only());
        encode(&Message::Extended { id: HANDSHAKE, payload: ours.encode() }, &mut self.text);
        self.flush_text();
    }

    /// What the swarm wants to say.
    fn transmit(&mut self) {
        if self.session.out().len() > MAX_WAITING {
            return;
        }
        let torrent = self.torrent.clone();
        torrent.swarm().transmit(now(), self.key, &mut &torrent.store, &mut self.text);
        self.flush_text();
    }

    fn flush_text(&mut self) {
        let text = self.text.split().freeze();
        self.session.out().push(text);
    }

    /// Everything that has come.
    async fn received(&mut self) -> Result<()> {
        while let Some(message) = self.session.next_message()? {
            self.messages.push(message);
        }
        let mut extended = Vec::new();
        {
            let torrent = self.torrent.clone();
            let mut swarm = torrent.swarm();
            let time = now();
            for message in self.messages.drain(..) {
                match swarm.received(time, self.key, message).map_err(broke_a_rule)? {
                    Received::Block { piece, begin, data, .. } => self.came.push(Came { piece, begin, data }),
                    Received::Extended { id, payload } => extended.push((id, payload)),
                    Received::Nothing | Received::Wasted(_) | Received::DhtPort(_) => {}
                }
            }
        }
        for (id, payload) in extended {
            self.extended(id, &payload);
        }
        self.write().await
    }

    /// Gives the blocks that came to the leases of their pieces.
    async fn write(&mut self) -> Result<()> {
        let mut came = std::mem::take(&mut self.came);
        let mut blocks = came.drain(..).peekable();
        while let Some(first) = blocks.next() {
            let piece = first.piece;
            let partial = self.torrent.store.partial(piece);
            let mut next = Some(first);
            // What comes of a piece that was given up meanwhile is of no use.
            let Some(partial) = partial else { continue };
            let mut partial = partial.lock().await;
            while let Some(Came { begin, data, .. }) = next.take() {
                match self.torrent.store.write(&mut partial, piece, begin, data).await? {
                    Outcome::More => next = blocks.next_if(|block| block.piece == piece),
                    outcome => {
                        self.whole(piece, &outcome);
                        break;
                    }
                }
            }
        }
        drop(blocks);
        self.came = came;
        Ok(())
    }

    /// All blocks of a piece have come.
    fn whole(&self, piece: u32, outcome: &Outcome) {
        let mut swarm = self.torrent.swarm();
        match outcome {
            Outcome::Done(prints) => swarm.piece_done(now(), piece, &mut |block| prints.of(block)),
            Outcome::Failed(prints) => swarm.piece_failed(piece, &mut |block| prints.of(block)),
            Outcome::Lost => swarm.piece_lost(piece),
            Outcome::More => {}
        }
        if swarm.is_upload_only() {
            self.torrent.nudge.notify_one();
        }
    }

    /// Answers requests, as far as the peer takes the answers.
    async fn upload(&mut self) -> Result<()> {
        while self.paying.is_none() && self.session.out().len() < MAX_WAITING {
            let blocks = match std::mem::take(&mut self.paid) {
                blocks if blocks.is_empty() => self.requested(),
                blocks => blocks,
            };
            let Some(first) = blocks.first() else { return Ok(()) };
            let len: u32 = blocks.iter().map(|block| block.len).sum();
            if !self.has_paid {
                let common = self.torrent.common.clone();
                let mut paying = async move { common.uploads.pass(len.into()).await }.boxed();
                if futures::poll!(paying.as_mut()).is_pending() {
                    (self.paid, self.paying, self.has_paid) = (blocks, Some(paying), true);
                    return Ok(());
                }
            }
            self.has_paid = false;
            let Some(data) = self.read(Block { len, ..*first }).await? else { continue };
            let mut at = 0;
            for block in &blocks {
                self.text.extend_from_slice(&piece_head(block.piece, block.begin, block.len));
                self.flush_text();
                let end = at + block.len as usize;
                self.session.out().push(data.slice(at..end));
                at = end;
            }
            self.torrent.store.transfer().count_uploaded(len.into());
            self.torrent.swarm().uploaded(now(), self.key, len.into());
        }
        Ok(())
    }

    /// The next requests of blocks that follow each other, so that they are read at once.
    fn requested(&mut self) -> Vec<Block> {
        let torrent = self.torrent.clone();
        let mut swarm = torrent.swarm();
        let mut blocks: Vec<Block> = Vec::new();
        let mut len = 0;
        // With a limit, no more than goes in a moment: others wait for it.
        let limit = torrent.common.uploads.rate().map(|rate| usize::try_from(rate / 4).unwrap_or(usize::MAX));
        let most = limit.unwrap_or(usize::MAX).min(MAX_WAITING / 2);
        let next = |swarm: &mut Swarm| swarm.next_upload(now(), self.key);
        let mut asked = self.asked.take().or_else(|| next(&mut swarm));
        while let Some(block) = asked {
            let goes_on =
                blocks.last().is_none_or(|last| last.piece == block.piece && last.begin + last.len == block.begin);
            if !goes_on || len >= most {
                self.asked = Some(block);
                break;
            }
            len += block.len as usize;
            blocks.push(block);
            asked = next(&mut swarm);
        }
        blocks
    }

    /// The bytes of a block; `None` if they are not here any more.
    async fn read(&mut self, block: Block) -> Result<Option<Bytes>> {
        let store = &self.torrent.store;
        let start = u64::from(block.piece) * u64::from(self.torrent.info.piece_len()) + u64::from(block.begin);
        let spans = store.layout().spans(start..start + u64::from(block.len));
        let mut parts = Vec::with_capacity(spans.len());
        for span in &spans {
            match store.transfer().read(span).await {
                Ok(bytes) => parts.push(bytes),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if let [whole] = &*parts {
            return Ok(Some(whole.clone()));
        }
        Ok(Some(parts.concat().into()))
    }

    /// A message of an extension. What is malformed is as if it hadn't come: extensions are courtesies.
    fn extended(&mut self, id: u8, payload: &Bytes) {
        let Some(theirs) = &mut self.extensions else { return };
        match Extension::from_number(id) {
            None if id == HANDSHAKE => {
                let Ok(handshake) = ExtensionHandshake::decode(payload) else { return };
                let mut swarm = self.torrent.swarm();
                if let Some(limit) = handshake.request_limit {
                    swarm.set_request_limit(self.key, limit);
                }
                if let Some((ours, port)) = handshake.your_address.zip(self.torrent.port) {
                    swarm.told_our_address(Voter::Peer(self.address.ip()), ours, port);
                }
                if let Some(upload_only) = handshake.upload_only {
                    swarm.set_upload_only(self.key, upload_only);
                }
                theirs.update(handshake);
            }
            Some(Extension::Metadata) => {
                let Ok(Some(MetadataMessage::Request(piece))) = MetadataMessage::decode(payload) else { return };
                let Some(number) = theirs.number_of(Extension::Metadata) else { return };
                let answer = self.metadata.answer(now(), piece, Some(self.torrent.info.info_bytes()));
                encode(&Message::Extended { id: number, payload: answer.encode() }, &mut self.text);
                self.flush_text();
            }
            Some(Extension::DontHave) => {
                if let Ok(piece) = decode_dont_have(payload) {
                    self.torrent.swarm().dont_have(self.key, piece);
                }
            }
            _ => {}
        }
    }
}

fn broke_a_rule(fault: crate::swarm::Fault) -> Error {
    Error::new(ErrorKind::Protocol, "the peer broke a rule").with_source(fault)
}
