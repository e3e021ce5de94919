//! Drives one torrent: the connections, timers and trackers around its [`Swarm`].

mod announcer;
mod dialer;
mod downloads;
mod layout;
mod listener;
mod metadata;
mod named;
mod peer;
mod reading;
mod store;
mod uploads;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dlm_api::{Error, ErrorKind, Limiter, Peers, Result, Sharing, Task, Transfer};
use tokio::sync::{Notify, mpsc};
use tokio::{task, time};

use crate::config::{BitTorrentConfig, SeedGoal};
use crate::magnet::Selection;
use crate::metainfo::Info;
use crate::peer::{Origin, Voter};
use crate::piece::{Bitfield, Geometry, Priority};
use crate::swarm::{Close, Config, PeerKey, Swarm};
use crate::tracker::client::TrackerClient;
use crate::wire::{Handshake, PeerId, Reserved};

pub(crate) use announcer::Announcer;
pub(crate) use dialer::Room;
pub(crate) use layout::Layout;
pub(crate) use listener::{Incoming, Listener, Listeners};
pub(crate) use metadata::{Found, fetch as fetch_metadata};
pub(crate) use named::Named;
use store::Store;

/// How often a swarm's timers are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often pieces are looked for that other sources have brought, or that an earlier run had and that are proven by now.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// How many pieces are looked at then: some 10 ms of work. Where more are missing, the others' turn comes next time.
const LOOKED_AT: usize = 65_536;

/// After how many pieces others on the same thread have their turn.
const AT_A_TIME: usize = 4096;

/// After how long somebody who has no way to find peers is told of it: other sources may still be on their way.
const ALONE: Duration = Duration::from_secs(3);

/// How many lists of new peers may wait.
pub(crate) const LISTS: usize = 16;

/// What all torrents of one client share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: BitTorrentConfig,
    pub(crate) peer_id: PeerId,
    pub(crate) trackers: TrackerClient,
    pub(crate) uploads: Limiter,
    pub(crate) room: Room,
    pub(crate) listeners: Listeners,
}

impl Common {
    /// What we say first.
    pub(crate) fn handshake(&self, info_hash: [u8; 20]) -> Handshake {
        Handshake { reserved: Reserved::FAST.with(Reserved::EXTENSIONS), info_hash, peer_id: self.peer_id }
    }
}

impl Common {
    /// The same under a name that nobody knows. Who has not noticed yet that one connection has ended takes the next one of the
    /// same name for a second one, and hangs up.
    fn stranger(&self, info_hash: [u8; 20]) -> Handshake {
        Handshake { peer_id: random_peer_id(), ..self.handshake(info_hash) }
    }
}

/// What a client calls itself: by convention (BEP 20) two letters and four digits of a version.
const PEER_ID_PREFIX: &[u8; 8] = b"-DM0100-";

/// A name that nobody else has.
pub(crate) fn random_peer_id() -> PeerId {
    let mut id = [0; 20];
    let (prefix, random) = id.split_at_mut(PEER_ID_PREFIX.len());
    prefix.copy_from_slice(PEER_ID_PREFIX);
    random.fill_with(|| fastrand::alphanumeric() as u8);
    PeerId(id)
}

/// One torrent, as all of its connections see it.
#[derive(Debug)]
pub(super) struct Torrent {
    common: Arc<Common>,
    info: Info,
    swarm: Mutex<Swarm>,
    store: Store,
    /// How each connection is told that there is something for it.
    connections: Mutex<HashMap<PeerKey, Connection>>,
    /// The port that others can connect to.
    port: Option<u16>,
    named: Arc<Named>,
    /// What ended it all.
    failed: Mutex<Option<Error>>,
    /// Something has happened that the driver has to look at.
    nudge: Notify,
}

#[derive(Clone, Debug)]
struct Connection {
    wake: Arc<Notify>,
    closing: Arc<AtomicBool>,
}

