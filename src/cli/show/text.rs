//! The sentences that people read. What comes from elsewhere is made fit for a terminal here.

use std::fmt::Write as _;

use dlm_api::{EntryReport, Error, Event, Peers, Progress, Report, State, Verification};

use crate::cli::escape::plain;
use crate::cli::exit::hint;
use crate::cli::plan::Request;
use crate::cli::units::{clock, size};

/// Said when the user interrupts.
pub(super) const STOPPING: &str = "stopping: what was received is kept; interrupt again to stop at once";

/// What is being done once everything is here.
pub(super) const SEEDING: &str = "seeding";

/// Said of a download of which nothing but a name is known, since it can take long.
pub(in crate::cli) fn waiting(request: &Request) -> Option<String> {
    request.is_only_a_name().then(|| format!("{}: {WAITING}", plain(&request.label())))
}

/// What is being done while nobody has told yet what there is.
pub(super) const WAITING: &str = "looking for a peer that knows what it is";

/// How far it is: `1.50 GiB of 3.00 GiB (50%), 12.0 MiB/s, ETA 2:08, 4 connections`.
pub(super) fn progress(progress: &Progress) -> String {
    let mut line = size(progress.received);
    if let Some(total) = progress.total {
        let _ = write!(line, " of {} ({}%)", size(total), percent(progress.received, total));
    }
    let _ = write!(line, ", {}", rate(progress));
    line
}

/// How fast it is: `12.0 MiB/s, ETA 2:08, 4 connections`.
pub(super) fn rate(progress: &Progress) -> String {
    let mut line = format!("{}/s", size(progress.rate));
    if let Some(eta) = progress.eta() {
        let _ = write!(line, ", ETA {}", clock(eta));
    }
    // Peers that deliver are connections, and are told of as peers.
    if progress.peers.is_none() {
        match progress.connections {
            1 => line.push_str(", 1 connection"),
            n => {
                let _ = write!(line, ", {n} connections");
            }
        }
    }
    exchange(progress, &mut line);
    line
}

/// How it is given to others once everything is here: `seeding, 3 peers (1 seed), 2.50 copies, up 1.00 MiB/s, ratio 0.50`.
pub(super) fn sharing(progress: &Progress) -> String {
    let mut line = SEEDING.to_owned();
    exchange(progress, &mut line);
    line
}

/// With whom pieces are exchanged, and what was given: `, 3 peers (1 seed), 2.50 copies, up 1.00 MiB/s, ratio 0.50`.
fn exchange(progress: &Progress, line: &mut String) {
    if let Some(peers) = progress.peers {
        let plural = |n| if n == 1 { "" } else { "s" };
        let Peers { connected, seeds, copies_in_thousandths, known_seeds, known_others, .. } = peers;
        let copies = f64::from(copies_in_thousandths) / 1000.0;
        let _ = write!(line, ", {connected} peer{} ({seeds} seed{})", plural(connected), plural(seeds));
        if let (Some(seeds), Some(others)) = (known_seeds, known_others) {
            let _ = write!(line, " of {} ({seeds})", seeds.saturating_add(others));
        }
        let _ = write!(line, ", {copies:.2} copies");
    }
    if progress.uploaded > 0 {
        let _ = write!(line, ", up {}/s", size(progress.upload_rate));
        if let Some(ratio) = progress.total.and_then(|total| ratio(progress.uploaded, total)) {
            let _ = write!(line, ", ratio {ratio:.2}");
        }
    }
}

/// What was given to others of a content of `len`, as a part of it.
fn ratio(uploaded: u64, len: u64) -> Option<f64> {
    (len > 0).then(|| uploaded as f64 / len as f64)
}

/// Rounded down, so that 100 means all of it.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(100);
    percent.min(100) as u64
}

