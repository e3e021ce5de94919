//! [`Transmission`]: its daemon, of Debian.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::rpc::post;
use super::{Peer, Running};
use crate::torrent::{ATTEMPTS, free_address};
use crate::wait_for;

/// Waits in a queue to be checked, or is checked.
const CHECKING: [u64; 2] = [1, 2];

/// A peer on Transmission. It is killed when this is dropped.
#[derive(Debug)]
pub struct Transmission {
    _running: Running,
    control: SocketAddr,
    session: String,
    address: SocketAddr,
}

impl Transmission {
    /// A peer that has what is right of what is in `folder`.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start(torrent: &Path, folder: &Path) -> Self {
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start());
        let peer = started.expect("transmission-daemon didn't start");
        let added = peer.ask("torrent-add", &json!({"filename": torrent, "download-dir": folder}));
        assert_eq!(added["result"], "success", "{added}");
        wait_for("Transmission to look at what is there", || {
            let status = peer.torrent()["status"].as_u64()?;
            (!CHECKING.contains(&status)).then_some(())
        });
        peer
    }

    fn try_start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder for Transmission");
        let (control, address) = (free_address(), free_address());
        let settings = json!({
            "rpc-bind-address": control.ip(), "rpc-port": control.port(),
            "bind-address-ipv4": address.ip(), "bind-address-ipv6": "::1", "peer-port": address.port(),
            "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "port-forwarding-enabled": false,
            // As a leecher it would try uTP first, for half a minute.
            "utp-enabled": false,
            // Encryption is accepted, and not asked for.
            "encryption": 0,
            // Each file takes its length at once otherwise, or its name only once it is complete.
            "preallocation": 0, "rename-partial-files": false,
        });
        std::fs::write(dir.path().join("settings.json"), settings.to_string()).expect("the settings");
        let mut command = Command::new("transmission-daemon");
        command.args(["--foreground", "--log-error", "--config-dir"]).arg(dir.path());
        command.env("HOME", dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("transmission-daemon (Debian: transmission-daemon)");
        let mut running = Running { child, _dir: dir };
        let session = wait_for("transmission-daemon", || {
            if running.is_over() {
                return Some(None);
            }
            // The first answer is a refusal that tells the session.
            let answer = post(control, "/transmission/rpc", "", b"{}").ok()?;
            Some(Some(answer.header("X-Transmission-Session-Id")?.to_owned()))
        })?;
        Some(Self { _running: running, control, session, address })
    }

    fn ask(&self, method: &str, arguments: &Value) -> Value {
        let header = format!("X-Transmission-Session-Id: {}\r\n", self.session);
        let body = json!({"method": method, "arguments": arguments}).to_string();
        post(self.control, "/transmission/rpc", &header, body.as_bytes()).expect("Transmission is gone").json()
    }

    fn torrent(&self) -> Value {
        let wanted = json!({"fields": ["status", "leftUntilDone", "error", "errorString", "metadataPercentComplete"]});
        self.ask("torrent-get", &wanted)["arguments"]["torrents"][0].take()
    }
}

impl Peer for Transmission {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_complete(&self) -> bool {
        self.torrent()["leftUntilDone"] == 0
    }
}
