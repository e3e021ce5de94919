//! [`Containers`]: a source that turns out to be a document which tells where the content is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fact::Fact;
use crate::protocol::{Container, Registry};
use crate::span::SourceId;
use crate::sync::lock;

/// Which source turned out to be a container.
#[derive(Default, Debug)]
pub(crate) struct Containers {
    found: Mutex<Option<(SourceId, Container)>>,
    /// One was followed: what it leads to is content, whatever it is called.
    followed: AtomicBool,
}

impl Containers {
    /// Notes that `source` is a container, if it is one by what it tells.
    pub(crate) fn is_one(&self, registry: &Registry, source: SourceId, fact: &Fact) -> bool {
        let found = match fact {
            Fact::MediaType(_, media_type) => registry.container_of_type(media_type),
            Fact::Name(_, name) => registry.container_named(name),
            _ => None,
        };
        let Some((_, container)) = found.filter(|_| !self.followed.load(Ordering::Relaxed)) else { return false };
        lock(&self.found).get_or_insert((source, container));
        true
    }

    /// The source that turned out to be one.
    pub(crate) fn take(&self) -> Option<(SourceId, Container)> {
        lock(&self.found).take()
    }

    /// Whether a source turned out to be one.
    pub(crate) fn is_found(&self) -> bool {
        lock(&self.found).is_some()
    }

    /// Whether one was opened.
    #[cfg(feature = "engine")]
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// No other one is followed from here on.
    pub(crate) fn follow_no_more(&self) {
        self.followed.store(true, Ordering::Relaxed);
    }
}
