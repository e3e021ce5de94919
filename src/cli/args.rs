//! The command line: what can be asked for, and what is refused.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint, value_parser};
use clap_complete::Shell;
use dlm_api::{Digest, Locator};

use super::exit::EXIT_CODES;
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
        command: Option<String>,
    },
}

fn get_help() -> String {
    format!("{EXAMPLES}\n\nUnits:\n{UNITS}\n\nExit codes:\n{EXIT_CODES}")
}

/// The options of `dlm get`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct GetArgs {
    /// Where to download from
    #[arg(value_name = "URL", required_unless_present = "input", value_hint = ValueHint::Url)]
    pub urls: Vec<Locator>,

    /// Read URLs from a file, one a line; - is standard input
    ///
    /// Blank lines and lines that start with # are skipped. Unlike the command line, a file is not shown to the other
    /// users of this machine, so it is the place for URLs with passwords or signatures.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,

    /// Save under this name; - is standard output. One URL only
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

    /// Another place that has the same file; it is used at the same time. Can be repeated. One URL only
    #[arg(short, long = "mirror", value_name = "URL", value_hint = ValueHint::Url, help_heading = "How it is fetched")]
    pub mirrors: Vec<Locator>,

    /// What the file must hash to. One URL only
    ///
    /// ALGO is sha256, sha512, blake3, sha1 or md5. The file gets its name only when the checksum matches.
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

    /// Refuse what is larger: 700M, 4GiB
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
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(args: &[&str]) -> Result<GetArgs, clap::Error> {
        let cli = Cli::try_parse_from(["dlm", "get"].iter().chain(args))?;
        match cli.command {
            Command::Get(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_understood() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let args = parse(&[
            "-o",
            "out.iso",
            "-d",
            "dir",
            "-m",
            "https://m1/f",
            "--mirror",
            "https://m2/f",
            "-c",
            "8",
            "-j",
            "2",
            "-i",
            "urls.txt",
            "--checksum",
            &digest,
            "--limit",
            "1.5MiB/s",
            "--header",
            "X-Token: a:b",
            "--header",
            "Accept: */*",
            "--max-size",
            "4GiB",
            "--retries",
            "0",
            "--timeout",
            "500ms",
            "--no-resume",
            "--on-exists",
            "rename",
            "--no-mtime",
            "--json",
            "-vv",
            "--ca-certificate",
            "ca.pem",
            "--insecure",
            "--user",
            "me:a:b",
            "https://h/f",
        ])
        .unwrap();
        assert_eq!(args.urls.len(), 1);
        assert_eq!(args.mirrors.len(), 2);
        assert_eq!((args.connections, args.jobs, args.retries), (Some(8), 2, Some(0)));
        assert_eq!((args.limit, args.max_size), (Some(1_572_864), Some(4 << 30)));
        assert_eq!(args.timeout, Some(Duration::from_millis(500)));
        assert_eq!(args.on_exists, OnExists::Rename);
        assert_eq!(args.headers[0].name(), "X-Token");
        assert_eq!(args.headers[0].value(), "a:b");
        assert_eq!(args.user.as_ref().map(|u| (u.user(), u.password())), Some(("me", "a:b")));
        assert_eq!(args.checksum.map(|d| d.to_string()), Some(format!("sha-256:{}", "ab".repeat(32))));
        assert_eq!(args.verbose, 2);
        assert!(args.json && args.insecure && args.no_mtime && args.no_resume);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let url = "https://h/f";
        for (args, kind) in [
            (&[][..], ErrorKind::MissingRequiredArgument),
            (&["h/f"], ErrorKind::ValueValidation),
            (&[url, "-c", "0"], ErrorKind::ValueValidation),
            (&[url, "-c", "257"], ErrorKind::ValueValidation),
            (&[url, "-j", "0"], ErrorKind::ValueValidation),
            (&[url, "--limit", "fast"], ErrorKind::ValueValidation),
            (&[url, "--limit", "0"], ErrorKind::ValueValidation),
            (&[url, "--max-size", "1q"], ErrorKind::ValueValidation),
            (&[url, "--timeout", "0"], ErrorKind::ValueValidation),
            (&[url, "--checksum", "sha256:abc"], ErrorKind::ValueValidation),
            (&[url, "--checksum", "crc32:00000000"], ErrorKind::ValueValidation),
            (&[url, "--header", "no colon"], ErrorKind::ValueValidation),
            (&[url, "--header", "a b: c"], ErrorKind::ValueValidation),
            (&[url, "--header", "A: b\r\nC: d"], ErrorKind::ValueValidation),
            (&[url, "--user", "name"], ErrorKind::ValueValidation),
            (&[url, "--user", ":password"], ErrorKind::ValueValidation),
            (&[url, "--on-exists", "panic"], ErrorKind::InvalidValue),
            (&[url, "-q", "-v"], ErrorKind::ArgumentConflict),
            (&[url, "--fast"], ErrorKind::UnknownArgument),
        ] {
            let error = parse(args).expect_err(&args.join(" "));
            assert_eq!(error.kind(), kind, "{args:?}: {error}");
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn secrets_are_not_in_the_debug_text() {
        let args = parse(&["--user", "me:hunter2", "--header", "Cookie: hunter2", "https://me:hunter2@h/f?k=hunter2"]);
        let text = format!("{:?}", args.unwrap());
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_long_help_has_examples_units_and_exit_codes() {
        let error = parse(&["--help"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        for part in ["Examples:", "dlm get -q -o -", "powers of 1000", "Exit codes:", "130  interrupted"] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
