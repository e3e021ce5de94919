//! [`Torrent`], [`Libtorrent`] and [`Opentracker`]: a torrent, its peers and its tracker, as others make them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs::installed;
use crate::wait_for;

/// The interpreter that has Debian's `python3-libtorrent`. Another one can be named, to test against another version.
const PYTHON: &str = "/usr/bin/python3";

/// The environment variable that names another interpreter.
const PYTHON_VARIABLE: &str = "DLM_TEST_PYTHON";

/// Another program may take a free port between our asking for one and the tracker's binding it.
pub(crate) const ATTEMPTS: usize = 10;

fn usual_python() -> PathBuf {
    std::env::var_os(PYTHON_VARIABLE).unwrap_or_else(|| PYTHON.into()).into()
}

fn python(interpreter: &Path, script: &str, argument: &Value) -> Command {
    let mut command = Command::new(interpreter);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    command.arg(script).arg(argument.to_string());
    command
}

/// What a torrent shall be like.
#[derive(Clone, Debug)]
pub struct TorrentBuilder {
    piece: u32,
    kind: &'static str,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    private: bool,
}

/// A torrent that libtorrent made.
#[derive(Debug)]
pub struct Torrent {
    _dir: TempDir,
    path: PathBuf,
    info_hash: String,
}

#[derive(Deserialize)]
struct Hashes {
    v1: Option<String>,
    v2: Option<String>,
}

impl Torrent {
    /// A torrent of version 1 with pieces of 256 KiB.
    pub fn builder() -> TorrentBuilder {
        TorrentBuilder { piece: 256 << 10, kind: "v1", trackers: Vec::new(), web_seeds: Vec::new(), private: false }
    }

    /// The torrent file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The info-hash in hexadecimal: of version 1, where it has one.
    pub fn info_hash(&self) -> &str {
        &self.info_hash
    }
}

impl TorrentBuilder {
    /// The length of a piece in bytes.
    #[must_use]
    pub fn piece(mut self, bytes: u32) -> Self {
        self.piece = bytes;
        self
    }

    /// `v1`, `v2` or `hybrid`.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// One more tier of trackers.
    #[must_use]
    pub fn tier<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.trackers.push(urls.into_iter().map(Into::into).collect());
        self
    }

    /// One more web seed.
    #[must_use]
    pub fn web_seed(mut self, url: impl Into<String>) -> Self {
        self.web_seeds.push(url.into());
        self
    }

    /// Only for peers that its trackers name.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Makes it of a file or a folder.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn make(self, content: &Path) -> Torrent {
        let dir = tempfile::tempdir().expect("a folder for the torrent");
        let path = dir.path().join("made.torrent");
        let argument = json!({
            "out": path, "path": content, "piece": self.piece, "kind": self.kind, "trackers": self.trackers,
            "web_seeds": self.web_seeds, "private": self.private,
        });
        let output = python(&usual_python(), "torrent.py", &argument).output().expect("python with libtorrent");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let hashes: Hashes = serde_json::from_slice(&output.stdout).expect("the info-hashes");
        let info_hash = hashes.v1.or(hashes.v2).expect("an info-hash");
        Torrent { _dir: dir, path, info_hash }
    }
}

/// A peer on libtorrent. It is killed when this is dropped.
#[derive(Debug)]
pub struct Libtorrent {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    address: SocketAddr,
}

/// What a peer is doing.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Status {
    /// What libtorrent calls its state.
    pub state: String,
    /// From 0 to 1.
    pub progress: f64,
    /// Whether it has everything.
    pub seeding: bool,
    /// Payload bytes that came.
    pub downloaded: u64,
    /// Payload bytes that went.
    pub uploaded: u64,
    /// How many peers it is connected to.
    pub peers: u32,
    /// How many pieces it has.
    pub pieces: u32,
}

