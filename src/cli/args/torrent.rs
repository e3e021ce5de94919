//! The options of `dlm torrent`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueHint};
use dlm_bittorrent::tracker::TrackerUrl;
use url::Url;

use super::swarm::{SwarmArgs, parse_tracker};
use crate::cli::units::parse_size;

const CREATE_EXAMPLES: &str = "\
Examples:
  A torrent of a folder, written to the current folder as photos.torrent:
    dlm torrent create ~/photos --tracker udp://tracker.example.org:6969/announce

  With pieces of 4 MiB, and a server that has the same files for when there are no peers:
    dlm torrent create image.iso --piece 4MiB --web-seed https://example.org/image.iso";

const VERIFY_CODES: &str = "\
Exit codes:
  0  everything is there and right
  1  the torrent is of a kind that is not supported, or standard output failed
  2  the command line, or something it names, makes no sense
  3  something is missing, damaged or can't be read; what is listed on standard output";

const SEED_GOAL: &str = "Until when: ratio=1.5, time=2h, ratio=2,time=1h, or forever [default: forever]";

/// Said below the options of `dlm seed`.
pub(super) const SEED_HELP: &str = "\
Examples:
  Give a folder to others until twice as much was given, or it is interrupted:
    dlm seed ~/photos photos.torrent --seed ratio=2

  Files of several torrents, which are all in one folder:
    dlm seed /srv/mirror *.torrent

Exit codes:
  0    the goal was reached, or it was interrupted while it gave
  2    the command line, or something it names, makes no sense
  3    no piece is right
  4    none of the files is there
  5    something may not be read
  130  interrupted while it checked";

/// What to do with a torrent.
#[derive(Subcommand, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum TorrentCommand {
    /// Make a torrent of a file or a folder
    ///
    /// The files of a folder are taken in the order of their names, so that the same files always make the same torrent.
    /// Symbolic links below it, and what is no file, are left out. Nothing that is there already is overwritten. Names that
    /// could do harm are made safe by whoever downloads it: `dlm torrent show` says what dlm calls them.
    #[command(after_long_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Show what a torrent or a magnet link says
    ///
    /// Nothing is fetched or asked, except with --scrape. Trackers and web seeds are shown in full: some have a key of yours, or
    /// a password, in their URL.
    Show(ShowArgs),
    /// Check files on disk against a torrent
    ///
    /// Every byte is read. What is missing, damaged, of another length, a link or can't be read is listed. Data that lies
    /// between two files is checked together: where one of them is missing, the edge of the other can't be told to be right.
    #[command(after_long_help = VERIFY_CODES)]
    Verify(VerifyArgs),
}

/// The options of `dlm torrent create`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct CreateArgs {
    /// The file or folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,

    /// Write the torrent to this file; - is standard output [default: NAME.torrent in the current folder]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// The length of a piece: a power of two from 16KiB to 256MiB [default: such that there are at most 2048 pieces]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub piece: Option<u64>,

    /// A tracker. Can be repeated: the first is asked first, the others if it fails
    #[arg(long = "tracker", value_name = "URL", value_parser = parse_tracker, value_hint = ValueHint::Url)]
    pub trackers: Vec<TrackerUrl>,

    /// A server that has the file, or the folder's parent. Can be repeated
    #[arg(long = "web-seed", value_name = "URL", value_parser = parse_web_seed, value_hint = ValueHint::Url)]
    pub web_seeds: Vec<Url>,

    /// Peers may only be found through its trackers
    #[arg(long)]
    pub private: bool,

    /// A text for people to read
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,

    /// A text that gives the same files another info-hash, as some trackers want it
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,

    /// What the file or folder is called in the torrent [default: its name]
    #[arg(long)]
    pub name: Option<String>,
}

/// The options of `dlm torrent show`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct ShowArgs {
    /// A torrent file, - for standard input, or a magnet link
    #[arg(value_name = "FILE|MAGNET", value_hint = ValueHint::FilePath)]
    pub torrent: PathBuf,

    /// Ask its trackers how many peers there are, and how often it was downloaded
    #[arg(long)]
    pub scrape: bool,

    /// Print it as one line of JSON; docs/json-torrent.md describes it
    #[arg(long)]
    pub json: bool,
}

/// The options of `dlm torrent verify`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct VerifyArgs {
    /// The torrent file; - is standard input
    #[arg(value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub torrent: PathBuf,

    /// The file or folder of the torrent, or the folder in which that is
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,
}

/// The options of `dlm seed`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("seed", |seed| seed.default_value("forever").help(SEED_GOAL).long_help(None)))]
#[command(mut_arg("torrents", |torrents| torrents.help("The same as TORRENT").hide_short_help(true)))]
#[allow(clippy::exhaustive_structs)]
pub struct SeedArgs {
    /// The file or folder of the torrent, or the folder in which that is
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,

    /// The torrent file; - is standard input. Several may have their files at PATH
    #[arg(required_unless_present = "torrents", value_name = "TORRENT", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,

    /// Who is spoken to, and for how long.
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

fn parse_web_seed(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "not a URL".to_owned())?;
    match url.scheme() {
        "http" | "https" | "ftp" if url.has_host() => Ok(url),
        _ => Err("a web seed has a URL of HTTP, HTTPS or FTP".to_owned()),
    }
}
