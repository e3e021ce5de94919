//! Redirects (RFC 9110 section 15.4): where they may lead, and what is never taken along.
//!
//! The invariant: what was given for one origin (credentials, cookies, any header of the user) is sent to that origin alone.
//! See [`same_origin`]; `Referer` is never sent at all.

use dlm_api::{Error, ErrorKind, Result, redact};
use http::StatusCode;
use url::Url;

/// Whether a status, with a `Location`, asks to look elsewhere with the same method. For GET all five mean the same.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether two URLs have the same scheme, host and port (RFC 6454 section 5).
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Scheme, host and port, as in `https://example.com:443`.
pub(crate) fn origin(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// The URLs that one request has led through.
#[derive(Debug)]
pub(crate) struct Chain {
    current: Url,
    earlier: Vec<Url>,
    limit: usize,
    allow_downgrade: bool,
}

impl Chain {
    pub(crate) fn new(first: Url, limit: usize, allow_downgrade: bool) -> Self {
        Self { current: first, earlier: Vec::new(), limit, allow_downgrade }
    }

    /// The URL to ask now.
    pub(crate) fn current(&self) -> &Url {
        &self.current
    }

    /// Goes where a `Location` says.
    pub(crate) fn follow(&mut self, location: &[u8]) -> Result<()> {
        let from = &self.current;
        let bad = |kind, message: &'static str| Error::new(kind, message).with_url(from);
        // The standard allows ASCII only; servers send UTF-8, which a URL is able to hold once encoded.
        let location = std::str::from_utf8(location)
            .map_err(|_| bad(ErrorKind::Protocol, "the server redirects to something that is no URL"))?;
        let mut to = from
            .join(location)
            .map_err(|e| bad(ErrorKind::Protocol, "the server redirects to something that is no URL").with_source(e))?;
        if !matches!(to.scheme(), "http" | "https") {
            return Err(bad(ErrorKind::Unsupported, "the server redirects to a scheme that is not followed")
                .with("scheme", to.scheme()));
        }
        if from.scheme() == "https" && to.scheme() == "http" && !self.allow_downgrade {
            return Err(bad(
                ErrorKind::Denied,
                "the server redirects from https to http, which is not followed unless allowed",
            )
            .with("to", redact(&to)));
        }
        to.set_fragment(None);
        // Credentials come from the user, not from whoever wrote the redirect. These fail only for URLs without a host.
        let _ = to.set_username("");
        let _ = to.set_password(None);
        if to == *from || self.earlier.contains(&to) {
            return Err(bad(ErrorKind::Protocol, "the server redirects in a circle").with("to", redact(&to)));
        }
        if self.earlier.len() >= self.limit {
            return Err(bad(ErrorKind::Protocol, "too many redirects").with("limit", self.limit));
        }
        self.earlier.push(std::mem::replace(&mut self.current, to));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn follow(from: &str, location: &str) -> Result<String> {
        let mut chain = Chain::new(url(from), 20, false);
        chain.follow(location.as_bytes())?;
        Ok(chain.current().to_string())
    }

    #[test]
    fn locations_are_relative_to_the_url() {
        let from = "https://h.example:8443/a/b?q=1";
        for (location, expected) in [
            ("c", "https://h.example:8443/a/c"),
            ("/c", "https://h.example:8443/c"),
            ("../../../c", "https://h.example:8443/c"),
            ("?q=2", "https://h.example:8443/a/b?q=2"),
            ("//o.example/c", "https://o.example/c"),
            ("HTTPS://O.Example:443/c#part", "https://o.example/c"),
            ("https://user:pass@o.example/c", "https://o.example/c"),
            ("/naïve file", "https://h.example:8443/na%C3%AFve%20file"),
        ] {
            assert_eq!(follow(from, location).unwrap(), expected, "{location}");
        }
    }

    #[test]
    fn only_http_is_followed_and_never_downwards() {
        for location in ["ftp://h/f", "file:///etc/passwd", "data:,x", "javascript:1"] {
            assert_eq!(follow("http://h/f", location).unwrap_err().kind(), ErrorKind::Unsupported, "{location}");
        }
        assert_eq!(follow("https://h/f", "http://h/f").unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(follow("http://h/f", "https://h/f").unwrap(), "https://h/f");
        let mut chain = Chain::new(url("https://h/f"), 20, true);
        chain.follow(b"http://h/f").unwrap();
    }

    #[test]
    fn circles_and_endless_chains_end() {
        assert_eq!(follow("http://h/f", "#x").unwrap_err().message(), "the server redirects in a circle");
        let mut chain = Chain::new(url("http://h/0"), 3, false);
        for i in 1..=3 {
            chain.follow(format!("/{i}").as_bytes()).unwrap();
        }
        assert_eq!(chain.follow(b"/4").unwrap_err().message(), "too many redirects");
        assert_eq!(chain.current().as_str(), "http://h/3");
        let mut none = Chain::new(url("http://h/0"), 0, false);
        assert!(none.follow(b"/1").is_err());
    }

    #[test]
    fn a_secret_in_a_location_is_not_told() {
        let error = follow("https://h/f?key=SECRET", "http://u:SECRET@h/g?sig=SECRET").unwrap_err();
        assert!(!error.chain().contains("SECRET"), "{}", error.chain());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same_origin(&url("https://h/a"), &url("https://H:443/b")));
        for other in ["http://h/", "https://h:8443/", "https://www.h/", "https://h.example/"] {
            assert!(!same_origin(&url("https://h/"), &url(other)), "{other}");
        }
        assert_eq!(origin(&url("https://u:p@H.example/x")), "https://h.example:443");
        assert_eq!(origin(&url("http://[::1]:80/x")), "http://[::1]:80");
    }

    proptest! {
        #[test]
        fn any_location_leads_somewhere_safe_or_nowhere(location: Vec<u8>) {
            let mut chain = Chain::new(url("https://h/f"), 20, false);
            if chain.follow(&location).is_ok() {
                prop_assert_eq!(chain.current().scheme(), "https");
                prop_assert_eq!(chain.current().username(), "");
            }
        }
    }
}
