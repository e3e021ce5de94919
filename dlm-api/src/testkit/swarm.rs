//! [`Swarm`]: a source that picks its pieces itself, from peers that come, choke, lie and go.

mod state;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use self::state::{State, Step};
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Result};
use crate::fact::{Fact, Piece};
use crate::path::EntryPath;
use crate::source::Source;
use crate::span::{EntryId, Span};
use crate::sync::lock;
use crate::transfer::Transfer;

/// What a peer is asked for at once, in bytes.
const BLOCK: u64 = 16 << 10;

/// A peer of a [`Swarm`].
#[derive(Clone, Debug)]
pub struct Peer {
    share: f64,
    corrupt: bool,
    leaves_after: Option<usize>,
    slowest: Duration,
}

impl Peer {
    /// A peer that has everything.
    pub fn seed() -> Self {
        Self { share: 1.0, corrupt: false, leaves_after: None, slowest: Duration::from_millis(60) }
    }

    /// It has this share of the pieces, from 0 to 1. A piece that no lasting honest peer of the swarm would have is given
    /// to the first of them.
    #[must_use]
    pub fn with_share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Half of the blocks that it sends are wrong.
    #[must_use]
    pub fn corrupt(mut self) -> Self {
        self.corrupt = true;
        self
    }

    /// It leaves after it was asked for this many blocks.
    #[must_use]
    pub fn leaving_after(mut self, blocks: usize) -> Self {
        self.leaves_after = Some(blocks);
        self
    }

    /// The longest that one of its blocks takes.
    #[must_use]
    pub fn with_slowest(mut self, slowest: Duration) -> Self {
        self.slowest = slowest;
        self
    }
}

/// A swarm in memory: it knows which files there are, their lengths and the SHA-1 of every piece, picks the rarest piece
/// that it can have from a peer, and asks several peers for its blocks, which come in any order. Pieces cross files.
///
/// It uploads each piece once, as soon as it is sealed, and compares what it reads with what it should be. When everything
/// is there it stays, and uploads on.
#[derive(Clone)]
pub struct Swarm(Arc<Inner>);

struct Inner {
    seed: u64,
    files: Vec<(EntryPath, Bytes)>,
    content: Bytes,
    piece_len: u64,
    peers: Vec<Peer>,
    stays: bool,
    uploaded: AtomicU64,
    bad_uploads: Mutex<Vec<usize>>,
}

impl Swarm {
    /// A swarm for these files, with pieces of `piece_len` bytes and without a peer.
    pub fn new<'a>(seed: u64, piece_len: u64, files: impl IntoIterator<Item = (&'a str, Bytes)>) -> Result<Self> {
        let files: Vec<_> =
            files.into_iter().map(|(path, bytes)| Ok((EntryPath::new(path)?, bytes))).collect::<Result<_>>()?;
        let content: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        Ok(Self(Arc::new(Inner {
            seed,
            files,
            content: content.into(),
            piece_len: piece_len.max(1),
            peers: Vec::new(),
            stays: true,
            uploaded: AtomicU64::new(0),
            bad_uploads: Mutex::default(),
        })))
    }

    /// Adds a peer. Before it is cloned only.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.peers.push(peer);
        }
        self
    }

    /// It ends when everything is there. Before it is cloned only.
    #[must_use]
    pub fn that_ends(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.stays = false;
        }
        self
    }

    /// How many bytes it uploaded.
    pub fn uploaded(&self) -> u64 {
        self.0.uploaded.load(Ordering::SeqCst)
    }

    /// Pieces of which wrong bytes were uploaded.
    pub fn bad_uploads(&self) -> Vec<usize> {
        lock(&self.0.bad_uploads).clone()
    }
}

impl Inner {
    fn piece_count(&self) -> usize {
        (self.content.len() as u64).div_ceil(self.piece_len) as usize
    }

