//! [`Opener`]: from the places that the caller named to sources, through containers where there are some.

use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use super::download::Download;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::locator::Locator;
use crate::pipeline::Shared;
use crate::protocol::{Container, Protocol, Registry, Resolved};
use crate::sink::MemorySink;
use crate::source::Source;
use crate::span::EntryId;

/// Where content comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Locator(Locator),
    /// What is there is a container.
    Container(Locator, Container),
    /// A container that the caller has, and where it is from.
    Held(Locator, Bytes),
    Source(Arc<dyn Source>),
    Many(Arc<dyn Source>),
}

impl Origin {
    /// Where that is, unless the caller made the source.
    pub(super) fn locator(&self) -> Option<&Locator> {
        match self {
            Self::Locator(locator) | Self::Container(locator, _) | Self::Held(locator, _) => Some(locator),
            Self::Source(_) | Self::Many(_) => None,
        }
    }
}

/// What became of an origin.
pub(super) struct Opened {
    /// Its place among the origins.
    pub(super) origin: usize,
    pub(super) name: String,
    pub(super) resolved: Resolved,
}

/// Opens origins.
pub(super) struct Opener {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
}

impl Opener {
    /// Opens all of them. One that can't be opened is told, and not missed where there are others.
    ///
    /// `digests` are of what the URLs give: where that is a container that has to be fetched they are checked here, and taken.
    /// Of a container that the caller has he knows what it is: they are of the content then.
    pub(super) async fn open(&self, origins: &[Origin], digests: &mut Vec<Digest>) -> Result<Vec<Opened>> {
        let mut opened = Vec::new();
        let mut failed = None;
        for (origin, what) in origins.iter().enumerate() {
            let (name, resolved) = match what {
                Origin::Source(source) => (format!("{source:?}"), Ok(Resolved::Source(source.clone()))),
                Origin::Many(source) => (format!("{source:?}"), Ok(Resolved::Many(source.clone()))),
                Origin::Locator(locator) => (locator.to_string(), self.at(locator, digests).await),
                Origin::Container(locator, container) => {
                    (locator.to_string(), self.follow(locator, *container, digests).await)
                }
                Origin::Held(locator, bytes) => (locator.to_string(), self.held(locator, bytes).await),
            };
            match resolved {
                Ok(resolved) => {
                    let parts = resolved.parts().into_iter();
                    opened.extend(parts.map(|resolved| Opened { origin, name: name.clone(), resolved }));
                }
                Err(error) => {
                    self.shared.send(Event::SourceBenched { source: name, kind: error.kind(), reason: error.chain() });
                    failed.get_or_insert(error);
                }
            }
        }
        if self.shared.containers.is_followed() && !origins.iter().any(|origin| matches!(origin, Origin::Held(..))) {
            // The container was checked against them; of what it leads to they say nothing.
            digests.clear();
        }
        match failed {
            Some(error) if opened.is_empty() => Err(error),
            _ if opened.is_empty() => Err(Error::new(ErrorKind::InvalidInput, "a download without a source")),
            _ => Ok(opened),
        }
    }

    /// What is at a locator. A container is recognised by its name here, and by what a server says of it when it is asked.
    async fn at(&self, locator: &Locator, digests: &[Digest]) -> Result<Resolved> {
        let name = locator.file_name();
        let containers = self.shared.setup.containers.as_ref().filter(|known| known.get(locator.scheme()).is_some());
        match containers.zip(name).and_then(|(containers, name)| Some(containers.container_named(&name)?.1)) {
            Some(container) => self.follow(locator, container, digests).await,
            None => self.client.0.registry.open(locator).await,
        }
    }

    /// Fetches a container, and opens it.
    async fn follow(&self, locator: &Locator, container: Container, digests: &[Digest]) -> Result<Resolved> {
        let memory = MemorySink::new(container.max_len);
        let setup = &self.shared.setup;
        let fetch = Download::of_container(self.client.clone(), locator, container, digests.to_vec(), setup);
        fetch.to_memory(memory.clone()).await?;
        let bytes = memory.take(EntryId::FIRST).unwrap_or_default();
        self.open_container(locator, container, bytes).await.map_err(|error| match error.kind() {
            // It is not the caller who gave something that makes no sense.
            ErrorKind::InvalidInput => Error::new(ErrorKind::Protocol, "what is there is not what it is called")
                .with("container", container.suffix)
                .with_source(error),
            _ => error,
        })
    }

    /// Opens a container that the caller has.
    async fn held(&self, locator: &Locator, bytes: &Bytes) -> Result<Resolved> {
        let name = locator.file_name().unwrap_or_default();
        let Some((_, container)) = self.registry().container_named(&name) else {
            return Err(
                Error::new(ErrorKind::Unsupported, "no protocol for a container of this name").with("name", name)
            );
        };
        if bytes.len() as u64 > container.max_len {
            return Err(Error::new(ErrorKind::TooLarge, "the container is larger than any of its kind may be")
                .with("bytes", bytes.len())
                .with("limit", container.max_len));
        }
        self.open_container(locator, container, bytes.clone()).await
    }

    async fn open_container(&self, base: &Locator, container: Container, bytes: Bytes) -> Result<Resolved> {
        // What it leads to is content, even if that is a container once more.
        self.shared.containers.follow_no_more();
        self.shared.send(Event::Container { source: base.to_string(), bytes: bytes.len() as u64 });
        let Some((protocol, _)) = self.registry().container_named(container.suffix) else {
            return Err(Error::new(ErrorKind::Internal, "the protocol of a container is gone"));
        };
        let protocol: &Arc<dyn Protocol> = protocol;
        protocol.open_container(bytes, base, self.registry()).await
    }

    fn registry(&self) -> &Registry {
        &self.client.0.registry
    }
}
