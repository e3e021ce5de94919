//! Progress bars on a terminal.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Instant;

use dlm_api::{Event, Progress, Report, Result, State};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Show, text};
use crate::cli::escape::plain;
use crate::cli::exit::Exit;
use crate::cli::plan::Request;
use crate::cli::units::size;

/// A bar for each download that runs, and one for all of them if there are several.
#[derive(Debug)]
pub struct Bars {
    multi: MultiProgress,
    all: Option<Total>,
    bars: HashMap<usize, ProgressBar>,
    /// Downloads of which everything is here, and is given to others.
    sharing: HashSet<usize>,
    /// Downloads of which nobody has told yet what there is.
    waiting: HashSet<usize>,
}

#[derive(Debug)]
struct Total {
    bar: ProgressBar,
    downloads: usize,
    finished: usize,
    progress: HashMap<usize, Progress>,
}

impl Bars {
    /// Bars on standard error for this many downloads.
    pub fn new(downloads: usize) -> Self {
        Self::on(ProgressDrawTarget::stderr(), downloads)
    }

    fn on(target: ProgressDrawTarget, downloads: usize) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        let all = (downloads > 1).then(|| {
            let bar = multi.add(new_bar());
            Total { bar, downloads, finished: 0, progress: HashMap::new() }
        });
        let mut bars = Self { multi, all, bars: HashMap::new(), sharing: HashSet::new(), waiting: HashSet::new() };
        bars.draw_total();
        bars
    }

    /// A line above the bars. A terminal that is gone is no reason to stop a download.
    fn line(&self, line: &str) {
        let _ = self.multi.println(line);
    }

    fn draw_total(&mut self) {
        let Some(all) = &mut self.all else { return };
        let mut sum = sum(all.progress.values());
        if all.progress.len() < all.downloads {
            // How much the downloads hold that did not start yet is not known.
            sum.total = None;
        }
        let name = format!("{} of {} done", all.finished, all.downloads);
        draw(&all.bar, &name, &sum, false);
    }
}

impl Show for Bars {
    fn started(&mut self, id: usize, request: &Request, _: Instant) -> io::Result<()> {
        let bar = new_bar();
        let bar = match &self.all {
            Some(all) => self.multi.insert_before(&all.bar, bar),
            None => self.multi.add(bar),
        };
        draw(&bar, &request.label(), &Progress::default(), false);
        if request.is_only_a_name() {
            bar.set_message(text::WAITING);
            self.waiting.insert(id);
        }
        self.bars.insert(id, bar);
        Ok(())
    }

    fn event(&mut self, id: usize, event: &Event, _: Instant) -> io::Result<()> {
        let Some(bar) = self.bars.get(&id) else { return Ok(()) };
        match event {
            Event::Progress(progress) => {
                draw(bar, &bar.prefix(), progress, self.sharing.contains(&id));
                match progress.total {
                    None if self.waiting.contains(&id) => bar.set_message(text::WAITING),
                    _ => drop(self.waiting.remove(&id)),
                }
                if let Some(all) = &mut self.all {
                    all.progress.insert(id, *progress);
                }
                self.draw_total();
            }
            Event::State(State::Sharing) => {
                self.sharing.insert(id);
            }
            // Of many files in one folder, the folder: the name of each would be gone before it is read.
            Event::Named { path, .. } => {
                bar.set_prefix(plain(path.components().next().unwrap_or_default()).into_owned());
            }
            other => {
                if let Some(line) = text::event(other) {
                    self.line(&format!("{}: {line}", bar.prefix()));
                }
            }
        }
        Ok(())
    }

