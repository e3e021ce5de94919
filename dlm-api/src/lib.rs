//! The core of dlm.

#[cfg(feature = "engine")]
mod checkpoint;
mod digest;
#[cfg(feature = "engine")]
mod engine;
mod error;
mod event;
mod fact;
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
pub use event::{EntryReport, Event, Progress, Report, SourceReport, State, Verification};
pub use fact::{Fact, Identity, Piece, Strength};
pub use lease::{Flow, Lease};
pub use ledger::{Admitted, Grant, Landed, LeaseView, Ledger, NotNow, PieceId, Totals, View, Voice};
pub use limit::Limiter;
pub use locator::{Locator, redact};
pub use origin::{Origins, Permit};
pub use path::EntryPath;
pub use protocol::{Listed, Protocol, Registry, Resolved};
pub use ranged::{Opened, RangeRequest, RangeSource, Ranged, RangedConfig, Ranges};
pub use runs::{RangeSet, Runs};
pub use scheduler::{Ask, Balanced, Pick, Scheduler, Want};
pub use sink::{Entry, MemorySink, Prepared, Sink, SinkInfo, Stamp, WriterSink};
#[cfg(feature = "engine")]
pub use sink::{FileOptions, FileSink, OnExists};
pub use source::Source;
pub use span::{EntryId, LeaseId, OPEN_END, SourceId, Span};
pub use transfer::{Changes, Connected, Task, Transfer};
