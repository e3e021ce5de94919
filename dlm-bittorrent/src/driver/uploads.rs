//! Blocks that a peer asked for, on their way to it.

use std::sync::Arc;

use bytes::Bytes;
use dlm_api::{ErrorKind, Result};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Torrent;
use crate::wire::Block;

/// Reads blocks that follow each other, all at once, and lets one after the other pass the limit of what is given.
pub(super) fn answers(torrent: Arc<Torrent>, blocks: Vec<Block>) -> BoxStream<'static, Result<(Block, Bytes)>> {
    let reader = torrent.clone();
    let all = stream::once(async move { read_all(&reader, &blocks).await });
    let each = all.map_ok(|read| stream::iter(read).map(Ok)).try_flatten();
    let passed = each.and_then(move |(block, data): (Block, Bytes)| {
        let torrent = torrent.clone();
        async move {
            torrent.common.uploads.pass(block.len.into()).await;
            Ok((block, data))
        }
    });
    passed.boxed()
}

/// The bytes of blocks that follow each other; none if they are not here any more.
async fn read_all(torrent: &Torrent, blocks: &[Block]) -> Result<Vec<(Block, Bytes)>> {
    let Some(first) = blocks.first() else { return Ok(Vec::new()) };
    let len = blocks.iter().map(|block| block.len).sum();
    let Some(data) = read(torrent, Block { len, ..*first }).await? else { return Ok(Vec::new()) };
    let slice = |block: &Block| {
        let at = (block.begin - first.begin) as usize;
        (*block, data.slice(at..at + block.len as usize))
    };
    Ok(blocks.iter().map(slice).collect())
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