    fn finished(&mut self, id: usize, request: &Request, outcome: &Result<Report>) -> io::Result<()> {
        if let Some(bar) = self.bars.remove(&id) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        self.sharing.remove(&id);
        self.waiting.remove(&id);
        match outcome {
            Ok(report) => self.line(&text::report(report)),
            Err(error) => text::failure(&request.url.to_string(), error).lines().for_each(|line| self.line(line)),
        }
        if let Some(all) = &mut self.all {
            all.finished += 1;
            // What it received stays in the sum, but nothing more will come.
            let progress = all.progress.entry(id).or_default();
            (progress.rate, progress.connections, progress.total) = (0, 0, Some(progress.received));
            progress.upload_rate = 0;
        }
        self.draw_total();
        Ok(())
    }

    fn stopping(&mut self) -> io::Result<()> {
        self.line(text::STOPPING);
        Ok(())
    }

    fn done(&mut self, _: &[Result<Report>], _: Exit) -> io::Result<()> {
        if let Some(all) = &self.all {
            all.bar.finish_and_clear();
        }
        Ok(())
    }
}

/// The total is known only if that of each is.
fn sum<'a>(all: impl Iterator<Item = &'a Progress>) -> Progress {
    let mut nothing = Progress::default();
    nothing.total = Some(0);
    all.fold(nothing, |mut sum, one| {
        sum.total = sum.total.zip(one.total).map(|(a, b)| a.saturating_add(b));
        sum.received = sum.received.saturating_add(one.received);
        sum.rate = sum.rate.saturating_add(one.rate);
        sum.uploaded = sum.uploaded.saturating_add(one.uploaded);
        sum.upload_rate = sum.upload_rate.saturating_add(one.upload_rate);
        sum.connections = sum.connections.saturating_add(one.connections);
        sum
    })
}

/// What matters most fits into 80 columns; the rest is cut off.
const KNOWN_LENGTH: &str = "{prefix:20!} [{bar:12}] {percent:>3}% {wide_msg}";
const UNKNOWN_LENGTH: &str = "{prefix:20!} {wide_msg}";

