//! [`Listener`]: the port that peers connect to, for all torrents.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dlm_api::{Error, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time;

use super::Common;
use crate::InfoHash;
use crate::session::listen;
use crate::wire::Handshake;

/// How many connections may be waited for to say which torrent they are for. With one more, the one that has said nothing for
/// longest gives way: who comes to talk says so at once.
const MAX_UNKNOWN: usize = 32;

/// How long nothing is accepted after that failed: most often there are too many open files, and that passes.
const PAUSE: Duration = Duration::from_secs(1);

/// Somebody who connected to us.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) handshake: Handshake,
}

/// The listener of a client, for as long as a torrent needs one.
#[derive(Default, Debug)]
pub(crate) struct Listeners(AsyncMutex<Weak<Listener>>);

impl Listeners {
    /// The listener; a new one if there is none.
    pub(crate) async fn get(&self, address: SocketAddr) -> Result<Arc<Listener>> {
        // Of two torrents that start at a time, one waits for the other: a port is bound once.
        let mut known = self.0.lock().await;
        if let Some(listener) = known.upgrade() {
            return Ok(listener);
        }
        let failed = |e: io::Error| Error::network("cannot listen for peers", e).with("address", address);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        let listener = Arc::new(Listener { socket, port, torrents: Mutex::default() });
        *known = Arc::downgrade(&listener);
        Ok(listener)
    }
}

/// The port that peers connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    port: u16,
    torrents: Mutex<HashMap<InfoHash, mpsc::Sender<Incoming>>>,
}

/// A torrent that peers can connect to, for as long as this lives.
pub(crate) struct Registered {
    listener: Arc<Listener>,
    torrent: InfoHash,
    to: mpsc::Sender<Incoming>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut torrents = self.listener.torrents();
        // The torrent may have been started again meanwhile.
        if torrents.get(&self.torrent).is_some_and(|to| to.same_channel(&self.to)) {
            torrents.remove(&self.torrent);
        }
    }
}

impl Listener {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn torrents(&self) -> MutexGuard<'_, HashMap<InfoHash, mpsc::Sender<Incoming>>> {
        self.torrents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who connects for this torrent is passed on.
    pub(crate) fn register(self: &Arc<Self>, torrent: InfoHash, to: mpsc::Sender<Incoming>) -> Registered {
        self.torrents().insert(torrent, to.clone());
        Registered { listener: self.clone(), torrent, to }
    }

    /// Accepts connections, for whichever torrent they are. Each torrent does this while it runs.
    pub(crate) async fn accept_all(&self, common: &Common) {
        let mut unknown = FuturesUnordered::new();
        // Each ends when its sender is dropped.
        let mut waiting: VecDeque<oneshot::Sender<()>> = VecDeque::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, address)) if common.config.filter.allows(address.ip()) => {
                        waiting.retain(|waiting| !waiting.is_closed());
                        if waiting.len() >= MAX_UNKNOWN {
                            waiting.pop_front();
                        }
                        let (sender, gives_way) = oneshot::channel();
                        waiting.push_back(sender);
                        unknown.push(self.pass_on(stream, address, gives_way));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection");
                        time::sleep(PAUSE).await;
                    }
                },
                Some(()) = unknown.next() => {}
            }
        }
    }

    async fn pass_on(&self, mut stream: TcpStream, address: SocketAddr, gives_way: oneshot::Receiver<()>) {
        let heard = tokio::select! {
            heard = listen(&mut stream) => heard,
            _ = gives_way => return,
        };
        let Ok(handshake) = heard else { return };
        let torrent = self.torrents().get(&InfoHash::from(handshake.info_hash)).cloned();
        if let Some(torrent) = torrent {
            // A torrent that has too many to look at takes no more.
            let _ = torrent.try_send(Incoming { stream, address, handshake });
        }
    }
}

#[cfg(test)]
mod tests {
    use dlm_api::Limiter;
    use dlm_http::HttpConfig;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::BitTorrentConfig;
    use crate::driver::{Room, random_peer_id};
    use crate::tracker::client::TrackerClient;

    #[tokio::test]
    async fn what_was_started_again_stays_registered() {
        let listeners = Listeners::default();
        let listener = listeners.get(([127, 0, 0, 1], 0).into()).await.unwrap();
        let torrent = InfoHash::from([1; 20]);
        let (old, new) = (mpsc::channel(1).0, mpsc::channel(1).0);
        let first = listener.register(torrent, old);
        let second = listener.register(torrent, new);
        drop(first);
        assert_eq!(listener.torrents().len(), 1);
        drop(second);
        assert_eq!(listener.torrents().len(), 0);
    }

    #[tokio::test]
    async fn the_silent_make_room() {
        let common = Common {
            config: BitTorrentConfig::default(),
            peer_id: random_peer_id(),
            trackers: TrackerClient::new(HttpConfig::default()).unwrap(),
            uploads: Limiter::new(None),
            room: Room::new(1, 1),
            listeners: Listeners::default(),
        };
        let listener = common.listeners.get(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (to, mut incoming) = mpsc::channel(1);
        let _registered = listener.register(InfoHash::from([1; 20]), to);
        let come = async {
            let mut silent = Vec::new();
            for _ in 0..MAX_UNKNOWN + 8 {
                silent.push(TcpStream::connect(("127.0.0.1", listener.port())).await.unwrap());
            }
            let mut honest = TcpStream::connect(("127.0.0.1", listener.port())).await.unwrap();
            honest.write_all(&common.handshake([1; 20]).encode()).await.unwrap();
            assert!(incoming.recv().await.is_some());
            // Nobody had to wait until those before were given up.
            let last_to_give_way = silent[MAX_UNKNOWN - 1].readable();
            assert!(time::timeout(Duration::from_millis(100), last_to_give_way).await.is_err(), "it was hung up on");
        };
        tokio::select! {
            () = listener.accept_all(&common) => {}
            () = come => {}
        }
    }
}
