//! [`Aria2`]: of Debian.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::rpc::post;
use super::{Peer, Running};
use crate::torrent::{ATTEMPTS, free_address};
use crate::wait_for;

/// A peer on aria2. It is killed when this is dropped. It can be told of another peer only by a tracker.
#[derive(Debug)]
pub struct Aria2 {
    running: Running,
    control: SocketAddr,
    address: SocketAddr,
}

impl Aria2 {
    /// A peer that has what is right of what is in `folder`.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start(torrent: &Path, folder: &Path) -> Self {
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(torrent, folder));
        started.expect("aria2 didn't start")
    }

    fn try_start(torrent: &Path, folder: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder for aria2");
        let (control, address) = (free_address(), free_address());
        let mut command = Command::new("aria2c");
        command
            .args(["--no-conf", "--quiet", "--check-integrity", "--seed-ratio=0", "--file-allocation=none"])
            .args(["--interface=127.0.0.1", "--enable-rpc", &format!("--rpc-listen-port={}", control.port())])
            .args([
                "--enable-dht=false",
                "--enable-dht6=false",
                "--bt-enable-lpd=false",
                "--enable-peer-exchange=false",
            ])
            .args([&format!("--listen-port={}", address.port()), "--bt-tracker-interval=1"])
            .arg("--dir")
            .arg(folder)
            .arg(torrent)
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("aria2c (Debian: aria2)");
        let mut peer = Self { running: Running { child, _dir: dir }, control, address };
        wait_for("aria2", || {
            if peer.running.is_over() {
                return Some(None);
            }
            let status = peer.status()?;
            let is_checked = status["status"] == "active" && status["verifyIntegrityPending"].is_null();
            // It listens only once it has looked at what is there.
            (is_checked && TcpStream::connect(address).is_ok()).then_some(Some(()))
        })?;
        Some(peer)
    }

    /// What it says of the torrent; nothing while it starts.
    fn status(&self) -> Option<Value> {
        let fields = json!([["status", "completedLength", "totalLength", "verifyIntegrityPending"]]);
        let question = json!({"jsonrpc": "2.0", "id": "", "method": "aria2.tellActive", "params": fields});
        let answer = post(self.control, "/jsonrpc", "", question.to_string().as_bytes()).ok()?;
        Some(answer.json()["result"][0].take())
    }
}

impl Peer for Aria2 {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_complete(&self) -> bool {
        let status = self.status().expect("aria2 is gone");
        status["totalLength"].is_string() && status["completedLength"] == status["totalLength"]
    }
}
