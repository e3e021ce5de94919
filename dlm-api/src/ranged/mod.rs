//! Sources of which any range can be asked for.

mod source;

pub use source::{Opened, RangeRequest, RangeSource, Ranges};
