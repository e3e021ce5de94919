//! Watches a download, pauses it after its first bytes, and goes on: `cargo run --example progress -- URL FILE`.

use dlm_api::{Client, Event, Result, State};
use dlm_http::Http;
use futures::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file)) = (args.next(), args.next()) else { panic!("usage: progress URL FILE") };

    let client = Client::builder().protocol(Http::new()?).build();
    let handle = client.download(url).to_file(file).start();
    let mut events = handle.events();
    let mut paused = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Progress(progress) if progress.received > 0 && !paused => {
                paused = true;
                handle.pause();
            }
            Event::Progress(progress) => {
                println!("{} of {:?} bytes, {} on stable storage", progress.received, progress.total, progress.durable);
            }
            Event::State(State::Paused) => {
                println!("paused; going on");
                handle.resume();
            }
            other => println!("{other:?}"),
        }
    }
    let report = handle.wait().await?;
    println!("{} bytes", report.entries[0].len);
    Ok(())
}
