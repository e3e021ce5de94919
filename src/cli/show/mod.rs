//! What the user sees of the downloads.

mod bars;
mod json;
mod lines;
mod text;

use std::io;
use std::time::Instant;

use dlm_api::{Event, Report, Result};

pub use bars::Bars;
pub use json::Json;
#[cfg(feature = "bittorrent")]
pub(super) use json::write_json;
pub use lines::Lines;
pub(super) use text::{failure, waiting};

use super::exit::Exit;
use super::plan::Request;

/// Tells the user about downloads. They are known by their place on the command line, from 0.
///
/// An error means that nobody can be told any more, and everything is stopped.
pub trait Show {
    /// This download starts.
    fn started(&mut self, id: usize, request: &Request, now: Instant) -> io::Result<()>;
    /// This happened to it.
    fn event(&mut self, id: usize, event: &Event, now: Instant) -> io::Result<()>;
    /// It came to its end. Also told of one that never started.
    fn finished(&mut self, id: usize, request: &Request, outcome: &Result<Report>) -> io::Result<()>;
    /// The user wants everything to stop.
    fn stopping(&mut self) -> io::Result<()>;
    /// All downloads came to their end.
    fn done(&mut self, outcomes: &[Result<Report>], exit: Exit) -> io::Result<()>;
}
