//! Plain lines on standard error, for where there is no terminal, and for `--quiet`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use dlm_api::{Event, Report, Result, State};

use super::{Show, text};
use crate::cli::escape::plain;
use crate::cli::exit::Exit;
use crate::cli::plan::Request;

/// The pause between two lines of progress of one download.
const EVERY: Duration = Duration::from_secs(5);

/// One line for each thing that happens, and one every few seconds for the progress of each download.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    quiet: bool,
    running: HashMap<usize, Running>,
}

#[derive(Debug)]
struct Running {
    label: String,
    told: Instant,
    /// Everything is here, and is given to others.
    sharing: bool,
    /// Nobody has told yet what there is.
    waiting: bool,
}

impl<W: Write> Lines<W> {
    /// Lines to `out`; when `quiet`, those about failures only.
    pub fn new(out: W, quiet: bool) -> Self {
        Self { out, quiet, running: HashMap::new() }
    }

    /// Standard error being gone is no reason to stop a download.
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }
}

impl<W: Write> Show for Lines<W> {
    fn started(&mut self, id: usize, request: &Request, now: Instant) -> io::Result<()> {
        let label = plain(&request.label()).into_owned();
        let waiting = text::waiting(request);
        self.running.insert(id, Running { label, told: now, sharing: false, waiting: waiting.is_some() });
        if let Some(line) = waiting.filter(|_| !self.quiet) {
            self.line(&line);
        }
        Ok(())
    }

    fn event(&mut self, id: usize, event: &Event, now: Instant) -> io::Result<()> {
        let Some(running) = self.running.get_mut(&id).filter(|_| !self.quiet) else { return Ok(()) };
        if let Event::State(state) = event {
            running.sharing = *state == State::Sharing;
        }
        let line = match event {
            Event::Progress(progress) if now.duration_since(running.told) >= EVERY => {
                running.told = now;
                running.waiting &= progress.total.is_none();
                match running {
                    Running { waiting: true, .. } => text::WAITING.to_owned(),
                    Running { sharing: true, .. } => text::sharing(progress),
                    _ => text::progress(progress),
                }
            }
            Event::Progress(_) => return Ok(()),
            other => match text::event(other) {
                Some(line) => line,
                None => return Ok(()),
            },
        };
        let line = format!("{}: {line}", running.label);
        self.line(&line);
        Ok(())
    }

    fn finished(&mut self, id: usize, request: &Request, outcome: &Result<Report>) -> io::Result<()> {
        self.running.remove(&id);
        match outcome {
            Ok(report) if !self.quiet => self.line(&text::report(report)),
            Ok(_) => {}
            Err(error) => self.line(&text::failure(&request.url.to_string(), error)),
        }
        Ok(())
    }

    fn stopping(&mut self) -> io::Result<()> {
        if !self.quiet {
            self.line(text::STOPPING);
        }
        Ok(())
    }

    fn done(&mut self, _: &[Result<Report>], _: Exit) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::request;
    use super::super::text::tests::some_progress;
    use super::*;
    use dlm_api::{Error, ErrorKind};

    fn told(quiet: bool, tell: impl FnOnce(&mut Lines<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        tell(&mut Lines::new(&mut out, quiet));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn progress_is_told_every_few_seconds() {
        let start = Instant::now();
        let out = told(false, |lines| {
            lines.started(0, &request(), start).unwrap();
            for millis in (0..=15_000).step_by(250) {
                let now = start + Duration::from_millis(millis);
                lines.event(0, &Event::Progress(some_progress()), now).unwrap();
            }
        });
        assert_eq!(out.lines().count(), 3, "{out}");
        assert!(out.starts_with("f.iso: 1.50 GiB of 3.00 GiB (50%)"), "{out}");
    }

    #[test]
    fn seeding_is_told() {
        let start = Instant::now();
        let out = told(false, |lines| {
            lines.started(0, &request(), start).unwrap();
            lines.event(0, &Event::State(State::Sharing), start).unwrap();
            lines.event(0, &Event::Progress(some_progress()), start + EVERY).unwrap();
        });
        assert_eq!(out, "f.iso: what is here is checked; seeding\nf.iso: seeding\n");
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn who_waits_for_a_peer_that_knows_is_told_so() {
        let start = Instant::now();
        let tell = |lines: &mut Lines<&mut Vec<u8>>| {
            let url = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&dn=f";
            lines.started(0, &Request { url: url.parse().unwrap(), ..request() }, start).unwrap();
            lines.event(0, &Event::Progress(dlm_api::Progress::default()), start + EVERY).unwrap();
            lines.event(0, &Event::Progress(some_progress()), start + 2 * EVERY).unwrap();
        };
        let out = told(false, tell);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["f: looking for a peer that knows what it is"; 2]);
        assert!(lines[2].starts_with("f: 1.50 GiB of 3.00 GiB"), "{out}");
        assert_eq!(told(true, tell), "");
        // What a server has is asked of the server.
        assert_eq!(told(false, |lines| lines.started(0, &request(), start).unwrap()), "");
    }

    #[test]
    fn quiet_tells_of_failures_only() {
        let out = told(true, |lines| {
            lines.started(0, &request(), Instant::now()).unwrap();
            lines.event(0, &Event::Warning("odd".to_owned()), Instant::now()).unwrap();
            lines.finished(0, &request(), &Ok(Report::default())).unwrap();
            lines.finished(1, &request(), &Err(Error::new(ErrorKind::Timeout, "silence"))).unwrap();
            lines.stopping().unwrap();
        });
        assert!(out.starts_with("error: https://h/f.iso?k=***: silence\n  hint: "), "{out}");
        assert_eq!(out.lines().count(), 2, "{out}");
    }

    #[test]
    fn a_closed_standard_error_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::new(Closed, false);
        lines.started(0, &request(), Instant::now()).unwrap();
        lines.event(0, &Event::Warning("odd".to_owned()), Instant::now()).unwrap();
        lines.finished(0, &request(), &Ok(Report::default())).unwrap();
    }
}
