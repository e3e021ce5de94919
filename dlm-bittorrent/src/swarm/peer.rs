//! What is known of one connected peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::peer::{Meter, UploadQueue};
use crate::piece::{Bitfield, Has};
use crate::wire::{Message, PeerId};

use super::Close;
use super::window::Window;
use crate::peer::budget::Budget;

/// Who has rejected blocks of so many pieces in a few seconds is not asked for others either.
const MAX_REJECTED: usize = 8;

/// Where a block stands in the table of partial pieces. While it is referred to, its row stays.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct BlockRef {
    pub(super) row: u32,
    pub(super) piece: u32,
    pub(super) index: u32,
}

/// A request that was not answered yet.
#[derive(Copy, Clone, Debug)]
pub(super) struct Request {
    pub(super) block: BlockRef,
    pub(super) at: Instant,
    /// Whether it is overdue: others may be asked, but it would still be taken.
    pub(super) stale: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) id: PeerId,
    pub(super) outgoing: bool,
    /// Whether the fast extension was agreed on (BEP 6).
    pub(super) fast: bool,
    pub(super) since: Instant,
    pub(super) pieces: Pieces,
    /// Whether it has said which pieces it has.
    pub(super) introduced: bool,
    /// How many of its pieces are missing here.
    pub(super) useful: u32,
    pub(super) upload_only: bool,
    /// The number under which it is told what is had no longer (BEP 54).
    pub(super) dont_have: Option<u8>,

    pub(super) chokes_us: bool,
    pub(super) wants_us: bool,
    /// What it was told; `unchoke` is what it should be told.
    pub(super) is_choked: bool,
    pub(super) is_wanted: bool,
    pub(super) unchoke: bool,

    /// Pieces that may be requested of it while it chokes, and those that it may request, each with how many more blocks.
    pub(super) allowed: Vec<u32>,
    pub(super) granted: Vec<(u32, u32)>,
    pub(super) suggested: VecDeque<u32>,
    /// Pieces of which it has rejected a block lately although it doesn't choke us, and when.
    pub(super) rejected: Vec<(u32, Instant)>,

    pub(super) requests: VecDeque<Request>,
    /// How many of them are not stale.
    pub(super) live: u32,
    pub(super) window: Window,
    /// The partial piece whose blocks it was asked for last.
    pub(super) current: Option<(u32, u32)>,
    /// Its window has room, and there was nothing to ask for.
    pub(super) hungry: bool,
    pub(super) snubs: bool,
    /// How often in a row its requests became overdue.
    pub(super) timeouts: u32,
    pub(super) last_block: Instant,
    /// Since when we are busy with what it sent, and read nothing: it is not late.
    pub(super) waits_for_us: Option<Instant>,
    /// It is one of those who may have sent a bad block: it gets whole pieces for itself until one is good.
    pub(super) parole: bool,

    pub(super) uploads: UploadQueue,
    pub(super) down: Meter,
    pub(super) up: Meter,

    pub(super) greeted: bool,
    /// How far in the log of completed pieces it has been told.
    pub(super) told: usize,
    pub(super) pending: Vec<Message>,
    pub(super) awake: bool,
    pub(super) closing: Option<Close>,
    pub(super) last_received: Instant,
    pub(super) last_sent: Instant,
    /// When either side last wanted something.
    pub(super) last_wanted: Instant,

    /// How many blocks may still come that are not waited for any more.
    pub(super) forgiven: u32,
    pub(super) unsolicited: u32,
    pub(super) bad_requests: u32,
    pub(super) chatter: Budget,
    pub(super) refused: Budget,
    pub(super) extended: Budget,
}

impl Peer {
    pub(super) fn new(now: Instant, address: SocketAddr, id: PeerId, outgoing: bool, fast: bool, pieces: u32) -> Self {
        Self {
            address,
            id,
            outgoing,
            fast,
            since: now,
            pieces: Pieces::Some(Bitfield::new(pieces)),
            introduced: false,
            useful: 0,
            upload_only: false,
            dont_have: None,
            chokes_us: true,
            wants_us: false,
            is_choked: true,
            is_wanted: false,
            unchoke: false,
            allowed: Vec::new(),
            granted: Vec::new(),
            suggested: VecDeque::new(),
            rejected: Vec::new(),
            requests: VecDeque::new(),
            live: 0,
            window: Window::new(),
            current: None,
            hungry: false,
            snubs: false,
            timeouts: 0,
            last_block: now,
            waits_for_us: None,
            parole: false,
            uploads: UploadQueue::default(),
            down: Meter::default(),
            up: Meter::default(),
            greeted: false,
            told: 0,
            pending: Vec::new(),
            awake: false,
            closing: None,
            last_received: now,
            last_sent: now,
            last_wanted: now,
            forgiven: 0,
            unsolicited: 0,
            bad_requests: 0,
            chatter: Budget::chatter(now),
            refused: Budget::refused(now),
            extended: Budget::extended(now),
        }
    }

    pub(super) fn is_seed(&self) -> bool {
        match &self.pieces {
            Pieces::Seed => true,
            Pieces::Some(bits) => bits.is_full(),
        }
    }

    /// Whether it may be asked for blocks of this piece now, if it has it.
    pub(super) fn may_be_asked(&self, piece: u32) -> bool {
        let has_rejected = self.rejected.iter().any(|(rejected, _)| *rejected == piece);
        !has_rejected && !self.rejects_all() && (!self.chokes_us || self.allowed.contains(&piece))
    }

    /// Whether it has rejected so much lately that it is left alone for a while.
    pub(super) fn rejects_all(&self) -> bool {
        self.rejected.len() >= MAX_REJECTED
    }

    /// Whether it sends a piece of this length within 20 seconds: then it gets whole pieces for itself, whose blocks come
    /// in order from one peer. Slower ones share pieces, so that these don't take forever.
    pub(super) fn is_fast_for(&self, piece_len: u32) -> bool {
        !self.snubs && self.down.rate() * 20.0 >= f64::from(piece_len)
    }

    /// How many bytes it will send in this time of what it was asked for: all of it as long as nobody knows how fast it is.
    pub(super) fn coming_within(&self, time: Duration) -> f64 {
        let asked = f64::from(self.live) * f64::from(crate::wire::BLOCK_LEN);
        match () {
            () if self.snubs => 0.0,
            () if self.window.is_starting() => asked,
            () => asked.min(self.down.rate() * time.as_secs_f64()),
        }
    }

    /// How long its queue of requests lasts.
    pub(super) fn backlog(&self) -> Duration {
        let bytes = f64::from(self.live) * f64::from(crate::wire::BLOCK_LEN);
        Duration::try_from_secs_f64(bytes / self.down.rate().max(1.0)).unwrap_or(Duration::MAX)
    }
}

/// The pieces that a peer has.
#[derive(Debug)]
pub(super) enum Pieces {
    /// All, and it is counted as a seed.
    Seed,
    /// These, and each is counted.
    Some(Bitfield),
}

impl Pieces {
    pub(super) fn has(&self, piece: u32) -> bool {
        self.as_has().has(piece)
    }

    pub(super) fn as_has(&self) -> Has<'_> {
        match self {
            Self::Seed => Has::All,
            Self::Some(bits) => Has::Pieces(bits),
        }
    }

    pub(super) fn count(&self, pieces: u32) -> u32 {
        match self {
            Self::Seed => pieces,
            Self::Some(bits) => bits.count(),
        }
    }

    pub(super) fn count_useful(&self, missing: &Bitfield) -> u32 {
        match self {
            Self::Seed => missing.count(),
            Self::Some(bits) => bits.count_common(missing),
        }
    }
}
