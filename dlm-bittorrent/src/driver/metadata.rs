//! [`fetch`]: the `info` of a magnet link, from peers (BEP 9).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dlm_api::{Error, ErrorKind, Result, Task, Transfer};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::time;

use super::dialer::{Place, connect};
use super::peer::CLIENT;
use super::{Announcer, Common, Named, now};
use crate::InfoHash;
use crate::metainfo::Info;
use crate::peer::budget::Budget;
use crate::peer::{Added, Ended, Fetched, MAX_CANDIDATES, MetadataFetch, Origin, PeerList};
use crate::session::{Ready, Session, shake_hands};
use crate::wire::extension::{Extension, ExtensionHandshake, HANDSHAKE, MetadataMessage};
use crate::wire::{Message, Reserved, encode};

/// How many peers are asked at a time. The metadata is small, and the first few that answer are enough.
const MAX_PEERS: usize = 12;

/// How long a peer may say nothing.
const SILENCE: Duration = Duration::from_secs(20);

/// How long a peer may bring no piece, whatever else it says: there are others to ask.
const USELESS: Duration = Duration::from_secs(60);

/// How often requests that were not answered are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the connections share.
struct Shared {
    common: Arc<Common>,
    info_hash: InfoHash,
    fetch: Mutex<MetadataFetch<SocketAddr>>,
    /// The metadata, and who is to be banned.
    found: Mutex<Option<Bytes>>,
    bans: Mutex<Vec<SocketAddr>>,
    done: Notify,
    /// Something has changed that others may be asked for.
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of the search.
pub(crate) struct Found {
    pub(crate) info: Info,
    /// The peers that were told of.
    pub(crate) known: Vec<(Origin, SocketAddr)>,
    /// Where somebody has lied.
    pub(crate) bans: Vec<IpAddr>,
}

/// Fetches the `info` with this hash, from peers that trackers and others tell of.
pub(crate) async fn fetch(
    common: &Arc<Common>,
    transfer: &Transfer,
    info_hash: InfoHash,
    announcer: &mut Announcer,
    named: &Named,
    peers: &mut mpsc::Receiver<(Origin, Vec<SocketAddr>)>,
) -> Result<Found> {
    if named.is_empty() && !announcer.has_trackers() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the link names no tracker and no peer, and nobody else knows what it leads to",
        ));
    }
    let shared = Arc::new(Shared {
        common: common.clone(),
        info_hash,
        fetch: Mutex::new(MetadataFetch::of_sha1(*info_hash.as_bytes())),
        found: Mutex::default(),
        bans: Mutex::default(),
        done: Notify::new(),
        changed: Notify::new(),
    });
    let mut list = PeerList::new(MAX_PEERS, MAX_PEERS, fastrand::Rng::new());
    let (mut known, mut bans) = (Vec::new(), Vec::new());
    let mut running: FuturesUnordered<Task<(SocketAddr, Result<()>)>> = FuturesUnordered::new();
    let mut tick = time::interval(TICK);
    loop {
        for liar in lock(&shared.bans).drain(..) {
            list.ban(liar.ip());
            bans.push(liar.ip());
        }
        if let Some(metadata) = lock(&shared.found).take() {
            known.retain(|(_, address): &(Origin, SocketAddr)| !list.is_banned(address.ip()));
            return Ok(Found { info: Info::parse_verified(metadata, info_hash)?, known, bans });
        }
        while let Some(address) = list.next(now(), common.room.left()) {
            let shared = shared.clone();
            let has_failed = list.has_failed(address);
            let places = (common.room.connection(), common.room.half_open());
            running.push(transfer.spawn(async move { (address, ask(&shared, address, has_failed, places).await) }));
        }
        tokio::select! {
            () = shared.done.notified() => {}
            Some(ended) = running.next() => {
                if let Some((address, result)) = ended {
                    tracing::debug!(%address, ?result, "a peer has no more metadata to give");
                    if let Err(error) = &result {
                        named.failed(address, error, transfer);
                    }
                    lock(&shared.fetch).left(address);
                    list.ended(now(), address, true, Ended::Failed);
                    shared.changed.notify_waiters();
                }
            }
            Some((origin, addresses)) = peers.recv() => {
                for address in addresses {
                    let mut is_new = || list.add(address, origin) == Added::New;
                    if common.config.filter.allows(address.ip()) && is_new() && known.len() < MAX_CANDIDATES {
                        known.push((origin, address));
                    }
                }
            }
            () = announcer.run() => {}
            _ = tick.tick() => {
                shared.changed.notify_waiters();
                if list.is_idle(now()) {
                    announcer.hurry();
                }
            }
        }
    }
}