fn new_bar() -> ProgressBar {
    ProgressBar::no_length().with_style(style(UNKNOWN_LENGTH))
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, and tests draw both.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn draw(bar: &ProgressBar, name: &str, progress: &Progress, is_sharing: bool) {
    bar.set_prefix(plain(name).into_owned());
    match progress.total {
        Some(total) => {
            let how = if is_sharing { text::sharing(progress) } else { text::rate(progress) };
            bar.set_message(format!("of {}, {how}", size(total)));
            if bar.length() != Some(total) {
                bar.set_style(style(KNOWN_LENGTH));
                bar.set_length(total);
            }
        }
        None => {
            bar.set_message(text::progress(progress));
            if bar.length().is_some() {
                bar.set_style(style(UNKNOWN_LENGTH));
                bar.unset_length();
            }
        }
    }
    bar.set_position(progress.received);
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::request;
    use super::super::text::tests::some_progress;
    use super::*;
    use dlm_api::{EntryId, EntryPath, Error, ErrorKind};
    use indicatif::InMemoryTerm;

    fn bars(downloads: usize) -> (Bars, InMemoryTerm) {
        let term = InMemoryTerm::new(20, 140);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        (Bars::on(target, downloads), term)
    }

    fn redraw(bars: &Bars) {
        bars.bars.values().chain(bars.all.as_ref().map(|all| &all.bar)).for_each(ProgressBar::tick);
    }

    #[test]
    fn one_download_has_one_bar() {
        let (mut bars, term) = bars(1);
        let now = Instant::now();
        bars.started(0, &request(), now).unwrap();
        bars.event(0, &Event::Progress(some_progress()), now).unwrap();
        redraw(&bars);
        let screen = term.contents();
        assert_eq!(screen.lines().count(), 1, "{screen}");
        assert!(screen.starts_with("f.iso "), "{screen}");
        assert!(screen.ends_with(" 50% of 3.00 GiB, 12.0 MiB/s, ETA 2:08, 4 connections"), "{screen}");
    }

    #[test]
    fn several_downloads_have_a_total() {
        let (mut bars, term) = bars(2);
        let now = Instant::now();
        for id in 0..2 {
            bars.started(id, &request(), now).unwrap();
            bars.event(id, &Event::Progress(some_progress()), now).unwrap();
        }
        redraw(&bars);
        let screen = term.contents();
        let last = screen.lines().last().unwrap();
        assert_eq!(screen.lines().count(), 3, "{screen}");
        assert!(last.starts_with("0 of 2 done"), "{screen}");
        assert!(last.ends_with(" 50% of 6.00 GiB, 24.0 MiB/s, ETA 2:08, 8 connections"), "{screen}");

        let error = Error::new(ErrorKind::Network, "reset");
        bars.finished(0, &request(), &Err(error)).unwrap();
        redraw(&bars);
        let screen = term.contents();
        assert!(screen.starts_with("error: https://h/f.iso?k=***: reset\n  hint: "), "{screen}");
        assert!(screen.contains("1 of 2 done"), "{screen}");
        assert!(
            screen.lines().last().unwrap().ends_with("of 4.50 GiB, 12.0 MiB/s, ETA 2:08, 4 connections"),
            "{screen}"
        );
    }

    #[test]
    fn seeding_is_shown() {
        let (mut bars, term) = bars(1);
        let now = Instant::now();
        bars.started(0, &request(), now).unwrap();
        let mut progress = some_progress();
        progress.received = 3 << 30;
        progress.peers = Some(dlm_api::Peers::new(2, 0, 1_500));
        (progress.uploaded, progress.upload_rate) = (3 << 30, 1 << 20);
        bars.event(0, &Event::State(State::Sharing), now).unwrap();
        bars.event(0, &Event::Progress(progress), now).unwrap();
        redraw(&bars);
        let screen = term.contents();
        let wanted = "100% of 3.00 GiB, seeding, 2 peers (0 seeds), 1.50 copies, up 1.00 MiB/s, ratio 1.00";
        assert!(screen.ends_with(wanted), "{screen}");
    }

    #[test]
    fn an_unknown_length_has_no_percentage() {
        let (mut bars, term) = bars(1);
        let mut progress = some_progress();
        progress.total = None;
        bars.started(0, &request(), Instant::now()).unwrap();
        bars.event(0, &Event::Progress(progress), Instant::now()).unwrap();
        redraw(&bars);
        assert!(term.contents().ends_with(" 1.50 GiB, 12.0 MiB/s, 4 connections"), "{}", term.contents());
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn who_waits_for_a_peer_that_knows_is_told_so() {
        let (mut bars, term) = bars(1);
        let url = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&dn=f";
        bars.started(0, &Request { url: url.parse().unwrap(), ..request() }, Instant::now()).unwrap();
        for _ in 0..2 {
            redraw(&bars);
            assert!(term.contents().ends_with(" looking for a peer that knows what it is"), "{}", term.contents());
            bars.event(0, &Event::Progress(Progress::default()), Instant::now()).unwrap();
        }
        bars.event(0, &Event::Progress(some_progress()), Instant::now()).unwrap();
        redraw(&bars);
        assert!(term.contents().contains(" 50% of 3.00 GiB"), "{}", term.contents());
    }

    #[test]
    fn a_name_from_a_server_is_made_visible() {
        let (mut bars, term) = bars(1);
        let evil = Request { url: "https://h/%1B[2Jx".parse().unwrap(), ..request() };
        bars.started(0, &evil, Instant::now()).unwrap();
        redraw(&bars);
        assert!(term.contents().starts_with("\\u{1b}[2Jx"), "{}", term.contents());
        let path = EntryPath::new("better").unwrap();
        bars.event(0, &Event::Named { entry: EntryId::FIRST, path }, Instant::now()).unwrap();
        redraw(&bars);
        assert!(term.contents().starts_with("better "), "{}", term.contents());
        let path = EntryPath::new("album/one").unwrap();
        bars.event(0, &Event::Named { entry: EntryId::FIRST, path }, Instant::now()).unwrap();
        redraw(&bars);
        assert!(term.contents().starts_with("album "), "{}", term.contents());
    }
}
