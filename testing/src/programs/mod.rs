//! Other people's BitTorrent programs: [`Transmission`], [`Aria2`] and [`Rqbit`]; and how they are spoken to.
//!
//! They listen on 127.0.0.1, and whatever looks for peers by itself is off: DHT, local discovery, port mapping. So nothing leaves
//! the machine, and a test needs no right to make a network of its own. The price: Transmission connects to no loopback
//! address that a tracker tells of, so it is always the one that is connected to.

mod aria2;
mod npm;
mod rpc;
mod rqbit;
mod transmission;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;

use tempfile::TempDir;

use crate::torrent::{Libtorrent, stop};

pub use aria2::Aria2;
pub use npm::NpmTracker;
pub use rqbit::Rqbit;
pub use transmission::Transmission;

/// Where `scripts/test.sh` puts the programs that Debian has not.
///
/// # Panics
///
/// If there is no home folder.
pub(crate) fn installed() -> PathBuf {
    let named = std::env::var_os("DLM_TEST_PROGRAMS").map(PathBuf::from);
    named.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("a home folder")).join(".cache/dlm-test-programs")
    })
}

/// A peer of any make. It is killed when this is dropped.
pub trait Peer: fmt::Debug + Send + Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Whether it has everything.
    ///
    /// # Panics
    ///
    /// If it is gone.
    fn is_complete(&self) -> bool;
}

impl Peer for Libtorrent {
    fn address(&self) -> SocketAddr {
        Self::address(self)
    }

    fn is_complete(&self) -> bool {
        self.status().seeding
    }
}

/// A program that is killed when this is dropped, with a folder for what it keeps.
#[derive(Debug)]
struct Running {
    child: Child,
    _dir: TempDir,
}

impl Running {
    /// Whether it has ended by itself.
    fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
