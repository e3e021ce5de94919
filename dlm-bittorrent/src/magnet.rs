//! [`Magnet`]: a link that names a torrent by its info-hash (BEP 9).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use dlm_api::{Error, ErrorKind, Result};
use url::Url;

use crate::tracker::TrackerUrl;
use crate::{HostPort, InfoHash, percent};

/// The longest link, in bytes. Browsers and shells pass on no longer ones either.
const MAX_LEN: usize = 64 << 10;

/// The most trackers, of web seeds, of peers, and of ranges of files, that are kept. Real links have a few dozen.
const MAX_EACH: usize = 256;

/// The longest name, in bytes, that is kept: as long as the name of a file may be.
const MAX_NAME: usize = 255;

/// A magnet link (BEP 9), with a selection of files (BEP 53).
///
/// Reads links of either case and with numbers behind the names of parameters (`tr.1`). What is optional and makes no
/// sense is left out, except a selection of files: without it more would be downloaded than was asked for.
///
/// `Display` gives a link that is read as the same again. It may hold a user's secret in a tracker's URL; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Magnet {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What it may be called until its own name is known. Not made safe.
    pub name: Option<String>,
    /// Trackers.
    pub trackers: Vec<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<Url>,
    /// Peers to connect to first.
    pub peers: Vec<HostPort>,
    /// The files that are wanted (BEP 53).
    pub select: Selection,
}

/// Some of a torrent's files (BEP 53), by their places among all of them, padding included.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selection(Vec<RangeInclusive<u32>>);

impl Selection {
    /// All files.
    pub const ALL: Self = Self(Vec::new());

    /// Those in these ranges; all if there is none.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u32>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Whether it is all files, as nobody chose some.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this file is among them.
    pub fn has(&self, file: usize) -> bool {
        self.is_all() || u32::try_from(file).is_ok_and(|file| self.0.iter().any(|range| range.contains(&file)))
    }

    /// The ranges of which it consists, as they were given; none for all files.
    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }
}

impl Magnet {
    /// A link to this torrent and nothing else.
    pub fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select: Selection::ALL,
        }
    }
}

impl FromStr for Magnet {
    type Err = Error;

    /// Fails with [`ErrorKind::InvalidInput`] for what is no link to a torrent, and with [`ErrorKind::Unsupported`] for
    /// torrents of version 2 only (BEP 52).
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(Error::new(ErrorKind::TooLarge, "the magnet link is too long").with("limit", MAX_LEN));
        }
        let query = text
            .split_at_checked("magnet:?".len())
            .and_then(|(scheme, query)| scheme.eq_ignore_ascii_case("magnet:?").then_some(query))
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a magnet link"))?;
        let query = query.split('#').next().unwrap_or_default();
        let parameters = || query.split('&').filter_map(|pair| pair.split_once('='));

        let mut magnet = Self::new(info_hash(parameters().filter(|(name, _)| is(name, "xt")).map(|(_, value)| value))?);
        for (name, value) in parameters() {
            let value = || String::from_utf8_lossy(&percent::decode_query(value)).into_owned();
            if is(name, "dn") && magnet.name.is_none() {
                magnet.name = name_of(&value());
            } else if is(name, "tr") {
                keep(&mut magnet.trackers, TrackerUrl::parse(&value()).ok().map(|url| url.as_str().to_owned()));
            } else if is(name, "ws") {
                let url = Url::parse(value().trim()).ok();
                let usable = |url: &Url| matches!(url.scheme(), "http" | "https" | "ftp") && url.has_host();
                keep(&mut magnet.web_seeds, url.filter(usable));
            } else if is(name, "x.pe") {
                keep(&mut magnet.peers, value().parse().ok());
            } else if is(name, "so") {
                for range in value().split(',') {
                    if magnet.select.0.len() >= MAX_EACH {
                        return Err(bad_selection().with("limit", MAX_EACH));
                    }
                    magnet.select.0.push(select(range).ok_or_else(bad_selection)?);
                }
            }
        }
        Ok(magnet)
    }
}

