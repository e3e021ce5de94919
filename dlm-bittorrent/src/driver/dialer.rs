//! [`Dialer`]: opens connections as the swarm wants them, and runs each until it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dlm_api::{Result, Task};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time;

use super::{Torrent, now, peer};
use crate::peer::{self as peers, Ended};
use crate::session::{PATIENCE, answer, shake_hands};
use crate::wire::Handshake;

/// How long an address may take to accept the first connection to it, which most dead ones never do: while one is waited for, a
/// living one isn't tried. The system asks again after one second and after three.
const FIRST_PATIENCE: Duration = Duration::from_secs(4);

/// How many connections all torrents together have, and may have.
#[derive(Debug)]
pub(crate) struct Room {
    connections: Arc<AtomicUsize>,
    half_open: Arc<AtomicUsize>,
    max_connections: usize,
    max_half_open: usize,
}

impl Room {
    pub(crate) fn new(max_connections: usize, max_half_open: usize) -> Self {
        Self { connections: Arc::default(), half_open: Arc::default(), max_connections, max_half_open }
    }

    pub(super) fn left(&self) -> peers::Room {
        peers::Room {
            half_open: self.max_half_open.saturating_sub(self.half_open.load(Ordering::Relaxed)),
            connections: self.max_connections.saturating_sub(self.connections.load(Ordering::Relaxed)),
        }
    }

    /// One more connection, open or not.
    pub(super) fn connection(&self) -> Place {
        Place::take(&self.connections)
    }

    /// One more that is being opened.
    pub(super) fn half_open(&self) -> Place {
        Place::take(&self.half_open)
    }
}

/// A connection that is counted for as long as this lives.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens connections, and runs each until it ends.
pub(super) struct Dialer {
    torrent: Arc<Torrent>,
    running: FuturesUnordered<Task<()>>,
}

impl Dialer {
    pub(super) fn new(torrent: Arc<Torrent>) -> Self {
        Self { torrent, running: FuturesUnordered::new() }
    }

    /// Connects to whom the swarm wants to, as far as there is room.
    pub(super) fn fill(&mut self) {
        let torrent = self.torrent.clone();
        let room = &torrent.common.room;
        let next = || torrent.swarm().addresses().next(now(), room.left());
        while let Some(address) = next() {
            let torrent = torrent.clone();
            let places = (room.connection(), room.half_open());
            self.spawn(async move {
                let (_connection, half_open) = places;
                let connected = dial(&torrent, address).await;
                drop(half_open);
                match connected {
                    Ok((stream, theirs)) => peer::run(&torrent, stream, address, true, &theirs).await,
                    Err(error) => {
                        tracing::debug!(%address, %error, "a peer can't be connected to");
                        torrent.named.failed(address, &error, torrent.store.transfer());
                        torrent.swarm().addresses().ended(now(), address, true, Ended::Failed);
                        torrent.nudge.notify_one();
                    }
                }
            });
        }
    }

    /// Somebody has connected to us.
    pub(super) fn welcome(&mut self, stream: TcpStream, address: SocketAddr, theirs: Handshake) {
        let room = &self.torrent.common.room;
        if room.left().connections == 0 {
            return;
        }
        let place = room.connection();
        let torrent = self.torrent.clone();
        self.spawn(async move {
            let _place = place;
            let Ok(mut stream) = here(stream) else { return };
            let ours = torrent.common.handshake(*torrent.info.info_hash().as_bytes());
            if answer(&mut stream, &ours).await.is_ok() {
                peer::run(&torrent, stream, address, false, &theirs).await;
            }
        });
    }

    fn spawn(&mut self, run: impl Future<Output = ()> + Send + 'static) {
        self.running.push(self.torrent.store.transfer().spawn(run));
    }

    /// Returns when a connection has ended.
    pub(super) async fn ended(&mut self) {
        if self.running.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// A stream that was accepted elsewhere, driven by the runtime that this runs on.
fn here(stream: TcpStream) -> std::io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// Connects to a peer. One who has failed before is slow perhaps, and is given more time.
pub(super) async fn connect(address: SocketAddr, has_failed: bool) -> Result<TcpStream> {
    let late = || dlm_api::Error::new(dlm_api::ErrorKind::Timeout, "the peer doesn't answer");
    let patience = if has_failed { PATIENCE } else { FIRST_PATIENCE };
    let connected = time::timeout(patience, TcpStream::connect(address)).await.map_err(|_| late())?;
    connected.map_err(|e| dlm_api::Error::network("cannot connect to the peer", e))
}

async fn dial(torrent: &Torrent, address: SocketAddr) -> Result<(TcpStream, Handshake)> {
    let has_failed = torrent.swarm().addresses().has_failed(address);
    let mut stream = connect(address, has_failed).await?;
    let ours = torrent.common.handshake(*torrent.info.info_hash().as_bytes());
    let theirs = shake_hands(&mut stream, &ours).await?;
    Ok((stream, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose queue is full is as silent as a dead one.
    #[tokio::test]
    async fn who_never_answered_is_given_up_first() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // One more than it has been told to take.
        let _queued = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        tokio::select! {
            biased;
            _ = connect(address, true) => panic!("who failed before is given less time"),
            first = connect(address, false) => assert_eq!(first.unwrap_err().kind(), dlm_api::ErrorKind::Timeout),
        }
    }
}
