//! A handle at the edges: after the end, given up half-way, and when something breaks.

mod common;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Script, client_here, content};
use dlm_api::{Download, ErrorKind, Event, Result, Source, State, Transfer};
use futures::StreamExt;
use tokio::time;

const LEN: usize = 4 * MIB;

fn slow(bytes: &Bytes) -> Script {
    script("a", bytes).with_rate(400_000).with_chunk(16 * KIB)
}

fn of(script: &Script) -> Download {
    client_here().download_from_sources().source(ranged(script)).connections(2)
}

#[tokio::test(start_paused = true)]
async fn who_listens_after_the_end_is_told_the_end() {
    let bytes = content(1, MIB);
    for wrong in [false, true] {
        let mut download = of(&script("a", &bytes));
        if wrong {
            download = download.checksum(sha256(b"other"));
        }
        let handle = download.to_memory(memory()).start();
        assert_eq!(handle.wait().await.is_err(), wrong);
        let events: Vec<Event> = time::timeout(Duration::from_secs(60), handle.events().collect()).await.unwrap();
        let end = if wrong { State::Failed } else { State::Complete };
        assert!(matches!(events[..], [Event::State(state)] if state == end), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_takes_nothing() {
    let handle = of(&slow(&content(2, LEN))).to_memory(memory()).start();
    for _ in 0..3 {
        time::timeout(Duration::from_millis(50), handle.wait()).await.unwrap_err();
    }
    handle.wait().await.unwrap();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Breaks whoever asks for its name: the engine's own task.
struct Broken;

impl fmt::Debug for Broken {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("meant to be")
    }
}

#[async_trait::async_trait]
impl Source for Broken {
    async fn resolve(&self, _: &Transfer) -> Result<()> {
        Ok(())
    }

    async fn run(&self, _: Transfer) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_breaks_is_not_an_interruption() {
    let handle = client_here().download_from_sources().source(Broken).to_memory(memory()).start();
    let events = listen(&handle);
    let error = handle.wait().await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Cancelled);
    assert!(error.message().contains("unexpectedly"), "{error}");
    // And nobody listens for ever.
    time::timeout(Duration::from_secs(60), events).await.unwrap().unwrap();
}