/// The torrent that the exact topics of a link name.
fn info_hash<'a>(topics: impl Iterator<Item = &'a str>) -> Result<InfoHash> {
    let bad = |message| Error::new(ErrorKind::InvalidInput, message);
    let mut found = None;
    let mut has_version_2 = false;
    for topic in topics {
        let topic = String::from_utf8_lossy(&percent::decode_query(topic)).into_owned();
        let Some((urn, hash)) = topic.rsplit_once(':') else { continue };
        has_version_2 |= urn.eq_ignore_ascii_case("urn:btmh");
        if urn.eq_ignore_ascii_case("urn:btih") {
            let hash: InfoHash = hash.parse()?;
            if found.is_some_and(|other| other != hash) {
                return Err(bad("a magnet link to two torrents"));
            }
            found = Some(hash);
        }
    }
    found.ok_or_else(|| match has_version_2 {
        true => Error::new(ErrorKind::Unsupported, "a magnet link to a torrent of version 2 only"),
        false => bad("a magnet link that names no torrent"),
    })
}

/// Whether a parameter has this name, or it with a number.
fn is(name: &str, wanted: &str) -> bool {
    let (start, rest) = name.split_at_checked(wanted.len()).unwrap_or((name, ""));
    let number = rest.strip_prefix('.').unwrap_or(rest);
    let is_numbered = number.len() < rest.len() && number.bytes().all(|b| b.is_ascii_digit());
    start.eq_ignore_ascii_case(wanted) && (rest.is_empty() || is_numbered)
}

fn keep<T: PartialEq>(list: &mut Vec<T>, value: Option<T>) {
    if let Some(value) = value.filter(|value| list.len() < MAX_EACH && !list.contains(value)) {
        list.push(value);
    }
}

