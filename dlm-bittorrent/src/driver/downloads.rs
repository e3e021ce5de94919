//! Blocks that came from a peer, on their way into the leases of their pieces.

use std::sync::Arc;

use bytes::Bytes;
use dlm_api::Result;

use super::store::{Outcome, is_fatal};
use super::{Torrent, now};

/// A block that has come.
pub(super) struct Came {
    pub(super) piece: u32,
    pub(super) begin: u32,
    pub(super) data: Bytes,
}

/// Gives the blocks that came to the leases of their pieces. The swarm counts them as there, so that this has to be carried to
/// its end whatever becomes of the connection, and of one of the pieces.
pub(super) async fn write(torrent: Arc<Torrent>, came: Vec<Came>) -> Result<()> {
    let mut failed = Ok(());
    let mut blocks = came.into_iter().peekable();
    while let Some(first) = blocks.next() {
        let piece = first.piece;
        // What comes of a piece that was given up meanwhile is of no use.
        let Some(partial) = torrent.store.partial(piece) else { continue };
        let mut locked = partial.lock().await;
        let mut next = Some(first);
        while let Some(Came { begin, data, .. }) = next.take() {
            let outcome = match torrent.store.write(&mut locked, piece, begin, data).await {
                Ok(Outcome::More) => {
                    next = blocks.next_if(|block| block.piece == piece);
                    continue;
                }
                Ok(outcome) => outcome,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    failed = Err(error);
                    Outcome::Lost
                }
            };
            if torrent.store.forget(piece, &partial) {
                whole(&torrent, piece, &outcome);
            }
        }
    }
    failed
}

/// All blocks of a piece have come, or what came is lost.
fn whole(torrent: &Torrent, piece: u32, outcome: &Outcome) {
    let mut swarm = torrent.swarm();
    match outcome {
        Outcome::Done(prints) => swarm.piece_done(now(), piece, &mut |block| prints.of(block)),
        Outcome::Failed(prints) => swarm.piece_failed(piece, &mut |block| prints.of(block)),
        Outcome::Lost => swarm.piece_lost(piece),
        Outcome::More => {}
    }
    if swarm.is_upload_only() {
        torrent.nudge.notify_one();
    }
}