/// What is worth a line of its own among the events.
pub(super) fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::State(State::Checking) => "checking what is there".to_owned(),
        Event::State(State::Sharing) => format!("what is here is checked; {SEEDING}"),
        Event::Checked { pieces, right } => match pieces - right {
            0 => format!("checked: all {pieces} pieces are right"),
            wrong => format!("checked: {right} of {pieces} pieces are right; missing or damaged: {wrong}"),
        },
        Event::Resumed { bytes } => format!("going on after {}", size(*bytes)),
        Event::Container { source, .. } => format!("fetching what {} leads to", plain(source)),
        Event::SourceRetry { source, reason, after } => {
            let pause = after.as_millis() as f64 / 1000.0;
            format!("{}; asking again in {pause:.1} s", at(source, reason))
        }
        Event::SourceBenched { source, reason, .. } => {
            format!("{}; not used any more", at(source, reason))
        }
        Event::PieceCorrupt { range, source, .. } => {
            format!("bytes {} to {} of {} are damaged: fetching them again", range.start, range.end, plain(source))
        }
        Event::Repaired { range, .. } => format!("bytes {} to {} are right now", range.start, range.end),
        Event::Restarted { reason, .. } => format!("starting again from nothing: {}", plain(reason)),
        Event::Warning(text) => format!("warning: {}", plain(text)),
        _ => return None,
    })
}

/// What came of a download.
pub(super) fn report(report: &Report) -> String {
    let seconds = report.elapsed.as_secs_f64();
    let speed = if seconds > 0.0 { (report.transferred as f64 / seconds) as u64 } else { 0 };
    let how = format!("in {}, {}/s", clock(report.elapsed), size(speed));
    let mut line = match &report.entries[..] {
        [only] if only.skipped => format!("{} is there already: left as it is", name(only)),
        [only] => format!("{}: {} {how}; {}", name(only), size(only.len), verification(&only.verification)),
        all => {
            let skipped = match all.iter().filter(|entry| entry.skipped).count() {
                0 => String::new(),
                n => format!("; there already, left as they are: {n}"),
            };
            format!("{} files: {} {how}{skipped}", all.len(), size(total(report)))
        }
    };
    if report.uploaded > 0 {
        let _ = write!(line, "; uploaded {}", size(report.uploaded));
        if let Some(ratio) = ratio(report.uploaded, total(report)) {
            let _ = write!(line, ", ratio {ratio:.2}");
        }
    }
    line
}

fn total(report: &Report) -> u64 {
    report.entries.iter().map(|entry| entry.len).sum()
}

fn name(entry: &EntryReport) -> String {
    let name = match &entry.file {
        Some(path) => path.to_string_lossy().into_owned(),
        None => entry.path.to_string(),
    };
    plain(&name).into_owned()
}

fn verification(verification: &Verification) -> String {
    match verification {
        Verification::Digest(function) => format!("{} matches", plain(function)),
        Verification::Pieces => "every piece matches its digest".to_owned(),
        Verification::SameContent => "no checksum to check it with".to_owned(),
        _ => "joined from several places without a checksum: give one with --checksum to be sure".to_owned(),
    }
}

/// A failure: what happened, where, and what to do about it.
pub(in crate::cli) fn failure(url: &str, error: &Error) -> String {
    format!("error: {}\n  hint: {}", at(url, &error.chain()), hint(error))
}

