//! The programs, and how each is told to fetch a torrent from one peer and to end then.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that fetches.
#[derive(Clone, Debug)]
pub(crate) struct Leecher {
    pub(crate) name: &'static str,
    /// Whether it can be told of a peer. Who can't asks the tracker.
    pub(crate) can_be_told: bool,
    program: OsString,
    /// What comes before all else.
    first: Vec<OsString>,
}

/// All that are known, dlm first.
pub(crate) fn all() -> Vec<Leecher> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let python = home.join(".cache/dlm-test-programs/python/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/swarm/libtorrent_get.py");
    vec![
        Leecher { name: "dlm", can_be_told: true, program: env!("CARGO_BIN_EXE_dlm").into(), first: vec![] },
        Leecher { name: "libtorrent", can_be_told: true, program: python.into(), first: vec![script.into()] },
        Leecher { name: "aria2c", can_be_told: false, program: "aria2c".into(), first: vec![] },
        Leecher { name: "rqbit", can_be_told: true, program: "rqbit".into(), first: vec![] },
    ]
}

impl Leecher {
    /// The first line of what it says about its version; `None` if it is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let mut command = Command::new(&self.program);
        let output = command.args(&self.first).arg("--version").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
        output.status.success().then_some(said)
    }

    /// The command line that does it. Each is told not to write of its progress, and to look for peers nowhere else.
    pub(crate) fn command(&self, torrent: &Path, peer: SocketAddr, out: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.first);
        let peer = peer.to_string();
        match self.name {
            "dlm" => command
                .args(["get", "--quiet", "--listen", "127.0.0.1:0", "--peer", &peer])
                .arg("--dir")
                .arg(out)
                .arg(torrent),
            "libtorrent" => command.arg(torrent).arg(peer).arg(out),
            "aria2c" => command
                .args(["--no-conf", "--quiet", "--seed-time=0", "--file-allocation=none", "--interface=127.0.0.1"])
                .args(["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"])
                .arg("--dir")
                .arg(out)
                .arg(torrent),
            "rqbit" => command
                .args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--log-file-rust-log=off"])
                .args(["--listen-ip", "127.0.0.1", "--ipv4-only", "-v", "error", "download", "--disable-http-api"])
                .args(["--exit-on-finish", "--initial-peers", &peer, "--output-folder"])
                .arg(out)
                .arg(torrent),
            other => unreachable!("{other}"),
        };
        command
    }
}
