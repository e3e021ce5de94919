//! [`Named`]: the peers that the user and a magnet link name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dlm_api::{Error, Transfer};
use futures::{StreamExt, stream};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time;

use super::Common;
use crate::HostPort;
use crate::peer::Origin;

/// How many names are looked up at once. Each takes a thread for as long, and a link may have a few hundred.
const LOOKUPS: usize = 8;

/// When a name of the user's is looked up again that couldn't be.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The peers that the user and a magnet link name.
#[derive(Debug)]
pub(crate) struct Named {
    of_user: Vec<HostPort>,
    of_link: Vec<HostPort>,
    /// Where the user's are, until he was told that nobody can be reached there.
    untold: Mutex<HashMap<SocketAddr, HostPort>>,
}

impl Named {
    pub(crate) fn new(common: &Common, of_link: &[HostPort]) -> Arc<Self> {
        let (of_user, of_link) = (common.config.peers.clone(), of_link.to_vec());
        Arc::new(Self { of_user, of_link, untold: Mutex::default() })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_user.is_empty() && self.of_link.is_empty()
    }

    /// Looks them up, and tells `to` where they are, each as soon as it is known. The user is told of those of his that can't
    /// be found, and they are looked for again.
    pub(crate) async fn look_up(&self, transfer: &Transfer, to: &mpsc::Sender<(Origin, Vec<SocketAddr>)>) {
        let of_user = self.of_user.iter().map(|peer| (peer, true));
        let mut missing: Vec<_> = of_user.chain(self.of_link.iter().map(|peer| (peer, false))).collect();
        let mut is_first = true;
        while !missing.is_empty() {
            let looking = std::mem::take(&mut missing).into_iter().map(|(peer, is_of_user)| async move {
                let found = lookup_host((peer.host(), peer.port())).await;
                (peer, is_of_user, found.map(Vec::from_iter))
            });
            // Collected first: a closure over borrowed parts would tie the stream to them.
            let looking: Vec<_> = looking.collect();
            let mut looking = stream::iter(looking).buffer_unordered(LOOKUPS);
            while let Some((peer, is_of_user, found)) = looking.next().await {
                match found {
                    Ok(addresses) => {
                        if is_of_user {
                            self.untold().extend(addresses.iter().map(|address| (*address, peer.clone())));
                        }
                        if to.send((Origin::User, addresses)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%peer, %error, "a peer's name can't be resolved");
                        if is_of_user && is_first {
                            transfer.warn(format!("the name of the peer {peer} can't be resolved: {error}"));
                        }
                        missing.extend(is_of_user.then_some((peer, true)));
                    }
                }
            }
            is_first = false;
            if !missing.is_empty() {
                time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Nobody answers there as a peer should. If it is one of the user's, he is told once.
    pub(super) fn failed(&self, address: SocketAddr, error: &Error, transfer: &Transfer) {
        if let Some(peer) = self.untold().remove(&address) {
            transfer.warn(format!("the peer {peer} doesn't serve us: {}", error.chain()));
        }
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, HostPort>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
