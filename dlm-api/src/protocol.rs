//! [`Protocol`] and [`Registry`]: from a locator to a source.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::path::EntryPath;
use crate::source::Source;

/// Makes sources from locators.
#[async_trait]
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// The URL schemes it understands, in lower case.
    fn schemes(&self) -> &[&str];

    /// What is at `locator`. Connects only as far as it must to tell a file from a folder.
    async fn open(&self, locator: &Locator) -> Result<Resolved>;

    /// The containers it understands, if any.
    fn containers(&self) -> &[Container];

    /// What a container of one of the kinds of [`containers`](Self::containers) leads to. `base` is where it came from, for what
    /// it names relative to itself, and `others` open what it names by URLs of their own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] from a protocol without containers, and what is wrong with the container otherwise.
    async fn open_container(&self, bytes: Bytes, base: &Locator, others: &Registry) -> Result<Resolved>;
}

/// A kind of document that tells where content is, and isn't it: a torrent file, a Metalink, a CAR. It is recognised by its
/// media type or its name, fetched into memory by the protocol that serves its URL, and opened by the one that understands it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Container {
    /// What its name ends in, in lower case, with the dot.
    pub suffix: &'static str,
    /// Its media type, in lower case, without parameters.
    pub media_type: &'static str,
    /// The most bytes that one may have: it is held in memory.
    pub max_len: u64,
}

impl Container {
    /// Whether a file of this name is one.
    pub fn is_named(&self, name: &str) -> bool {
        let Some(start) = name.len().checked_sub(self.suffix.len()) else { return false };
        name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(self.suffix))
    }

    /// Whether something of this media type, which may have parameters, is one.
    pub fn is_of_type(&self, media_type: &str) -> bool {
        media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(self.media_type)
    }
}

/// What is at a locator.
#[non_exhaustive]
pub enum Resolved {
    /// One source of one file.
    Source(Arc<dyn Source>),
    /// One source that learns by itself which files there are: a swarm, a DAG.
    Many(Arc<dyn Source>),
    /// Many files, each an entry of its own with a source of its own.
    Listing(BoxStream<'static, Result<Listed>>),
    /// Several of these together: a swarm, and servers that have its files.
    All(Vec<Resolved>),
}

impl Resolved {
    /// What it consists of.
    #[cfg(feature = "engine")]
    pub(crate) fn parts(self) -> Vec<Self> {
        match self {
            Self::All(parts) => parts.into_iter().flat_map(Self::parts).collect(),
            one => vec![one],
        }
    }
}

/// One file of a [`Resolved::Listing`].
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Listed {
    /// Where it goes, relative to the download's folder.
    pub path: EntryPath,
    /// Its length in bytes, where the listing tells it.
    pub len: Option<u64>,
    /// What delivers it.
    pub source: Arc<dyn Source>,
}

/// The source's own `Debug`, by which one without a locator is called in events and reports.
impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) | Self::Many(source) => source.fmt(f),
            Self::Listing(_) => f.write_str("Listing"),
            Self::All(parts) => f.debug_list().entries(parts).finish(),
        }
    }
}

/// The protocols that a program has. Filled by hand: nothing registers itself.
#[derive(Clone, Default, Debug)]
pub struct Registry {
    protocols: Vec<Arc<dyn Protocol>>,
}

impl Registry {
    /// A registry without a protocol.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a protocol. For a scheme that two understand, the later one is asked.
    #[must_use]
    pub fn with(mut self, protocol: impl Protocol) -> Self {
        self.protocols.push(Arc::new(protocol));
        self
    }

    /// The protocol for a scheme.
    pub fn get(&self, scheme: &str) -> Option<&Arc<dyn Protocol>> {
        self.protocols.iter().rev().find(|p| p.schemes().contains(&scheme))
    }

    /// The protocol for containers that are called so, and what is known of these.
    pub fn container_named(&self, name: &str) -> Option<(&Arc<dyn Protocol>, Container)> {
        self.container(|container| container.is_named(name))
    }

    /// The protocol for containers of this media type, and what is known of these.
    pub fn container_of_type(&self, media_type: &str) -> Option<(&Arc<dyn Protocol>, Container)> {
        self.container(|container| container.is_of_type(media_type))
    }

    fn container(&self, is_it: impl Fn(&Container) -> bool) -> Option<(&Arc<dyn Protocol>, Container)> {
        self.protocols.iter().rev().find_map(|p| Some((p, *p.containers().iter().find(|c| is_it(c))?)))
    }

    /// What is at `locator`, asked of the protocol for its scheme.
    pub async fn open(&self, locator: &Locator) -> Result<Resolved> {
        let Some(protocol) = self.get(locator.scheme()) else {
            let known: Vec<&str> = self.protocols.iter().flat_map(|p| p.schemes()).copied().collect();
            return Err(Error::new(ErrorKind::Unsupported, "no protocol for this scheme")
                .with("scheme", locator.scheme())
                .with("known", known.join(", ")));
        };
        protocol.open(locator).await
    }
}
