//! One run of a program, and what it took.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

/// What a run took.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Run {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of CPU time, user and system.
    pub(crate) cpu: f64,
    /// The most memory in use, in MiB.
    pub(crate) rss: f64,
}

/// The medians of some runs.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Summary {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of CPU time, user and system, for each GiB.
    pub(crate) cpu: f64,
    /// The most memory in use, in MiB.
    pub(crate) rss: f64,
}

/// Runs it, and measures.
pub(crate) fn measure(mut command: Command) -> Result<Run, String> {
    // A file, so that nobody has to read it while the clock is running.
    let mut said: File = tempfile::tempfile().map_err(|error| error.to_string())?;
    let stderr = said.try_clone().map_err(|error| error.to_string())?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let used = child.wait4().map_err(|error| error.to_string())?;
    let wall = start.elapsed().as_secs_f64();
    if !used.status.success() {
        let mut text = String::new();
        let read = said.rewind().and_then(|()| said.read_to_string(&mut text));
        return Err(format!("{} {}", used.status, read.map_or_else(|error| error.to_string(), |_| text)));
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok(Run { wall, cpu: cpu.as_secs_f64(), rss: used.rusage.maxrss as f64 / f64::from(1 << 20) })
}

impl Summary {
    /// Of runs that fetched this many bytes each.
    pub(crate) fn of(runs: &[Run], bytes: u64) -> Self {
        let gib = bytes as f64 / f64::from(1 << 30);
        Self {
            wall: median(runs, |run| run.wall),
            cpu: median(runs, |run| run.cpu) / gib,
            rss: median(runs, |run| run.rss),
        }
    }
}

fn median(runs: &[Run], what: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