impl Torrent {
    fn swarm(&self) -> MutexGuard<'_, Swarm> {
        // Each of its calls leaves it whole, and none panics.
        self.swarm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<PeerKey, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the connections for which the swarm has something.
    fn wake(&self) {
        let (mut awake, mut closings): (Vec<PeerKey>, Vec<(PeerKey, Close)>) = (Vec::new(), Vec::new());
        {
            let mut swarm = self.swarm();
            swarm.wakes(&mut awake);
            swarm.closings(&mut closings);
        }
        if awake.is_empty() && closings.is_empty() {
            return;
        }
        let connections = self.connections();
        for (key, why) in closings {
            if let Some(connection) = connections.get(&key) {
                tracing::debug!(?key, ?why, "a connection is not wanted any more");
                connection.closing.store(true, Ordering::Relaxed);
                connection.wake.notify_one();
            }
        }
        awake.iter().filter_map(|key| connections.get(key)).for_each(|connection| connection.wake.notify_one());
    }

    /// What trackers are to be told. What is left is of the whole torrent, wanted or not: only who has everything is a seed.
    fn tell(&self, announcer: &Announcer) {
        let swarm = self.swarm();
        let (geometry, had, stats) = (swarm.geometry(), swarm.had(), swarm.stats());
        let last = geometry.pieces().saturating_sub(1);
        let beyond_end = if had.has(last) { geometry.piece_len() - geometry.len_of(last) } else { 0 };
        let here = u64::from(had.count()) * u64::from(geometry.piece_len()) - u64::from(beyond_end);
        announcer.figures().set(stats.uploaded, stats.downloaded, geometry.total() - here);
    }

    /// Everything ends with this error.
    fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.nudge.notify_one();
    }

    fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a torrent is driven with.
pub(crate) struct Plan {
    pub(crate) common: Arc<Common>,
    pub(crate) transfer: Transfer,
    pub(crate) info: Info,
    pub(crate) selection: Selection,
    pub(crate) listener: Option<Arc<Listener>>,
    pub(crate) announcer: Announcer,
    pub(crate) named: Arc<Named>,
    /// Peers that are known already.
    pub(crate) known: Vec<(Origin, SocketAddr)>,
    /// Nobody at these addresses is spoken to.
    pub(crate) bans: Vec<IpAddr>,
    /// Peers as trackers, the user and others tell of them.
    pub(crate) peers: mpsc::Receiver<(Origin, Vec<SocketAddr>)>,
    /// Looks up the peers that are named, for as long as it lives.
    pub(crate) lookup: Task<()>,
}

