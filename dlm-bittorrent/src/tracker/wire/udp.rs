//! Announce and scrape over UDP (BEP 15), with the URL of the tracker (BEP 41): the datagrams that are sent, and those that
//! come back.

use std::net::Ipv4Addr;

use dlm_api::{Error, ErrorKind, Result};

use super::super::announce::{AnnounceReply, interval};
use super::super::{Announce, Event, Swarm, TrackerUrl};
use super::text;
use crate::InfoHash;

/// What a connect request starts with.
const PROTOCOL: u64 = 0x417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// The most torrents in one scrape, so that the answer too is one packet.
pub const MAX_SCRAPE: usize = 74;

/// The option that holds the URL (BEP 41), and the most bytes that it can hold.
const URL_DATA: u8 = 2;
const MAX_OPTION: usize = 255;

/// The most bytes of a URL that are sent, so that the request stays one packet. Keys are some dozen bytes long.
const MAX_URL_DATA: usize = 1000;

/// Asks for a connection id.
pub fn connect_request(transaction: u32) -> Vec<u8> {
    [&PROTOCOL.to_be_bytes()[..], &CONNECT.to_be_bytes(), &transaction.to_be_bytes()].concat()
}

/// Announces. `is_ipv6` says how the tracker is reached: an address of ours can only be told over IPv4.
pub fn announce_request(
    connection: u64,
    transaction: u32,
    announce: &Announce,
    url_data: &[u8],
    is_ipv6: bool,
) -> Vec<u8> {
    let event: u32 = match announce.event {
        None => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    };
    let ip = announce.ip.filter(|_| !is_ipv6).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let mut packet = head(connection, ANNOUNCE, transaction);
    packet.extend_from_slice(announce.info_hash.as_bytes());
    packet.extend_from_slice(&announce.peer_id);
    packet.extend_from_slice(&announce.downloaded.to_be_bytes());
    packet.extend_from_slice(&announce.left.to_be_bytes());
    packet.extend_from_slice(&announce.uploaded.to_be_bytes());
    packet.extend_from_slice(&event.to_be_bytes());
    packet.extend_from_slice(&ip.octets());
    packet.extend_from_slice(&announce.key.to_be_bytes());
    // The default is written as -1.
    let num_want = announce.num_want.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
    packet.extend_from_slice(&num_want.to_be_bytes());
    packet.extend_from_slice(&announce.port.to_be_bytes());
    if url_data.len() <= MAX_URL_DATA {
        for part in url_data.chunks(MAX_OPTION) {
            packet.extend_from_slice(&[URL_DATA, part.len() as u8]);
            packet.extend_from_slice(part);
        }
    }
    packet
}

/// Scrapes at most [`MAX_SCRAPE`] torrents.
pub fn scrape_request(connection: u64, transaction: u32, torrents: &[InfoHash]) -> Vec<u8> {
    let mut packet = head(connection, SCRAPE, transaction);
    torrents.iter().take(MAX_SCRAPE).for_each(|torrent| packet.extend_from_slice(torrent.as_bytes()));
    packet
}

fn head(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    [&connection.to_be_bytes()[..], &action.to_be_bytes(), &transaction.to_be_bytes()].concat()
}

/// What an announce says of a tracker's URL (BEP 41): path and query. Nothing if there is neither.
pub fn url_data(tracker: &TrackerUrl) -> Vec<u8> {
    let url = tracker.url();
    match (url.path(), url.query()) {
        ("" | "/", None) => Vec::new(),
        (path, None) => path.as_bytes().to_vec(),
        (path, Some(query)) => format!("{path}?{query}").into_bytes(),
    }
}

/// A datagram from a tracker.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// A connection id, which the next requests have to carry.
    Connect {
        /// The id.
        connection: u64,
    },
    /// The answer to an announce.
    Announce(AnnounceReply),
    /// The answer to a scrape, in the order in which it was asked.
    Scrape(Vec<Swarm>),
    /// A refusal, and what the tracker says to it, without control characters.
    Error(String),
}

