//! The command line.

pub mod args;
pub mod escape;
pub mod exit;
pub mod get;
pub mod input;
pub mod plan;
pub mod show;
pub mod units;

mod engine;
mod log;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command, GetArgs};
use self::escape::plain;
use self::exit::{Exit, hint};
use self::show::{Bars, Json, Lines, Show};

/// The whole program: reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    // Ends the program itself after --help and for what it does not understand.
    let exit = match Cli::parse().command {
        Command::Get(args) => get(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dlm", &mut script);
            print(&script)
        }
        Command::Man { command } => man(command.as_deref()),
    };
    exit.into()
}

fn get(args: &GetArgs) -> Exit {
    let requests = match plan::requests(args) {
        Ok(requests) => requests,
        Err(error) => return usage("get", &error),
    };
    if args.verbose > 0 {
        log::start(args.verbose);
    }
    let mut show: Box<dyn Show> = if args.json {
        Box::new(Json::new(io::stdout().lock()))
    } else if args.quiet || args.verbose > 0 || !io::stderr().is_terminal() {
        Box::new(Lines::new(io::stderr(), args.quiet))
    } else {
        Box::new(Bars::new(requests.len()))
    };
    // One thread drives and tells; the engine has its own for the work.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(async {
        match engine::client(args) {
            Ok(engine) => get::run(&requests, args.jobs.into(), &engine, &mut *show, get::interrupted()).await,
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {}\n  hint: {}", plain(&error.chain()), hint(&error));
                Exit::of(error.kind())
            }
        }
    })
}

fn man(command: Option<&str>) -> Exit {
    let mut dlm = Cli::command();
    // Gives the subcommands their full names.
    dlm.build();
    let chosen = match command {
        None => Some(dlm),
        Some(name) => dlm.find_subcommand(name).cloned(),
    };
    let Some(chosen) = chosen else {
        return usage("man", "there is no such subcommand");
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(chosen).render(&mut page) {
        Ok(()) => print(&page),
        Err(error) => failed(&error),
    }
}

/// Refuses the command line, as clap does for what it finds itself.
fn usage(subcommand: &str, message: &str) -> Exit {
    let mut dlm = Cli::command();
    dlm.build();
    let command = dlm.find_subcommand_mut(subcommand).map(std::mem::take).unwrap_or(dlm);
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
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Exit {
    let _ = writeln!(io::stderr(), "error: {error}");
    Exit::Failed
}
