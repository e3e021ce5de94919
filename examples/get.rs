//! The shortest download: `cargo run --example get -- URL FILE [CHECKSUM]`.

use dlm_api::{Client, Result};
use dlm_http::Http;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file)) = (args.next(), args.next()) else { panic!("usage: get URL FILE [CHECKSUM]") };

    let client = Client::builder().protocol(Http::new()?).build();
    let mut download = client.download(url);
    if let Some(checksum) = args.next() {
        download = download.checksum(checksum);
    }
    let report = download.to_file(file).await?;

    println!("{} bytes, {:?}", report.entries[0].len, report.entries[0].verification);
    Ok(())
}
