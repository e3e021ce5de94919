use dlm_api::{Balanced, MemorySink};
use futures::FutureExt;

use super::*;
use crate::{BitTorrent, BitTorrentConfig};

fn transfer() -> Transfer {
    Transfer::standalone(Arc::new(MemorySink::new(u64::MAX)), Balanced::new())
}

/// Those who resolve names may take minutes for each of a link's hundreds.
#[tokio::test]
async fn nothing_waits_for_names() {
    let bytes = b"d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:01234567890123456789ee";
    let torrent = Metainfo::parse(bytes[..].into()).unwrap();
    let config = BitTorrentConfig::new().with_listen(None).with_peer("peer.invalid:1".parse().unwrap());
    let source = BitTorrent::with_config(config).unwrap().torrent(&torrent);
    let plan = source.prepare(&transfer()).now_or_never().expect("it waits").unwrap();
    assert!(!plan.named.is_empty());
}
