//! [`announce`]: one announce to one tracker, over HTTP or UDP.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};
use dlm_http::HttpClient;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use http::{Request, StatusCode};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time;
use url::Url;

use super::exchange::{Answer, Step, Task, UdpExchange};
use super::wire::http::{announce_url, parse_announce};
use super::{Announce, AnnounceReply, TrackerUrl};

/// The longest answer over HTTP, in bytes. A thousand peers in the long form are 100 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// The longest datagram that is looked at. A thousand IPv6 peers are 18 KiB; what is longer than a datagram can be is none.
const MAX_DATAGRAM: usize = 64 << 10;

/// How often a tracker may send us elsewhere.
const MAX_REDIRECTS: usize = 5;

/// How long an announce over HTTP may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Announces once. Errors say by their `retry` when, and whether, the tracker is to be asked again.
pub(crate) async fn announce(http: &HttpClient, tracker: &TrackerUrl, announce: Announce) -> Result<AnnounceReply> {
    if tracker.is_udp() {
        return over_udp(tracker, announce).await;
    }
    let late = |_| Error::new(ErrorKind::Timeout, "the tracker doesn't answer");
    time::timeout(PATIENCE, over_http(http, tracker, &announce)).await.map_err(late)?
}

async fn over_http(http: &HttpClient, tracker: &TrackerUrl, announce: &Announce) -> Result<AnnounceReply> {
    let mut url = announce_url(tracker, announce);
    for _ in 0..=MAX_REDIRECTS {
        check(&url).await?;
        let bad = |e| Error::new(ErrorKind::InvalidInput, "the tracker's URL can't be asked").with_source(e);
        let request = Request::get(url.as_str()).header(ACCEPT_ENCODING, "identity").body(Bytes::new()).map_err(bad)?;
        let response = http.send(request).await?;
        let (parts, body) = response.into_parts();
        if parts.status.is_redirection() {
            let to = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
            url = to.ok_or_else(|| Error::new(ErrorKind::Protocol, "the tracker redirects to nowhere"))?;
            continue;
        }
        if parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            // It was told not to. What unpacks to more than memory holds is never unpacked.
            return Err(Error::new(ErrorKind::Unsupported, "the tracker's answer is compressed"));
        }
        let body = body.collect(MAX_ANSWER).await?;
        // Some send what is wrong with a status of an error; the reason is worth more than the number.
        return match (parse_announce(&body), parts.status) {
            (Err(error), status) if status != StatusCode::OK && error.kind() != ErrorKind::Denied => {
                Err(Error::new(ErrorKind::Network, "the tracker has a problem").with("status", status))
            }
            (reply, _) => reply,
        };
    }
    Err(Error::new(ErrorKind::Protocol, "the tracker redirects too often").with("limit", MAX_REDIRECTS))
}

/// Whether we may ask there: torrents must not make us ask machines beside us for anything but announces.
async fn check(url: &Url) -> Result<()> {
    let tracker = TrackerUrl::parse(url.as_str())?;
    let Some(host) = url.domain() else { return Ok(()) };
    let failed = |e| Error::network("cannot resolve the tracker's name", e);
    let mut addresses = lookup_host((host, tracker.port())).await.map_err(failed)?;
    if addresses.any(|address| !tracker.may_connect(address.ip())) {
        return Err(Error::new(ErrorKind::Denied, "a local address that is not like a tracker's"));
    }
    Ok(())
}

async fn over_udp(tracker: &TrackerUrl, announce: Announce) -> Result<AnnounceReply> {
    let broken = |e| Error::network("the connection to the tracker broke", e);
    let address = resolve(tracker).await?;
    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(broken)?;
    // From then on nobody else's datagrams come.
    socket.connect(address).await.map_err(broken)?;
    let seed = fastrand::u64(..);
    let mut exchange = UdpExchange::new(tracker, address.is_ipv6(), Task::Announce(announce), None, seed);
    let mut packet = vec![0; MAX_DATAGRAM];
    loop {
        let until = match exchange.poll(super::super::driver::now())? {
            Step::Send(datagram) => {
                socket.send(&datagram).await.map_err(broken)?;
                continue;
            }
            Step::Wait(until) => until,
        };
        let received = tokio::select! {
            received = socket.recv(&mut packet) => received.map_err(broken)?,
            () = time::sleep_until(until.into()) => continue,
        };
        if let Some(Answer::Announce(reply)) = exchange.receive(&packet[..received], super::super::driver::now())? {
            return Ok(reply);
        }
    }
}

async fn resolve(tracker: &TrackerUrl) -> Result<SocketAddr> {
    let failed = |e| Error::network("cannot resolve the tracker's name", e);
    let host = tracker.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
    let mut addresses = lookup_host((host, tracker.port())).await.map_err(failed)?;
    let may = |address: &SocketAddr| tracker.may_connect(address.ip());
    addresses.find(may).ok_or_else(|| Error::new(ErrorKind::NotFound, "the tracker's name has no address"))
}
