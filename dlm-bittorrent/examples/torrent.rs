//! Downloads a torrent: `cargo run --release -p dlm-bittorrent --example torrent -- FILE.torrent FOLDER [HOST:PORT]...`, the
//! last being peers to begin with.

use dlm_api::{Client, Error, ErrorKind, Result};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, folder, peers @ ..] = &*arguments else {
        return Err(Error::new(ErrorKind::InvalidInput, "what to download, and where to?"));
    };
    let mut config = BitTorrentConfig::new();
    for peer in peers {
        config = config.with_peer(peer.parse()?);
    }
    let torrent = std::fs::read(file).map_err(|e| Error::new(ErrorKind::NotFound, "no torrent").with_source(e))?;
    let client = Client::builder().protocol(BitTorrent::with_config(config)?).build();
    let report = client.download_container("file:///x.torrent", torrent).to_dir(folder).await?;
    for entry in &report.entries {
        println!("{}: {} bytes, checked", entry.path, entry.len);
    }
    println!("{:.2} s, {} bytes of no use", report.elapsed.as_secs_f64(), report.wasted);
    Ok(())
}
