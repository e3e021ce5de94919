use std::fs;

use dlm_testing::{Location, Nginx, NginxBuilder, Opentracker};

use super::*;

const HASH: [u8; 20] = [0xab; 20];

fn hex() -> String {
    "ab".repeat(20)
}

fn client() -> TrackerClient {
    TrackerClient::new(HttpConfig::new()).unwrap()
}

fn url(text: &str) -> TrackerUrl {
    TrackerUrl::parse(text).unwrap()
}

fn question(port: u16, left: u64) -> Announce {
    let mut announce = Announce::new(HASH.into(), [port as u8; 20], port);
    announce.left = left;
    announce.event = Some(super::super::Event::Started);
    announce
}

#[tokio::test]
async fn a_real_tracker_tells_how_large_a_swarm_is() {
    let tracker = Opentracker::start([hex()]);
    let (client, other) = (client(), InfoHash::from([1; 20]));
    for (announced, asked) in [(tracker.udp(), tracker.http()), (tracker.http(), tracker.udp())] {
        let (announced, asked) = (url(&announced), url(&asked));
        for (port, left) in [(1000, 0), (1001, 5), (1002, 5)] {
            client.announce(&announced, question(port, left)).await.unwrap();
        }
        let numbers = |swarm: &Option<Swarm>| swarm.map(|swarm| (swarm.complete, swarm.incomplete));
        // More than fit into one question.
        let many = [vec![other; 100], vec![HASH.into()]].concat();
        let swarms = client.scrape(&asked, &many).await.unwrap();
        let (known, unknown) = swarms.split_last().unwrap();
        assert_eq!((unknown.len(), numbers(known)), (100, Some((1, 2))));
        assert!(unknown.iter().all(Option::is_none));
    }
}

/// What nginx answers in a tracker's place.
fn nginx(locations: impl IntoIterator<Item = Location>, files: &[(&str, &[u8])]) -> Nginx {
    let nginx = locations.into_iter().fold(Nginx::builder(), NginxBuilder::location).start();
    for (name, bytes) in files {
        fs::write(nginx.root().join(name), bytes).unwrap();
    }
    nginx
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_packed_answer_is_read_and_a_bomb_is_not() {
    let coded =
        |name: &str| Location::new(format!("/{name}/")).directive(format!("add_header Content-Encoding {name}"));
    let answer = packed(b"d8:intervali900e5:peers6:\xc0\0\x02\x01\x1a\xe1e");
    let bomb = packed(&vec![b'd'; 32 << 20]);
    let files: [(&str, &[u8]); 2] = [("announce", &answer), ("announce.bomb", &bomb)];
    let nginx = nginx([coded("gzip"), coded("X-GZIP"), coded("br")], &files);
    let client = client();
    let ask = async |path: &str| client.announce(&url(&nginx.url(path)), question(1000, 0)).await;
    for name in ["gzip", "X-GZIP"] {
        let reply = ask(&format!("{name}/announce")).await.unwrap();
        assert_eq!(reply.peers, ["192.0.2.1:6881".parse().unwrap()]);
    }
    assert_eq!(ask("gzip/announce.bomb").await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(ask("br/announce").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(nginx.requests().iter().all(|request| request.accept_encoding == "identity"));
}

/// Errors go to logs and to the user's screen.
#[tokio::test]
async fn no_error_has_a_key_of_the_user_in_it() {
    let circle = Location::new("/SECRET/").directive("return 302 http://127.0.0.1:1/SECRET/announce");
    let nginx = nginx([circle], &[("announce", b"nonsense")]);
    for url in [
        "http://127.0.0.1:1/SECRET/announce".to_owned(),
        "http://name.invalid/SECRET/announce".to_owned(),
        nginx.url("SECRET/announce"),
        nginx.url("SECRET2/announce"),
        nginx.url("announce?SECRET"),
        "udp://127.0.0.1:1/SECRET".to_owned(),
    ] {
        let url = TrackerUrl::parse(&url).unwrap();
        let errors = [
            client().announce(&url, question(1000, 0)).await.unwrap_err(),
            client().scrape(&url, &[HASH.into()]).await.unwrap_err(),
        ];
        for error in errors {
            let text = format!("{url} {error} {error:?} {}", error.chain());
            assert!(!text.contains("SECRET"), "{text}");
        }
    }
}

/// Whoever sends us from one place to another can't send us to a place that he can't reach himself.
#[tokio::test]
async fn a_redirect_leads_only_where_a_tracker_can_be() {
    let victim = nginx([], &[("announce", b"d8:intervali900ee"), ("admin", b"d8:intervali900ee")]);
    let to = |prefix: &str, path: &str| {
        Location::new(format!("/{prefix}/")).directive(format!("return 302 {}", victim.url(path)))
    };
    let nginx = nginx([to("good", "announce"), to("bad", "admin")], &[]);
    let client = client();
    // From one local tracker to another one.
    let ask = async |path: &str| client.announce(&url(&nginx.url(path)), question(1000, 0)).await;
    ask("good/announce").await.unwrap();
    let error = ask("bad/announce").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.chain());
    // From a place that nobody knows to be local before it is resolved: the path alone doesn't allow it.
    let named = |path: &str| Url::parse(&victim.url(path).replace("127.0.0.1", "localhost")).unwrap();
    assert!(client.follow(named("announce")).await.is_ok());
    assert_eq!(client.follow(named("admin")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(client.global.send(get(&named("announce"))).await.unwrap_err().kind(), ErrorKind::Denied);
    let asked: Vec<String> = victim.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!(asked.iter().filter(|uri| uri.starts_with("/announce")).count(), asked.len(), "{asked:?}");
}

fn get(url: &Url) -> Request<Bytes> {
    Request::get(url.as_str()).body(Bytes::new()).unwrap()
}
