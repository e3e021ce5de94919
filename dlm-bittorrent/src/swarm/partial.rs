//! Pieces of which some blocks are requested or there.
//!
//! The invariant: a row stands in the open list if and only if one of its blocks is free.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::PeerKey;
use super::peer::BlockRef;

/// Stands for "not in the open list".
const CLOSED: u32 = u32::MAX;

#[derive(Default, Debug)]
pub(super) struct Partials {
    rows: Vec<Option<Partial>>,
    vacant: Vec<u32>,
    /// The rows with a free block.
    open: Vec<u32>,
    by_piece: HashMap<u32, u32>,
}

#[derive(Debug)]
pub(super) struct Partial {
    pub(super) piece: u32,
    pub(super) blocks: Vec<BlockState>,
    /// How many blocks are free, and how many are not there.
    pub(super) free: u32,
    pub(super) missing: u32,
    /// No free block is before this one.
    next: u32,
    place: u32,
    /// How many requests of peers refer to it, stale ones among them.
    pub(super) references: u32,
    /// Who fetches it alone, as long as there is something else for the others.
    pub(super) owner: Option<PeerKey>,
    /// Nobody else may join, whatever there is for them.
    pub(super) solo: bool,
    pub(super) contributors: Vec<Contributor>,
    pub(super) last_block: Instant,
    /// Since when nobody delivers it.
    pub(super) idle_since: Option<Instant>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum BlockState {
    Free,
    /// From so many peers.
    Requested(u8),
    /// From this contributor.
    Received(u16),
}

/// Somebody who sent a block. The address outlives the connection: it is what is banned.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Contributor {
    pub(super) key: PeerKey,
    pub(super) address: IpAddr,
}

/// What a block did to its piece.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    /// How many other peers it is requested from.
    pub(super) rivals: u8,
    /// Whether all blocks are there.
    pub(super) last: bool,
}

impl Partials {
    pub(super) fn len(&self) -> usize {
        self.by_piece.len()
    }

    pub(super) fn find(&self, piece: u32) -> Option<u32> {
        self.by_piece.get(&piece).copied()
    }

    pub(super) fn get(&self, row: u32) -> Option<&Partial> {
        self.rows.get(row as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, row: u32) -> Option<&mut Partial> {
        self.rows.get_mut(row as usize)?.as_mut()
    }

    /// The rows with a free block.
    pub(super) fn open(&self) -> &[u32] {
        &self.open
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Partial)> {
        self.rows.iter().enumerate().filter_map(|(row, partial)| Some((row as u32, partial.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Partial)> {
        self.rows.iter_mut().enumerate().filter_map(|(row, partial)| Some((row as u32, partial.as_mut()?)))
    }

    /// A row for a piece that has none.
    pub(super) fn add(&mut self, now: Instant, piece: u32, blocks: u32, owner: Option<PeerKey>, solo: bool) -> u32 {
        let row = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(None);
            self.rows.len() as u32 - 1
        });
        self.rows[row as usize] = Some(Partial {
            piece,
            blocks: vec![BlockState::Free; blocks as usize],
            free: blocks,
            missing: blocks,
            next: 0,
            place: self.open.len() as u32,
            references: 0,
            owner,
            solo,
            contributors: Vec::new(),
            last_block: now,
            idle_since: None,
        });
        self.open.push(row);
        self.by_piece.insert(piece, row);
        row
    }

    pub(super) fn remove(&mut self, row: u32) -> Option<Partial> {
        self.close(row);
        let partial = self.rows.get_mut(row as usize)?.take()?;
        self.by_piece.remove(&partial.piece);
        self.vacant.push(row);
        Some(partial)
    }

    /// Takes the first free block of the row, if it is still that piece's, for one request of this peer.
    #[inline]
    pub(super) fn take_next(&mut self, row: u32, piece: u32, by: PeerKey) -> Option<BlockRef> {
        let partial = self.rows.get_mut(row as usize)?.as_mut()?;
        let is_closed = partial.solo && partial.owner != Some(by);
        if partial.piece != piece || partial.free == 0 || is_closed {
            return None;
        }
        let rest = partial.blocks.get(partial.next as usize..)?;
        let index = partial.next + rest.iter().position(|block| *block == BlockState::Free)? as u32;
        partial.next = index + 1;
        partial.blocks[index as usize] = BlockState::Requested(1);
        partial.references += 1;
        partial.free -= 1;
        if partial.free == 0 {
            self.close(row);
        }
        Some(BlockRef { row, piece, index })
    }

    /// Requests a block once more that is requested already.
    pub(super) fn take_again(&mut self, block: BlockRef) {
        let Some(partial) = self.get_mut(block.row) else { return };
        if let Some(BlockState::Requested(n)) = partial.blocks.get_mut(block.index as usize) {
            *n = n.saturating_add(1);
            partial.references += 1;
        }
    }

    /// A request for the block does not count any more. The reference to it stays.
    pub(super) fn give_up(&mut self, block: BlockRef) {
        let place = self.open.len() as u32;
        let Some(partial) = self.get_mut(block.row) else { return };
        let Some(state) = partial.blocks.get_mut(block.index as usize) else { return };
        match *state {
            BlockState::Requested(1) => {
                *state = BlockState::Free;
                partial.next = partial.next.min(block.index);
                partial.free += 1;
                if partial.place == CLOSED {
                    partial.place = place;
                    self.open.push(block.row);
                }
            }
            BlockState::Requested(n) => *state = BlockState::Requested(n - 1),
            BlockState::Free | BlockState::Received(_) => {}
        }
    }

    /// A reference to the block is gone.
    pub(super) fn unrefer(&mut self, block: BlockRef) {
        if let Some(partial) = self.get_mut(block.row) {
            partial.references -= 1;
        }
    }

    /// The block came; `None` if it was there. `counted` is whether the sender is one of those that it is requested from.
    #[inline]
    pub(super) fn take(&mut self, now: Instant, block: BlockRef, counted: bool, from: Contributor) -> Option<Taken> {
        let partial = self.rows.get_mut(block.row as usize)?.as_mut()?;
        let state = partial.blocks.get_mut(block.index as usize)?;
        let rivals = match *state {
            BlockState::Received(_) => return None,
            BlockState::Requested(n) => n - u8::from(counted),
            BlockState::Free => {
                partial.free -= 1;
                0
            }
        };
        let contributor = match partial.contributors.iter().position(|known| *known == from) {
            Some(at) => at,
            None => {
                partial.contributors.push(from);
                partial.contributors.len() - 1
            }
        };
        *state = BlockState::Received(contributor.min(u16::MAX.into()) as u16);
        partial.missing -= 1;
        partial.last_block = now;
        let taken = Taken { rivals, last: partial.missing == 0 };
        if partial.free == 0 && partial.place != CLOSED {
            self.close(block.row);
        }
        Some(taken)
    }

    /// Takes the row out of the open list.
    fn close(&mut self, row: u32) {
        let Some(partial) = self.rows.get_mut(row as usize).and_then(Option::as_mut) else { return };
        let place = std::mem::replace(&mut partial.place, CLOSED);
        if place == CLOSED {
            return;
        }
        self.open.swap_remove(place as usize);
        if let Some(moved) = self.open.get(place as usize).copied()
            && let Some(moved) = self.get_mut(moved)
        {
            moved.place = place;
        }
    }
}
