//! Announce (BEP 3) and scrape (BEP 48) over HTTP: the URL that is asked, and the body that comes back.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result, Retry, Scope};
use url::Url;

use super::super::announce::{AnnounceReply, clamped, interval};
use super::super::{Announce, Event, MAX_PEERS, Swarm, TrackerUrl};
use super::text;
use crate::bencode::{Document, Limits, Value};
use crate::{InfoHash, percent};

/// The longest tracker id, in bytes, that is given back: it has to fit into a URL, encoded.
const MAX_TRACKER_ID: usize = 256;

/// The most torrents in one scrape: with sixty bytes each, the URL stays under 4 KiB.
pub const MAX_SCRAPE: usize = 64;

/// The longest pause that a tracker may ask for with a refusal.
const MAX_RETRY: Duration = Duration::from_secs(24 * 60 * 60);

/// The URL of an announce. The tracker's own query comes first and stays as it is.
pub fn announce_url(tracker: &TrackerUrl, announce: &Announce) -> Url {
    let mut query = tracker.url().query().map_or(String::new(), |query| format!("{query}&"));
    query.push_str("info_hash=");
    percent::encode(announce.info_hash.as_bytes(), &mut query);
    query.push_str("&peer_id=");
    percent::encode(&announce.peer_id, &mut query);
    let Announce { port, uploaded, downloaded, left, key, .. } = announce;
    // Writing to a string can't fail.
    let _ = write!(
        query,
        "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}&compact=1&no_peer_id=1&key={key:08X}"
    );
    if let Some(event) = announce.event {
        query.push_str(match event {
            Event::Started => "&event=started",
            Event::Completed => "&event=completed",
            Event::Stopped => "&event=stopped",
        });
    }
    if let Some(num_want) = announce.num_want {
        let _ = write!(query, "&numwant={num_want}");
    }
    if let Some(ip) = announce.ip {
        let _ = write!(query, "&ip={ip}");
    }
    if let Some(ip) = announce.ipv6 {
        query.push_str("&ipv6=");
        percent::encode(ip.to_string().as_bytes(), &mut query);
    }
    if let Some(id) = &announce.tracker_id {
        query.push_str("&trackerid=");
        percent::encode(id, &mut query);
    }
    with_query(tracker, &query)
}

/// The URL of a scrape of at most [`MAX_SCRAPE`] torrents. `None` if the tracker has none: its path must end with
/// `announce` (and an extension), which becomes `scrape`.
pub fn scrape_url(tracker: &TrackerUrl, torrents: &[InfoHash]) -> Option<Url> {
    let path = tracker.url().path();
    let (folder, last) = path.rsplit_once('/')?;
    let rest = last.strip_prefix("announce").filter(|_| !tracker.is_udp())?;
    let path = format!("{folder}/scrape{rest}");
    let mut query = tracker.url().query().unwrap_or_default().to_owned();
    for torrent in torrents.iter().take(MAX_SCRAPE) {
        query.push_str(if query.is_empty() { "info_hash=" } else { "&info_hash=" });
        percent::encode(torrent.as_bytes(), &mut query);
    }
    let mut url = with_query(tracker, &query);
    url.set_path(&path);
    Some(url)
}

fn with_query(tracker: &TrackerUrl, query: &str) -> Url {
    let mut url = tracker.url().clone();
    url.set_query(Some(query));
    url.set_fragment(None);
    url
}