/// Fetches and shares a torrent until it is complete, and the goal for sharing it is reached.
pub(crate) async fn drive(plan: Plan) -> Result<()> {
    let Plan {
        common,
        transfer,
        info,
        selection,
        listener,
        mut announcer,
        named,
        known,
        bans,
        mut peers,
        lookup: _lookup,
    } = plan;
    // From here on it isn't over before we say so. All may be here, and be known to be, as soon as we tell what there is.
    let is_to_share = common.config.seed != SeedGoal::OFF;
    let mut sharing = Some(if is_to_share { transfer.share() } else { transfer.leave() });
    let layout = Layout::learn(&info, &selection, &transfer)?;
    // Whoever asks for pieces before that asks in vain, and would ask again only after a while.
    transfer.looked_at().await;
    let (geometry, had, unwanted) = pieces(&info, &layout, &transfer).await?;
    let wanted_len = layout.wanted_len(&transfer);
    if !had.is_full() {
        layout.check_division(&transfer)?;
    }
    // What was there before may still be checked: a tracker is told that we completed it only if we fetched a part of it.
    let mut began_complete: Option<bool> = None;
    let mut was_checking = true;
    let torrent = {
        let config = Config::new(*info.info_hash().as_bytes(), common.peer_id)
            .with_peers(common.config.max_peers, common.config.max_half_open)
            .with_upload_slots(common.config.upload_slots)
            .with_filter(common.config.filter.clone());
        let mut swarm = Swarm::new(now(), config, geometry, had, fastrand::Rng::new());
        swarm.set_priorities(as_unwanted(unwanted));
        bans.into_iter().for_each(|address| swarm.addresses().ban(address));
        for (origin, address) in known {
            swarm.addresses().add(address, origin);
        }
        Arc::new(Torrent {
            swarm: Mutex::new(swarm),
            store: Store::new(transfer.clone(), layout, geometry),
            connections: Mutex::default(),
            port: listener.as_ref().map(|listener| listener.port()),
            failed: Mutex::default(),
            nudge: Notify::new(),
            named,
            common: common.clone(),
            info,
        })
    };
    torrent.tell(&announcer);
    let (incoming_sender, mut incoming) = mpsc::channel(LISTS);
    let _registered = listener.as_ref().map(|listener| listener.register(torrent.info.info_hash(), incoming_sender));
    let accepting = async {
        match &listener {
            Some(listener) => listener.accept_all(&common).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(accepting);
    let mut dialer = dialer::Dialer::new(torrent.clone());
    let mut tick = time::interval(TICK);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let (mut reading, mut windows) = (reading::Reading::default(), transfer.windows());
    reading.follow(&torrent, transfer.window());
    let (mut looked, mut look_from) = (now(), 0);
    let mut complete_since: Option<Instant> = None;
    let (started, mut is_alone_told) = (now(), false);
    loop {
        if let Some(error) = torrent.failure() {
            return Err(error);
        }
        let is_checking = transfer.is_checking();
        if began_complete.is_none() && !is_checking {
            began_complete = Some(transfer.left() == Some(0));
        }
        if complete_since.is_none() && transfer.is_complete() {
            complete_since = Some(now());
            // What other sources have brought at last.
            look_elsewhere(&torrent, 0, usize::MAX).await;
            torrent.tell(&announcer);
            // Who has all that he wants but not everything is no seed.
            if began_complete == Some(false) && torrent.swarm().had().is_full() {
                announcer.completed();
            }
        }
        if let Some(since) = complete_since {
            let uploaded = torrent.swarm().stats().uploaded;
            if common.config.seed.is_reached(uploaded, wanted_len, now().saturating_duration_since(since)) {
                break;
            }
        }
        dialer.fill();
        torrent.wake();
        tokio::select! {
            Some(Incoming { stream, address, handshake }) = incoming.recv() => dialer.welcome(stream, address, handshake),
            () = &mut accepting => {}
            Some((origin, list)) = peers.recv() => {
                let mut swarm = torrent.swarm();
                for address in list.into_iter().filter(|address| common.config.filter.allows(address.ip())) {
                    swarm.addresses().add(address, origin);
                }
            }
            () = announcer.run() => {}
            () = dialer.ended() => {}
            () = torrent.nudge.notified() => {}
            () = transfer.completed(), if complete_since.is_none() => {}
            window = windows.next() => reading.follow(&torrent, window),
            _ = tick.tick() => {
                let stats = {
                    let mut swarm = torrent.swarm();
                    for (tracker, ours) in announcer.take_seen() {
                        torrent.port.into_iter().for_each(|port| swarm.told_our_address(Voter::Tracker(tracker), ours, port));
                    }
                    swarm.set_download_limit(transfer.rate_limit());
                    swarm.tick(now(), &mut &torrent.store);
                    if complete_since.is_none() && swarm.addresses().is_idle(now()) {
                        announcer.hurry();
                    }
                    swarm.stats()
                };
                // Not at each change: with a fast peer there are thousands a second, and nearly all of them are our own.
                let is_due = now().saturating_duration_since(looked) >= ELSEWHERE;
                let has_checked = std::mem::replace(&mut was_checking, is_checking) && !is_checking;
                if has_checked || (is_due && (is_checking || transfer.live_sources() > 1)) {
                    look_from = look_elsewhere(&torrent, look_from, if has_checked { usize::MAX } else { LOOKED_AT }).await;
                    looked = now();
                    if has_checked && transfer.is_complete() {
                        // Not before it is told what is here: who has nothing, and wants nothing, is left alone.
                        let (_, _, unwanted) = pieces(&torrent.info, torrent.store.layout(), &transfer).await?;
                        torrent.swarm().set_priorities(as_unwanted(unwanted));
                    }
                }
                let is_stuck = complete_since.is_none() && !is_checking && stats.peers == 0 && transfer.live_sources() <= 1;
                let is_alone = is_stuck && torrent.named.is_empty() && !announcer.has_trackers();
                if is_alone && !is_alone_told && now().saturating_duration_since(started) >= ALONE {
                    is_alone_told = true;
                    alone(&transfer, torrent.port)?;
                }
                torrent.tell(&announcer);
                let copies = stats.copies.whole.saturating_mul(1000) + (stats.copies.fraction * 1000.0) as u32;
                let peers = Peers::new(stats.peers as u32, stats.seeds as u32, copies);
                transfer.set_peers(match announcer.swarm_size() {
                    Some((seeds, others)) => peers.with_known(seeds, others),
                    None => peers,
                });
            }
        }
    }
    drop(dialer);
    torrent.tell(&announcer);
    announcer.stop().await;
    drop::<Option<Sharing>>(sharing.take());
    Ok(())
}

/// There is no tracker, nobody is named, and there is no other source.
fn alone(transfer: &Transfer, port: Option<u16>) -> Result<()> {
    let Some(port) = port else {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there is no tracker, no peer is named, and nobody can connect to us",
        ));
    };
    transfer.warn(format!(
        "there is no tracker, and no peer is named: only who connects to us, at port {port}, can have it"
    ));
    Ok(())
}

