//! [`Rqbit`]: of crates.io.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::rpc::{get, post};
use super::{Peer, Running, installed};
use crate::torrent::{ATTEMPTS, free_address};
use crate::wait_for;

/// A peer on rqbit. It is killed when this is dropped.
#[derive(Debug)]
pub struct Rqbit {
    running: Running,
    control: SocketAddr,
    address: SocketAddr,
}

impl Rqbit {
    /// A peer that has what is right of what is in `folder`.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start(torrent: &Path, folder: &Path) -> Self {
        let peer = (0..ATTEMPTS).find_map(|_| Self::try_start(folder)).expect("rqbit didn't start");
        let bytes = std::fs::read(torrent).expect("the torrent");
        let added = post(peer.control, "/torrents?overwrite=true", "", &bytes).expect("rqbit is gone");
        assert_eq!(added.status(), 200, "{added:?}");
        wait_for("rqbit to look at what is there", || (peer.stats()["state"] == "live").then_some(()));
        peer
    }

    fn try_start(folder: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder for rqbit");
        let (control, address) = (free_address(), free_address());
        let program = installed().join("rqbit/bin/rqbit");
        let mut command = Command::new(&program);
        command
            .args(["--http-api-listen-addr", &control.to_string(), "--ipv4-only"])
            .args(["--listen-ip", &address.ip().to_string(), "--listen-port", &address.port().to_string()])
            .args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward"])
            .args(["server", "start", "--disable-persistence"])
            .arg(folder)
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|e| panic!("{}: {e} (scripts/test.sh installs it)", program.display()));
        let mut peer = Self { running: Running { child, _dir: dir }, control, address };
        wait_for("rqbit", || {
            if peer.running.is_over() {
                return Some(None);
            }
            let listens = |address| TcpStream::connect(address).is_ok();
            (listens(control) && listens(address)).then_some(Some(()))
        })?;
        Some(peer)
    }

    fn stats(&self) -> Value {
        get(self.control, "/torrents/0/stats/v1").expect("rqbit is gone").json()
    }
}

impl Peer for Rqbit {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_complete(&self) -> bool {
        self.stats()["finished"] == true
    }
}
