//! What every [`Sink`](crate::Sink) and every [`Source`](crate::Source) has to do, as functions that the tests of whoever writes
//! one call.
//!
//! Each panics at the first thing that is not so, and says what it was doing. What a sink or a source can't do at all is
//! left out: a sink says so by its [`SinkInfo`](crate::SinkInfo), and a source's factory by giving `None`.

mod limited;
mod sink;
mod source;

pub use sink::{SinkUnderTest, sink};
pub use source::{Case, Fault, source};