/// Asks one peer for as much as it has.
async fn ask(
    shared: &Shared,
    address: SocketAddr,
    has_failed: bool,
    (_connection, half_open): (Place, Place),
) -> Result<()> {
    let mut stream = connect(address, has_failed).await?;
    let ours = shared.common.stranger(*shared.info_hash.as_bytes());
    let theirs = shake_hands(&mut stream, &ours).await?;
    if theirs.info_hash != *shared.info_hash.as_bytes() || !theirs.reserved.has(Reserved::EXTENSIONS) {
        return Err(Error::new(ErrorKind::Unsupported, "the peer has no metadata to give"));
    }
    drop(half_open);
    let mut session = Session::new(stream, None, Arc::new(Notify::new()));
    let mut text = BytesMut::new();
    encode(&Message::Extended { id: HANDSHAKE, payload: ExtensionHandshake::ours(CLIENT).encode() }, &mut text);
    session.out().push(text.split().freeze());
    let mut extensions = ExtensionHandshake::default();
    let mut heard = time::Instant::now();
    let mut useful = heard;
    let mut budget = Budget::extended(now());
    loop {
        if let Some(number) = extensions.number_of(Extension::Metadata) {
            while let Some(piece) = lock(&shared.fetch).next_request(now(), address) {
                let payload = MetadataMessage::Request(piece).encode();
                encode(&Message::Extended { id: number, payload }, &mut text);
            }
            session.out().push(text.split().freeze());
        }
        let ready = tokio::select! {
            ready = session.wait(true) => ready?,
            () = shared.changed.notified() => Ready::Woken,
            () = time::sleep_until((heard + SILENCE).min(useful + USELESS)) => return Err(Error::new(ErrorKind::Timeout, "the peer brings nothing")),
        };
        if ready == Ready::Closed {
            return Err(Error::new(ErrorKind::Network, "the peer hung up"));
        }
        while let Some(message) = session.next_message()? {
            if !budget.spend(now()) {
                return Err(Error::new(ErrorKind::Protocol, "the peer floods us with messages"));
            }
            let Message::Extended { id, payload } = message else { continue };
            heard = time::Instant::now();
            if id == HANDSHAKE {
                let strange = |e| Error::new(ErrorKind::Protocol, "the peer's extensions make no sense").with_source(e);
                extensions.update(ExtensionHandshake::decode(&payload).map_err(strange)?);
                let joined = extensions.metadata_len.is_some_and(|len| lock(&shared.fetch).joined(address, len));
                if !joined {
                    return Err(Error::new(ErrorKind::Unsupported, "the peer has no metadata to give"));
                }
            } else if Extension::from_number(id) == Some(Extension::Metadata)
                && let Ok(Some(message)) = MetadataMessage::decode(&payload)
            {
                let before = lock(&shared.fetch).pieces_of(address);
                take(shared, address, &message)?;
                if lock(&shared.fetch).pieces_of(address) > before {
                    useful = heard;
                }
            }
        }
    }
}

/// Takes an answer.
fn take(shared: &Shared, address: SocketAddr, message: &MetadataMessage) -> Result<()> {
    let fetched = lock(&shared.fetch).received(now(), address, message);
    match fetched {
        Fetched::Nothing => {}
        Fetched::Done { metadata, liars } => {
            lock(&shared.bans).extend(liars);
            *lock(&shared.found) = Some(metadata);
            shared.done.notify_one();
        }
        Fetched::Wrong(liar) => {
            lock(&shared.bans).extend(liar);
            shared.changed.notify_waiters();
            shared.done.notify_one();
            if liar == Some(address) {
                return Err(Error::new(ErrorKind::Corrupt, "the peer's metadata is wrong"));
            }
        }
    }
    Ok(())
}
