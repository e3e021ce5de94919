//! How the program ends: exit codes, and what to do about a failure.

use std::io;
use std::process::ExitCode;

use dlm_api::{Error, ErrorKind};

/// What the program's exit code says. The codes are part of the interface: they never change their meaning.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Exit {
    /// Everything asked for is there and checked.
    Complete = 0,
    /// Something failed for which there is no code of its own.
    Failed = 1,
    /// The command line, or something it names, makes no sense.
    Usage = 2,
    /// The bytes are not what their digest says.
    Corrupt = 3,
    /// There is no such thing.
    NotFound = 4,
    /// Refused: by the server, or by the file system.
    Denied = 5,
    /// No space is left.
    NoSpace = 6,
    /// Nothing came within the time allowed.
    TimedOut = 7,
    /// Interrupted by a signal; the next run goes on.
    Interrupted = 130,
}

/// The codes, as `dlm get --help` and the man page list them.
pub const EXIT_CODES: &str = "\
  0    everything is there and checked
  1    a download failed
  2    the command line makes no sense
  3    the content does not match its digest
  4    not found
  5    access denied
  6    no space left
  7    timed out
  130  interrupted (what was received is kept)

With several URLs: the code of the first one, in the order given, that failed.";

impl Exit {
    /// The code for a failed download.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::Timeout => Self::TimedOut,
            ErrorKind::InvalidInput => Self::Usage,
            ErrorKind::Cancelled => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What the user can do about an error.
pub fn hint(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound if is_local(error) => {
            "look at that path: what is asked for is not there, or is called otherwise"
        }
        ErrorKind::NotFound => "check the URL; if the file has moved, give its new place",
        ErrorKind::Denied if is_refused(error) => "choose a folder you may write to, with --dir",
        // A link where a file or folder of ours should be.
        ErrorKind::Denied if is_local(error) => {
            "look at that path: a link in the way is not followed; remove it, or choose another place with --dir"
        }
        ErrorKind::Denied => "give credentials with --user or --header; a signed link may have expired",
        // One file was asked for, and there are more, or other ones.
        ErrorKind::Changed if error.context().any(|(_, about)| about == "which files there are") => {
            "if these are several files, name a folder with --dir in place of --output; if not, run again with --no-resume"
        }
        ErrorKind::Changed => {
            "the file on the server is a new one: run again with --no-resume to fetch it from the start"
        }
        // Of what was only to be given to others.
        ErrorKind::Corrupt if error.context().any(|(key, _)| key == "pieces") => {
            "these are other files than those of the torrent, or they were changed since it was made"
        }
        ErrorKind::Corrupt => {
            "check the checksum you gave; if it is right, the server has a damaged file: try a --mirror"
        }
        ErrorKind::Unsupported => "dlm can't do what the message names; another form of the same may do",
        // Several files, and an option that is for one.
        ErrorKind::InvalidInput if error.context().any(|(key, about)| key == "option" && about == "--output") => {
            "choose a folder with --dir instead; --list-files shows what there is"
        }
        ErrorKind::InvalidInput if error.context().any(|(key, _)| key == "option") => {
            "leave that option away; --list-files shows what there is"
        }
        ErrorKind::InvalidInput => "correct the value and run again; `dlm get --help` says what is expected",
        // What was to lead to the content.
        ErrorKind::Protocol if error.context().any(|(key, _)| key == "container") => {
            "see what it is: --no-follow saves it instead of following it"
        }
        ErrorKind::Protocol => "the server, or a proxy before it, is faulty: try a --mirror, or fewer --connections",
        ErrorKind::Network => "check the connection and run the same command again: it goes on where it stopped",
        ErrorKind::Timeout => {
            "run the same command again: it goes on where it stopped; a slow server may need a longer --timeout"
        }
        ErrorKind::Throttled => "the server wants fewer requests: wait, or use fewer --connections",
        ErrorKind::NoSpace => "free some space, or choose another place with --dir, and run the same command again",
        ErrorKind::Internal => "this is a fault of dlm: please report it, with what `-vv` shows",
        ErrorKind::Exists => {
            "choose another name with --output, or say what to do with --on-exists: check keeps what is right of it"
        }
        ErrorKind::TooLarge => "raise --max-size if you want it nevertheless",
        ErrorKind::Storage if is_broken_pipe(error) => "whoever read the output has stopped reading",
        ErrorKind::Storage => "check the disk, or choose another place with --dir",
        ErrorKind::Cancelled => "run the same command again to go on",
        _ => "run again with -v to see more",
    }
}

/// Only what is said of files has a path.
fn is_local(error: &Error) -> bool {
    error.context().any(|(key, _)| key == "path")
}

fn is_refused(error: &Error) -> bool {
    io_cause(error)
        .is_some_and(|kind| matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
}

fn is_broken_pipe(error: &Error) -> bool {
    io_cause(error) == Some(io::ErrorKind::BrokenPipe)
}

fn io_cause(error: &Error) -> Option<io::ErrorKind> {
    std::error::Error::source(error)?.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(ErrorKind, u8); 15] = [
        (ErrorKind::NotFound, 4),
        (ErrorKind::Denied, 5),
        (ErrorKind::Changed, 1),
        (ErrorKind::Corrupt, 3),
        (ErrorKind::Unsupported, 1),
        (ErrorKind::InvalidInput, 2),
        (ErrorKind::Protocol, 1),
        (ErrorKind::Network, 1),
        (ErrorKind::Timeout, 7),
        (ErrorKind::Throttled, 1),
        (ErrorKind::NoSpace, 6),
        (ErrorKind::Exists, 1),
        (ErrorKind::TooLarge, 1),
        (ErrorKind::Storage, 1),
        (ErrorKind::Cancelled, 130),
    ];

    #[test]
    fn every_kind_has_its_code_and_its_hint() {
        let mut hints = Vec::new();
        for (kind, code) in KINDS {
            assert_eq!(Exit::of(kind).code(), code, "{kind}");
            hints.push(hint(&Error::new(kind, "x")));
        }
        hints.sort_unstable();
        hints.dedup();
        assert_eq!(hints.len(), KINDS.len(), "each kind has a hint of its own");
    }

    #[test]
    fn every_code_is_listed_for_the_user() {
        let listed: Vec<u8> =
            EXIT_CODES.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        let mut codes: Vec<u8> = KINDS.iter().map(|(_, code)| *code).chain([Exit::Complete.code()]).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(listed, codes);
    }

    #[test]
    fn a_folder_that_refuses_is_not_a_server_that_refuses() {
        let local = Error::storage("cannot create", io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(local.kind(), ErrorKind::Denied);
        assert!(hint(&local).contains("--dir"));
        assert!(hint(&Error::new(ErrorKind::Denied, "401")).contains("--user"));
    }

    #[test]
    fn what_is_no_container_is_not_the_fault_of_the_server_or_the_user() {
        let error = Error::new(ErrorKind::Protocol, "not what it is called").with("container", ".torrent");
        assert!(hint(&error).contains("--no-follow"));
    }

    #[test]
    fn a_link_in_the_way_is_not_a_server_that_refuses() {
        let cause = Error::storage("cannot open the file", io::Error::from(io::ErrorKind::NotADirectory));
        let link = Error::new(ErrorKind::Denied, "a symbolic link").with("path", "x.iso.part").with_source(cause);
        assert!(hint(&link).contains("link") && !hint(&link).contains("--user"), "{}", hint(&link));
    }

    #[test]
    fn a_reader_that_left_is_named() {
        let error = Error::storage("cannot write", io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(hint(&error).contains("stopped reading"));
    }
}
