//! The programs, and how each is told to do the same.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    path: OsString,
    connections: bool,
    checksum: bool,
}

/// What it is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    pub(crate) connections: u32,
    /// The SHA-256 that it is to check, in hexadecimal.
    pub(crate) checksum: Option<String>,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}{}", self.connections, if self.checksum.is_some() { " sha-256" } else { "" })
    }
}

/// All that are known, dlm first.
pub(crate) fn all() -> Vec<Program> {
    let peer = |name, connections, checksum| Program { name, path: name.into(), connections, checksum };
    vec![
        Program { name: "dlm", path: env!("CARGO_BIN_EXE_dlm").into(), connections: true, checksum: true },
        peer("curl", false, false),
        peer("aria2c", true, true),
        peer("axel", true, false),
        peer("wget2", true, false),
    ]
}

impl Program {
    /// The first line of what it says about its version; `None` if it is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let output = Command::new(&self.path).arg("--version").stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    }

    /// Whether it can do this.
    pub(crate) fn can(&self, job: &Job) -> bool {
        (job.connections == 1 || self.connections) && (job.checksum.is_none() || self.checksum)
    }

    /// The command line that does it. Each is told not to write of its progress, and not to read a configuration.
    pub(crate) fn command(&self, job: &Job, url: &str, file: &Path, len: u64) -> Command {
        let n = job.connections;
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |more: &[&str]| args.extend(more.iter().map(OsString::from));
        match self.name {
            "dlm" => {
                add(&["get", "--quiet", "--connections", &n.to_string()]);
                if let Some(sha256) = &job.checksum {
                    add(&["--checksum", &format!("sha256:{sha256}")]);
                }
                add(&["--output"]);
            }
            "curl" => add(&["--disable", "--silent", "--show-error", "--fail", "--output"]),
            "aria2c" => {
                // It writes to the folder that it runs in, and splits only what is larger than twice this.
                add(&["--no-conf", "--quiet", "--file-allocation=none", "--min-split-size=1M"]);
                add(&[&format!("--split={n}"), &format!("--max-connection-per-server={n}")]);
                if let Some(sha256) = &job.checksum {
                    add(&[&format!("--checksum=sha-256={sha256}")]);
                }
                add(&["--dir=/", "--out"]);
            }
            "axel" => add(&["--quiet", &format!("--num-connections={n}"), "--output"]),
            "wget2" => {
                add(&["--no-config", "--quiet", "--no-hsts", "--tries=1"]);
                if n > 1 {
                    let chunk = len.div_ceil(n.into());
                    add(&[&format!("--chunk-size={chunk}"), &format!("--max-threads={n}")]);
                }
                add(&["--output-document"]);
            }
            other => unreachable!("{other}"),
        }
        args.push(file.into());
        args.push(url.into());
        let mut command = Command::new(&self.path);
        command.args(args);
        command
    }
}
