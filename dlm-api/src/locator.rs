//! [`Locator`]: where something is.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::path::EntryPath;

/// What stands in for the value of a query parameter in anything a person or a log may see.
const HIDDEN: &str = "***";

/// Where something is: a URL whose scheme says which [`Protocol`](crate::Protocol) understands it.
///
/// It is the user's, unless it was made with [`named_by_content`](Self::named_by_content).
///
/// `Display` and `Debug` never show its secrets; [`url`](Self::url) has them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Locator {
    url: Url,
    named_by: NamedBy,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash)]
enum NamedBy {
    User,
    Content { may_be_local: bool },
}

impl Locator {
    /// A place that the user doesn't name, but something that was fetched, such as a container. Whoever wrote that may want us
    /// to ask machines for him that he can't reach himself: the place must not be this machine or one beside it, nor lead there,
    /// unless it `may_be_local`. What the user gave for his own places (headers, credentials) is not for it.
    pub fn named_by_content(url: Url, may_be_local: bool) -> Self {
        Self { url, named_by: NamedBy::Content { may_be_local } }
    }

    /// Whether the user named it himself.
    pub fn is_of_user(&self) -> bool {
        self.named_by == NamedBy::User
    }

    /// Whether it may be this machine or one beside it, or lead there.
    pub fn may_be_local(&self) -> bool {
        !matches!(self.named_by, NamedBy::Content { may_be_local: false })
    }

    /// The whole URL, with its secrets.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The scheme, in lower case.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// A file at a path below this place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if nothing can be below it, as with a magnet link.
    pub fn below(&self, path: &EntryPath) -> Result<Self> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path.components()),
            Err(()) => return Err(Error::new(ErrorKind::InvalidInput, "nothing can be below this").with("url", self)),
        };
        Ok(Self { url, named_by: self.named_by })
    }

    /// The file name that the last segment of the path suggests, percent-decoded as UTF-8; `None` where there is none.
    /// It is not made safe: [`EntryPath`](crate::EntryPath) does that.
    pub fn file_name(&self) -> Option<String> {
        let last = self.url.path_segments()?.next_back()?;
        let name = percent_decode(last);
        (!name.is_empty()).then_some(name)
    }
}

/// The parameter that says what to call something, and nothing else.
const DISPLAY_NAME: &str = "dn";

/// The URL without its secrets: no user info, no fragment, and query values replaced. Where the query is all there is, as in a
/// link that names content and no server, the name stays: a URN (RFC 8141), which opens nothing, and what to call it.
pub fn redact(url: &Url) -> String {
    let mut url = url.clone();
    if url.cannot_be_a_base() && url.path().contains('@') {
        // `user:password@host` without a scheme, taken for a scheme and a path.
        return format!("{}:{HIDDEN}", url.scheme());
    }
    // Both fail only for URLs that can't have user info, and those have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if let Some(query) = url.query() {
        let is_link = url.cannot_be_a_base() && url.path().is_empty();
        let is_name = |key: &str, value: &str| {
            let is_urn = || percent_decode(value).get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"));
            is_link && (key == DISPLAY_NAME || is_urn())
        };
        let hidden: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) if is_name(key, value) => pair.to_owned(),
                Some((key, _)) => format!("{key}={HIDDEN}"),
                None => HIDDEN.to_owned(),
            })
            .collect();
        url.set_query(Some(&hidden.join("&")));
    }
    url.into()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                let byte = (high * 16 + low) as u8;
                out.push(byte);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl FromStr for Locator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Url::parse(text).map(Self::from).map_err(|e| Error::new(ErrorKind::InvalidInput, "not a URL").with("reason", e))
    }
}

impl From<Url> for Locator {
    fn from(url: Url) -> Self {
        Self { url, named_by: NamedBy::User }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.url))
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locator({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_has_its_path_encoded() {
        let path = EntryPath::new("d/a b#?.bin").unwrap();
        for (at, below) in [
            ("http://h", "http://h/d/a%20b%23%3F.bin"),
            ("http://h/m?t=1", "http://h/m/d/a%20b%23%3F.bin?t=1"),
            ("http://h/m/", "http://h/m/d/a%20b%23%3F.bin"),
        ] {
            assert_eq!(at.parse::<Locator>().unwrap().below(&path).unwrap().url().as_str(), below);
        }
        let magnet: Locator = "magnet:?xt=urn:btih:00".parse().unwrap();
        assert_eq!(magnet.below(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn the_file_name_is_the_decoded_last_segment() {
        let name = |s: &str| s.parse::<Locator>().unwrap().file_name();
        assert_eq!(name("http://h/a/b%20c.iso?x=1#f").as_deref(), Some("b c.iso"));
        assert_eq!(name("http://h/a/%zz%+4%4").as_deref(), Some("%zz%+4%4"));
        assert_eq!(name("http://h/").as_deref(), None);
        assert_eq!(name("magnet:?xt=urn:btih:00").as_deref(), None);
    }

    #[test]
    fn secrets_are_hidden() {
        let locator: Locator = "https://u:p@h/f?sig=SECRET&flag#frag".parse().unwrap();
        assert_eq!(locator.to_string(), "https://h/f?sig=***&***");
        assert_eq!("u:hunter2@h/f".parse::<Locator>().unwrap().to_string(), "u:***");
        assert_eq!(format!("{locator:?}"), "Locator(https://h/f?sig=***&***)");
    }

    #[test]
    fn a_link_that_is_a_name_can_be_told_apart() {
        for (link, shown) in [
            (
                "magnet:?xt=urn:btih:00&dn=a+b&tr=http://t/KEY/announce&x.pe=h:1&ws=urn.example/KEY",
                "magnet:?xt=urn:btih:00&dn=a+b&tr=***&x.pe=***&ws=***",
            ),
            ("magnet:?xt.1=urn%3Abtih%3A00&pass=x", "magnet:?xt.1=urn%3Abtih%3A00&pass=***"),
            // Where there is a server, it may take anything for a secret.
            ("https://h/?dn=x&xt=urn:x", "https://h/?dn=***&xt=***"),
            ("mailto:x?dn=x&xt=urn:x", "mailto:x?dn=***&xt=***"),
        ] {
            assert_eq!(link.parse::<Locator>().unwrap().to_string(), shown);
        }
    }
}
