//! Trackers: what is asked of them and what they answer, without the network.
//!
//! [`wire`] has the formats of both protocols, [`UdpExchange`] repeats what UDP loses, and [`Tiers`] says which tracker
//! is to be asked, and when.

mod announce;
pub(crate) mod client;
mod exchange;
mod tiers;
mod url;
pub mod wire;

pub use announce::{Announce, AnnounceReply, Event, MAX_INTERVAL, MAX_PEERS, MIN_INTERVAL, Swarm};
pub use exchange::{Answer, Connection, Step, Task, UdpExchange};
pub use tiers::{Ask, Tiers};
pub use url::TrackerUrl;
