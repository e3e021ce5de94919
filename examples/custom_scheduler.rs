//! A scheduler of one's own: the end of the file first, for formats that have their index there, and then the usual one:
//! `cargo run --example custom_scheduler -- URL FILE`.

use std::time::Instant;

use dlm_api::{Ask, Balanced, Client, EntryId, Pick, Result, Scheduler, Span, View, Want};
use dlm_http::Http;

/// How many bytes at the end are wanted first.
const INDEX: u64 = 64 << 10;

#[derive(Debug, Default)]
struct IndexFirst {
    usual: Balanced,
}

impl Scheduler for IndexFirst {
    fn pick(&mut self, view: &View<'_>, ask: &Ask, now: Instant) -> Pick {
        let entry = ask.entry.unwrap_or(EntryId::FIRST);
        if let (Want::Any { .. }, Some(len)) = (&ask.want, view.len(entry)) {
            let index = view.free_from(entry, len.saturating_sub(INDEX));
            // The first request brings everything from the front; the index is taken from its end.
            let leased =
                || view.leases().find(|l| l.tail.entry == entry && l.tail.range.end == len && l.tail.len() > INDEX);
            if let Some(index) = index {
                return Pick::Take(vec![Span::new(entry, index)]);
            } else if let Some(lease) = leased() {
                return Pick::Steal { lease: lease.id, at: len - INDEX };
            }
        }
        self.usual.pick(view, ask, now)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file)) = (args.next(), args.next()) else { panic!("usage: custom_scheduler URL FILE") };

    let client = Client::builder().protocol(Http::new()?).build();
    let report = client.download(url).scheduler(IndexFirst::default()).to_file(file).await?;

    println!("{} bytes", report.entries[0].len);
    Ok(())
}
