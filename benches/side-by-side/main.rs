//! dlm beside other programs: the same file from the same nginx, in one go.
//!
//! `cargo bench -p dlm --bench side-by-side -- --help` lists the options. Every program writes to a new file in memory,
//! and what it wrote is compared with what was served after each run. The programs take turns, so that whatever else the
//! machine does meets all of them. Shown are medians.

mod measure;
mod programs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dlm::cli::units::{parse_size, size};
use dlm_testing::{Content, Nginx};

use measure::{Run, Summary, measure};
use programs::{Job, Program, all};

/// Runs dlm beside other programs.
#[derive(Parser, Debug)]
struct Args {
    /// How large the file is
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// How many times each program runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many connections those runs use that use several
    #[arg(long, default_value_t = 4)]
    connections: u32,
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

/// One row of the table.
struct Row {
    program: Program,
    job: Job,
    runs: Vec<Run>,
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
    let served = dir.path().join("www");
    fs::create_dir(&served).map_err(|error| error.to_string())?;
    let content = Content::new(1, args.size);
    let nginx = Nginx::builder().root(&served).start();
    let url = nginx.put("file.bin", &content);
    let sha256 = content.sha256();

    let mut rows = rows(args, &sha256);
    println!("{} from nginx on this machine to {}, {} rounds", size(args.size), args.dir.display(), args.rounds);
    for round in 0..args.rounds as usize {
        // Another one begins each time, so that no place in the order is anybody's own.
        for index in 0..rows.len() {
            let count = rows.len();
            let row = &mut rows[(index + round) % count];
            row.runs.push(run(row, &url, dir.path(), &content)?);
        }
    }
    let rows: Vec<(Row, Summary)> = rows
        .into_iter()
        .map(|row| {
            let summary = Summary::of(&row.runs, args.size);
            (row, summary)
        })
        .collect();
    print_table(&rows, args.size);
    print_ratios(&rows);
    Ok(())
}

/// What is to be run. A program that is not installed is named and left out.
fn rows(args: &Args, sha256: &str) -> Vec<Row> {
    let wanted = |program: &Program| args.programs.is_empty() || args.programs.iter().any(|name| name == program.name);
    let mut rows = Vec::new();
    for program in all().into_iter().filter(wanted) {
        let Some(version) = program.version() else {
            println!("{} is not installed: left out; scripts/install-peers.sh installs it", program.name);
            continue;
        };
        println!("{}: {version}", program.name);
        for checksum in [None, Some(sha256.to_owned())] {
            for connections in [1, args.connections] {
                let job = Job { connections, checksum: checksum.clone() };
                if program.can(&job) {
                    rows.push(Row { program: program.clone(), job, runs: Vec::new() });
                }
            }
        }
    }
    rows
}

fn run(row: &Row, url: &str, dir: &Path, content: &Content) -> Result<Run, String> {
    let name = row.label();
    let out = dir.join("out");
    // A folder of its own, so that no program finds what another one left.
    fs::create_dir(&out).map_err(|error| error.to_string())?;
    let file = out.join("file.bin");
    let run = measure(row.program.command(&row.job, url, &file, content.len)).map_err(|e| format!("{name}: {e}"))?;
    content.check_file(&file).map_err(|error| format!("{name} exits with success, but {error}"))?;
    fs::remove_dir_all(&out).map_err(|error| error.to_string())?;
    Ok(run)
}

impl Row {
    fn label(&self) -> String {
        format!("{} {}", self.program.name, self.job)
    }
}

fn print_table(rows: &[(Row, Summary)], size: u64) {
    println!("\n{:<24} {:>9} {:>9} {:>12} {:>10}", "", "wall s", "MiB/s", "CPU s/GiB", "RSS MiB");
    for (row, it) in rows {
        let speed = size as f64 / f64::from(1 << 20) / it.wall;
        println!("{:<24} {:>9.3} {speed:>9.0} {:>12.3} {:>10.1}", row.label(), it.wall, it.cpu, it.rss);
    }
}

fn print_ratios(rows: &[(Row, Summary)]) {
    println!("\ndlm divided by the other: below 1 dlm is better\n{:<24} {:>9} {:>9} {:>9}", "", "wall", "CPU", "RSS");
    let is_dlm = |row: &Row| row.program.name == "dlm";
    for (peer, theirs) in rows.iter().filter(|(row, _)| !is_dlm(row)) {
        let ours = rows.iter().find(|(row, _)| is_dlm(row) && row.job == peer.job);
        if let Some((_, ours)) = ours {
            let [wall, cpu, rss] = [ours.wall / theirs.wall, ours.cpu / theirs.cpu, ours.rss / theirs.rss];
            println!("{:<24} {wall:>9.2} {cpu:>9.2} {rss:>9.2}", peer.label());
        }
    }
}
