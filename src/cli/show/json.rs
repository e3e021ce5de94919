//! `--json`: one event a line on standard output. `docs/json-events.md` describes them for users; a test keeps it true.
//!
//! Invariant: a name, once it stands in an event, keeps its meaning. New events and new fields may come.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use dlm_api::{Entry as Listed, EntryId, Error, Event, Progress, Report, Result, State, Verification};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

use super::Show;
use crate::cli::escape;
use crate::cli::exit::{Exit, hint};
use crate::cli::plan::Request;

/// Writes events as JSON.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    /// JSON lines to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// A file of a download that is only looked at.
    pub fn file(&mut self, download: usize, entry: &Listed) -> io::Result<()> {
        self.line(&Line::File { download, entry: entry.id.index(), path: entry.path.as_str(), len: entry.len })
    }

    /// A download that can't be looked at.
    pub fn failed(&mut self, download: usize, request: &Request, error: &Error) -> io::Result<()> {
        self.line(&Line::failed(download, request, error))
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        write_json(&mut self.out, line)?;
        self.out.flush()
    }
}

/// Writes a value as one line of JSON that does nothing to a terminal.
pub(in crate::cli) fn write_json(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Plain))?;
    out.write_all(b"\n")
}

impl<W: Write> Show for Json<W> {
    fn started(&mut self, download: usize, request: &Request, _: Instant) -> io::Result<()> {
        self.line(&Line::Started { download, url: request.url.to_string() })
    }

    fn event(&mut self, download: usize, event: &Event, _: Instant) -> io::Result<()> {
        match Line::of(download, event) {
            Some(line) => self.line(&line),
            None => Ok(()),
        }
    }

    fn finished(&mut self, download: usize, request: &Request, outcome: &Result<Report>) -> io::Result<()> {
        self.line(&match outcome {
            Ok(report) => Line::complete(download, report),
            Err(error) => Line::failed(download, request, error),
        })
    }

    fn stopping(&mut self) -> io::Result<()> {
        self.line(&Line::Stopping {})
    }

    fn done(&mut self, outcomes: &[Result<Report>], exit: Exit) -> io::Result<()> {
        let complete = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        self.line(&Line::Done { complete, failed: outcomes.len() - complete, exit_code: exit.code() })
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Started {
        download: usize,
        url: String,
    },
    State {
        download: usize,
        state: &'static str,
    },
    Named {
        download: usize,
        entry: usize,
        path: &'a str,
    },
    Checked {
        download: usize,
        pieces: u64,
        right: u64,
    },
    Resumed {
        download: usize,
        bytes: u64,
    },
    Container {
        download: usize,
        source: &'a str,
        bytes: u64,
    },
    Progress {
        download: usize,
        #[serde(flatten)]
        progress: Counts,
    },
    SourceRetry {
        download: usize,
        source: &'a str,
        reason: &'a str,
        after_ms: u64,
    },
    SourceBenched {
        download: usize,
        source: &'a str,
        kind: &'static str,
        reason: &'a str,
    },
    PieceCorrupt {
        download: usize,
        entry: usize,
        start: u64,
        end: u64,
        source: &'a str,
    },
    Repaired {
        download: usize,
        entry: usize,
        start: u64,
        end: u64,
    },
    Restarted {
        download: usize,
        entry: usize,
        reason: &'a str,
    },
    Warning {
        download: usize,
        message: &'a str,
    },
    Missed {
        download: usize,
        events: u64,
    },
    Complete {
        download: usize,
        #[serde(flatten)]
        report: Summary<'a>,
    },
    Failed {
        download: usize,
        url: String,
        kind: &'static str,
        message: String,
        hint: &'static str,
        exit_code: u8,
    },
    File {
        download: usize,
        entry: usize,
        path: &'a str,
        len: Option<u64>,
    },
    Stopping {},
    Done {
        complete: usize,
        failed: usize,
        exit_code: u8,
    },
}

#[derive(Serialize)]
struct Counts {
    total: Option<u64>,
    received: u64,
    verified: u64,
    durable: u64,
    transferred: u64,
    wasted: u64,
    rate: u64,
    uploaded: u64,
    upload_rate: u64,
    peers: Option<Peers>,
    connections: u32,
    elapsed_ms: u64,
    eta_ms: Option<u64>,
}

#[derive(Serialize)]
struct Peers {
    connected: u32,
    seeds: u32,
    copies: f64,
    known_seeds: Option<u32>,
    known_others: Option<u32>,
}

#[derive(Serialize)]
struct Summary<'a> {
    entries: Vec<Entry<'a>>,
    resumed: u64,
    transferred: u64,
    wasted: u64,
    uploaded: u64,
    elapsed_ms: u64,
    sources: Vec<Source<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    path: &'a str,
    /// Lossy where the name is not UTF-8: JSON has no other text.
    file: Option<String>,
    len: u64,
    verification: &'static str,
    hash: Option<&'a str>,
    skipped: bool,
}

