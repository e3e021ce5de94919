//! What dlm's tests against real servers stand on.
//!
//! - [`Nginx`]: a real nginx with a folder, a configuration and a log of its own
//! - [`Authority`]: certificates, good and bad ones
//! - [`Content`]: files of any size whose every byte is known
//! - [`Sparse`]: files that are large and take no room
//! - [`Proxy`]: a way to a server that can be cut
//! - [`Torrent`], [`Libtorrent`], [`Opentracker`]: a torrent, its peers and its tracker, as others make them
//! - [`Transmission`], [`Aria2`], [`Rqbit`], [`NpmTracker`]: peers and a tracker of other makes
//! - [`Dlm`]: the program, run as a user runs it
//!
//! Everything ends with its handle: processes are killed and reaped, folders are removed. Nothing here waits for a length
//! of time; what must be waited for is asked for again and again, and a bound makes a mistake fail instead of hang.

mod cert;
mod content;
mod nginx;
mod program;
mod programs;
mod proxy;
mod sparse;
mod torrent;

use std::time::{Duration, Instant};

pub use cert::{Authority, Cert};
pub use content::Content;
pub use nginx::{Location, Nginx, NginxBuilder, Request};
pub use program::{Dlm, Events, Finished, Process};
pub use programs::{Aria2, NpmTracker, Peer, Rqbit, Transmission};
pub use proxy::Proxy;
pub use sparse::Sparse;
pub use torrent::{Libtorrent, Opentracker, Status, Torrent, TorrentBuilder, free_address};

/// How long anything may take before it counts as hanging. Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `ready` until it has an answer.
///
/// # Panics
///
/// If there is none after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
