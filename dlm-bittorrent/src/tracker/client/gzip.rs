//! Answers that come packed although nobody asked for that.

use std::io::Read as _;

use dlm_api::{Error, ErrorKind, Result, Retry};
use flate2::read::MultiGzDecoder;

/// The content of gzip (RFC 1952), if it has at most `limit` bytes. No more than that is ever unpacked.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut unpacked);
    if unpacked.len() > limit {
        return Err(Error::new(ErrorKind::TooLarge, "the tracker's answer is too large").with("limit", limit));
    }
    let broken = |e| Error::new(ErrorKind::Protocol, "the tracker's answer can't be unpacked").with_source(e);
    read.map(|_| unpacked).map_err(|e| broken(e).with_retry(Retry::Now))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_a_limit() {
        assert_eq!(unpack(&pack(b"d8:intervali900ee"), 17).unwrap(), b"d8:intervali900ee");
        assert_eq!(unpack(&pack(b""), 0).unwrap(), b"");
        let two = [pack(b"d8:interval"), pack(b"i900ee")].concat();
        assert_eq!(unpack(&two, 17).unwrap(), b"d8:intervali900ee");
        assert_eq!(unpack(&pack(b"d8:intervali900ee"), 16).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_bomb_is_refused_before_it_has_gone_off() {
        // A gigabyte in a megabyte.
        let bomb = pack(&vec![0; 64 << 20]);
        assert!(bomb.len() < 128 << 10, "{}", bomb.len());
        let error = unpack(&bomb.repeat(16), 1 << 20).unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::TooLarge, Retry::Never));
    }

    /// Those that libtorrent is tested with.
    #[test]
    fn known_cases() {
        let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
        let root = PathBuf::from(std::env::var_os("DLM_FIXTURES").unwrap_or(usual.into()));
        let read = |name: &str| std::fs::read(root.join("bittorrent/libtorrent/test").join(name));
        let Ok(zeroes) = read("zeroes.gz") else {
            let may_be_missing = std::env::var_os("CI").is_none() || std::env::var_os("DLM_NO_FIXTURES").is_some();
            assert!(may_be_missing, "there are no fixtures in {}", root.display());
            eprintln!("LEFT OUT: known_cases: there are no fixtures in {}", root.display());
            return;
        };
        let unpacked = unpack(&zeroes, 1 << 20).unwrap();
        assert!(unpacked.len() > 100_000 && unpacked.iter().all(|byte| *byte == 0), "{}", unpacked.len());
        assert_eq!(unpack(&zeroes, unpacked.len() - 1).unwrap_err().kind(), ErrorKind::TooLarge);
        for name in ["corrupt.gz", "invalid1.gz"] {
            assert_eq!(unpack(&read(name).unwrap(), 1 << 20).unwrap_err().kind(), ErrorKind::Protocol, "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_grow(mut bytes: Vec<u8>, flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4)) {
            let _ = unpack(&bytes, 100);
            bytes = pack(&bytes);
            let len = bytes.len();
            flips.into_iter().for_each(|(at, with)| bytes[at % len] ^= with);
            prop_assert!(unpack(&bytes, 100).map_or(0, |unpacked| unpacked.len()) <= 100);
        }
    }
}
