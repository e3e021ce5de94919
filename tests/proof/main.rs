//! What dlm claims, proven against the real nginx: speed, memory, work that is never done twice, mirrors that die or lie.

#[path = "../common/mod.rs"]
mod common;
mod kills;
mod leftovers;
mod mirrors;
mod speed;
#[cfg(feature = "bittorrent")]
mod torrent;

use common::{assert_code, dlm, folder, names};
use dlm_testing::Events;
use serde_json::Value;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The event of this kind. There must be one.
#[track_caller]
fn event<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:?}"))
}

/// Reads on until a state is entered. The program must not end before.
fn wait_for_state(events: &mut Events, state: &str) {
    let found = events.find(|event| event["event"] == "state" && event["state"] == state);
    assert!(found.is_some(), "it ended before it was {state}");
}
