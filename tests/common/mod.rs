//! What tests of the program share.

use std::fs;
use std::path::Path;

use dlm_testing::{Dlm, Finished};
use tempfile::TempDir;

/// The program, told to download, in this folder.
pub(crate) fn dlm(dir: &Path, args: &[&str]) -> Dlm {
    Dlm::new(env!("CARGO_BIN_EXE_dlm")).arg("get").args(args).dir(dir)
}

/// A folder of the test's own.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// It must have ended with this code.
#[track_caller]
pub(crate) fn assert_code(done: &Finished, code: i32) {
    assert_eq!(done.code, Some(code), "{}\n{}", done.stderr, done.text());
}
