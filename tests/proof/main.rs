//! What dlm claims, proven against the real nginx: speed, memory, work that is never done twice, mirrors that die or lie.

mod kills;
mod leftovers;
mod mirrors;
mod speed;

use std::fs;
use std::path::Path;

use dlm_testing::{Dlm, Events, Finished};
use serde_json::Value;
use tempfile::TempDir;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn dlm(dir: &Path, args: &[&str]) -> Dlm {
    Dlm::new(env!("CARGO_BIN_EXE_dlm")).arg("get").args(args).dir(dir)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_code(done: &Finished, code: i32) {
    assert_eq!(done.code, Some(code), "{}\n{}", done.stderr, done.text());
}

/// The event of this kind. There must be one.
#[track_caller]
fn event<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:?}"))
}

/// Reads on until a state is entered. The program must not end before.
fn wait_for_state(events: &mut Events, state: &str) {
    let found = events.find(|event| event["event"] == "state" && event["state"] == state);
    assert!(found.is_some(), "it ended before it was {state}");
}
