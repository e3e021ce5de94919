//! Blocks that a peer asked for, on their way to it.

use std::sync::Arc;

use bytes::Bytes;
use dlm_api::{ErrorKind, Result};
use futures::stream::{self, BoxStream, StreamExt};

use super::Torrent;
use crate::wire::Block;

/// The answer to a request: the block's bytes, or nothing if they can't be read.
pub(super) type Answer = (Block, Option<Bytes>);

/// Reads blocks that follow each other, all at once, and lets one after the other pass the limit of what is given.
pub(super) fn answers(torrent: Arc<Torrent>, blocks: Vec<Block>) -> BoxStream<'static, Answer> {
    let reader = torrent.clone();
    let all = stream::once(async move { stream::iter(read_all(&reader, &blocks).await) }).flatten();
    let passed = all.then(move |(block, data)| {
        let torrent = torrent.clone();
        async move {
            if data.is_some() {
                torrent.common.uploads.pass(block.len.into()).await;
            }
            (block, data)
        }
    });
    passed.boxed()
}

/// The bytes of blocks of one piece that follow each other.
async fn read_all(torrent: &Torrent, blocks: &[Block]) -> Vec<Answer> {
    let Some(first) = blocks.first() else { return Vec::new() };
    let len = blocks.iter().map(|block| block.len).sum();
    let data = match read(torrent, Block { len, ..*first }).await {
        Ok(data) => data,
        // It is nothing that fetching depends on.
        Err(error) => {
            let piece = first.piece;
            torrent.store.transfer().warn(format!("piece {piece} can't be given to others: {}", error.chain()));
            torrent.swarm().withhold(piece);
            None
        }
    };
    let slice = |block: &Block| {
        let at = (block.begin - first.begin) as usize;
        (*block, data.as_ref().map(|data| data.slice(at..at + block.len as usize)))
    };
    blocks.iter().map(slice).collect()
}

/// The bytes of a block; `None` if they are not here any more.
async fn read(torrent: &Torrent, block: Block) -> Result<Option<Bytes>> {
    let store = &torrent.store;
    let start = u64::from(block.piece) * u64::from(torrent.info.piece_len()) + u64::from(block.begin);
    let spans = store.layout().spans(start..start + u64::from(block.len));
    let mut parts = Vec::with_capacity(spans.len());
    for span in &spans {
        match store.transfer().read(span).await {
            Ok(bytes) => parts.push(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if let [whole] = &*parts {
        return Ok(Some(whole.clone()));
    }
    Ok(Some(parts.concat().into()))
}
