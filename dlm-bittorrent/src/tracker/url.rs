//! [`TrackerUrl`]: where a tracker is, and whether dlm may go there.

use std::fmt;

use dlm_api::{Error, ErrorKind, Result, redact};
use dlm_http::has_local_host;
use url::Url;

/// The paths that are no secret. Any other may have a user's key in it.
const OPEN_PATHS: [&str; 4] = ["", "/", "/announce", "/announce.php"];

/// The longest URL, in bytes: what servers and proxies take.
const MAX_LEN: usize = 4096;

/// Where a tracker is: a URL whose scheme is `http`, `https` or `udp`.
///
/// Anyone can make a torrent, so its trackers could have dlm send requests to the machine it runs on and to others beside
/// it, which the torrent's maker can't reach. A tracker at such an address is only taken if its path ends with `announce`
/// as trackers' do ([`may_be_local`](Self::may_be_local)); one that is asked by UDP is taken, since nothing else answers
/// what is sent there. Nor does dlm follow a redirect from elsewhere to such an address, whatever its path.
///
/// `Display` and `Debug` hide its query, and any path that is not the usual one, as many trackers have a user's key there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TrackerUrl {
    text: String,
    url: Url,
}

impl TrackerUrl {
    /// Parses it. White space around it doesn't matter. Fails with [`ErrorKind::InvalidInput`] for what is no URL, with
    /// [`ErrorKind::Unsupported`] for other schemes, and with [`ErrorKind::Denied`] for a local address that may not be
    /// a tracker's.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad = |kind, message| Err(Error::new(kind, message));
        if text.len() > MAX_LEN {
            return bad(ErrorKind::InvalidInput, "the URL of a tracker is too long");
        }
        let Ok(url) = Url::parse(text) else { return bad(ErrorKind::InvalidInput, "not a tracker's URL") };
        if !matches!(url.scheme(), "http" | "https" | "udp") {
            return bad(ErrorKind::Unsupported, "no tracker is asked with this scheme");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return bad(ErrorKind::InvalidInput, "a tracker without a host");
        }
        if url.port() == Some(0) {
            return bad(ErrorKind::InvalidInput, "a tracker without a port");
        }
        let this = Self { text: text.to_owned(), url };
        if has_local_host(&this.url) && !this.may_be_local() {
            return bad(ErrorKind::Denied, "a local address that is not like a tracker's");
        }
        Ok(this)
    }

    /// The URL, as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether it is asked by UDP (BEP 15) rather than HTTP.
    pub fn is_udp(&self) -> bool {
        self.url.scheme() == "udp"
    }

    /// The port. 80 for a tracker asked by UDP whose URL has none, as other clients do.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Whether it may be at a local address: what a name resolves to is only known when dlm connects.
    pub fn may_be_local(&self) -> bool {
        self.is_udp() || is_like_a_trackers(&self.url)
    }
}

/// Whether the last component of the path is `announce`, or `scrape`, or that with an extension.
pub(super) fn is_like_a_trackers(url: &Url) -> bool {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let rest = last.strip_prefix("announce").or_else(|| last.strip_prefix("scrape"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        if !OPEN_PATHS.contains(&url.path()) {
            url.set_path("/***");
        }
        f.write_str(&redact(&url))
    }
}

impl fmt::Debug for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ErrorKind> {
        TrackerUrl::parse(text).err().map(|e| e.kind())
    }

    #[test]
    fn what_can_be_a_tracker() {
        for text in [
            "http://tracker.example/announce",
            "https://tracker.example:8443/any/thing?key=1",
            "udp://tracker.example",
            "udp://tracker.example:6969",
            "UDP://tracker.example:6969/announce",
            "udp://[2001:db8::1]:6969/x",
            " http://tracker.example/announce\n",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
        for (text, expected) in [
            ("", ErrorKind::InvalidInput),
            ("tracker.example/announce", ErrorKind::InvalidInput),
            ("udp://tracker.example:0", ErrorKind::InvalidInput),
            ("udp://:6969", ErrorKind::InvalidInput),
            ("http:///", ErrorKind::InvalidInput),
            ("wss://tracker.example", ErrorKind::Unsupported),
            ("file:///etc/passwd", ErrorKind::Unsupported),
            ("dht://0123", ErrorKind::Unsupported),
        ] {
            assert_eq!(kind(text), Some(expected), "{text}");
        }
        assert_eq!(kind(&format!("http://a/{}", "x".repeat(MAX_LEN))), Some(ErrorKind::InvalidInput));
    }

    #[test]
    fn local_addresses_are_trackers_only_where_they_look_like_it() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "localhost",
            "localhost.",
            "a.LOCALHOST",
        ] {
            for (path, allowed) in [
                ("/announce", true),
                ("/announce?key=1", true),
                ("/key/announce.php", true),
                ("/scrape", true),
                ("", false),
                ("/admin", false),
                ("/announced", false),
                ("/announce/reboot", false),
                ("/reboot?x=/announce", false),
                ("/reboot#/announce", false),
            ] {
                let url = format!("http://{host}:8080{path}");
                assert_eq!(kind(&url), (!allowed).then_some(ErrorKind::Denied), "{url}");
            }
        }
        for host in ["1.1.1.1", "[2606:4700::1]", "100.128.0.1", "172.32.0.1", "localhost.example"] {
            assert_eq!(kind(&format!("http://{host}/any")), None, "{host}");
        }
        assert_eq!(kind("udp://127.0.0.1:6969/any"), None);
    }

    #[test]
    fn names_are_looked_at_once_they_are_resolved() {
        assert!(!TrackerUrl::parse("http://rebind.example/admin").unwrap().may_be_local());
        for url in ["http://rebind.example/announce.php", "udp://rebind.example/admin"] {
            assert!(TrackerUrl::parse(url).unwrap().may_be_local());
        }
    }

    #[test]
    fn keys_of_users_are_hidden() {
        for (text, shown) in [
            ("https://t.example/0123abcd/announce", "https://t.example/***"),
            ("https://t.example/announce?passkey=0123abcd", "https://t.example/announce?passkey=***"),
            ("https://me:0123abcd@t.example/announce", "https://t.example/announce"),
            ("udp://t.example:1/0123abcd", "udp://t.example:1/***"),
            ("udp://t.example:1/announce/0123abcd", "udp://t.example:1/***"),
            ("http://t.example/announce.0123abcd", "http://t.example/***"),
            ("udp://t.example:1", "udp://t.example:1"),
            ("http://t.example", "http://t.example/"),
            ("http://t.example/announce.php", "http://t.example/announce.php"),
        ] {
            let tracker = TrackerUrl::parse(text).unwrap();
            assert_eq!(
                (tracker.to_string(), format!("{tracker:?}")),
                (shown.to_owned(), format!("TrackerUrl({shown})"))
            );
        }
    }
}
