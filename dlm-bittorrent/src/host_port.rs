//! A host and a port, as torrents and magnet links name nodes and peers.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use dlm_api::{Error, ErrorKind, Result};

/// The longest name of a host (RFC 1035).
const MAX_HOST: usize = 253;

/// A host, by name or by address, and a port: `example.org:6881`, `192.0.2.1:6881`, `[2001:db8::1]:6881`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Of a host without brackets. Fails with [`ErrorKind::InvalidInput`] if it can't be a host, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self> {
        let is_name = |host: &str| {
            host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) && host.len() <= MAX_HOST
        };
        let valid = port != 0 && !host.is_empty() && (is_name(host) || host.parse::<Ipv6Addr>().is_ok());
        if !valid {
            return Err(Error::new(ErrorKind::InvalidInput, "not a host and a port"));
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }

    /// The host: a name in lower case, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::InvalidInput, "not a host and a port");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let is_digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_digits).ok_or_else(bad)?;
        match host.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').filter(|host| host.contains(':')).ok_or_else(bad)?;
                Self::new(host, port)
            }
            None if host.contains(':') => Err(bad()),
            None => Self::new(host, port),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for text in ["example.org:6881", "192.0.2.1:1", "[2001:db8::1]:65535", "a_b-c:2"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("EXAMPLE.org:1".parse::<HostPort>().unwrap().host(), "example.org");
        assert_eq!("[2001:DB8::1]:1".parse::<HostPort>().unwrap().host(), "2001:db8::1");
    }

    #[test]
    fn what_is_neither() {
        let long = format!("{}:1", "a".repeat(254));
        for bad in [
            "", ":", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "a: 1", "a:-1", "::1:1", "[::1]", "[::1]:0", "[a]:1",
            "[::1:1", "a b:1", "a/b:1", "ä:1", "a@b:1", &long,
        ] {
            assert_eq!(bad.parse::<HostPort>().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