impl Libtorrent {
    /// A peer that has everything: `folder` is the folder in which the file or folder of the torrent is.
    ///
    /// # Panics
    ///
    /// If it doesn't start. So do the others.
    pub fn seed(torrent: &Path, folder: &Path) -> Self {
        Self::start(json!({"torrent": torrent, "save": folder, "seed": true}))
    }

    /// A peer that has nothing, or what is right of what is in `folder`.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn leech(torrent: &Path, folder: &Path) -> Self {
        Self::start(json!({"torrent": torrent, "save": folder}))
    }

    /// A peer with the arguments that `peers/peer.py` tells of.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start(arguments: Value) -> Self {
        Self::start_on(&usual_python(), arguments)
    }

    /// The same on the libtorrent of PyPI, which is newer than Debian's. `scripts/test.sh` installs it.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start_newest(arguments: Value) -> Self {
        Self::start_on(&installed().join("python/bin/python"), arguments)
    }

    fn start_on(interpreter: &Path, arguments: Value) -> Self {
        let mut child = python(interpreter, "peer.py", &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e} (scripts/test.sh installs it)", interpreter.display()));
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut peer =
            Self { child, pipes: Mutex::new((input, output)), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let port = peer.answer()["port"].as_u64().expect("a port") as u16;
        peer.address.set_port(port);
        peer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it connect to a peer.
    pub fn connect(&self, peer: SocketAddr) {
        self.ask(&json!({"connect": peer.to_string()}));
    }

    /// What it is doing.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn status(&self) -> Status {
        serde_json::from_value(self.ask(&json!({"status": true}))).expect("a status")
    }

    fn ask(&self, command: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.0, "{command}").expect("the peer is gone");
        read(&mut pipes.1)
    }

    fn answer(&self) -> Value {
        read(&mut self.pipes.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

fn read(output: &mut impl BufRead) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("not an answer of the peer: {line:?}: {e}"))
}

impl Drop for Libtorrent {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

pub(crate) fn stop(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// A real opentracker for some torrents, over HTTP and UDP. It is killed when this is dropped.
#[derive(Debug)]
pub struct Opentracker {
    child: Child,
    _dir: TempDir,
    address: SocketAddr,
}

impl Opentracker {
    /// A tracker for the torrents with these info-hashes, in hexadecimal.
    ///
    /// # Panics
    ///
    /// If it doesn't start.
    pub fn start<H: AsRef<str>>(info_hashes: impl IntoIterator<Item = H>) -> Self {
        let list: String = info_hashes.into_iter().map(|hash| format!("{}\n", hash.as_ref())).collect();
        for _ in 0..ATTEMPTS {
            if let Some(tracker) = Self::try_start(&list) {
                return tracker;
            }
        }
        panic!("opentracker didn't start");
    }

    fn try_start(list: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder for the tracker");
        std::fs::write(dir.path().join("whitelist.txt"), list).expect("the list of torrents");
        // Its worker runs as another user, who has to read the list.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let address = free_address();
        let port = address.port().to_string();
        let mut command = Command::new("opentracker");
        command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-u", "nobody", "-w", "whitelist.txt"]);
        command.arg("-d").arg(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("opentracker (Debian: opentracker)");
        let started = wait_for("opentracker", || {
            if child.try_wait().expect("opentracker's state").is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        started.then_some(Self { child, _dir: dir, address })
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

impl Drop for Opentracker {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The ports of which the system gives none out by itself: neither to who asks for any, nor to who connects. It does from 32768 on.
const UNUSED_PORTS: Range<u16> = 10_000..32_000;

/// An address on loopback whose port is free for TCP and UDP. Only who names it can take it.
///
/// # Panics
///
/// If none is free.
pub fn free_address() -> SocketAddr {
    wait_for("a port that is free for TCP and UDP", || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(UNUSED_PORTS)));
        let _both = (TcpListener::bind(address).ok()?, UdpSocket::bind(address).ok()?);
        Some(address)
    })
}
