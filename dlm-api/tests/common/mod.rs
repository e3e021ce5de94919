//! What the tests of the engine share.
#![allow(dead_code, reason = "each test file uses some of it")]

use bytes::Bytes;
use dlm_api::testkit::Script;
use dlm_api::{Algorithm, Digest, EntryId, ErrorKind, Event, Events, MemorySink, Ranged, RangedConfig};
use futures::{FutureExt, StreamExt};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// The digests of pieces of this length.
pub(crate) fn pieces(bytes: &[u8], len: usize) -> Vec<Digest> {
    bytes.chunks(len).map(|piece| Digest::of(Algorithm::Sha256, piece)).collect()
}

pub(crate) fn script(name: &str, bytes: &Bytes) -> Script {
    Script::new(&format!("script://{name}/f"), bytes.clone()).unwrap()
}

/// A source over a script that asks for ranges of it from the beginning.
pub(crate) fn ranged(script: &Script) -> Ranged<Script> {
    Ranged::new(script.clone()).with_config(RangedConfig::default().with_connections(4))
}

pub(crate) fn memory() -> MemorySink {
    MemorySink::new(u64::MAX)
}

pub(crate) fn first(memory: &MemorySink) -> Option<Bytes> {
    memory.bytes(EntryId::FIRST)
}

/// What has been told so far, but for progress. The events of a download that is over are all there.
pub(crate) fn told(events: &mut Events) -> Vec<Event> {
    let all = std::iter::from_fn(|| events.next().now_or_never().flatten());
    all.filter(|event| !matches!(event, Event::Progress(_))).collect()
}

/// Who was benched, and for what.
pub(crate) fn benched(events: &[Event]) -> Vec<(String, ErrorKind)> {
    let of = |event: &Event| match event {
        Event::SourceBenched { source, kind, .. } => Some((source.clone(), *kind)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}
