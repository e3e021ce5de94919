//! [`Dag`]: a source that walks a tree of which the children are unknown until their parent is decoded.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time;

use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Result};
use crate::fact::{Fact, Piece};
use crate::lease::Lease;
use crate::ledger::NotNow;
use crate::path::EntryPath;
use crate::scheduler::Want;
use crate::source::Source;
use crate::span::{EntryId, Span};
use crate::sync::lock;
use crate::transfer::Transfer;

/// How many children a node has at most.
const FAN_OUT: usize = 4;

/// How many blocks are fetched at once.
const AT_ONCE: usize = 8;

/// The longest that one block takes.
const SLOWEST: Duration = Duration::from_millis(40);

/// A source in memory that walks a tree: a node names its children, with their lengths and SHA-256 digests, and is unknown
/// before it is fetched. Leaves become pieces as they are found, and many are fetched at once.
#[derive(Clone)]
pub struct Dag(Arc<Inner>);

struct Inner {
    path: EntryPath,
    blocks: Vec<Block>,
    root: Link,
    random: Mutex<fastrand::Rng>,
    lies: AtomicUsize,
    fetched: AtomicUsize,
}

#[derive(Debug)]
enum Block {
    Leaf(Bytes),
    Node(Vec<Link>),
}

/// What a parent says of a child.
#[derive(Clone, Debug)]
struct Link {
    block: usize,
    len: u64,
    digest: Digest,
    is_leaf: bool,
}

impl Dag {
    /// A tree over `content`, with leaves of `leaf` bytes, that calls its file `path`.
    pub fn new(seed: u64, path: &str, content: &Bytes, leaf: usize) -> Result<Self> {
        let mut blocks = Vec::new();
        let mut level = Vec::new();
        let mut at = 0;
        while at < content.len() || level.is_empty() {
            let bytes = content.slice(at..content.len().min(at + leaf.max(1)));
            at += bytes.len();
            level.push(Link {
                block: blocks.len(),
                len: bytes.len() as u64,
                digest: Digest::of(Algorithm::Sha256, &bytes),
                is_leaf: true,
            });
            blocks.push(Block::Leaf(bytes));
        }
        while level.len() > 1 || level[0].is_leaf {
            let parents = level.chunks(FAN_OUT).map(|children| {
                let names: Vec<u8> = children.iter().flat_map(|child| child.digest.bytes().to_vec()).collect();
                let link = Link {
                    block: blocks.len(),
                    len: children.iter().map(|child| child.len).sum(),
                    digest: Digest::of(Algorithm::Sha256, &names),
                    is_leaf: false,
                };
                blocks.push(Block::Node(children.to_vec()));
                link
            });
            level = parents.collect();
        }
        Ok(Self(Arc::new(Inner {
            path: EntryPath::new(path)?,
            root: level.remove(0),
            blocks,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            lies: AtomicUsize::new(0),
            fetched: AtomicUsize::new(0),
        })))
    }

    /// The first `leaves` leaves that are fetched come with wrong bytes.
    #[must_use]
    pub fn with_lies(self, leaves: usize) -> Self {
        self.0.lies.store(leaves, Ordering::SeqCst);
        self
    }

    /// How many blocks were fetched.
    pub fn fetched(&self) -> usize {
        self.0.fetched.load(Ordering::SeqCst)
    }
}

impl Inner {
    /// One round trip.
    async fn fetch(&self, block: usize) -> &Block {
        let wait = SLOWEST.mul_f64(lock(&self.random).f64());
        time::sleep(wait).await;
        self.fetched.fetch_add(1, Ordering::SeqCst);
        &self.blocks[block]
    }

    async fn fetch_leaf(&self, block: usize) -> Bytes {
        let Block::Leaf(bytes) = self.fetch(block).await else { return Bytes::new() };
        let lie = |left: usize| left.checked_sub(1);
        if !bytes.is_empty() && self.lies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lie).is_ok() {
            return bytes.iter().map(|byte| byte ^ 0x33).collect();
        }
        bytes.clone()
    }

    fn learn_root(&self, transfer: &Transfer) -> Result<EntryId> {
        transfer.learn(Fact::Entry { path: self.path.clone(), len: Some(self.root.len) })?;
        transfer.learn(Fact::LayoutComplete)?;
        Ok(transfer.entry_at(&self.path).unwrap_or(EntryId::FIRST))
    }
}

/// Some leaves, one after the other, that are claimed and fetched together: one, unless somebody else's pieces are larger.
#[derive(Clone, Debug)]
struct Group {
    leaves: Vec<(u64, Link)>,
    span: Span,
}

/// What one of the things that go on at once came to.
enum Done {
    Children(u64, Vec<Link>),
    Leaves,
}

/// A walk over the tree: what is known of it, and what is left to fetch.
struct Walk {
    dag: Arc<Inner>,
    transfer: Transfer,
    entry: EntryId,
    /// Nodes that were named and not fetched.
    nodes: VecDeque<(u64, Link)>,
    /// Leaves that were named, in the order of the file.
    leaves: Vec<(u64, Link)>,
}

