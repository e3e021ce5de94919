//! [`is_local`]: which addresses belong to this machine, and to those beside it.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

/// Whether an address belongs to this machine or to those beside it: what others can't reach, and must not reach through us.
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast()
                || a == 0
                // Shared by a provider's customers (RFC 6598).
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            let embedded =
                |high: u16, low: u16| is_local(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into());
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || match v6.segments() {
                    // What a gateway turns into IPv4 (RFC 6052), and what a router does (RFC 3056).
                    [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
                    _ => false,
                }
        }
    }
}

/// Whether the host of a URL says by itself that it is local, without being resolved.
pub fn has_local_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_local(address.into()),
        Some(Host::Ipv6(address)) => is_local(address.into()),
        // The host of a scheme that is not one of the web's stays as it is written.
        Some(Host::Domain(name)) => match name.parse() {
            Ok(address) => is_local(address),
            Err(_) => is_localhost(name),
        },
        None => false,
    }
}

/// RFC 6761, 6.3.
fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts() {
        for (host, expected) in [
            ("127.1", true),
            ("0x7f000001", true),
            ("10.1.2.3", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("100.64.0.1", true),
            ("[::1]", true),
            ("[fe80::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("[64:ff9b::7f00:1]", true),
            ("[2002:7f00:1::]", true),
            ("a.LOCALHOST.", true),
            ("1.1.1.1", false),
            ("100.128.0.1", false),
            ("[2606:4700::1]", false),
            ("[2002:101:101::]", false),
            ("localhost.example", false),
        ] {
            assert_eq!(has_local_host(&Url::parse(&format!("http://{host}:8080/")).unwrap()), expected, "{host}");
        }
        assert!(has_local_host(&Url::parse("udp://127.0.0.1:1").unwrap()));
    }
}
