//! The pieces that a peer may request while it is choked (BEP 6). They follow from its address, so that it gains nothing
//! by connecting again.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// How many pieces that are: enough to have something to trade, as the BEP suggests.
pub const ALLOWED_FAST: usize = 10;

/// The pieces of the allowed fast set of the peer at this address; all of them if the torrent has no more than `count`. There is none for
/// IPv6, which the BEP does not speak of.
pub fn allowed_fast(address: IpAddr, info_hash: &[u8; 20], pieces: u32, count: usize) -> Vec<u32> {
    let IpAddr::V4(address) = address.to_canonical() else { return Vec::new() };
    if pieces as usize <= count {
        return (0..pieces).collect();
    }
    let [a, b, c, _] = address.octets();
    let mut set = Vec::with_capacity(count);
    let mut hash: [u8; 20] = Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash).finalize().into();
    while set.len() < count {
        for number in hash.as_chunks::<4>().0 {
            let piece = u32::from_be_bytes(*number) % pieces;
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_bep_6() {
        let of = |count| allowed_fast([80, 4, 4, 200].into(), &[0xaa; 20], 1313, count);
        assert_eq!(of(7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(of(9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn a_small_torrent_is_allowed_whole_and_ipv6_has_no_set() {
        assert_eq!(allowed_fast([1, 2, 3, 4].into(), &[0; 20], 3, 10), [0, 1, 2]);
        assert_eq!(allowed_fast([1, 2, 3, 4].into(), &[0; 20], 11, 10).len(), 10);
        assert!(allowed_fast("2001:db8::1".parse().unwrap(), &[0; 20], 100, 10).is_empty());
    }
}
