use proptest::prelude::*;

use super::*;
use crate::bencode::Item;
use crate::tracker::{MAX_INTERVAL, MIN_INTERVAL};

fn tracker(url: &str) -> TrackerUrl {
    TrackerUrl::parse(url).unwrap()
}

fn announce() -> Announce {
    let hash: InfoHash = "123456789abcdef123456789abcdef123456789a".parse().unwrap();
    Announce::new(hash, *b"-DL0001-0123456789 /", 6881)
}

fn reply(entries: Vec<(&'static str, Item)>) -> AnnounceReply {
    parse_announce(&Item::dict(entries).encode().unwrap()).unwrap()
}

fn addresses(reply: &AnnounceReply) -> Vec<String> {
    reply.peers.iter().map(ToString::to_string).collect()
}

#[test]
fn an_announce_tells_everything() {
    let mut announce = announce();
    assert_eq!(
        announce_url(&tracker("http://t.example/announce?passkey=a%2fb#x"), &announce).as_str(),
        "http://t.example/announce?passkey=a%2fb&info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
         &peer_id=-DL0001-0123456789%20%2F&port=6881&uploaded=0&downloaded=0&left=0&compact=1&no_peer_id=1&key=00000000"
    );
    announce.uploaded = 1;
    announce.downloaded = 2;
    announce.left = u64::MAX;
    announce.key = 0xab;
    announce.event = Some(Event::Started);
    announce.num_want = Some(50);
    announce.ip = Some([192, 0, 2, 1].into());
    announce.ipv6 = Some("2001:db8::1".parse().unwrap());
    announce.tracker_id = Some(Bytes::from_static(b"i&d"));
    let url = announce_url(&tracker("https://t.example:1/x"), &announce);
    assert!(
        url.as_str().ends_with(
            "&port=6881&uploaded=1&downloaded=2&left=18446744073709551615&compact=1&no_peer_id=1&key=000000AB\
             &event=started&numwant=50&ip=192.0.2.1&ipv6=2001%3Adb8%3A%3A1&trackerid=i%26d"
        ),
        "{url}"
    );
    for (event, name) in [(Event::Completed, "completed"), (Event::Stopped, "stopped")] {
        announce.event = Some(event);
        assert!(announce_url(&tracker("https://t.example/"), &announce).as_str().contains(&format!("&event={name}&")));
    }
}

#[test]
fn peers_come_in_three_forms() {
    let compact = |bytes: &'static [u8]| Item::Bytes(Bytes::from_static(bytes));
    let short = reply(vec![
        ("peers", compact(b"\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\x01left")),
        ("peers6", compact(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1")),
    ]);
    assert_eq!(addresses(&short), ["192.0.2.1:6881", "192.0.2.2:1", "[2001:db8::1]:6881"]);
    let peer = |ip: &'static str, port| {
        Item::dict([("ip", Item::from(ip)), ("port", Item::Int(port)), ("peer id", "x".into())])
    };
    let long = reply(vec![(
        "peers",
        Item::List(vec![
            peer("192.0.2.1", 6881),
            peer("2001:db8::1", 1),
            peer("::ffff:192.0.2.3", 2),
            peer("peer.example", 3),
            peer("192.0.2.1", 0),
            peer("192.0.2.1", 65536),
            peer("192.0.2.1", -1),
            Item::dict([("ip", "192.0.2.9".into())]),
            Item::dict([("port", Item::Int(1))]),
            Item::Int(1),
            Item::List(Vec::new()),
        ]),
    )]);
    assert_eq!(addresses(&long), ["192.0.2.1:6881", "[2001:db8::1]:1", "192.0.2.3:2"]);
    for peers in [Item::Int(1), Item::dict([("a", Item::Int(1))]), "12345".into(), Item::List(Vec::new())] {
        assert!(reply(vec![("peers", peers)]).peers.is_empty());
    }
}

#[test]
fn who_cannot_be_connected_to_is_no_peer() {
    let peers = b"\0\0\0\0\0\x01\xe0\0\0\x01\0\x01\xff\xff\xff\xff\0\x01\xc0\0\x02\x01\0\0\xc0\0\x02\x01\0\x01\xc0\0\x02\x01\0\x01";
    assert_eq!(addresses(&reply(vec![("peers", Item::Bytes(Bytes::from_static(peers)))])), ["192.0.2.1:1"]);
}

#[test]
fn there_are_bounds() {
    let peers: Vec<u8> = (0..100_000u32).flat_map(|i| [[10, 1, (i >> 8) as u8, i as u8, 0, 1]].concat()).collect();
    assert_eq!(reply(vec![("peers", Item::Bytes(peers.into()))]).peers.len(), MAX_PEERS);
    let long = "x".repeat(5000);
    let reply = reply(vec![("warning message", long.as_str().into()), ("tracker id", long.as_str().into())]);
    assert_eq!((reply.warning.unwrap().len(), reply.tracker_id), (512, None));
    let kind = |body: &[u8]| parse_announce(body).unwrap_err().kind();
    assert_eq!(kind(&vec![b'l'; 20 * 1024]), ErrorKind::TooLarge);
    assert_eq!(kind(&[b"d1:a".as_slice(), &vec![b'0'; 2 << 20]].concat()), ErrorKind::TooLarge);
    assert_eq!(kind(&[b"d5:peersl".as_slice(), &b"de".repeat(100_000), b"ee"].concat()), ErrorKind::TooLarge);
}

#[test]
fn the_rest_is_read() {
    let full = reply(vec![
        ("interval", Item::Int(900)),
        ("min interval", Item::Int(120)),
        ("warning message", "be\u{1b}[2J quick".into()),
        ("tracker id", "abc".into()),
        ("external ip", Item::Bytes(Bytes::from_static(b"\xc0\0\x02\x07"))),
        ("complete", Item::Int(3)),
        ("incomplete", Item::Int(-1)),
    ]);
    assert_eq!((full.interval.as_secs(), full.min_interval.map(|i| i.as_secs())), (900, Some(120)));
    assert_eq!((full.warning.as_deref(), full.tracker_id.as_deref()), (Some("be[2J quick"), Some(&b"abc"[..])));
    assert_eq!(full.external_ip, Some([192, 0, 2, 7].into()));
    assert_eq!((full.complete, full.incomplete), (Some(3), None));
    for (said, expected) in [(1, MIN_INTERVAL), (i64::MAX, MAX_INTERVAL)] {
        let clamped = reply(vec![("interval", Item::Int(said)), ("min interval", Item::Int(said))]);
        assert_eq!((clamped.interval, clamped.min_interval), (expected, Some(expected)));
    }
    for nothing in [Item::Int(0), Item::Int(-5), "900".into()] {
        let usual = reply(vec![("interval", nothing.clone()), ("min interval", nothing)]);
        assert_eq!((usual.interval.as_secs(), usual.min_interval), (1800, None));
    }
    let six = reply(vec![("external ip", Item::Bytes(Bytes::from_static(&[1; 16])))]);
    assert!(six.external_ip.is_some_and(|ip| ip.is_ipv6()));
    assert_eq!(reply(vec![("external ip", "1.2.3.4".into())]).external_ip, None);
    // Unsorted, and with a line break, as some trackers answer.
    let body = b"d5:peers6:\xc0\0\x02\x01\0\x018:intervali900ee\n";
    assert_eq!(addresses(&parse_announce(body).unwrap()), ["192.0.2.1:1"]);
}

#[test]
fn a_refusal_says_why_and_when_to_come_back() {
    let refusal = |retry: Option<Item>| {
        let mut entries = vec![("failure reason", Item::from("not\nregistered"))];
        entries.extend(retry.map(|retry| ("retry in", retry)));
        let body = Item::dict(entries).encode().unwrap();
        let error = parse_announce(&body).unwrap_err();
        assert_eq!(parse_scrape(&body, &[]).unwrap_err().to_string(), error.to_string());
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Denied, "the tracker refuses (reason: notregistered)")
        );
        error.retry()
    };
    assert_eq!(refusal(None), Retry::Now);
    assert_eq!(refusal(Some(Item::Int(5))), Retry::After(Duration::from_secs(300)));
    assert_eq!(refusal(Some("5".into())), Retry::After(Duration::from_secs(300)));
    assert_eq!(refusal(Some("never".into())), Retry::Never);
    assert_eq!(refusal(Some(Item::Int(-5))), Retry::Now);
    assert_eq!(refusal(Some(Item::Int(i64::MAX))), Retry::After(MAX_RETRY));
}

