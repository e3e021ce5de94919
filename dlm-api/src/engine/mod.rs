//! The engine: runs the sources of a download until it is complete.

mod chores;
mod conductor;
mod download;
mod early;
mod finish;
mod handle;
mod inspect;
mod keeper;
mod look;
mod many;
mod mirrors;
mod one;
mod opening;
mod plane;
mod reader;
mod runner;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use download::{Download, Job};
pub use handle::{Events, Handle};
pub use reader::Reader;

use crate::limit::Limiter;
use crate::origin::Origins;
use crate::protocol::{Protocol, Registry};
use plane::Plane;

/// The most connections to one origin, by all downloads together, unless the caller says otherwise. Browsers use 6 for each
/// page; servers that mind more than this say so, and are given fewer.
const CONNECTIONS_PER_ORIGIN: usize = 16;

/// Runs downloads. Cheap to clone; all clones share threads, connections and limits.
///
/// ```
/// # async fn example(http: impl dlm_api::Protocol) -> dlm_api::Result<()> {
/// use dlm_api::Client;
///
/// let client = Client::builder().protocol(http).build();
/// let report = client
///     .download("https://a.example/x.iso")
///     .mirror("https://b.example/x.iso")
///     .checksum("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
///     .to_file("x.iso")
///     .await?;
/// println!("{} bytes", report.entries[0].len);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    registry: Registry,
    plane: Arc<Plane>,
    origins: Arc<Origins>,
    limiter: Arc<Limiter>,
}

impl Client {
    /// Starts to set up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            registry: Registry::new(),
            connections_per_origin: None,
            rate_limit: None,
            threads: None,
            #[cfg(feature = "testkit")]
            runtime: None,
        }
    }

    /// Starts to set up a download of what is at `url`. A URL that makes no sense fails when the download is started.
    pub fn download(&self, url: impl AsRef<str>) -> Download {
        Download::new(self.clone()).mirror(url)
    }

    /// Starts to set up a download of what a container leads to: a torrent file, a Metalink. `url` is where the container is
    /// from; its name tells what kind it is, and what the container names relative to itself is looked for there.
    pub fn download_container(&self, url: impl AsRef<str>, container: impl Into<Bytes>) -> Download {
        Download::new(self.clone()).container(url, container)
    }

    /// Starts to set up a download of which the sources are given one by one.
    pub fn download_from_sources(&self) -> Download {
        Download::new(self.clone())
    }

    /// Changes the limit for all downloads together, in bytes a second; `None` for none.
    pub fn set_rate_limit(&self, rate: Option<u64>) {
        self.0.limiter.set_rate(rate);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

/// Sets up a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    registry: Registry,
    connections_per_origin: Option<usize>,
    rate_limit: Option<u64>,
    threads: Option<usize>,
    #[cfg(feature = "testkit")]
    runtime: Option<tokio::runtime::Handle>,
}

impl ClientBuilder {
    /// Adds a protocol. For a scheme that two understand, the later one is asked.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Protocol) -> Self {
        self.registry = self.registry.with(protocol);
        self
    }

    /// The most connections to one origin, by all downloads together. 16 unless it is set.
    #[must_use]
    pub fn connections_per_origin(mut self, connections: usize) -> Self {
        self.connections_per_origin = Some(connections);
        self
    }

    /// The limit for all downloads together, in bytes a second.
    #[must_use]
    pub fn rate_limit(mut self, rate: u64) -> Self {
        self.rate_limit = Some(rate);
        self
    }

    /// How many threads carry bytes. One for each core, up to four, unless it is set.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Runs everything on this runtime in place of threads of its own, for a test whose clock is held still: time passes
    /// in steps then, from one timer to the next.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn on_runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    fn plane(&self) -> Plane {
        #[cfg(feature = "testkit")]
        if let Some(runtime) = &self.runtime {
            return Plane::on(runtime.clone());
        }
        Plane::new(self.threads)
    }

    /// The client. Nothing is started before the first download.
    pub fn build(self) -> Client {
        let plane = Arc::new(self.plane());
        Client(Arc::new(Inner {
            registry: self.registry,
            plane,
            origins: Arc::new(Origins::new(self.connections_per_origin.unwrap_or(CONNECTIONS_PER_ORIGIN))),
            limiter: Arc::new(Limiter::new(self.rate_limit)),
        }))
    }
}
