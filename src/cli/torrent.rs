//! `dlm torrent`: makes, shows and verifies torrents. Nothing here touches the network but `show --scrape`.

mod create;
mod hash;
mod scrape;
mod show;
mod verify;

use std::io;
use std::path::Path;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind};
use dlm_bittorrent::Metainfo;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::TorrentCommand;
use super::escape::plain;
use super::exit::Exit;
use super::{failed, input, unwritten, usage};

pub(super) use verify::place;

/// Does what the command says.
pub(super) fn run(command: &TorrentCommand) -> Exit {
    let (name, done) = match command {
        TorrentCommand::Create(args) => ("create", create::run(args)),
        TorrentCommand::Show(args) => ("show", show::run(args)),
        TorrentCommand::Verify(args) => ("verify", verify::run(args)),
    };
    match done {
        Ok(exit) => exit,
        Err(Failure::Usage(message)) => usage(&["torrent", name], &message),
        // The hints are about downloads.
        Err(Failure::Error(error)) => {
            failed(&plain(&error.chain()));
            Exit::of(error.kind())
        }
        // The reader had enough: `dlm torrent show x.torrent | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Complete,
        Err(Failure::Output(error)) => unwritten(error),
    }
}

/// The torrent in the file at `path`, or in standard input if that is `-`.
///
/// # Errors
///
/// What it names makes no sense, or is a torrent of a kind that is not supported.
fn read(path: &Path) -> Result<Metainfo, Failure> {
    let bytes = Bytes::from(input::read_all(path, "a torrent")?);
    Metainfo::parse(bytes).map_err(|error| match error.kind() {
        ErrorKind::Unsupported => error.with("path", path.display()).into(),
        _ => format!("{}: {}", path.display(), error.chain()).into(),
    })
}

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// The command line, or what it names, makes no sense.
    Usage(String),
    /// Something else.
    Error(Error),
    /// What it found out can't be written to standard output.
    Output(io::Error),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Usage(message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A bar on standard error, if that is a terminal, for so many bytes that are read.
fn bar(len: u64) -> ProgressBar {
    const TEMPLATE: &str = "[{bar:20}] {percent:>3}% of {binary_total_bytes}, {binary_bytes_per_sec}, ETA {eta}";
    // The template is a constant, and a test draws it.
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    #[test]
    fn the_bar_can_be_drawn() {
        let term = InMemoryTerm::new(5, 100);
        let bar = bar(4 << 20);
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(term.clone())));
        bar.set_position(1 << 20);
        bar.tick();
        let screen = term.contents();
        assert!(screen.starts_with("[=====>              ]  25% of 4.00 MiB, "), "{screen}");
    }
}
