//! Whatever torrent is taken, its paths are safe and distinct, and its pieces cover every byte of its files once.

#![no_main]

use std::collections::HashSet;

use dlm_api::EntryPath;
use dlm_bittorrent::{Info, InfoHash, Metainfo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(torrent) = Metainfo::parse(bytes.to_vec().into()) {
        check(torrent.info());
        let again =
            Info::parse_verified(torrent.info_bytes().clone(), torrent.info_hash()).expect("it is the same alone");
        assert_eq!(again.files(), torrent.files());
        for seed in torrent.web_seeds() {
            let _ = torrent.info().web_seed_url(seed, 0);
        }
        assert!(torrent.trackers().iter().all(|tier| !tier.is_empty()));
    }
    // Most of what a fuzzer finds is no torrent, so the info is given a few entries that make it one.
    let rest = b"12:piece lengthi16384e6:lengthi5e4:name1:a6:pieces20:aaaaaaaaaaaaaaaaaaaa";
    for dict in [[b"d", bytes, rest, b"e"].concat(), [b"d5:filesl", bytes, b"e", &rest[..], b"e"].concat()] {
        if let Ok(info) = Info::parse(dict.into()) {
            check(&info);
        }
    }
});

fn check(info: &Info) {
    assert_eq!(info.info_hash(), InfoHash::of(info.info_bytes()));
    assert_eq!(EntryPath::new(info.name()).map(|name| name.components().count()).ok(), Some(1));
    let mut paths = HashSet::new();
    let mut folders = HashSet::new();
    let mut offset = 0;
    for file in info.files() {
        assert_eq!(EntryPath::new(file.path.as_str()).ok().as_ref(), Some(&file.path));
        assert_eq!(file.offset, offset);
        offset += file.len;
        if file.is_wanted() {
            let path = file.path.as_str().to_lowercase();
            folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
            assert!(paths.insert(path), "{file:?}");
        }
    }
    assert_eq!(offset, info.len());
    assert!(paths.is_disjoint(&folders));

    let geometry = info.geometry();
    assert_eq!(info.piece_hashes().len(), geometry.piece_count() as usize * 20);
    let (mut of_blocks, mut of_files) = (0, 0);
    for piece in 0..geometry.piece_count() {
        assert!(info.piece_hash(piece).is_some());
        assert_eq!(geometry.piece_range(piece).start, of_files);
        for (file, range) in info.piece_spans(piece) {
            let file = &info.files()[file];
            assert!(range.start < range.end && range.end <= file.len);
            assert_eq!(file.offset + range.start, of_files);
            of_files += range.end - range.start;
        }
        // Huge pieces have many blocks; their first and last will do.
        if geometry.block_count(piece) <= 64 {
            for block in geometry.blocks(piece) {
                assert!(geometry.contains(block));
                assert_eq!(geometry.block_range(block).start, of_blocks);
                of_blocks = geometry.block_range(block).end;
            }
        } else {
            let (first, last) = (geometry.blocks(piece).next(), geometry.blocks(piece).next_back());
            assert_eq!(first.map(|block| geometry.block_range(block).start), Some(of_blocks));
            of_blocks = last.map(|block| geometry.block_range(block).end).expect("a last block");
        }
    }
    assert_eq!((of_blocks, of_files), (info.len(), info.len()));
}
