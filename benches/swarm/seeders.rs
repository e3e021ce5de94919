//! Programs that give: what it costs them to give everything to libtorrent.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use dlm_testing::{Content, Libtorrent, Torrent, wait_for};
use serde_json::json;

use crate::measure::{Run, Summary};
use crate::{Args, print_table};

const SEEDERS: [&str; 2] = ["dlm", "libtorrent"];

/// Lets each program give the torrent to a new libtorrent, `rounds` times.
pub(crate) fn compare(
    args: &Args,
    out: &Path,
    seeds: &Path,
    torrent: &Torrent,
    content: &Content,
) -> Result<(), String> {
    println!("giving all of it to libtorrent; wall is from the first connection on, and CPU is the giver's");
    let mut rows: Vec<(&'static str, Vec<Run>)> = SEEDERS.iter().map(|name| (*name, Vec::new())).collect();
    for round in 0..args.rounds as usize {
        for index in 0..rows.len() {
            let count = rows.len();
            let (name, runs) = &mut rows[(index + round) % count];
            runs.push(run(name, out, seeds, torrent, content)?);
        }
    }
    let summaries: Vec<_> = rows.iter().map(|(name, runs)| (*name, Summary::of(runs, args.size))).collect();
    print_table(&summaries, args.size);
    Ok(())
}

fn run(name: &str, out: &Path, seeds: &Path, torrent: &Torrent, content: &Content) -> Result<Run, String> {
    let text = |error: std::io::Error| error.to_string();
    if out.exists() {
        fs::remove_dir_all(out).map_err(text)?;
    }
    fs::create_dir(out).map_err(text)?;
    let giver = match name {
        "dlm" => Giver::dlm(&seeds.join("file.bin"), torrent)?,
        _ => {
            // Not in its seed mode, in which it would hash each piece when it is first asked for it: both have looked before.
            Giver::Libtorrent(Libtorrent::start_newest(json!({"torrent": torrent.path(), "save": seeds})))
        }
    };
    let leecher = Libtorrent::start_newest(json!({"torrent": torrent.path(), "save": out}));
    // What it had to do before, as looking at what is there, is not what is measured.
    let (start, before) = (Instant::now(), cpu(giver.pid())?);
    leecher.connect(giver.address());
    wait_for("libtorrent to have everything", || leecher.status().seeding.then_some(()));
    let wall = start.elapsed().as_secs_f64();
    let run = Run { wall, cpu: cpu(giver.pid())? - before, rss: peak(giver.pid())? };
    drop((leecher, giver));
    content.check_file(out.join("file.bin"))?;
    Ok(run)
}

/// Who gives. It ends when this is dropped.
enum Giver {
    Dlm(Child, SocketAddr),
    Libtorrent(Libtorrent),
}

impl Giver {
    fn dlm(path: &Path, torrent: &Torrent) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        drop(listener);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlm"));
        command.args(["seed", "--json", "--listen", &address.to_string()]).arg(path).arg(torrent.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines);
        let mut lines = lines.map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains(r#""state":"sharing""#));
        let giver = Self::Dlm(child, address);
        // It must not wait for somebody to read.
        thread::spawn(move || lines.for_each(drop));
        if is_ready { Ok(giver) } else { Err("dlm seed has ended".to_owned()) }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Dlm(child, _) => child.id(),
            Self::Libtorrent(peer) => peer.pid(),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Dlm(_, address) => *address,
            Self::Libtorrent(peer) => peer.address(),
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        if let Self::Dlm(child, _) = self {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The clock's ticks in a second, as Linux tells of them to programs, whatever the kernel's own are.
const TICKS: f64 = 100.0;

/// CPU seconds of a process, user and system (proc(5)).
fn cpu(pid: u32) -> Result<f64, String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
    // The name, in parentheses, may have spaces in it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// The most memory that a process had in use, in MiB.
fn peak(pid: u32) -> Result<f64, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    Ok(kib.ok_or("no VmHWM")? / 1024.0)
}
