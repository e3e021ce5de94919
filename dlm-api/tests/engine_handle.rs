//! A handle and a reader at the edges: after the end, given up half-way, and when something breaks.

mod common;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Script, client_here, content};
use dlm_api::{Download, ErrorKind, Event, Result, Source, State, Transfer};
use futures::StreamExt;
use tokio::io::AsyncReadExt;
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

#[tokio::test(start_paused = true)]
async fn the_end_is_read_only_when_the_whole_was_checked() {
    let bytes = content(3, MIB);
    for (digest, right) in [(sha256(&bytes), true), (sha256(b"other"), false)] {
        let mut reader = of(&script("a", &bytes)).checksum(digest).to_memory(memory()).reader();
        let mut all = Vec::new();
        let read = time::timeout(Duration::from_secs(3600), reader.read_to_end(&mut all)).await.unwrap();
        assert_eq!(read.is_ok(), right, "{read:?}");
        if right {
            assert_eq!(reader.handle().state(), State::Complete);
            same(&all, &bytes, "read");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_go_on_in_another_content() {
    let (old, new) = (content(4, LEN), content(5, LEN));
    let script = slow(&old);
    script.act([Act::BreakAfter(2 * MIB), Act::Change(new.clone())]);
    let mut reader = of(&script).connections(1).to_memory(memory()).reader();
    let mut start = vec![0; MIB];
    reader.read_exact(&mut start).await.unwrap();
    same(&start, &old[..MIB], "the old content");
    let error = reader.read_to_end(&mut start).await.unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    // The download itself goes on.
    reader.handle().wait().await.unwrap();

    // One that has read nothing yet reads what is there.
    let mut all = Vec::new();
    of(&script).to_memory(memory()).reader().read_to_end(&mut all).await.unwrap();
    same(&all, &new, "the new content");
}