#[test]
fn what_is_no_answer_is_the_trackers_fault() {
    for body in ["", "<html>", "le", "i1e", "5:peers", "d5:peers"] {
        let error = parse_announce(body.as_bytes()).unwrap_err();
        assert_eq!(
            (error.kind(), error.scope(), error.retry()),
            (ErrorKind::Protocol, Scope::Source, Retry::Now),
            "{body}"
        );
        assert_eq!(parse_scrape(body.as_bytes(), &[]).unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[test]
fn a_scrape_is_asked_beside_the_announce() {
    let url = |text: &str| scrape_url(&tracker(text), &[[b'a'; 20].into(), [0xff; 20].into()]).map(String::from);
    let query = format!("info_hash={}&info_hash={}", "a".repeat(20), "%FF".repeat(20));
    assert_eq!(url("http://t.example/announce"), Some(format!("http://t.example/scrape?{query}")));
    assert_eq!(url("http://t.example/x/announce.php?k=1"), Some(format!("http://t.example/x/scrape.php?k=1&{query}")));
    for none in [
        "http://t.example/a",
        "http://t.example/announce/x",
        "http://t.example/x?/announce",
        "udp://t.example:1/announce",
    ] {
        assert_eq!(url(none), None, "{none}");
    }
    let many = vec![InfoHash::from([0; 20]); 1000];
    assert!(scrape_url(&tracker("http://t.example/announce"), &many).unwrap().as_str().len() < 8192);
}

#[test]
fn a_scrape_is_read() {
    let (first, second) = (InfoHash::from([b'x'; 20]), InfoHash::from([b'y'; 20]));
    let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19e\
        e20:yyyyyyyyyyyyyyyyyyyyd8:completei21e10:downloadedi-206e10:incompletei20eeee";
    let swarms = parse_scrape(body, &[second, first, [0; 20].into()]).unwrap();
    let swarm = |complete, incomplete, downloaded| Some(Swarm { complete, incomplete, downloaded });
    assert_eq!(swarms, [swarm(21, 20, 0), swarm(11, 19, 13772), None]);
    for (body, expected) in [("d5:filesdee", Ok(vec![None])), ("de", Err(())), ("d5:filesi1ee", Err(()))] {
        assert_eq!(parse_scrape(body.as_bytes(), &[first]).map_err(|_| ()), expected, "{body}");
    }
}

/// As the tracker written for Node does it: every byte over 127 becomes two.
#[test]
fn a_hash_that_was_taken_for_text_is_understood() {
    let hash = InfoHash::from(std::array::from_fn(|i| if i < 12 { 0xf0 + i as u8 } else { b'a' }));
    let mangled: String = hash.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    assert_eq!(mangled.len(), 32);
    let numbers = Item::dict([("complete", Item::Int(1)), ("incomplete", Item::Int(2))]);
    let body = Item::dict([("files", Item::dict([(mangled, numbers)]))]).encode().unwrap();
    let swarms = parse_scrape(&body, &[hash]).unwrap();
    assert_eq!(swarms, [Some(Swarm { complete: 1, incomplete: 2, downloaded: 0 })]);
}

proptest! {
    #[test]
    fn anything_parses_or_does_not(body: Vec<u8>, peers: Vec<u8>, text in "d(5:peers|6:peers6|l|d|e|i1e|2:ip|4:port|7:1.2.3.4){0,20}") {
        for body in [body, text.into_bytes(), Item::dict([("peers", Item::Bytes(peers.into()))]).encode().unwrap().into()] {
            if let Ok(reply) = parse_announce(&body) {
                prop_assert!(reply.peers.len() <= MAX_PEERS && reply.peers.iter().all(|peer| peer.port() != 0));
                prop_assert!((MIN_INTERVAL..=MAX_INTERVAL).contains(&reply.interval));
            }
            let _ = parse_scrape(&body, &[[0; 20].into()]);
        }
    }
}
