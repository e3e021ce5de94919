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

/// Whoever asks about a private torrent elsewhere is thrown out: neither to announce, nor to see how large its swarm is.
#[test]
fn a_private_torrent_asks_its_own_trackers_only() {
    let torrents = |private: &str| {
        let info = format!("6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:01234567890123456789{private}");
        let bytes = format!("d8:announce21:udp://own.example:1/a4:infod{info}ee");
        let torrent = Metainfo::parse(bytes.into_bytes().into()).unwrap();
        let config = BitTorrentConfig::new().with_tracker("udp://users.example:1");
        BitTorrent::with_config(config).unwrap().torrent(&torrent).tiers()
    };
    assert_eq!(torrents("7:privatei1e"), [["udp://own.example:1/a"]]);
    assert_eq!(torrents(""), [["udp://own.example:1/a"], ["udp://users.example:1"]]);
}
