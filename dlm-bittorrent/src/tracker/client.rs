//! [`TrackerClient`]: one question to one tracker, over HTTP or UDP.

mod gzip;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Result};
use dlm_http::{HttpClient, HttpConfig, has_local_host};
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use http::{Request, StatusCode};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time;
use url::Url;

use super::exchange::{Answer, Step, Task, UdpExchange};
use super::url::is_like_a_trackers;
use super::wire::http::{MAX_SCRAPE, announce_url, parse_announce, parse_scrape, scrape_url};
use super::{Announce, AnnounceReply, Swarm, TrackerUrl};
use crate::InfoHash;
use crate::driver::now;

/// The longest answer over HTTP, in bytes, and the longest that one unpacks to. A thousand peers in the long form are 100 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// The longest datagram that is looked at. A thousand IPv6 peers are 18 KiB; what is longer than a datagram can be is none.
const MAX_DATAGRAM: usize = 64 << 10;

/// How often a tracker may send us elsewhere.
const MAX_REDIRECTS: usize = 5;

/// How long a question over HTTP may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks trackers. Errors say by their `retry` when, and whether, a tracker is to be asked again.
#[derive(Debug)]
pub(crate) struct TrackerClient {
    http: HttpClient,
    /// For what must not lead to a local address.
    global: HttpClient,
}

impl TrackerClient {
    pub(crate) fn new(config: HttpConfig) -> Result<Self> {
        let http = HttpClient::new(config)?;
        let global = http.without_local();
        Ok(Self { http, global })
    }

    /// Announces once.
    pub(crate) async fn announce(&self, tracker: &TrackerUrl, announce: Announce) -> Result<AnnounceReply> {
        if !tracker.is_udp() {
            let (status, body) = self.get(announce_url(tracker, &announce)).await?;
            return checked(status, parse_announce(&body));
        }
        match over_udp(tracker, Task::Announce(announce)).await? {
            Answer::Announce(reply) => Ok(reply),
            Answer::Scrape(_) => Err(other_answer()),
        }
    }

    /// Asks for the numbers of these torrents' swarms, in that order; `None` for one that the tracker doesn't know.
    pub(crate) async fn scrape(&self, tracker: &TrackerUrl, torrents: &[InfoHash]) -> Result<Vec<Option<Swarm>>> {
        let parts = stream::iter(torrents.chunks(MAX_SCRAPE)).then(|part| self.scrape_some(tracker, part));
        let parts: Vec<_> = parts.try_collect().await?;
        Ok(parts.concat())
    }

    async fn scrape_some(&self, tracker: &TrackerUrl, torrents: &[InfoHash]) -> Result<Vec<Option<Swarm>>> {
        if !tracker.is_udp() {
            let none = || Error::new(ErrorKind::Unsupported, "the tracker's URL has no place for numbers of swarms");
            let (status, body) = self.get(scrape_url(tracker, torrents).ok_or_else(none)?).await?;
            return checked(status, parse_scrape(&body, torrents));
        }
        match over_udp(tracker, Task::Scrape(torrents.to_vec())).await? {
            // Of a torrent that it doesn't know such a tracker says zeros.
            Answer::Scrape(swarms) => {
                let known = swarms.into_iter().map(|swarm| Some(swarm).filter(|swarm| *swarm != Swarm::default()));
                Ok(known.chain(std::iter::repeat(None)).take(torrents.len()).collect())
            }
            Answer::Announce(_) => Err(other_answer()),
        }
    }

    /// What is at a URL, and its status.
    async fn get(&self, url: Url) -> Result<(StatusCode, Bytes)> {
        let late = |_| Error::new(ErrorKind::Timeout, "the tracker doesn't answer");
        // Who asks knows where, and URLs of trackers have users' keys in them, not only in what is hidden of any URL.
        let hidden = |error: Error| error.without("url").without("to");
        time::timeout(PATIENCE, self.follow(url)).await.map_err(late)?.map_err(hidden)
    }

    async fn follow(&self, mut url: Url) -> Result<(StatusCode, Bytes)> {
        // Torrents must not make us ask machines beside us for anything but what trackers are asked for, and a tracker must
        // not send us from elsewhere to them.
        let mut may_be_local = is_like_a_trackers(&url);
        for _ in 0..=MAX_REDIRECTS {
            let http = if may_be_local { &self.http } else { &self.global };
            let bad = |e| Error::new(ErrorKind::InvalidInput, "the tracker's URL can't be asked").with_source(e);
            let request =
                Request::get(url.as_str()).header(ACCEPT_ENCODING, "identity").body(Bytes::new()).map_err(bad)?;
            let (parts, body) = http.send(request).await?.into_parts();
            if parts.status.is_redirection() {
                let to = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
                let to = to.ok_or_else(|| Error::new(ErrorKind::Protocol, "the tracker redirects to nowhere"))?;
                if url.scheme() == "https" && to.scheme() != "https" {
                    // There may be a user's key in it.
                    return Err(Error::new(ErrorKind::Denied, "the tracker redirects from https to http"));
                }
                may_be_local = has_local_host(&url) && is_like_a_trackers(&to);
                url = to;
                continue;
            }
            let coding = parts.headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase());
            let body = body.collect(MAX_ANSWER).await?;
            let body = match coding.as_deref() {
                None | Some(b"" | b"identity") => body,
                // Some pack whatever they are told.
                Some(b"gzip" | b"x-gzip") => gzip::unpack(&body, MAX_ANSWER)?.into(),
                Some(_) => {
                    return Err(Error::new(ErrorKind::Unsupported, "the tracker's answer is packed in a strange way"));
                }
            };
            return Ok((parts.status, body));
        }
        Err(Error::new(ErrorKind::Protocol, "the tracker redirects too often").with("limit", MAX_REDIRECTS))
    }
}

/// Some send what is wrong with a status of an error; the reason is worth more than the number.
fn checked<T>(status: StatusCode, reply: Result<T>) -> Result<T> {
    match reply {
        Err(error) if status != StatusCode::OK && error.kind() != ErrorKind::Denied => {
            Err(Error::new(ErrorKind::Network, "the tracker has a problem").with("status", status))
        }
        reply => reply,
    }
}

fn other_answer() -> Error {
    Error::new(ErrorKind::Protocol, "the tracker answers another question")
}

async fn over_udp(tracker: &TrackerUrl, task: Task) -> Result<Answer> {
    let broken = |e| Error::network("the connection to the tracker broke", e);
    let address = resolve(tracker).await?;
    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(broken)?;
    // From then on nobody else's datagrams come.
    socket.connect(address).await.map_err(broken)?;
    let mut exchange = UdpExchange::new(tracker, address.is_ipv6(), task, None, fastrand::u64(..));
    let mut packet = vec![0; MAX_DATAGRAM];
    loop {
        let until = match exchange.poll(now())? {
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
        if let Some(answer) = exchange.receive(&packet[..received], now())? {
            return Ok(answer);
        }
    }
}

async fn resolve(tracker: &TrackerUrl) -> Result<SocketAddr> {
    let failed = |e| Error::network("cannot resolve the tracker's name", e);
    let host = tracker.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
    let mut addresses = lookup_host((host, tracker.port())).await.map_err(failed)?;
    addresses.next().ok_or_else(|| Error::new(ErrorKind::NotFound, "the tracker's name has no address"))
}

#[cfg(test)]
mod tests;
