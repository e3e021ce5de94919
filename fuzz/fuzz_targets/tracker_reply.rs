//! Whatever a tracker answers, what is made of it is within its bounds; and a question over UDP is answered by nothing but
//! what belongs to it.

#![no_main]

use std::time::{Duration, Instant};

use dlm_bittorrent::InfoHash;
use dlm_bittorrent::tracker::wire::{http, udp};
use dlm_bittorrent::tracker::{
    Announce, AnnounceReply, Answer, MAX_INTERVAL, MAX_PEERS, MIN_INTERVAL, Step, Task, TrackerUrl, UdpExchange,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u16, &[u8])>, &[u8])| {
    let (datagrams, body) = input;
    let torrent = InfoHash::from([b'x'; 20]);
    if let Ok(reply) = http::parse_announce(body) {
        check(&reply);
    }
    if let Ok(swarms) = http::parse_scrape(body, &[torrent, torrent]) {
        assert_eq!(swarms.len(), 2);
        assert_eq!(swarms[0], swarms[1]);
    }
    for is_ipv6 in [false, true] {
        if let Ok((_, udp::Reply::Announce(reply))) = udp::Reply::parse(body, is_ipv6) {
            check(&reply);
            assert!(reply.peers.iter().all(|peer| is_ipv6 || peer.is_ipv4()));
        }
        exchange(&datagrams, is_ipv6);
    }
});

fn check(reply: &AnnounceReply) {
    assert!(reply.peers.len() <= MAX_PEERS);
    assert!(
        reply.peers.iter().all(|peer| peer.port() != 0 && !peer.ip().is_unspecified() && !peer.ip().is_multicast())
    );
    for interval in [Some(reply.interval), reply.min_interval].into_iter().flatten() {
        assert!((MIN_INTERVAL..=MAX_INTERVAL).contains(&interval));
    }
    assert!(!reply.warning.iter().any(|text| text.contains(char::is_control)));
}

/// Each datagram comes so many seconds later. Some are given the number of the request that is waited for.
fn exchange(datagrams: &[(u16, &[u8])], is_ipv6: bool) {
    let tracker = TrackerUrl::parse("udp://t.example:1/announce?key=1").expect("a tracker");
    let task = Task::Announce(Announce::new([1; 20].into(), [2; 20], 3));
    let mut exchange = UdpExchange::new(&tracker, is_ipv6, task, None, 7).with_retries(9);
    let mut now = Instant::now();
    let mut transaction = [0; 4];
    for (seconds, datagram) in datagrams {
        match exchange.poll(now) {
            Ok(Step::Send(packet)) => {
                transaction.copy_from_slice(&packet[12..16]);
                assert!(matches!(exchange.poll(now), Ok(Step::Wait(at)) if at > now));
            }
            Ok(Step::Wait(at)) => assert!(at > now),
            Err(_) => return,
        }
        let mut datagram = datagram.to_vec();
        let is_ours = seconds % 2 == 0 && datagram.len() >= 8;
        if is_ours {
            datagram[4..8].copy_from_slice(&transaction);
        } else if datagram.get(4..8) == Some(&transaction[..]) {
            datagram[4] ^= 1;
        }
        match exchange.receive(&datagram, now) {
            Ok(None) => {}
            Ok(Some(Answer::Announce(reply))) if is_ours => return check(&reply),
            Err(_) if is_ours => return,
            other => panic!("{other:?}"),
        }
        now += Duration::from_secs(u64::from(seconds / 2));
    }
}