#[derive(Serialize)]
struct Source<'a> {
    source: &'a str,
    transferred: u64,
    benched: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(download: usize, event: &'a Event) -> Option<Self> {
        let index = |entry: &EntryId| entry.index();
        Some(match event {
            Event::State(state) => Self::State { download, state: state_name(*state)? },
            Event::Named { entry, path } => Self::Named { download, entry: index(entry), path: path.as_str() },
            Event::Checked { pieces, right } => Self::Checked { download, pieces: *pieces, right: *right },
            Event::Resumed { bytes } => Self::Resumed { download, bytes: *bytes },
            Event::Container { source, bytes } => Self::Container { download, source, bytes: *bytes },
            Event::Progress(progress) => Self::Progress { download, progress: counts(progress) },
            Event::SourceRetry { source, reason, after } => {
                Self::SourceRetry { download, source, reason, after_ms: millis(*after) }
            }
            Event::SourceBenched { source, kind, reason } => {
                Self::SourceBenched { download, source, kind: kind.as_str(), reason }
            }
            Event::PieceCorrupt { entry, range, source } => {
                Self::PieceCorrupt { download, entry: index(entry), start: range.start, end: range.end, source }
            }
            Event::Repaired { entry, range } => {
                Self::Repaired { download, entry: index(entry), start: range.start, end: range.end }
            }
            Event::Restarted { entry, reason } => Self::Restarted { download, entry: index(entry), reason },
            Event::Warning(message) => Self::Warning { download, message },
            Event::Missed(events) => Self::Missed { download, events: *events },
            _ => return None,
        })
    }

    fn complete(download: usize, report: &'a Report) -> Self {
        let entries = report.entries.iter().map(|entry| {
            let (verification, hash) = verification(&entry.verification);
            Entry {
                path: entry.path.as_str(),
                file: entry.file.as_ref().map(|path| path.to_string_lossy().into_owned()),
                len: entry.len,
                verification,
                hash,
                skipped: entry.skipped,
            }
        });
        let sources = report.sources.iter().map(|source| Source {
            source: &source.source,
            transferred: source.transferred,
            benched: source.benched.as_deref(),
        });
        let report = Summary {
            entries: entries.collect(),
            resumed: report.resumed,
            transferred: report.transferred,
            wasted: report.wasted,
            uploaded: report.uploaded,
            elapsed_ms: millis(report.elapsed),
            sources: sources.collect(),
            warnings: &report.warnings,
        };
        Self::Complete { download, report }
    }

    fn failed(download: usize, request: &Request, error: &Error) -> Self {
        Self::Failed {
            download,
            url: request.url.to_string(),
            kind: error.kind().as_str(),
            message: error.chain(),
            hint: hint(error),
            exit_code: Exit::of(error.kind()).code(),
        }
    }
}

fn state_name(state: State) -> Option<&'static str> {
    Some(match state {
        State::Starting => "starting",
        State::Checking => "checking",
        State::Running => "running",
        State::Paused => "paused",
        State::Finishing => "finishing",
        State::Sharing => "sharing",
        State::Complete => "complete",
        State::Failed => "failed",
        State::Stopped => "stopped",
        _ => return None,
    })
}

fn verification(verification: &Verification) -> (&'static str, Option<&str>) {
    match verification {
        Verification::Digest(function) => ("digest", Some(function)),
        Verification::Pieces => ("pieces", None),
        Verification::SameContent => ("same_content", None),
        // What is not known to be checked is not called so.
        _ => ("unverified", None),
    }
}

fn counts(progress: &Progress) -> Counts {
    Counts {
        total: progress.total,
        received: progress.received,
        verified: progress.verified,
        durable: progress.durable,
        transferred: progress.transferred,
        wasted: progress.wasted,
        rate: progress.rate,
        uploaded: progress.uploaded,
        upload_rate: progress.upload_rate,
        peers: progress.peers.map(|peers| Peers {
            connected: peers.connected,
            seeds: peers.seeds,
            copies: f64::from(peers.copies_in_thousandths) / 1000.0,
            known_seeds: peers.known_seeds,
            known_others: peers.known_others,
        }),
        connections: progress.connections,
        elapsed_ms: millis(progress.elapsed),
        eta_ms: progress.eta().map(millis),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// JSON leaves some controls as they are, and standard output may be a terminal.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(escape::is_unsafe) {
            out.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            let c = chars.next().map_or(0, u32::from);
            // All that is unsafe has four hex digits at most.
            write!(out, "\\u{c:04x}")?;
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(out, escape)
    }
}

#[cfg(test)]
pub(super) mod tests;
