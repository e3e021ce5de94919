//! What is in this crate does what its own suite asks of others.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use dlm_api::testkit::conformance::{self, Case, Fault, SinkUnderTest};
use dlm_api::testkit::{Act, Dag, Peer, Script, SimDisk, Swarm, content};
use dlm_api::{FileSink, Ranged, RangedConfig, Source, WriterSink};
use tokio::io::AsyncWrite;

#[tokio::test]
async fn files() {
    let dirs = Mutex::new(Vec::new());
    conformance::sink(|| {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(dir.path());
        dirs.lock().unwrap().push(dir);
        SinkUnderTest::new(sink)
    })
    .await;
}

#[tokio::test]
async fn memory_of_this_process() {
    conformance::sink(|| {
        let memory = memory();
        SinkUnderTest::new(memory.clone()).with_look(move |entry| memory.bytes(entry))
    })
    .await;
}

#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>, bool);

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        // Every other time it is full.
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        let n = data.len().min(100_000);
        self.0.lock().unwrap().extend_from_slice(&data[..n]);
        std::task::Poll::Ready(Ok(n))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_writer() {
    conformance::sink(|| {
        let pipe = Pipe::default();
        let out = pipe.0.clone();
        SinkUnderTest::new(WriterSink::new(pipe)).with_look(move |_| Some(out.lock().unwrap().clone().into()))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_range_source() {
    conformance::source(|case| {
        let script = Script::new("script://a/f", case.content.clone()).unwrap().with_chunk(20_000);
        let script = if case.fault == Fault::UnknownLen { script.without_len() } else { script };
        match &case.fault {
            Fault::None | Fault::UnknownLen => {}
            Fault::Short => drop(script.always(Act::Short(70_000))),
            Fault::Breaks => drop(script.act([Act::BreakAfter(100_000), Act::BreakAfter(0), Act::BreakAfter(50_000)])),
            Fault::Changes(new) => drop(script.act([Act::BreakAfter(100_000), Act::Change(new.clone())])),
            Fault::LiesOnce => drop(script.act([Act::LieFrom(40_000)])),
            Fault::Lies => drop(script.always(Act::LieFrom(0))),
            Fault::Stalls => drop(script.act([Act::StallAfter(100_000)])),
            _ => return None,
        }
        Some(Arc::new(Ranged::new(script).with_config(RangedConfig::default().with_connections(3))))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_swarm() {
    conformance::source(|case: &Case| -> Option<Arc<dyn Source>> {
        let swarm = Swarm::new(1, 64 << 10, [("f", case.content.clone())]).unwrap();
        let swarm = match case.fault {
            Fault::None => swarm.with_peer(Peer::seed().with_share(0.5)).with_peer(Peer::seed()),
            Fault::Breaks => swarm.with_peer(Peer::seed()).with_peer(Peer::seed().leaving_after(3)),
            Fault::LiesOnce => swarm.with_peer(Peer::seed().corrupt()).with_peer(Peer::seed()),
            Fault::Stalls => swarm.with_peer(Peer::seed().with_slowest(Duration::from_secs(20))),
            _ => return None,
        };
        Some(Arc::new(swarm))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dag() {
    conformance::source(|case| {
        let dag = Dag::new(1, "f", &case.content, 16 << 10).unwrap();
        match case.fault {
            Fault::None => Some(Arc::new(dag)),
            Fault::LiesOnce => Some(Arc::new(dag.with_lies(1))),
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "finish of an entry of which the last byte is missing")]
async fn the_suite_finds_a_sink_that_finishes_too_early() {
    conformance::sink(|| {
        // It doesn't look at the length.
        let disk = SimDisk::new(1, [content(1, 300_000)]);
        let look = disk.clone();
        SinkUnderTest::new(disk).with_look(move |entry| look.finished(entry))
    })
    .await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "wrong bytes")]
async fn the_suite_finds_a_source_that_brings_other_bytes() {
    conformance::source(|case| {
        let script = Script::new("script://a/f", case.content.clone()).unwrap();
        script.always(Act::LieFrom(5));
        Some(Arc::new(Ranged::new(script)))
    })
    .await;
}