/// Reads the answer to an announce, whichever form its peers are in. Peers that are named rather than addressed are left
/// out: whoever answers could make us ask for any name.
///
/// A refusal is [`ErrorKind::Denied`], with what the tracker says and when it may be asked again (BEP 31).
pub fn parse_announce(body: &[u8]) -> Result<AnnounceReply> {
    let document = read(body)?;
    let root = document.root();
    refusal(root)?;
    let int = |key: &str| root.get(key).and_then(Value::as_int);
    let count = |key| int(key).and_then(|count| u32::try_from(count).ok());
    let mut reply = AnnounceReply::new(interval(int("interval")));
    reply.min_interval = clamped(int("min interval"));
    reply.warning = root.get("warning message").and_then(Value::as_bytes).map(text).filter(|text| !text.is_empty());
    reply.complete = count("complete");
    reply.incomplete = count("incomplete");
    let id = root.get("tracker id").and_then(Value::as_bytes);
    reply.tracker_id = id.filter(|id| (1..=MAX_TRACKER_ID).contains(&id.len())).map(Bytes::copy_from_slice);
    reply.external_ip = root.get("external ip").and_then(Value::as_bytes).and_then(address);
    if let Some(peers) = root.get("peers") {
        match peers.as_bytes() {
            Some(compact) => reply.push_compact::<4>(compact),
            None => listed(peers, &mut reply),
        }
    }
    if let Some(compact) = root.get("peers6").and_then(Value::as_bytes) {
        reply.push_compact::<16>(compact);
    }
    reply.dedup();
    Ok(reply)
}

/// Peers in the long form: a list of dictionaries. What is no such thing in it is left out.
fn listed(peers: Value<'_>, reply: &mut AnnounceReply) {
    for peer in peers.as_list().into_iter().flatten().take(2 * MAX_PEERS) {
        let ip = peer.get("ip").and_then(Value::as_bytes);
        let ip = ip.and_then(|ip| std::str::from_utf8(ip).ok()?.parse::<IpAddr>().ok());
        let port = peer.get("port").and_then(Value::as_int).and_then(|port| u16::try_from(port).ok());
        if let (Some(ip), Some(port)) = (ip, port) {
            reply.push(ip, port);
        }
    }
}

/// Reads the answer to a scrape: the numbers of each torrent asked for, in that order, if they are there.
///
/// Some trackers in JavaScript take the hash for text of Latin-1 and write it in UTF-8: that is understood.
pub fn parse_scrape(body: &[u8], torrents: &[InfoHash]) -> Result<Vec<Option<Swarm>>> {
    let document = read(body)?;
    refusal(document.root())?;
    let files = document.root().get("files").filter(|files| files.as_dict().is_some());
    let files = files.ok_or_else(|| protocol("the answer to a scrape has no torrents"))?;
    let numbers = |torrent: &InfoHash| {
        let mangled: String = torrent.as_bytes().iter().map(|byte| char::from(*byte)).collect();
        let entry = files.get(torrent.as_bytes()).or_else(|| files.get(mangled)).filter(|e| e.as_dict().is_some())?;
        let count = |key: &str| entry.get(key).and_then(Value::as_int).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        Some(Swarm { complete: count("complete"), incomplete: count("incomplete"), downloaded: count("downloaded") })
    };
    Ok(torrents.iter().take(MAX_SCRAPE).map(numbers).collect())
}

/// A tracker that answers with something else, the page of a proxy perhaps, may do better the next time.
fn protocol(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message).with_retry(Retry::Now)
}

fn read(body: &[u8]) -> Result<Document<'_>> {
    let document = Document::parse_prefix(body, &Limits::TRACKER).map_err(|fault| {
        let error = fault.into_error(ErrorKind::Protocol, "not a tracker's answer");
        error.with_scope(Scope::Source).with_retry(Retry::Now)
    })?;
    match document.root().as_dict() {
        Some(_) => Ok(document),
        None => Err(protocol("a tracker's answer is not a dictionary")),
    }
}

/// The error that the answer is, if it is a refusal.
fn refusal(root: Value<'_>) -> Result<()> {
    let Some(reason) = root.get("failure reason").and_then(Value::as_bytes) else { return Ok(()) };
    let error = Error::new(ErrorKind::Denied, "the tracker refuses").with("reason", text(reason));
    let retry = root.get("retry in");
    let minutes = retry.and_then(|retry| retry.as_int().or_else(|| retry.as_text()?.parse().ok()));
    let pause =
        minutes.and_then(|minutes| u64::try_from(minutes).ok()).map(|m| Duration::from_secs(m.saturating_mul(60)));
    Err(error.with_retry(match pause {
        _ if retry.and_then(Value::as_bytes) == Some(b"never") => Retry::Never,
        Some(pause) => Retry::After(pause.min(MAX_RETRY)),
        None => Retry::Now,
    }))
}

/// An address as its bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests;