fn name_of(text: &str) -> Option<String> {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let name: String = text[..end].chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

fn bad_selection() -> Error {
    Error::new(ErrorKind::InvalidInput, "the magnet link selects files in a way that cannot be understood")
}

/// One index, or the first and the last of several.
fn select(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u32, u32) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        let mut parameter = |name, value: &str| {
            let mut encoded = String::new();
            percent::encode(value.as_bytes(), &mut encoded);
            write!(f, "&{name}={encoded}")
        };
        self.name.iter().try_for_each(|name| parameter("dn", name))?;
        self.trackers.iter().try_for_each(|url| parameter("tr", url))?;
        self.web_seeds.iter().try_for_each(|url| parameter("ws", url.as_str()))?;
        self.peers.iter().try_for_each(|peer| parameter("x.pe", &peer.to_string()))?;
        for (i, range) in self.select.ranges().iter().enumerate() {
            f.write_str(if i == 0 { "&so=" } else { "," })?;
            match range.start() == range.end() {
                true => write!(f, "{}", range.start())?,
                false => write!(f, "{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

/// Without the trackers, which may hold secrets.
impl fmt::Debug for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Magnet")
            .field("info_hash", &self.info_hash)
            .field("name", &self.name)
            .field("select", &self.select)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

    fn parse(rest: &str) -> Result<Magnet> {
        format!("magnet:?{rest}").parse()
    }

    fn with(rest: &str) -> Magnet {
        parse(&format!("xt=urn:btih:{HASH}&{rest}")).unwrap()
    }

    fn kind(text: &str) -> ErrorKind {
        text.parse::<Magnet>().unwrap_err().kind()
    }

    #[test]
    fn every_parameter_is_read() {
        let magnet = with(
            "dn=a+b%20%C3%A4&tr=udp%3A%2F%2Ft.example%3A1%2Fannounce&tr.2=http://t.example/announce?a%3Db&ws=http://h/f\
             &x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:1&so=0,2,4-6&xl=5&kt=x&dn=second",
        );
        assert_eq!(magnet.info_hash.to_string(), HASH);
        assert_eq!(magnet.name.as_deref(), Some("a b ä"));
        assert_eq!(magnet.trackers, ["udp://t.example:1/announce", "http://t.example/announce?a=b"]);
        assert_eq!(magnet.web_seeds, ["http://h/f".parse().unwrap()]);
        let peers: Vec<_> = magnet.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["192.0.2.1:6881", "[2001:db8::1]:1"]);
        assert_eq!(magnet.select.ranges(), [0..=0, 2..=2, 4..=6]);
        let selected: Vec<_> = (0..8).filter(|i| magnet.select.has(*i)).collect();
        assert_eq!(selected, [0, 2, 4, 5, 6]);
        assert_eq!(magnet.to_string().parse::<Magnet>().unwrap(), magnet);
        assert!(with("").select.has(7));
    }

    #[test]
    fn the_hash_comes_in_many_forms() {
        for text in [
            "magnet:?xt=urn:btih:C12FE1C06BBA254A9DC9F519B335AA7C1367A88A",
            "MAGNET:?XT=URN:BTIH:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK",
            " magnet:?dn=a&xt.1=urn:btih:yex6dqdlxisuvhoj6um3gnnkpqjwpkek\n",
            "magnet:?xt=urn%3Abtih%3Ac12fe1c06bba254a9dc9f519b335aa7c1367a88a#x",
            "magnet:?xt=urn:btmh:1220caf1&xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "magnet:?xt=urn:sha1:x&xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a\
             &xt=urn:btih:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK",
        ] {
            assert_eq!(text.parse::<Magnet>().unwrap().info_hash.to_string(), HASH, "{text}");
        }
    }

    #[test]
    fn what_names_no_torrent_is_refused() {
        for text in [
            "",
            "magnet:",
            "magnet:?",
            "magnät:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "http://h/?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "magnet:?dn=a",
            "magnet:?xt=c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "magnet:?xt=urn:sha1:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK",
            "magnet:?xt=urn:btih:c12fe1",
            "magnet:?xt=urn:btih:",
            "magnet:?xta=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
            "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&xt=urn:btih:0000000000000000000000000000000000000000",
        ] {
            assert_eq!(kind(text), ErrorKind::InvalidInput, "{text}");
        }
        assert_eq!(
            kind("magnet:?xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e"),
            ErrorKind::Unsupported
        );
        assert_eq!(kind(&format!("magnet:?xt=urn:btih:{HASH}&dn={}", "x".repeat(MAX_LEN))), ErrorKind::TooLarge);
    }

    #[test]
    fn what_makes_no_sense_is_left_out_but_not_a_selection() {
        let magnet = with("dn=&tr=nonsense&tr=http://127.0.0.1/reboot&tr&ws=file:///x&x.pe=1.2.3.4&x.pe=:1&=&&tr=");
        assert_eq!(magnet, with(""));
        for bad in ["", "x", "1,", "-1", "1-", "3-2", "1-2-3", "+1", "4294967296", "1 2"] {
            let text = format!("magnet:?xt=urn:btih:{HASH}&so={}", bad.replace('+', "%2B"));
            assert_eq!(kind(&text), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn there_are_bounds() {
        let many: String =
            (0..1000).map(|i| format!("&tr=udp://h:{}&x.pe=h:{}&ws=http://h/{i}", i + 1, i + 1)).collect();
        let magnet = with(&many);
        assert_eq!((magnet.trackers.len(), magnet.peers.len(), magnet.web_seeds.len()), (MAX_EACH, MAX_EACH, MAX_EACH));
        let so = "1,".repeat(1000) + "1";
        assert_eq!(kind(&format!("magnet:?xt=urn:btih:{HASH}&so={so}")), ErrorKind::InvalidInput);
        let name = with(&format!("dn={}", "ä".repeat(200))).name.unwrap();
        assert_eq!(name.len(), 254);
    }

    #[test]
    fn debug_shows_no_tracker() {
        let magnet = with("tr=https://t.example/0123abcd/announce");
        assert!(!format!("{magnet:?}").contains("0123abcd") && magnet.to_string().contains("0123abcd"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            hash: [u8; 20],
            name in prop::option::of("\\PC{1,20}"),
            paths in prop::collection::vec("[a-zA-Z0-9%&=?#+ ]{0,12}", 0..4),
            select in prop::collection::vec((0u32..99, 0u32..9), 0..4),
        ) {
            let mut magnet = Magnet::new(hash.into());
            magnet.name = name;
            for path in &paths {
                keep(&mut magnet.trackers, TrackerUrl::parse(&format!("udp://h:1/{path}")).ok().map(|u| u.as_str().to_owned()));
                keep(&mut magnet.web_seeds, Url::parse(&format!("http://h/{path}")).ok());
            }
            magnet.select = Selection::new(select.into_iter().map(|(first, more)| first..=first + more));
            prop_assert_eq!(magnet.to_string().parse::<Magnet>().unwrap(), magnet);
        }

        #[test]
        fn anything_parses_or_does_not(text in "(magnet:\\?|xt=urn:btih:|&|=|so=|x\\.pe=|tr=|%|[0-9a-fäÄ:\\-]{0,3}|\\PC){0,30}") {
            if let Ok(magnet) = text.parse::<Magnet>() {
                prop_assert_eq!(magnet.to_string().parse::<Magnet>().unwrap(), magnet);
            }
        }
    }
}