impl Reply {
    /// Reads a datagram: the transaction that it belongs to, and what it says. `is_ipv6` says how it came, which decides
    /// how long the addresses in it are.
    pub fn parse(packet: &[u8], is_ipv6: bool) -> Result<(u32, Self)> {
        let short = || Error::new(ErrorKind::Protocol, "a tracker's datagram is too short").with("len", packet.len());
        let word = |at: usize| {
            let bytes = packet.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            bytes.map(u32::from_be_bytes).ok_or_else(short)
        };
        let (action, transaction) = (word(0)?, word(4)?);
        let rest = &packet[8..];
        let reply = match action {
            CONNECT => Self::Connect { connection: u64::from(word(8)?) << 32 | u64::from(word(12)?) },
            ANNOUNCE => {
                let mut reply = AnnounceReply::new(interval(Some(word(8)?.into())));
                reply.incomplete = Some(word(12)?);
                reply.complete = Some(word(16)?);
                match is_ipv6 {
                    false => reply.push_compact::<4>(&packet[20..]),
                    true => reply.push_compact::<16>(&packet[20..]),
                }
                reply.dedup();
                Self::Announce(reply)
            }
            SCRAPE => {
                let swarm = |bytes: &[u8]| {
                    let word = |i: usize| bytes[4 * i..4 * i + 4].iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
                    Swarm { complete: word(0), downloaded: word(1), incomplete: word(2) }
                };
                Self::Scrape(rest.chunks_exact(12).take(MAX_SCRAPE).map(swarm).collect())
            }
            ERROR => Self::Error(text(rest)),
            _ => {
                return Err(
                    Error::new(ErrorKind::Protocol, "a tracker's datagram of an unknown kind").with("action", action)
                );
            }
        };
        Ok((transaction, reply))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracker::{MAX_INTERVAL, MAX_PEERS, MIN_INTERVAL};

    #[test]
    fn requests_are_as_bep_15_lays_them_out() {
        assert_eq!(connect_request(0x0102_0304), b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04");
        let mut announce = Announce::new([1; 20].into(), [2; 20], 0x1ae1);
        announce.downloaded = 3;
        announce.left = 4;
        announce.uploaded = 5;
        announce.event = Some(Event::Started);
        announce.key = 6;
        announce.ip = Some([192, 0, 2, 1].into());
        let expected = [
            &b"\0\0\0\0\0\0\0\x09\0\0\0\x01\0\0\0\x08"[..],
            &[1; 20],
            &[2; 20],
            b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05",
            b"\0\0\0\x02\xc0\0\x02\x01\0\0\0\x06\xff\xff\xff\xff\x1a\xe1",
        ]
        .concat();
        assert_eq!(expected.len(), 98);
        assert_eq!(announce_request(9, 8, &announce, b"", false), expected);
        assert_eq!(announce_request(9, 8, &announce, b"", true)[84..88], [0; 4]);
        announce.num_want = Some(50);
        for (event, code) in [(None, 0), (Some(Event::Completed), 1), (Some(Event::Stopped), 3)] {
            announce.event = event;
            let packet = announce_request(9, 8, &announce, b"", false);
            assert_eq!((packet[83], &packet[92..96]), (code, &[0, 0, 0, 50][..]));
        }
        let scrape = scrape_request(9, 8, &[[1; 20].into(), [2; 20].into()]);
        assert_eq!(scrape, [&b"\0\0\0\0\0\0\0\x09\0\0\0\x02\0\0\0\x08"[..], &[1; 20], &[2; 20]].concat());
        assert_eq!(scrape_request(9, 8, &[[0; 20].into(); 200]).len(), 16 + 20 * MAX_SCRAPE);
    }

    #[test]
    fn the_url_is_told_in_parts() {
        let tail = |url: &str| {
            let data = url_data(&TrackerUrl::parse(url).unwrap());
            announce_request(0, 0, &Announce::new([0; 20].into(), [0; 20], 1), &data, false)[98..].to_vec()
        };
        assert_eq!(tail("udp://t.example:80/dir?a=b&c=d"), b"\x02\x0c/dir?a=b&c=d");
        assert_eq!(tail("udp://t.example:80"), b"");
        assert_eq!(tail("udp://t.example:80/"), b"");
        let long = format!("/{}", "x".repeat(299));
        let parts = [&[2, 255][..], &long.as_bytes()[..255], &[2, 45], &long.as_bytes()[255..]].concat();
        assert_eq!(tail(&format!("udp://t.example:80{long}")), parts);
        assert_eq!(tail(&format!("udp://t.example:80/{}", "x".repeat(2000))), b"");
    }

    #[test]
    fn answers_are_read() {
        let parse = |packet: &[u8]| Reply::parse(packet, false).unwrap();
        let (transaction, reply) = parse(b"\0\0\0\0\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!((transaction, reply), (7, Reply::Connect { connection: 0x0102_0304_0506_0708 }));
        let head = b"\0\0\0\x01\0\0\0\x07\0\0\x03\x84\0\0\0\x02\0\0\0\x03";
        let (_, reply) = parse(&[&head[..], b"\xc0\0\x02\x01\x1a\xe1left"].concat());
        let Reply::Announce(reply) = reply else { panic!("{reply:?}") };
        assert_eq!((reply.interval.as_secs(), reply.incomplete, reply.complete), (900, Some(2), Some(3)));
        assert_eq!(reply.peers, ["192.0.2.1:6881".parse().unwrap()]);
        let six = [&head[..], b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1"].concat();
        let (_, reply) = Reply::parse(&six, true).unwrap();
        let Reply::Announce(reply) = reply else { panic!("{reply:?}") };
        assert_eq!(reply.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
        let (_, reply) = parse(b"\0\0\0\x02\0\0\0\x07\0\0\0\x01\0\0\0\x02\0\0\0\x03left");
        assert_eq!(reply, Reply::Scrape(vec![Swarm { complete: 1, downloaded: 2, incomplete: 3 }]));
        assert_eq!(parse(b"\0\0\0\x03\0\0\0\x07no\x1b way").1, Reply::Error("no way".to_owned()));
        assert_eq!(parse(b"\0\0\0\x03\0\0\0\x07").1, Reply::Error(String::new()));
        assert_eq!(parse(b"\0\0\0\x02\0\0\0\x07").1, Reply::Scrape(Vec::new()));
    }

    #[test]
    fn what_is_too_short_or_unknown_is_none() {
        for packet in [
            &b""[..],
            b"\0\0\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07",
            b"\0\0\0\x01\0\0\0\x07\0\0\x03\x84\0\0\0\x02\0\0\0",
            b"\0\0\0\x04\0\0\0\x07\0\0\x03\x84\0\0\0\x02\0\0\0\0",
            b"\x01\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(Reply::parse(packet, false).unwrap_err().kind(), ErrorKind::Protocol, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(action in 0u8..5, rest: Vec<u8>, is_ipv6: bool) {
            let packet = [&[0, 0, 0, action][..], &rest].concat();
            if let Ok((_, Reply::Announce(reply))) = Reply::parse(&packet, is_ipv6) {
                prop_assert!(reply.peers.len() <= MAX_PEERS);
                prop_assert!((MIN_INTERVAL..=MAX_INTERVAL).contains(&reply.interval));
            }
        }
    }
}
