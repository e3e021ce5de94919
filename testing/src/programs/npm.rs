//! [`NpmTracker`]: npm's bittorrent-tracker.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Running, installed};
use crate::torrent::{ATTEMPTS, free_address};

/// A tracker of npm's `bittorrent-tracker` for any torrent, over HTTP and UDP. It is killed when this is dropped.
#[derive(Debug)]
pub struct NpmTracker {
    _running: Running,
    address: SocketAddr,
}

impl NpmTracker {
    /// A tracker.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start() -> Self {
        (0..ATTEMPTS).find_map(|_| Self::try_start()).expect("bittorrent-tracker didn't start")
    }

    fn try_start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder for the tracker");
        let address = free_address();
        let module = installed().join("npm/node_modules/bittorrent-tracker/server.js");
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/tracker.mjs"))
            .arg(module)
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node (Debian: nodejs)");
        let output = child.stdout.take().expect("a pipe");
        let running = Running { child, _dir: dir };
        // It tells when it listens; when it can't, it ends.
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line of the tracker");
        (line == "listening\n").then_some(Self { _running: running, address })
    }

    /// Its announce URL over HTTP.
    pub fn http(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Its announce URL over UDP.
    pub fn udp(&self) -> String {
        format!("udp://{}/announce", self.address)
    }
}
