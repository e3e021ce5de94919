//! Canonical peer priority (BEP 40): both ends of a connection compute the same number, so that full peers agree on which
//! connections to keep, and a swarm becomes a random graph that nobody can bend by where he comes from.

use std::net::{IpAddr, SocketAddr};

/// The priority of the connection between two peers. The greater is to be preferred.
pub fn canonical_priority(ours: SocketAddr, theirs: SocketAddr) -> u32 {
    match (ours.ip().to_canonical(), theirs.ip().to_canonical()) {
        (a, b) if a == b => {
            let (low, high) = (ours.port().min(theirs.port()), ours.port().max(theirs.port()));
            let ([a, b], [c, d]) = (low.to_be_bytes(), high.to_be_bytes());
            crc32c(&[a, b, c, d])
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => of_addresses(a.octets(), b.octets(), 2),
        (a, b) => of_addresses(as_v6(a), as_v6(b), 6),
    }
}

/// The checksum over both addresses, masked, the lesser first. What a network's owner can choose at will is masked the
/// more, the less the addresses have in common: at least `whole` bytes stay as they are.
fn of_addresses<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let kept = whole.max(common + 1);
    let mask =
        |bytes: [u8; N]| -> [u8; N] { std::array::from_fn(|at| bytes[at] & if at < kept { 0xff } else { 0x55 }) };
    let (a, b) = (mask(a), mask(b));
    crc32c(&[a.min(b), a.max(b)].concat())
}

fn as_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// CRC-32C (Castagnoli). At most 32 bytes, once for each address: a table, or a dependency, would cost more than it saves.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(a: &str, b: &str) -> u32 {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(canonical_priority(a, b), canonical_priority(b, a), "both ends compute the same");
        canonical_priority(a, b)
    }

    #[test]
    fn vectors_of_bep_40() {
        assert_eq!(priority("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn the_check_value_of_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_masked_depends_on_what_is_common() {
        assert_eq!(priority("230.12.123.3:1234", "230.12.123.3:300"), crc32c(&[0x01, 0x2c, 0x04, 0xd2]));
        assert_eq!(priority("10.1.2.255:1", "10.1.9.255:1"), crc32c(&[10, 1, 2, 0x55, 10, 1, 9, 0x55]));
        assert_eq!(priority("10.1.255.255:1", "10.9.255.255:1"), crc32c(&[10, 1, 0x55, 0x55, 10, 9, 0x55, 0x55]));
        let v6 = |head: &[u8], fill| [head, &vec![fill; 16 - head.len()]].concat();
        let masked = [v6(&[0x20, 1, 0, 0, 0, 0], 0), v6(&[0x20, 2, 0, 0, 0, 0], 0x55)].concat();
        assert_eq!(priority("[2001::]:1", "[2002::ffff:ffff:ffff:ffff:ffff]:1"), crc32c(&masked));
        assert_eq!(priority("[::ffff:10.1.2.3]:1", "10.9.8.7:2"), priority("10.1.2.3:1", "10.9.8.7:2"));
    }
}