impl Walk {
    fn decode(&mut self, mut at: u64, children: Vec<Link>) -> Result<()> {
        let mut pieces = Vec::new();
        for child in children {
            let end = at + child.len;
            if child.is_leaf && child.len > 0 {
                pieces.push(Piece::new(Span::new(self.entry, at..end), child.digest.clone()));
                self.leaves.push((at, child));
            } else if !child.is_leaf {
                self.nodes.push_back((at, child));
            }
            at = end;
        }
        self.leaves.sort_by_key(|(at, _)| *at);
        self.transfer.learn(Fact::Pieces(pieces))
    }

    /// The leaves that have to be fetched together with the one at `i`, because somebody else's piece spans them. `None`
    /// while some of them are unknown.
    fn group(&self, i: usize) -> Option<Group> {
        let (at, link) = &self.leaves[i];
        let mut range = *at..at + link.len;
        loop {
            let grown = self.transfer.grown_to_pieces(&[Span::new(self.entry, range.clone())]);
            // A piece that crosses into another entry is not for a tree of one.
            let [whole] = grown.as_slice() else { return None };
            let of_group = |(at, link): &&(u64, Link)| *at < whole.range.end && whole.range.start < at + link.len;
            let leaves: Vec<_> = self.leaves.iter().filter(of_group).cloned().collect();
            let known: u64 = leaves.iter().map(|(_, link)| link.len).sum();
            let hull = leaves.first()?.0..leaves.last().map(|(at, link)| at + link.len)?;
            if known != hull.end - hull.start || hull.start > whole.range.start || hull.end < whole.range.end {
                return None;
            }
            if hull == whole.range {
                return Some(Group { leaves, span: Span::new(self.entry, hull) });
            }
            range = hull;
        }
    }

    fn is_sealed(&self, (at, link): &(u64, Link)) -> bool {
        self.transfer.is_sealed(&Span::new(self.entry, *at..at + link.len))
    }

    /// The next leaves that nobody has; `Err` says why there are none.
    fn claim(&self) -> Result<(Group, Lease), NotNow> {
        for i in 0..self.leaves.len() {
            if self.is_sealed(&self.leaves[i]) {
                continue;
            }
            let Some(group) = self.group(i) else { continue };
            let missing = self.transfer.missing_of(std::slice::from_ref(&group.span));
            match self.transfer.claim(Want::Exactly(missing), None) {
                Ok(lease) => return Ok((group, lease)),
                Err(NotNow::Wait) => {}
                Err(NotNow::Done) => return Err(NotNow::Done),
            }
        }
        Err(NotNow::Wait)
    }
}

async fn deliver(dag: &Inner, entry: EntryId, group: Group, mut lease: Lease) -> Result<Done> {
    for (at, link) in &group.leaves {
        let bytes = dag.fetch_leaf(link.block).await;
        match lease.write(entry, *at, bytes).await {
            Ok(_) => {}
            // Somebody else, or the same place a second time, may have it right.
            Err(error) if error.kind() == ErrorKind::Corrupt => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Done::Leaves)
}

#[async_trait]
impl Source for Dag {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        self.0.fetch(self.0.root.block).await;
        self.0.learn_root(transfer).map(|_| ())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let dag = self.0.clone();
        let mut changes = transfer.changes();
        // The root's digest names the whole, so its length is known with it.
        let entry = dag.learn_root(&transfer)?;
        let nodes = VecDeque::from([(0, dag.root.clone())]);
        let mut walk = Walk { dag: dag.clone(), transfer, entry, nodes, leaves: Vec::new() };
        let mut going = FuturesUnordered::new();
        loop {
            while going.len() < AT_ONCE
                && let Some((at, link)) = walk.nodes.pop_front()
            {
                let dag = walk.dag.clone();
                let children = async move {
                    let Block::Node(children) = dag.fetch(link.block).await else {
                        return Ok(Done::Children(at, vec![]));
                    };
                    Ok(Done::Children(at, children.clone()))
                };
                going.push(futures::FutureExt::boxed(children));
            }
            while going.len() < AT_ONCE {
                match walk.claim() {
                    Ok((group, lease)) => {
                        let dag = walk.dag.clone();
                        let leaves = async move { deliver(&dag, entry, group, lease).await };
                        going.push(futures::FutureExt::boxed(leaves));
                    }
                    Err(NotNow::Wait) => break,
                    Err(NotNow::Done) => return Ok(()),
                }
            }
            if going.is_empty() && walk.nodes.is_empty() && walk.leaves.iter().all(|leaf| walk.is_sealed(leaf)) {
                return Ok(());
            }
            tokio::select! {
                Some(done) = going.next() => match done? {
                    Done::Children(at, children) => walk.decode(at, children)?,
                    // What was refused is claimed again.
                    Done::Leaves => {}
                },
                () = changes.next() => {}
            }
        }
    }
}

impl fmt::Debug for Dag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dag")
    }
}
