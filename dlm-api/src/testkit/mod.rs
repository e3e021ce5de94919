//! What a new source or sink is tested with.
//!
//! - [`Script`], [`Swarm`] and [`Dag`]: sources in memory, one for each way in which the next byte is chosen, which fail as a
//!   test tells them.
//! - [`SimDisk`]: a sink and its checkpoints on a disk that loses what was not synced.
//! - [`conformance`]: what every source and every sink has to do, as functions to be called from the tests of whoever writes
//!   one.
//!
//! Everything is decided by a seed. With [`client_here`] and a clock that is held still (`#[tokio::test(start_paused = true)]`)
//! a test of the whole engine takes no time, and is the same each time.

pub mod conformance;
mod dag;
mod disk;
mod script;
mod swarm;

use tokio::runtime::Handle;

pub use dag::Dag;
pub use disk::{Crash, SimDisk};
pub use script::{Act, Script, Served, content};
pub use swarm::{Peer, Swarm};

use crate::engine::Client;

/// A client that runs its downloads on the caller's runtime, so that the clock of a test is that of the engine.
///
/// # Panics
///
/// Outside of a runtime.
pub fn client_here() -> Client {
    Client::builder().on_runtime(Handle::current()).build()
}
