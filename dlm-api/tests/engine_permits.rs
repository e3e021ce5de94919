//! Downloads that share the connections to one origin.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use dlm_api::testkit::{Act, Script, content};
use dlm_api::{Client, Download, State, WriterSink};
use futures::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::time;

const RATE: u64 = 200_000;

/// A client that makes no more than this many connections to one origin.
fn client(connections: usize) -> Client {
    Client::builder().on_runtime(Handle::current()).connections_per_origin(connections).build()
}

fn slow(bytes: &Bytes) -> Script {
    script("a", bytes).with_rate(RATE).with_chunk(4 * KIB)
}

fn of(client: &Client, script: &Script) -> Download {
    client.download_from_sources().source(ranged(script)).connections(4)
}

/// One of two connections has a rest that is too short to be shared, and needs half a minute for it. The other one has
/// nothing to do meanwhile.
#[tokio::test(start_paused = true)]
async fn a_connection_without_work_is_lent_to_another_download() {
    let bytes = content(1, 2 * MIB);
    let (client, script, memories) = (client(2), slow(&bytes), [memory(), memory()]);
    script.act([Act::Serve, Act::Trickle { after: 600_000, rate: RATE * 12 / 100 }]);
    let first_one = of(&client, &script).to_memory(memories[0].clone()).start();
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(script.served().len(), 2, "both connections are in use");
    let second = of(&client, &script).to_memory(memories[1].clone()).start();
    second.wait().await.unwrap();
    assert_eq!(first_one.state(), State::Running, "the second one did not have to wait for its end");
    first_one.wait().await.unwrap();
    for memory in memories {
        same(first(&memory).unwrap(), &bytes, "both");
    }
    assert_eq!(script.most_open(), 2);
}

/// Lent and taken back again and again, no permit is lost and none is used twice.
#[tokio::test(start_paused = true)]
async fn downloads_that_share_few_connections_all_end() {
    for limit in 1..=4 {
        fastrand::seed(limit as u64);
        let bytes = content(limit as u64, 2 * MIB);
        let (client, script) = (client(limit), slow(&bytes));
        script.act([Act::Serve, Act::BreakAfter(300_000), Act::Serve, Act::StallAfter(100_000)]);
        let memories = [memory(), memory(), memory()];
        let jobs = memories.each_ref().map(|memory| of(&client, &script).to_memory(memory.clone()).start());
        // A reader that lets its download wait for work again and again.
        let (writer, mut reader) = tokio::io::duplex(4 * KIB);
        let piped = of(&client, &script).to_sink(WriterSink::new(writer).with_window(256 * KIB as u64)).start();
        let read = async {
            let (mut out, mut buffer) = (Vec::new(), vec![0; 32 * KIB]);
            while let n @ 1.. = reader.read(&mut buffer).await.unwrap() {
                out.extend_from_slice(&buffer[..n]);
                time::sleep(Duration::from_millis(50)).await;
            }
            out
        };
        let all = async { tokio::join!(join_all(jobs.iter().map(|job| job.wait())), read, piped.wait()) };
        let (done, out, piped) = time::timeout(Duration::from_secs(3600), all).await.expect("nobody waits for ever");
        piped.unwrap();
        same(out, &bytes, format_args!("limit {limit}: the pipe"));
        for (memory, done) in memories.iter().zip(done) {
            done.unwrap();
            same(first(memory).unwrap(), &bytes, format_args!("limit {limit}"));
        }
        assert_eq!(script.most_open(), limit);
    }
}
