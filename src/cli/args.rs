//! The command line: what can be asked for, and what is refused.

mod place;
#[cfg(feature = "bittorrent")]
mod swarm;
#[cfg(feature = "bittorrent")]
mod torrent;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint, value_parser};
use clap_complete::Shell;
use dlm_api::{Digest, Locator};

pub(super) use place::is_torrent;

pub use place::Place;
#[cfg(feature = "bittorrent")]
pub use swarm::{Seed, SwarmArgs};
#[cfg(feature = "bittorrent")]
pub use torrent::{CreateArgs, SeedArgs, ShowArgs, TorrentCommand, VerifyArgs};

use super::exit::EXIT_CODES;
use super::select::Pattern;
use super::units::{parse_duration, parse_rate, parse_size};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  Download into the current folder; run it again after an interruption and it goes on:
    dlm get https://example.org/image.iso

  Check it, and take it from two places at once:
    dlm get https://example.org/image.iso -m https://mirror.example.net/image.iso \\
        --checksum sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

  Several files, two at a time, with at most 2 MB a second in all:
    dlm get -j 2 --limit 2M -d downloads -i urls.txt

  Straight into another program:
    dlm get -q -o - https://example.org/source.tar.gz | tar xz

  For a script:
    dlm get --json https://example.org/image.iso | jq -r 'select(.event == \"complete\").entries[].file'";

#[cfg(feature = "bittorrent")]
const TORRENT_EXAMPLES: &str = "

  A torrent, from a file, a URL or a magnet link: see what is in it, then take some of it, and give as much back:
    dlm get album.torrent --list-files
    dlm get album.torrent --select '*.flac' --seed ratio=1";
#[cfg(not(feature = "bittorrent"))]
const TORRENT_EXAMPLES: &str = "";

const UNITS: &str = "\
Sizes and rates are in bytes: k, M, G and T are powers of 1000, Ki, Mi, Gi and Ti powers of 1024, a B after them
changes nothing, and a fraction is fine: 500k, 2MB, 1.5GiB. A rate may end in /s.";

/// Downloads files: resumes them, checks them, and takes them from several mirrors at once.
#[derive(Parser, Debug)]
#[command(name = "dlm", version, styles = STYLES, max_term_width = 110, propagate_version = true)]
#[command(after_help = "`dlm get --help` explains every option and shows examples.")]
#[allow(clippy::exhaustive_structs)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Command {
    /// Download files
    ///
    /// Each URL is a download of its own, and several run side by side. A file carries the suffix .part until it is
    /// complete and checked. What was received before an interruption is kept: the same command goes on from there.
    #[command(after_help = "`dlm get --help` shows examples and exit codes.", after_long_help = get_help())]
    Get(Box<GetArgs>),
    /// Give files that are there to others
    ///
    /// The files are checked first, several at a time, and nothing is fetched, changed or made: they may be read-only. Of
    /// what is damaged or missing the rest is given. Until it is stopped, or the --seed goal is reached.
    #[cfg(feature = "bittorrent")]
    #[command(after_long_help = torrent::SEED_HELP)]
    Seed(Box<SeedArgs>),
    /// Make, show and verify torrents
    #[cfg(feature = "bittorrent")]
    #[command(subcommand)]
    Torrent(Box<TorrentCommand>),
    /// Print a completion script for a shell
    ///
    /// For example: dlm completions bash > ~/.local/share/bash-completion/completions/dlm
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page
    ///
    /// For example: dlm man get > ~/.local/share/man/man1/dlm-get.1
    Man {
        /// The subcommand whose page to print; without one, the page of dlm itself
        command: Vec<String>,
    },
}

fn get_help() -> String {
    format!("{EXAMPLES}{TORRENT_EXAMPLES}\n\nUnits:\n{UNITS}\n\nExit codes:\n{EXIT_CODES}")
}