/// What happened, and where. Most errors say where themselves.
fn at(place: &str, what: &str) -> String {
    match what.contains(place) {
        true => plain(what).into_owned(),
        false => format!("{}: {}", plain(place), plain(what)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use dlm_api::{EntryId, EntryPath, ErrorKind};
    use std::time::Duration;

    pub(in crate::cli::show) fn some_progress() -> Progress {
        let mut progress = Progress::default();
        progress.total = Some(3 << 30);
        progress.received = 3 << 29;
        progress.verified = 1 << 30;
        progress.durable = 1 << 29;
        progress.transferred = u64::MAX;
        progress.wasted = 7;
        progress.rate = 12 << 20;
        progress.connections = 4;
        progress.elapsed = Duration::from_millis(90_500);
        progress
    }

    #[test]
    fn progress_lines() {
        let mut p = some_progress();
        assert_eq!(progress(&p), "1.50 GiB of 3.00 GiB (50%), 12.0 MiB/s, ETA 2:08, 4 connections");
        p.total = None;
        p.connections = 1;
        assert_eq!(progress(&p), "1.50 GiB, 12.0 MiB/s, 1 connection");
    }

    #[test]
    fn a_swarm_has_peers_and_a_ratio() {
        let mut p = some_progress();
        p.peers = Some(Peers::new(3, 1, 2_500));
        let start = "1.50 GiB of 3.00 GiB (50%), 12.0 MiB/s, ETA 2:08, 3 peers (1 seed), 2.50 copies";
        assert_eq!(progress(&p), start);
        (p.uploaded, p.upload_rate) = (3 << 29, 1 << 20);
        assert_eq!(progress(&p), format!("{start}, up 1.00 MiB/s, ratio 0.50"));
        p.peers = Some(Peers::new(3, 1, 2_500).with_known(40, 80));
        assert!(progress(&p).contains(", 3 peers (1 seed) of 120 (40), 2.50 copies, "), "{}", progress(&p));
        p.peers = Some(Peers::new(1, 2, 0));
        assert_eq!(sharing(&p), "seeding, 1 peer (2 seeds), 0.00 copies, up 1.00 MiB/s, ratio 0.50");
        p.total = Some(0);
        assert!(sharing(&p).ends_with(", up 1.00 MiB/s"), "{}", sharing(&p));
        assert_eq!(event(&Event::State(State::Sharing)).as_deref(), Some("what is here is checked; seeding"));
        assert_eq!(event(&Event::State(State::Running)), None);
    }

    #[test]
    fn a_hundred_percent_means_all() {
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(percent(2, 1), 100);
    }

    #[test]
    fn nothing_from_a_server_is_obeyed_by_the_terminal() {
        let evil = "x\x1b]0;owned\x07\u{9b}2J".to_owned();
        let entry = EntryId::FIRST;
        let after = Duration::from_millis(1_500);
        let events = [
            Event::SourceRetry { source: evil.clone(), reason: evil.clone(), after },
            Event::SourceBenched { source: evil.clone(), kind: ErrorKind::Denied, reason: evil.clone() },
            Event::PieceCorrupt { entry, range: 0..1, source: evil.clone() },
            Event::Restarted { entry, reason: evil.clone() },
            Event::Container { source: evil.clone(), bytes: 1 },
            Event::Warning(evil.clone()),
        ];
        let mut lines: Vec<String> = events.iter().map(|e| event(e).unwrap()).collect();
        assert!(lines[0].ends_with("asking again in 1.5 s"), "{}", lines[0]);
        let mut done = Report::default();
        done.entries.push(EntryReport::new(EntryPath::new("a").unwrap(), 1, Verification::Digest(evil.clone())));
        lines.push(report(&done));
        done.entries[0].skipped = true;
        done.entries[0].file = Some("\x1b[2J".into());
        lines.push(report(&done));
        lines.push(failure(&evil, &Error::new(ErrorKind::Network, evil.clone())).replace('\n', ""));
        for line in lines {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn a_failure_says_what_where_and_what_to_do() {
        let error = Error::new(ErrorKind::NotFound, "the server has no such file").with("status", 404);
        let text = failure("https://h/f", &error);
        assert_eq!(
            text,
            "error: https://h/f: the server has no such file (status: 404)\n  \
             hint: check the URL; if the file has moved, give its new place"
        );
    }

    #[test]
    fn a_place_is_said_once() {
        let error = Error::new(ErrorKind::NotFound, "no such file").with("url", "https://h/f");
        assert!(failure("https://h/f", &error).starts_with("error: no such file (url: https://h/f)\n"));
    }

    #[test]
    fn reports() {
        let mut done = Report::default();
        let path = EntryPath::new("f.iso").unwrap();
        done.entries.push(EntryReport::new(path, 3 << 20, Verification::Digest("sha-256".to_owned())));
        done.transferred = 2 << 20;
        done.elapsed = Duration::from_secs(2);
        assert_eq!(report(&done), "f.iso: 3.00 MiB in 0:02, 1.00 MiB/s; sha-256 matches");
        done.uploaded = 1 << 20;
        assert_eq!(
            report(&done),
            "f.iso: 3.00 MiB in 0:02, 1.00 MiB/s; sha-256 matches; uploaded 1.00 MiB, ratio 0.33"
        );
        done.uploaded = 0;
        done.entries[0].skipped = true;
        assert_eq!(report(&done), "f.iso is there already: left as it is");
        let other = EntryPath::new("g").unwrap();
        done.entries.push(EntryReport::new(other, 1 << 20, Verification::Unverified));
        assert_eq!(report(&done), "2 files: 4.00 MiB in 0:02, 1.00 MiB/s; there already, left as they are: 1");
    }
}
