//! The core of dlm: gets bytes from anywhere, checks them, and never lies about what it has.
//!
//! # To download
//!
//! Start with [`Client`], and add a protocol from a crate of its own, such as `dlm-http`. Its [`Download`] says what to fetch,
//! a [`Job`] where to put it, and a [`Handle`] watches and steers it. A [`Reader`] reads it while it arrives.
//!
//! # To add a protocol
//!
//! Implement [`RangeSource`] if any range of a file can be asked for: one method that answers one request. [`Ranged`] makes it
//! a [`Source`], with several connections, retries, and the care that parts of two contents are never joined. A protocol in
//! which the source decides what comes next, a swarm or a DAG, implements [`Source`] itself and works on a [`Transfer`]:
//! it [claims](Transfer::claim) spans, [writes](Lease::write) them and [learns](Transfer::learn) facts. [`Protocol`] makes sources
//! from URLs. The feature `testkit` has what to test them with.
//!
//! # To put bytes somewhere else, or in another order
//!
//! Implement [`Sink`] or [`Scheduler`].
//!
//! ```
//! use dlm_api::{Client, EntryId, MemorySink, Ranged};
//! # use dlm_api::{Locator, Opened, RangeRequest, RangeSource, Result};
//! # use futures::StreamExt;
//! # #[derive(Debug)]
//! # struct Greeting(Locator);
//! # #[async_trait::async_trait]
//! # impl RangeSource for Greeting {
//! #     async fn open(&self, request: &RangeRequest) -> Result<Opened> {
//! #         let body = bytes::Bytes::from_static(b"hello").slice(request.start as usize..);
//! #         let mut opened = Opened::new(request.start, futures::stream::iter([Ok(body)]).boxed());
//! #         opened.len = Some(5);
//! #         Ok(opened)
//! #     }
//! #     fn locator(&self) -> &Locator { &self.0 }
//! #     fn origin(&self) -> String { "greeting:".into() }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let source = Ranged::new(Greeting("greeting:hello".parse()?));
//! let memory = MemorySink::new(1 << 20);
//! Client::builder().build().download_from_sources().source(source).to_memory(memory.clone()).await?;
//! assert_eq!(memory.bytes(EntryId::FIRST).as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `engine` (default): [`Client`] and all that runs a download, [`FileSink`], checkpoints. `testkit`: a scripted source, and more.

#[cfg(feature = "engine")]
mod checkpoint;
mod digest;
#[cfg(feature = "engine")]
mod engine;
mod error;
mod event;
mod fact;
mod farewell;
#[cfg(feature = "engine")]
mod folder;
mod lease;
mod ledger;
mod limit;
mod locator;
mod meter;
mod origin;
mod path;
// Without the engine nobody finishes a download, or starts one again.
#[cfg_attr(not(feature = "engine"), allow(dead_code))]
mod pipeline;
mod protocol;
mod ranged;
mod runs;
mod scheduler;
mod sink;
mod source;
mod span;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transfer;

#[cfg(feature = "engine")]
pub use checkpoint::{
    Believed, CheckpointStore, EntryRecord, FileCheckpoint, Generation, Loaded, MemoryCheckpoint, Record, SourceRecord,
    source_key,
};
#[cfg(feature = "engine")]
#[doc(hidden)]
pub use checkpoint::{Binding, decode_log};
pub use digest::{Algorithm, Digest, HashFunction, Hasher};
#[cfg(feature = "engine")]
pub use engine::{Client, ClientBuilder, Download, Events, Handle, Job, Reader};
pub use error::{Error, ErrorKind, Result, Retry, Scope};
pub use event::{EntryReport, Event, Peers, Progress, Report, SourceReport, State, Verification};
pub use fact::{Fact, Identity, Piece, Strength};
pub use farewell::Farewell;
pub use lease::{Flow, Lease};
pub use ledger::{Admitted, Grant, Landed, LeaseView, Ledger, NotNow, PieceId, Totals, View, Voice};
pub use limit::Limiter;
pub use locator::{Locator, redact};
pub use origin::{Origins, Permit};
pub use path::EntryPath;
pub use protocol::{Container, Listed, Protocol, Registry, Resolved};
pub use ranged::{Opened, RangeRequest, RangeSource, Ranged, RangedConfig, Ranges};
pub use runs::{RangeSet, Runs};
pub use scheduler::{Ask, Balanced, Pick, Scheduler, Want};
pub use sink::{Entry, EntryKind, MemorySink, Prepared, Sink, SinkInfo, Stamp, WriterSink};
#[cfg(feature = "engine")]
pub use sink::{ExistingFiles, FileOptions, FileSink, OnExists};
pub use source::Source;
pub use span::{EntryId, LeaseId, OPEN_END, SourceId, Span};
pub use transfer::{Changes, Connected, Sharing, Task, Transfer, Window, Windows};
