//! Downloads a file from inside of another program, and tells how far it is.
//!
//! `cargo run --example embed -- https://example.org/image.iso downloads`

use std::env;

use dlm_api::{Client, Event, Result};
use dlm_http::Http;
use futures::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let (Some(url), Some(dir)) = (args.next(), args.next()) else {
        println!("usage: embed URL DIR");
        return Ok(());
    };

    let client = Client::builder().protocol(Http::new()?).build();
    let download = client.download(url).to_dir(dir).start();
    let mut events = download.events();
    while let Some(event) = events.next().await {
        if let Event::Progress(progress) = event {
            println!("{} of {:?} bytes", progress.received, progress.total);
        }
    }
    // It would have run without anybody listening, too: this is its end.
    let report = download.wait().await?;
    for entry in report.entries {
        println!("{}: {} bytes, {:?}", entry.path, entry.len, entry.verification);
    }
    Ok(())
}
