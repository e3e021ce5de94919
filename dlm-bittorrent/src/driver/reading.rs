//! [`Reading`]: has the swarm fetch first what somebody waits for.

use std::time::Duration;

use dlm_api::Window;

use super::{Torrent, now};

/// The pieces that begin within so many bytes of where somebody reads come before all others: about what a film takes in ten
/// seconds.
const AHEAD: u64 = 4 << 20;

/// As many pieces are told of at least, and at most, however long they are.
const MIN_PIECES: usize = 2;
const MAX_PIECES: usize = 64;

/// When the first piece is late, counted from when somebody came near it, and how much later each further one is. A peer whose
/// queue is full answers in two seconds.
const FIRST: Duration = Duration::from_secs(2);
const EACH: Duration = Duration::from_millis(250);

/// Follows the place where somebody reads.
#[derive(Default, Debug)]
pub(super) struct Reading {
    window: Option<Window>,
    /// The pieces that have a deadline.
    urgent: Vec<u32>,
}

impl Reading {
    /// Somebody waits for what is here now, or nobody does any more.
    pub(super) fn follow(&mut self, torrent: &Torrent, window: Option<Window>) {
        if window == self.window {
            return;
        }
        self.window = window;
        let layout = torrent.store.layout();
        let place = window.and_then(|window| Some((window, layout.piece_at(window.entry, window.start)?)));
        let Some((window, first)) = place else {
            self.set_urgent(torrent, Vec::new());
            torrent.swarm().set_window(None);
            return;
        };
        let pieces = torrent.info.piece_count();
        let end = window.end.map(|end| layout.piece_at(window.entry, end).unwrap_or(pieces));
        let some = (AHEAD / u64::from(torrent.info.piece_len())) as usize;
        let urgent = first..end.unwrap_or(pieces).max(first + 1).min(pieces);
        self.set_urgent(torrent, urgent.take(some.clamp(MIN_PIECES, MAX_PIECES)).collect());
        let mut swarm = torrent.swarm();
        swarm.set_window(Some((first, end)));
        // The ledger may give out now what it would not before.
        swarm.changed();
    }

    fn set_urgent(&mut self, torrent: &Torrent, urgent: Vec<u32>) {
        let before = std::mem::replace(&mut self.urgent, urgent);
        let mut swarm = torrent.swarm();
        for piece in before.iter().filter(|piece| !self.urgent.contains(piece)) {
            swarm.set_deadline(*piece, None);
        }
        for (i, piece) in (0..).zip(&self.urgent).filter(|(_, piece)| !before.contains(piece)) {
            swarm.set_deadline(*piece, Some(now() + FIRST + EACH * i));
        }
    }
}
