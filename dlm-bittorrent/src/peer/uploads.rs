//! What a peer has requested and did not get yet.
//!
//! The invariant: however many requests come, the queue has at most [`MAX_UPLOADS`] of them.

use std::collections::VecDeque;

use crate::wire::Block;

/// The most requests kept for one peer, told to it as `reqq` (BEP 10): 32 MiB, so that 300 MiB/s pass at 100 ms, and 24 KiB
/// of memory.
pub const MAX_UPLOADS: usize = 2000;

/// The longest block that may be requested of us. Every implementation asks for 16 KiB; the oldest asked for 128 KiB.
pub const MAX_UPLOAD_LEN: u32 = 128 * 1024;

/// The requests of one peer, in the order in which they came.
#[derive(Default, Debug)]
pub struct UploadQueue {
    blocks: VecDeque<Block>,
}

impl UploadQueue {
    /// Adds a request; false if there are too many.
    pub fn push(&mut self, block: Block) -> bool {
        let has_room = self.blocks.len() < MAX_UPLOADS;
        if has_room {
            self.blocks.push_back(block);
        }
        has_room
    }

    /// The next request to answer.
    pub fn pop(&mut self) -> Option<Block> {
        self.blocks.pop_front()
    }

    /// Takes a request back; false if it is not there.
    pub fn cancel(&mut self, block: Block) -> bool {
        let place = self.blocks.iter().position(|queued| *queued == block);
        place.and_then(|place| self.blocks.remove(place)).is_some()
    }

    /// Empties the queue of what is not to be answered.
    pub fn reject(&mut self, mut keep: impl FnMut(&Block) -> bool, mut rejected: impl FnMut(Block)) {
        self.blocks.retain(|block| {
            let kept = keep(block);
            if !kept {
                rejected(*block);
            }
            kept
        });
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(piece: u32) -> Block {
        Block { piece, begin: 0, len: 1 }
    }

    #[test]
    fn it_is_in_order_and_bounded() {
        let mut queue = UploadQueue::default();
        for piece in 0..MAX_UPLOADS as u32 {
            assert!(queue.push(block(piece)));
        }
        assert!(!queue.push(block(0)));
        assert!(queue.cancel(block(1)) && !queue.cancel(block(1)));
        assert_eq!([queue.pop(), queue.pop()], [Some(block(0)), Some(block(2))]);
        let mut rejected = 0;
        queue.reject(|block| block.piece < 10, |_| rejected += 1);
        assert_eq!((queue.len(), rejected), (7, MAX_UPLOADS - 10));
    }
}
