//! [`Protocol`] and [`Registry`]: from a locator to a source.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
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
