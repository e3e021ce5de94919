//! Reads a download while it arrives, its end first, as a player does with some films:
//! `cargo run --example reader -- URL FILE`.

use std::io::SeekFrom;

use dlm_api::{Client, Result};
use dlm_http::Http;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file)) = (args.next(), args.next()) else { panic!("usage: reader URL FILE") };

    let client = Client::builder().protocol(Http::new()?).build();
    let mut reader = client.download(url).to_file(file).reader();

    let len = reader.seek(SeekFrom::End(0)).await?;
    let tail_len = len.min(16);
    reader.seek(SeekFrom::End(-(tail_len as i64))).await?;
    let mut tail = Vec::new();
    reader.read_to_end(&mut tail).await?;
    println!("the last {tail_len} bytes: {tail:02x?}");

    reader.seek(SeekFrom::Start(0)).await?;
    let mut sum = 0_u64;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = reader.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    println!("the sum of all {len} bytes: {sum}");

    reader.into_handle().wait().await?;
    Ok(())
}
