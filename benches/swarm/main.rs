//! dlm beside other BitTorrent programs: the same torrent from the same seeder, in one go.
//!
//! `cargo bench -p dlm --bench swarm -- --help` lists the options. Every program writes to a new folder in memory, and what it
//! wrote is compared with what was seeded after each run. The programs take turns, so that whatever else the machine does
//! meets all of them. Shown are medians.

mod delay;
#[path = "../side-by-side/measure.rs"]
mod measure;
mod programs;
mod seeders;
mod syscalls;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dlm::cli::units::{parse_size, size};
use dlm_testing::{Content, Libtorrent, Opentracker, Torrent};
use serde_json::json;

use delay::Delay;
use measure::{Run, Summary, measure};
use programs::{Leecher, all};

/// Runs dlm beside other BitTorrent programs.
#[derive(Parser, Debug)]
struct Args {
    /// How large the file is
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// How long a piece is
    #[arg(long, default_value = "1MiB", value_parser = parse_size)]
    piece: u64,
    /// How many times each program runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds that a byte and the answer to it take
    #[arg(long, default_value_t = 0)]
    rtt: u64,
    /// Let the programs give to libtorrent, and not fetch
    #[arg(long)]
    seeding: bool,
    /// Count system calls of one more run of each program, under strace
    #[arg(long)]
    syscalls: bool,
    /// Where the files are; a folder in memory is best
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Run these only, and not all that are installed
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// A quick look whether it works: a small file, once
    #[arg(long)]
    test: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What there is to fetch, and where.
struct World {
    dir: PathBuf,
    content: Content,
    /// With the tracker that tells of `peer` to who can be told of it in no other way.
    torrent: Torrent,
    peer: SocketAddr,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.test {
        (args.size, args.rounds) = (8 << 20, 1);
    }
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let dir = if args.dir.is_dir() { args.dir.clone() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(dir).map_err(|error| error.to_string())?;
    let seeds = dir.path().join("seeds");
    fs::create_dir(&seeds).map_err(|error| error.to_string())?;
    let content = Content::new(1, args.size);
    content.write_file(seeds.join("file.bin")).map_err(|error| error.to_string())?;
    let piece = u32::try_from(args.piece).map_err(|_| "a piece is at most 4 GiB long")?;
    let plain = Torrent::builder().piece(piece).make(&seeds.join("file.bin"));
    if args.seeding {
        return seeders::compare(args, &dir.path().join("out"), &seeds, &plain, &content);
    }
    let tracker = Opentracker::start([plain.info_hash()]);
    let torrent = Torrent::builder().piece(piece).tier([tracker.http()]).make(&seeds.join("file.bin"));
    // Only an announced peer is found by who can't be told of one.
    let seeder = Libtorrent::start_newest(json!({"torrent": torrent.path(), "save": seeds}));
    let delay = (args.rtt > 0).then(|| Delay::start(seeder.address(), Duration::from_millis(args.rtt)));
    let peer = delay.as_ref().map_or(seeder.address(), Delay::address);
    let world = World { dir: dir.path().to_owned(), content, torrent, peer };

    let mut rows: Vec<(Leecher, Vec<Run>)> = Vec::new();
    for program in all().into_iter().filter(|p| args.programs.is_empty() || args.programs.iter().any(|n| n == p.name)) {
        if args.rtt > 0 && !program.can_be_told {
            println!("{} can't be told of a peer: left out", program.name);
            continue;
        }
        match program.version() {
            Some(version) => {
                println!("{}: {version}", program.name);
                rows.push((program, Vec::new()));
            }
            None => println!("{} is not installed: left out; scripts/install-peers.sh installs it", program.name),
        }
    }
    println!(
        "{} in pieces of {} from libtorrent on this machine, {} ms away, to {}, {} rounds",
        size(args.size),
        size(args.piece),
        args.rtt,
        args.dir.display(),
        args.rounds
    );
    for round in 0..args.rounds as usize {
        // Another one begins each time, so that no place in the order is anybody's own.
        for index in 0..rows.len() {
            let count = rows.len();
            let (program, runs) = &mut rows[(index + round) % count];
            runs.push(world.run(program)?);
        }
    }
    let summaries = rows.iter().map(|(program, runs)| (program.name, Summary::of(runs, args.size))).collect::<Vec<_>>();
    print_table(&summaries, args.size);
    if args.syscalls {
        for (program, _) in &rows {
            world.count(program, args.size)?;
        }
    }
    Ok(())
}

impl World {
    /// A folder of its own, so that no program finds what another one left.
    fn fresh(&self) -> Result<PathBuf, String> {
        let out = self.dir.join("out");
        if out.exists() {
            fs::remove_dir_all(&out).map_err(|error| error.to_string())?;
        }
        fs::create_dir(&out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    fn run(&self, program: &Leecher) -> Result<Run, String> {
        let out = self.fresh()?;
        let run = measure(program.command(self.torrent.path(), self.peer, &out));
        let run = run.map_err(|error| format!("{}: {error}", program.name))?;
        self.check(program, &out)?;
        Ok(run)
    }

    fn count(&self, program: &Leecher, len: u64) -> Result<(), String> {
        let out = self.fresh()?;
        let counts = syscalls::count(&program.command(self.torrent.path(), self.peer, &out))?;
        self.check(program, &out)?;
        println!("{}: system calls for each GiB: {}", program.name, syscalls::show(&counts, len));
        Ok(())
    }

    fn check(&self, program: &Leecher, out: &Path) -> Result<(), String> {
        let checked = self.content.check_file(out.join("file.bin"));
        checked.map_err(|error| format!("{} exits with success, but {error}", program.name))
    }
}

/// A table, and dlm divided by each of the others.
fn print_table(rows: &[(&'static str, Summary)], size: u64) {
    println!("\n{:<16} {:>9} {:>9} {:>12} {:>10}", "", "wall s", "MiB/s", "CPU s/GiB", "RSS MiB");
    for (name, it) in rows {
        let speed = size as f64 / f64::from(1 << 20) / it.wall;
        println!("{name:<16} {:>9.3} {speed:>9.0} {:>12.3} {:>10.1}", it.wall, it.cpu, it.rss);
    }
    println!("\ndlm divided by the other: below 1 dlm is better\n{:<16} {:>9} {:>9} {:>9}", "", "wall", "CPU", "RSS");
    let Some((_, ours)) = rows.iter().find(|(name, _)| *name == "dlm") else { return };
    for (name, theirs) in rows.iter().filter(|(name, _)| *name != "dlm") {
        let [wall, cpu, rss] = [ours.wall / theirs.wall, ours.cpu / theirs.cpu, ours.rss / theirs.rss];
        println!("{name:<16} {wall:>9.2} {cpu:>9.2} {rss:>9.2}");
    }
}