    /// Where a piece lies in all the files one after the other.
    fn piece_range(&self, piece: usize) -> Range<u64> {
        let start = piece as u64 * self.piece_len;
        start..(start + self.piece_len).min(self.content.len() as u64)
    }

    fn bytes(&self, range: &Range<u64>) -> Bytes {
        self.content.slice(range.start as usize..range.end as usize)
    }

    /// Tells what the swarm knows from its start, and gives the entries' numbers.
    fn learn(&self, transfer: &Transfer) -> Result<Layout> {
        let mut entries = Vec::new();
        for (path, bytes) in &self.files {
            transfer.learn(Fact::Entry { path: path.clone(), len: Some(bytes.len() as u64) })?;
            entries.push((transfer.entry_at(path).unwrap_or(EntryId::FIRST), bytes.len() as u64));
        }
        let layout = Layout { entries };
        let pieces = (0..self.piece_count()).map(|piece| {
            let range = self.piece_range(piece);
            let digest = Digest::of(Algorithm::Sha1, &self.bytes(&range));
            Piece { spans: layout.spans(&range).into(), digest }
        });
        transfer.learn(Fact::Pieces(pieces.collect()))?;
        transfer.learn(Fact::LayoutComplete)?;
        Ok(layout)
    }

    /// Uploads pieces that are there by now. `done` says which were before.
    async fn upload(&self, transfer: &Transfer, layout: &Layout, done: &mut [bool]) -> Result<()> {
        for (piece, done) in done.iter_mut().enumerate() {
            let range = self.piece_range(piece);
            let spans = layout.spans(&range);
            if *done || !spans.iter().all(|span| transfer.is_sealed(span)) {
                continue;
            }
            let mut read = BytesMut::new();
            for span in &spans {
                match transfer.read(span).await {
                    Ok(bytes) => read.extend_from_slice(&bytes),
                    // Taken back in between, or passed on to where nothing is read from.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => break,
                    Err(e) => return Err(e),
                }
            }
            if read.len() as u64 == range.end - range.start {
                *done = true;
                self.uploaded.fetch_add(read.len() as u64, Ordering::SeqCst);
                if read != self.bytes(&range) {
                    lock(&self.bad_uploads).push(piece);
                }
            }
        }
        Ok(())
    }
}

/// The entries, one after the other.
#[derive(Clone, Debug)]
struct Layout {
    entries: Vec<(EntryId, u64)>,
}

impl Layout {
    /// Where these bytes of all the entries, one after the other, lie in each.
    fn spans(&self, range: &Range<u64>) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut base = 0;
        for (entry, len) in &self.entries {
            let (start, end) = (range.start.max(base), range.end.min(base + len));
            if start < end {
                spans.push(Span::new(*entry, start - base..end - base));
            }
            base += len;
        }
        spans
    }

    /// Where a span lies in all the entries one after the other.
    fn linear(&self, span: &Span) -> Range<u64> {
        let before = self.entries.iter().take_while(|(entry, _)| *entry != span.entry);
        let base: u64 = before.map(|(_, len)| len).sum();
        base + span.range.start..base + span.range.end
    }
}

#[async_trait]
impl Source for Swarm {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        self.0.learn(transfer).map(|_| ())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let mut changes = transfer.changes();
        let layout = self.0.learn(&transfer)?;
        let mut uploaded = vec![false; self.0.piece_count()];
        let mut state = State::new(self.0.clone(), layout.clone(), transfer.clone());
        loop {
            match state.step()? {
                Step::GoOn => {}
                Step::Complete if self.0.stays => {}
                Step::Complete => return self.0.upload(&transfer, &layout, &mut uploaded).await,
                Step::Refused => return Ok(()),
            }
            self.0.upload(&transfer, &layout, &mut uploaded).await?;
            tokio::select! {
                reply = state.reply() => state.take(reply).await?,
                () = changes.next() => {}
            }
        }
    }
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("swarm")
    }
}
