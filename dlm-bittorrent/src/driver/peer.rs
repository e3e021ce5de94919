//! One connection at work: what the peer says goes to the swarm, what the swarm says goes to the peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::downloads::{self, Came};
use super::store::is_fatal;
use super::uploads::{self, Answer};
use super::{Connection, Torrent, now};
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
                writing: None,
                answering: None,
                text: BytesMut::new(),
                asked: None,
                extensions: theirs.reserved.has(Reserved::EXTENSIONS).then(ExtensionHandshake::default),
                metadata: MetadataServer::new(now(), torrent.info.info_bytes().len() as u32),
            };
            let _connected = torrent.store.transfer().connected();
            let ended = peer.run().await;
            tracing::debug!(%address, ?ended, "a connection to a peer has ended");
            // Whatever the peer did then: what came before counts as there.
            let written = match peer.writing.take() {
                Some(writing) => writing.await,
                None => Ok(()),
            };
            for error in [ended, written].into_iter().filter_map(Result::err).filter(is_fatal) {
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
    /// What came, on its way into the leases of its pieces. Nothing is read meanwhile: that is the back-pressure.
    writing: Option<BoxFuture<'static, Result<()>>>,
    /// What the peer asked for, on its way to it.
    answering: Option<BoxStream<'static, Answer>>,
    /// What is to be sent, but for the content of blocks.
    text: BytesMut,
    /// The request that is to be answered next, which did not go on where the one before it ended.
    asked: Option<Block>,
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
            if self.answering.is_none() || self.session.out().len() >= MAX_WAITING {
                // What the system takes now makes room for the next answer: nothing else may come that would wake us.
                self.session.send()?;
            }
            self.answer();
            let has_room = self.session.out().len() < MAX_WAITING;
            let Self { session, writing, answering, .. } = self;
            let reads = writing.is_none();
            // Neither the limit of what is given nor that of what is taken keeps the other one's work waiting.
            tokio::select! {
                biased;
                Some(written) = under_way(writing) => {
                    self.writing = None;
                    self.torrent.swarm().written(now(), self.key);
                    written?;
                }
                Some(answer) = next_of(answering), if has_room => {
                    match answer {
                        Some(answer) => self.upload(answer),
                        None => self.answering = None,
                    }
                    // What it has to be told is told when it is woken.
                    continue;
                }
                ready = session.wait(reads) => match ready? {
                    Ready::Closed => return Ok(()),
                    Ready::Received => {
                        self.received()?;
                        if self.writing.is_some() {
                            continue;
                        }
                    }
                    Ready::Woken => {}
                },
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

    /// Everything that has come. A message that is wrong ends the connection, and undoes nothing of those before it.
    fn received(&mut self) -> Result<()> {
        let mut judged = self.messages();
        let (mut came, mut extended) = (Vec::new(), Vec::new());
        {
            let torrent = self.torrent.clone();
            let mut swarm = torrent.swarm();
            let time = now();
            for message in self.messages.drain(..) {
                match swarm.received(time, self.key, message) {
                    Ok(Received::Block { piece, begin, data, .. }) => came.push(Came { piece, begin, data }),
                    Ok(Received::Extended { id, payload }) => extended.push((id, payload)),
                    Ok(Received::Nothing | Received::Wasted(_) | Received::DhtPort(_)) => {}
                    Err(fault) => {
                        judged = Err(broke_a_rule(fault));
                        break;
                    }
                }
            }
            if !came.is_empty() {
                swarm.writing(time, self.key);
            }
        }
        if !came.is_empty() {
            self.writing = Some(Box::pin(downloads::write(self.torrent.clone(), came)));
        }
        for (id, payload) in extended {
            self.extended(id, &payload);
        }
        judged
    }

    /// Takes the messages out of what came.
    fn messages(&mut self) -> Result<()> {
        while let Some(message) = self.session.next_message()? {
            self.messages.push(message);
        }
        Ok(())
    }

    /// Begins to answer the next requests, unless some are being answered.
    fn answer(&mut self) {
        if self.answering.is_some() || self.session.out().len() >= MAX_WAITING {
            return;
        }
        let blocks = self.requested();
        if !blocks.is_empty() {
            self.answering = Some(uploads::answers(self.torrent.clone(), blocks));
        }
    }

    /// Sends a block, or says that it isn't sent.
    fn upload(&mut self, (block, data): Answer) {
        let Some(data) = data else {
            self.torrent.swarm().not_uploaded(self.key, block);
            return;
        };
        self.text.extend_from_slice(&piece_head(block.piece, block.begin, block.len));
        self.flush_text();
        self.session.out().push(data);
        self.torrent.store.transfer().count_uploaded(block.len.into());
        self.torrent.swarm().uploaded(now(), self.key, block.len.into());
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
                swarm.set_dont_have(self.key, theirs.number_of(Extension::DontHave));
            }
            Some(Extension::Metadata) => {
                let Ok(Some(MetadataMessage::Request(piece))) = MetadataMessage::decode(payload) else { return };
                let Some(number) = theirs.number_of(Extension::Metadata) else { return };
                // Who doesn't read what it asked for isn't given more.
                let has_room = self.session.out().len() < MAX_WAITING;
                let info = Some(self.torrent.info.info_bytes()).filter(|_| has_room);
                let answer = self.metadata.answer(now(), piece, info);
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

/// What comes of a future that is under way, if one is.
async fn under_way<T>(future: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    Some(future.as_mut()?.await)
}

/// What a stream gives next, if there is one.
async fn next_of<T>(stream: &mut Option<BoxStream<'static, T>>) -> Option<Option<T>> {
    Some(stream.as_mut()?.next().await)
}

fn broke_a_rule(fault: crate::swarm::Fault) -> Error {
    Error::new(ErrorKind::Protocol, "the peer broke a rule").with_source(fault)
}
