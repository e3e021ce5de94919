//! Trackers.

mod url;

pub use url::{TrackerUrl, is_local};
