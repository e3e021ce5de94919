//! How many system calls a program makes.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Those that move bytes, by what they are for.
const KINDS: [(&str, &[&str]); 3] = [
    ("receives", &["recvfrom", "recvmsg", "readv"]),
    ("sends", &["sendto", "sendmsg", "writev"]),
    ("writes", &["pwritev", "pwrite64"]),
];

/// Runs a program under strace. What is read and written without an offset may be of sockets and of files: it is shown by itself.
pub(crate) fn count(command: &Command) -> Result<BTreeMap<String, u64>, String> {
    let summary = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--summary-only", "--output"]).arg(summary.path());
    strace.arg(command.get_program()).args(command.get_args());
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.map_err(|error| format!("strace: {error}; scripts/install-peers.sh installs it"))?;
    if !status.success() {
        return Err(format!("strace: {status}"));
    }
    let text = std::fs::read_to_string(summary.path()).map_err(|error| error.to_string())?;
    Ok(parse(&text))
}

/// Columns: % time, seconds, usecs/call, calls, errors (may be empty), syscall.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let call = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (columns.last()?, columns.get(3)?.parse().ok()?);
        (*name != "total").then(|| ((*name).to_owned(), calls))
    };
    summary.lines().filter_map(call).collect()
}

/// The counts for each GiB of `len`.
pub(crate) fn show(counts: &BTreeMap<String, u64>, len: u64) -> String {
    let per_gib = |count: u64| (count as f64 * f64::from(1 << 30) / len as f64).round();
    let of = |names: &[&str]| names.iter().filter_map(|name| counts.get(*name)).sum::<u64>();
    let mut all: Vec<String> = KINDS.iter().map(|(kind, names)| format!("{} {kind}", per_gib(of(names)))).collect();
    all.extend(["read", "write"].map(|name| format!("{} {name}", per_gib(of(&[name])))));
    all.push(format!("{} in all", per_gib(counts.values().sum())));
    all.join(", ")
}
