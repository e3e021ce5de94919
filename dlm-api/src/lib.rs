//! The core of dlm.

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
