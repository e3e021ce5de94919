//! The command line.

pub mod args;
pub mod escape;
pub mod exit;
pub mod get;
pub mod input;
pub mod plan;
pub mod select;
pub mod show;
pub mod units;

mod engine;
mod list;
mod log;
#[cfg(feature = "bittorrent")]
mod seed;
#[cfg(feature = "bittorrent")]
mod torrent;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use dlm_api::Error;

#[cfg(feature = "bittorrent")]
use self::args::SeedArgs;
use self::args::{Cli, Command, GetArgs};
use self::escape::plain;
use self::exit::{Exit, hint};
use self::show::{Bars, Json, Lines, Show};

/// The whole program: reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error).into(),
    };
    let exit = match cli.command {
        Command::Get(args) => get(&args),
        #[cfg(feature = "bittorrent")]
        Command::Seed(args) => seed(&args),
        #[cfg(feature = "bittorrent")]
        Command::Torrent(command) => torrent::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dlm", &mut script);
            print(&script)
        }
        Command::Man { command } => man(&command),
    };
    exit.into()
}

/// Prints what clap has to say: help, the version, or why it does not understand the command line. It never repeats a value
/// that may be, or have in it, a password.
fn refused(error: &clap::Error) -> Exit {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        clap::error::ErrorKind::ValueValidation => {
            let name = text(ContextKind::InvalidArg).unwrap_or("an argument");
            // Our own parsers say what is wrong without the value.
            let reason = std::error::Error::source(error).map_or_else(String::new, |reason| format!(": {reason}"));
            usage(&subcommand(std::env::args_os()), &format!("invalid value for '{name}'{reason}"))
        }
        clap::error::ErrorKind::UnknownArgument | clap::error::ErrorKind::TooManyValues
            if is_private(text(ContextKind::InvalidArg)) || is_private(text(ContextKind::InvalidValue)) =>
        {
            usage(&subcommand(std::env::args_os()), "there is an argument too many, or the option before it is missing")
        }
        clap::error::ErrorKind::InvalidValue if is_private(text(ContextKind::InvalidValue)) => {
            let name = text(ContextKind::InvalidArg).unwrap_or("an argument");
            usage(&subcommand(std::env::args_os()), &format!("invalid value for '{name}'"))
        }
        // A URL whose `get` was forgotten.
        clap::error::ErrorKind::InvalidSubcommand if is_private(text(ContextKind::InvalidSubcommand)) => {
            usage(&[""; 0], "unrecognized subcommand: to download from a URL, write `dlm get URL`")
        }
        _ => {
            // Standard error being gone changes nothing.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Complete }
        }
    }
}

/// Whether it looks like a URL or a login, in which there may be a password or a key.
fn is_private(given: Option<&str>) -> bool {
    given.is_some_and(|given| given.contains(['/', ':', '@']))
}

/// The names of the subcommand that a command line is of.
fn subcommand(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let dlm = Cli::command();
    let mut command = &dlm;
    let next = |argument: OsString| {
        command = command.find_subcommand(argument)?;
        Some(command.get_name().to_owned())
    };
    arguments.skip(1).map_while(next).collect()
}

fn get(args: &GetArgs) -> Exit {
    let requests = match plan::requests(args) {
        Ok(requests) => requests,
        Err(error) => return usage(&["get"], &error),
    };
    on_a_thread(args.verbose, async {
        let engine = match engine::client(args) {
            Ok(engine) => engine,
            Err(error) => return failed_with(&error),
        };
        if args.list_files {
            return tokio::select! {
                exit = list::run(&requests, &engine, args.json) => exit,
                () = get::interrupted() => Exit::Interrupted,
            };
        }
        let mut show = show(args.json, args.quiet, args.verbose, requests.len());
        get::run(&requests, args.jobs.into(), &engine, &mut *show, get::interrupted()).await
    })
}

#[cfg(feature = "bittorrent")]
fn seed(args: &SeedArgs) -> Exit {
    let requests = match seed::requests(args) {
        Ok(requests) => requests,
        Err(error) => return usage(&["seed"], &error),
    };
    on_a_thread(args.verbose, async {
        let engine = match seed::Seeds::new(args) {
            Ok(engine) => engine,
            Err(error) => return failed_with(&error),
        };
        let mut show = show(args.json, args.quiet, args.verbose, requests.len());
        get::run(&requests, requests.len(), &engine, &mut *show, get::interrupted()).await
    })
}

/// Drives and tells on this thread; the engine has its own for the work.
fn on_a_thread(verbose: u8, work: impl Future<Output = Exit>) -> Exit {
    if verbose > 0 {
        log::start(verbose);
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => failed(&error),
    }
}

/// How the user is told of this many downloads.
fn show(json: bool, quiet: bool, verbose: u8, downloads: usize) -> Box<dyn Show> {
    if json {
        Box::new(Json::new(io::stdout().lock()))
    } else if quiet || verbose > 0 || !io::stderr().is_terminal() {
        Box::new(Lines::new(io::stderr(), quiet))
    } else {
        Box::new(Bars::new(downloads))
    }
}

fn man(command: &[String]) -> Exit {
    let mut dlm = Cli::command();
    // Gives the subcommands their full names.
    dlm.build();
    let chosen = command.iter().try_fold(&dlm, |command, name| command.find_subcommand(name)).cloned();
    let Some(chosen) = chosen else {
        return usage(&["man"], "there is no such subcommand");
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(chosen).render(&mut page) {
        Ok(()) => print(&page),
        Err(error) => failed(&error),
    }
}

/// Refuses the command line, as clap does for what it finds itself.
fn usage(subcommand: &[impl AsRef<OsStr>], message: &str) -> Exit {
    let mut dlm = Cli::command();
    dlm.build();
    let command = subcommand.iter().try_fold(&dlm, |command, name| command.find_subcommand(name)).unwrap_or(&dlm);
    let message = plain(message);
    // Standard error being gone changes nothing.
    let _ = command.clone().error(clap::error::ErrorKind::ValueValidation, message).print();
    Exit::Usage
}

fn print(bytes: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Complete,
        // The reader had enough: `dlm man | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Complete,
        Err(error) => unwritten(error),
    }
}

/// Says that standard output can't be written to, and why.
fn unwritten(error: io::Error) -> Exit {
    let error = Error::storage("cannot write to standard output", error);
    failed(&plain(&error.chain()));
    Exit::of(error.kind())
}

/// Says what went wrong, and what to do about it.
fn failed_with(error: &Error) -> Exit {
    let _ = writeln!(io::stderr(), "error: {}\n  hint: {}", plain(&error.chain()), hint(error));
    Exit::of(error.kind())
}

fn failed(error: &dyn std::fmt::Display) -> Exit {
    let _ = writeln!(io::stderr(), "error: {error}");
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_full_is_told_apart() {
        assert_eq!(unwritten(io::ErrorKind::StorageFull.into()), Exit::NoSpace);
        assert_eq!(unwritten(io::ErrorKind::Other.into()), Exit::Failed);
    }
}