/// The options of `dlm get`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct GetArgs {
    /// Where to download from: a URL, a magnet link, or a torrent file, whose name ends in .torrent
    #[arg(value_name = "URL", value_parser = place::place(), value_hint = ValueHint::Url)]
    #[cfg_attr(feature = "bittorrent", arg(required_unless_present_any = ["input", "torrents"]))]
    #[cfg_attr(not(feature = "bittorrent"), arg(required_unless_present = "input"))]
    pub urls: Vec<Place>,

    /// Read URLs from a file, one a line; - is standard input
    ///
    /// Torrent files can be named too, by paths that are relative to the current folder. Blank lines and lines that start with # are skipped. Unlike the command line, a file is not shown to the other
    /// users of this machine, so it is the place for URLs with passwords or signatures.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,

    /// Save under this name; - is standard output. One URL only, and one file
    ///
    /// A torrent of many files goes to a folder, which --dir names, even if --select takes one of them only.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Where it goes")]
    pub output: Option<PathBuf>,

    /// Save in this folder; it is made if need be [default: the current folder]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Where it goes")]
    pub dir: Option<PathBuf>,

    /// What to do when the file is there already
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, help_heading = "Where it goes")]
    pub on_exists: OnExists,

    /// Don't set the file's time to the server's
    #[arg(long, help_heading = "Where it goes")]
    pub no_mtime: bool,

    /// Start from nothing, whatever an earlier run left
    #[arg(long, help_heading = "Where it goes")]
    pub no_resume: bool,

    /// Fetch only what looks like this: '*.iso', 'album/disc 1/*', '**/*.{jpg,png}'. Can be repeated
    ///
    /// Looked at are the path of a file, as --list-files shows it, and its name alone. * and ? stop at a /, ** does not.
    /// Something that no file looks like is an error.
    #[arg(long, value_name = "GLOB", help_heading = "Which files")]
    pub select: Vec<Pattern>,

    /// Show which files there are, or which of them --select takes, and fetch nothing
    ///
    /// One line for each: its number, its length and its path; with --json one event.
    #[arg(long, help_heading = "Which files")]
    pub list_files: bool,

    /// Save a torrent file at a URL itself, whatever it is, rather than what it leads to
    #[arg(long, help_heading = "Which files")]
    pub no_follow: bool,

    /// Another place that has the same file; it is used at the same time. Can be repeated. One URL only
    #[arg(short, long = "mirror", value_name = "URL", value_hint = ValueHint::Url, help_heading = "How it is fetched")]
    pub mirrors: Vec<Locator>,

    /// What the file must hash to. One URL only
    ///
    /// ALGO is sha256, sha512, blake3, sha1 or md5. The file gets its name only when the checksum matches. It is of what the
    /// URL gives: where that is a torrent file, of this. With a magnet link, or a torrent file that is here, it is of the
    /// content, which is one file then.
    #[arg(long, value_name = "ALGO:HEX", help_heading = "How it is fetched")]
    pub checksum: Option<Digest>,

    /// At most this many connections to one server for a download
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u16).range(1..=256), help_heading = "How it is fetched")]
    pub connections: Option<u16>,

    /// At most this many downloads at the same time
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=1024), help_heading = "How it is fetched")]
    pub jobs: u16,

    /// At most this many bytes a second, all downloads together: 500k, 2M, 1.5MiB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "How it is fetched")]
    pub limit: Option<u64>,

    /// Refuse files that are larger: 700M, 4GiB
    ///
    /// Each file that is to be fetched counts by itself, also in a download of many.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "How it is fetched")]
    pub max_size: Option<u64>,

    /// Ask again this many times after a failure that may pass
    #[arg(long, value_name = "N", help_heading = "How it is fetched")]
    pub retries: Option<u32>,

    /// Give up on a connection after this long without an answer or a byte: 30, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "How it is fetched")]
    pub timeout: Option<Duration>,

    /// Send this header to the servers named on the command line. Can be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = "Servers")]
    pub headers: Vec<Header>,

    /// Log in; for URLs that don't say who logs in themselves
    ///
    /// Never sent to mirrors. Other users of this machine can see the command line while it runs: a URL with user and
    /// password in an --input file is not seen.
    #[arg(long, value_name = "USER:PASSWORD", help_heading = "Servers")]
    pub user: Option<Credentials>,

    /// Trust the certificate authorities in this PEM file too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Servers")]
    pub ca_certificate: Option<PathBuf>,

    /// Accept any certificate. Anyone on the way can then read and change what is fetched
    #[arg(long, help_heading = "Servers")]
    pub insecure: bool,

    /// What is about torrents.
    #[cfg(feature = "bittorrent")]
    #[command(flatten)]
    pub swarm: SwarmArgs,

    /// Print what happens as JSON on standard output, one event a line; docs/json-events.md describes them
    #[arg(long, help_heading = "What is shown")]
    pub json: bool,

    /// Show errors only
    #[arg(short, long, help_heading = "What is shown")]
    pub quiet: bool,

    /// Show what happens inside, on standard error; -vv shows more
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "What is shown")]
    pub verbose: u8,
}

/// What to do when the file is there already.
#[derive(ValueEnum, Copy, Clone, PartialEq, Eq, Default, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum OnExists {
    /// Refuse, and leave it as it is
    #[default]
    Fail,
    /// Replace it, once the new one is complete
    Overwrite,
    /// Choose another name
    Rename,
    /// Leave it as it is, and count that as done
    Skip,
    /// Keep what is right of it, piece by piece, and fetch the rest; without digests all is fetched
    Check,
}

/// A header of the user's own. Its value may be a secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: String,
}

impl Header {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, which may be a secret.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Header {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("a header is written 'Name: value'")?;
        let (name, value) = (name.trim_end(), value.trim());
        // RFC 9110, 5.6.2: a token.
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err("the name of a header has letters, digits and - only");
        }
        // A line break would smuggle in a header of its own.
        if value.contains(char::is_control) {
            return Err("the value of a header can't have control characters");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({}: ***)", self.name)
    }
}

/// A user and a password. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl FromStr for Credentials {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Self { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err("a login is written USER:PASSWORD"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:***)", self.user)
    }
}

#[cfg(test)]
mod tests;