fn as_unwanted(pieces: Vec<u32>) -> impl Iterator<Item = (u32, Priority)> {
    pieces.into_iter().map(|piece| (piece, Priority::UNWANTED))
}

/// How the torrent is cut, which of its pieces are here, and which of them nobody wants.
async fn pieces(info: &Info, layout: &Layout, transfer: &Transfer) -> Result<(Geometry, Bitfield, Vec<u32>)> {
    let cut = |e| Error::new(ErrorKind::InvalidInput, "the torrent can't be cut into pieces").with_source(e);
    let geometry = Geometry::new(info.len(), info.piece_len()).map_err(cut)?;
    let (mut had, mut unwanted) = (Bitfield::new(geometry.pieces()), Vec::new());
    for piece in 0..geometry.pieces() {
        if layout.is_sealed(transfer, piece) {
            had.insert(piece);
        } else if !layout.is_wanted(transfer, piece) {
            unwanted.push(piece);
        }
        if (piece as usize).is_multiple_of(AT_A_TIME) {
            task::yield_now().await;
        }
    }
    Ok((geometry, had, unwanted))
}

/// Looks whether missing pieces are here after all, from one on, and says where to go on the next time.
async fn look_elsewhere(torrent: &Torrent, from: u32, at_most: usize) -> u32 {
    let missing: Vec<u32> = {
        let swarm = torrent.swarm();
        let all = swarm.geometry().pieces();
        (from..all).chain(0..from.min(all)).filter(|piece| !swarm.had().has(*piece)).take(at_most).collect()
    };
    let store = &torrent.store;
    for some in missing.chunks(AT_A_TIME) {
        let here = some.iter().copied().filter(|piece| store.layout().is_sealed(store.transfer(), *piece));
        for piece in here.collect::<Vec<_>>() {
            if torrent.swarm().piece_had_elsewhere(now(), piece) {
                // What we were fetching of it is not needed.
                store.forget_all(piece);
            }
        }
        task::yield_now().await;
    }
    torrent.swarm().changed();
    missing.last().map_or(0, |last| last + 1)
}

/// What comes of the future; nothing, ever, without one.
async fn or_never<T>(future: Option<impl Future<Output = T> + Unpin>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The time, which tests may hold still.
pub(crate) fn now() -> Instant {
    time::Instant::now().into_std()
}
