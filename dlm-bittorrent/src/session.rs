//! One connection to a peer: bytes in, bytes out. What they mean is [`swarm`](crate::swarm)'s.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time;

use crate::wire::{Decoder, Handshake, HandshakeError, Message};

/// How much is received at once, in bytes: fewer system calls cost less, and more than this leaves the cache before it is used.
const RECEIVE: usize = 256 << 10;

/// The most slices in one system call. A block is two.
const MAX_SLICES: usize = 64;

/// How long a peer may take to accept a connection and to say who it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection after its handshakes.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    incoming: BytesMut,
    decoder: Decoder,
    out: Out,
    /// Somebody has something for the peer.
    pub(crate) wake: Arc<Notify>,
    ended: bool,
}

/// Why a session returned from waiting.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ready {
    /// Bytes came.
    Received,
    /// There is room to send, or something new to be sent.
    Woken,
    /// The peer has closed the connection.
    Closed,
}

/// What is to be sent.
#[derive(Default, Debug)]
pub(crate) struct Out {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Out {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn consume(&mut self, mut bytes: usize) {
        self.len -= bytes;
        while bytes > 0
            && let Some(first) = self.chunks.front_mut()
        {
            if first.len() > bytes {
                let _ = first.split_to(bytes);
                return;
            }
            bytes -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// Sends our handshake and hears the peer's.
pub(crate) async fn shake_hands(stream: &mut TcpStream, ours: &Handshake) -> Result<Handshake> {
    let both = async {
        stream.write_all(&ours.encode()).await.map_err(broken)?;
        hear(stream).await
    };
    time::timeout(PATIENCE, both).await.map_err(|_| slow())?
}

/// Hears the handshake of a peer that came to us.
pub(crate) async fn listen(stream: &mut TcpStream) -> Result<Handshake> {
    time::timeout(PATIENCE, hear(stream)).await.map_err(|_| slow())?
}

/// Answers it.
pub(crate) async fn answer(stream: &mut TcpStream, ours: &Handshake) -> Result<()> {
    time::timeout(PATIENCE, stream.write_all(&ours.encode())).await.map_err(|_| slow())?.map_err(broken)
}

async fn hear(stream: &mut TcpStream) -> Result<Handshake> {
    let mut bytes = [0; Handshake::LEN];
    let mut len = 0;
    loop {
        let strange =
            |e: HandshakeError| Error::new(ErrorKind::Protocol, "the peer speaks something else").with_source(e);
        if let Some(handshake) = Handshake::decode(&bytes[..len]).map_err(strange)? {
            return Ok(handshake);
        }
        match stream.read(&mut bytes[len..]).await.map_err(broken)? {
            0 => return Err(Error::new(ErrorKind::Network, "the peer hung up")),
            n => len += n,
        }
    }
}

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "the peer doesn't answer")
}

fn broken(e: io::Error) -> Error {
    Error::network("the connection to the peer broke", e)
}

/// Waits until the stream can be read or written, as far as that is wanted.
async fn ready(stream: &TcpStream, reads: bool, writes: bool) -> Result<tokio::io::Ready> {
    let interest = match (reads, writes) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (true, false) => Interest::READABLE,
        (false, true) => Interest::WRITABLE,
        (false, false) => return std::future::pending().await,
    };
    stream.ready(interest).await.map_err(broken)
}

impl Session {
    /// A connection to a peer of a torrent with so many pieces, if that is known.
    pub(crate) fn new(stream: TcpStream, pieces: Option<u32>, wake: Arc<Notify>) -> Self {
        // Requests are small, and the peer can't send before it has them. If it fails, they are late.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            incoming: BytesMut::new(),
            decoder: Decoder::new(pieces),
            out: Out::default(),
            wake,
            ended: false,
        }
    }

    pub(crate) fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Sends what there is, waits until the peer sends something or there is something to be told to it. Unless `reads`,
    /// nothing is taken of what the peer sends: the system holds it back. Nothing is lost if the answer is not waited for.
    pub(crate) async fn wait(&mut self, reads: bool) -> Result<Ready> {
        self.send()?;
        let ready = tokio::select! {
            biased;
            ready = ready(&self.stream, reads, self.out.len > 0) => ready?,
            () = self.wake.notified() => return Ok(Ready::Woken),
        };
        if ready.is_writable() {
            self.send()?;
        }
        if reads && ready.is_readable() && self.receive()? {
            return Ok(Ready::Received);
        }
        Ok(if self.ended { Ready::Closed } else { Ready::Woken })
    }

    /// Takes what the system has for us. Whether something came.
    fn receive(&mut self) -> Result<bool> {
        let missing = self.decoder.missing(&self.incoming);
        if self.incoming.capacity() - self.incoming.len() < missing.max(RECEIVE / 4) {
            self.incoming.reserve(RECEIVE.max(missing));
        }
        match self.stream.try_read_buf(&mut self.incoming) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(broken(e)),
        }
    }

    /// The next message of what came.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>> {
        let strange = |e| Error::new(ErrorKind::Protocol, "the peer sent what is no message").with_source(e);
        self.decoder.decode(&mut self.incoming).map_err(strange)
    }

    /// Sends what the system takes.
    pub(crate) fn send(&mut self) -> Result<()> {
        while self.out.len > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.out.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(bytes) => self.out.consume(bytes),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(broken(e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let mut out = Out::default();
        out.push(Bytes::from_static(b"abc"));
        out.push(Bytes::new());
        out.push(Bytes::from_static(b"defg"));
        out.consume(2);
        assert_eq!((out.len(), &out.chunks[0][..]), (5, &b"c"[..]));
        out.consume(3);
        assert_eq!((out.len(), &out.chunks[0][..]), (2, &b"fg"[..]));
        out.consume(2);
        assert!(out.len() == 0 && out.chunks.is_empty());
    }
}
