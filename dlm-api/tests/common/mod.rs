//! What the tests of the engine share.
#![allow(dead_code, reason = "each test file uses some of it")]

use bytes::Bytes;
use dlm_api::testkit::Script;
use dlm_api::{Algorithm, Digest, EntryId, ErrorKind, Event, Handle, MemorySink, Ranged, RangedConfig};
use futures::StreamExt;
use tokio::task::JoinHandle;

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

/// Says where two contents differ, in place of printing them.
#[track_caller]
pub(crate) fn same(got: impl AsRef<[u8]>, wanted: impl AsRef<[u8]>, what: impl std::fmt::Display) {
    let (got, wanted) = (got.as_ref(), wanted.as_ref());
    let at = got.iter().zip(wanted).position(|(a, b)| a != b);
    assert!(got == wanted, "{what}: {} bytes of {}, the first that differs at {at:?}", got.len(), wanted.len());
}

pub(crate) fn first(memory: &MemorySink) -> Option<Bytes> {
    memory.bytes(EntryId::FIRST)
}

/// Everything that is told from now on, but for progress.
pub(crate) fn listen(handle: &Handle) -> JoinHandle<Vec<Event>> {
    let news = handle.events().filter(|event| std::future::ready(!matches!(event, Event::Progress(_))));
    tokio::spawn(news.collect())
}

/// Who was benched, and for what.
pub(crate) fn benched(events: &[Event]) -> Vec<(String, ErrorKind)> {
    assert!(!events.iter().any(|event| matches!(event, Event::Missed(_))), "events were missed");
    let of = |event: &Event| match event {
        Event::SourceBenched { source, kind, .. } => Some((source.clone(), *kind)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}
