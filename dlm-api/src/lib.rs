//! The core of dlm.

#[cfg(feature = "engine")]
mod checkpoint;
mod digest;
mod error;
mod event;
mod fact;
#[cfg(feature = "engine")]
mod folder;
mod locator;
mod path;
mod protocol;
mod ranged;
mod sink;
mod source;
mod span;
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
pub use error::{Error, ErrorKind, Result, Retry, Scope};
pub use event::{EntryReport, Event, Progress, Report, SourceReport, State, Verification};
pub use fact::{Fact, Identity, Piece, Strength};
pub use locator::{Locator, redact};
pub use path::EntryPath;
pub use protocol::{Listed, Protocol, Registry, Resolved};
pub use ranged::{Opened, RangeRequest, RangeSource, Ranges};
pub use sink::{Entry, MemorySink, Prepared, Reorder, Sink, SinkInfo, Stamp, TooFar, WriterSink};
#[cfg(feature = "engine")]
pub use sink::{FileOptions, FileSink, OnExists};
pub use source::Source;
pub use span::{EntryId, LeaseId, OPEN_END, SourceId, Span};
pub use transfer::Transfer;
