//! The harness itself: nginx serves and logs, certificates are as good or bad as they say, the proxy is cut where it
//! should be, and processes are killed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use dlm_testing::{Authority, Cert, Content, Dlm, Libtorrent, Location, Nginx, Opentracker, Proxy, Torrent, wait_for};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};

/// The head and the body of an answer, read until the connection ends.
fn get(addr: SocketAddr, path: &str, headers: &str) -> io::Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n")?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(end + 4);
    // A broken connection shows as a short body.
    drop(read);
    Ok((String::from_utf8_lossy(&answer).into_owned(), body))
}

#[test]
fn nginx_serves_files_and_ranges_and_logs_them() {
    let nginx = Nginx::start();
    let content = Content::new(1, 1 << 20);
    nginx.put("f.bin", &content);

    let (head, body) = get(nginx.addr(), "/f.bin", "").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(content.check(&body[..]), Ok(()));

    let (head, body) = get(nginx.addr(), "/f.bin?a=%22", "Range: bytes=1000-1999\r\nUser-Agent: \"me\\\"\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 206") && head.contains("Content-Range: bytes 1000-1999/1048576"), "{head}");
    assert_eq!(body, content.slice(1000..2000));

    let log = nginx.wait_for_requests(2);
    assert_eq!(log.len(), 2, "the question whether it is ready is not among them: {log:?}");
    assert_eq!((log[0].status, log[0].body_bytes_sent, log[0].range.as_str()), (200, 1 << 20, ""));
    assert_eq!((log[1].status, log[1].body_bytes_sent, log[1].range.as_str()), (206, 1000, "bytes=1000-1999"));
    assert_eq!((log[1].uri.as_str(), log[1].user_agent.as_str()), ("/f.bin?a=%22", "\"me\\\""));
    assert!(log[1].bytes_sent > 1000);
    assert_ne!(log[0].connection, log[1].connection);
    assert_eq!(log[0].completion, "OK");
}

#[test]
fn a_location_behaves_in_its_own_way() {
    let nginx = Nginx::builder()
        .location(Location::new("/plain/").without_ranges())
        .location(Location::new("/private/").user("me", "secret"))
        .location(Location::new("/moved/").directive("return 302 /f"))
        .start();
    let content = Content::new(2, 1000);
    nginx.put("f", &content);

    let (head, body) = get(nginx.addr(), "/plain/f", "Range: bytes=1-2\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, content.bytes());

    assert!(get(nginx.addr(), "/private/f", "").unwrap().0.starts_with("HTTP/1.1 401"));
    let (head, _) = get(nginx.addr(), "/private/f", "Authorization: Basic bWU6c2VjcmV0\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(nginx.wait_for_requests(3)[2].user, "me");

    assert!(get(nginx.addr(), "/moved/f", "").unwrap().0.contains("\r\nLocation: "));
}

#[test]
fn a_slow_location_has_not_sent_all_when_the_client_goes() {
    let nginx = Nginx::builder().location(Location::new("/slow/").limit_rate(64 * 1024)).start();
    nginx.put("f", &Content::new(3, 64 << 20));
    let mut stream = TcpStream::connect(nginx.addr()).unwrap();
    stream.write_all(b"GET /slow/f HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    let log = nginx.wait_for_requests(1);
    assert!(log[0].body_bytes_sent < 64 << 20, "{log:?}");
    assert_eq!(log[0].completion, "");
}

#[test]
fn a_killed_nginx_is_gone_and_its_folder_too() {
    let mut nginx = Nginx::start();
    let (addr, root) = (nginx.addr(), nginx.root().to_owned());
    nginx.kill();
    assert!(TcpStream::connect(addr).is_err());
    assert!(root.is_dir());
    drop(nginx);
    assert!(!root.exists());
}

#[test]
fn many_can_start_at_once() {
    let starts: Vec<_> = (0..8).map(|_| std::thread::spawn(Nginx::start)).collect();
    let all: Vec<Nginx> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    for (seed, nginx) in (0..).zip(&all) {
        let content = Content::new(seed, 100);
        nginx.put("f", &content);
        assert_eq!(get(nginx.addr(), "/f", "").unwrap().1, content.bytes());
    }
}

#[test]
fn certificates_are_as_good_as_they_say() {
    let authority = Authority::new();
    assert_eq!(handshake(&authority, authority.cert()), Ok(()));
    let error = handshake(&authority, authority.cert_for_another_host()).unwrap_err();
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    let error = handshake(&authority, authority.expired_cert()).unwrap_err();
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    let error = handshake(&Authority::new(), authority.cert()).unwrap_err();
    assert!(matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature), "{error:?}");
}

fn handshake(trusted: &Authority, cert: Cert) -> Result<(), CertificateError> {
    let nginx = Nginx::builder().tls(cert).start();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted.ca_file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let mut tls = ClientConnection::new(config, "127.0.0.1".try_into().unwrap()).unwrap();
    let url = nginx.tls_url("");
    let addr = url.trim_start_matches("https://").trim_end_matches('/');
    match tls.complete_io(&mut TcpStream::connect(addr).unwrap()) {
        Ok(_) => Ok(()),
        Err(error) => match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => Err(why.clone()),
            _ => panic!("{error:?}"),
        },
    }
}

#[test]
fn the_proxy_hands_on_until_it_is_cut() {
    let nginx = Nginx::start();
    let content = Content::new(4, 1 << 20);
    nginx.put("f", &content);
    let mut proxy = Proxy::new(nginx.addr());
    assert_eq!(get(proxy.addr(), "/f", "").unwrap().1, content.bytes());
    assert_eq!(proxy.connections(), 1);
    assert!(proxy.delivered() > 1 << 20);
    assert!(!proxy.is_cut());
    proxy.cut();
    // Somebody else may have got the port by now.
    let after = get(proxy.addr(), "/f", "");
    assert!(!after.is_ok_and(|(_, body)| body == content.bytes()));
}

#[test]
fn the_proxy_is_cut_after_so_many_bytes() {
    let nginx = Nginx::start();
    let content = Content::new(5, 8 << 20);
    nginx.put("f", &content);
    let proxy = Proxy::cut_after(nginx.addr(), 1 << 20);
    let (head, body) = get(proxy.addr(), "/f", "").unwrap();
    assert!(head.contains("Content-Length: 8388608"), "{head}");
    // What was on its way when the connection broke may be lost, but nothing comes after the cut.
    assert!(head.len() + body.len() <= 1 << 20, "{}", body.len());
    assert_eq!(body, content.slice(0..body.len() as u64));
    assert_eq!(proxy.delivered(), 1 << 20);
    assert!(proxy.is_cut());
    wait_for("its port to close", || TcpStream::connect(proxy.addr()).is_err().then_some(()));
}

#[test]
fn programs_are_run_interrupted_and_killed() {
    let done = Dlm::new("sh").args(["-c", "cat; echo $HOME >&2; exit 3"]).input("hello").run();
    assert_eq!((done.code, done.text().as_str()), (Some(3), "hello"));
    assert_ne!(done.stderr.trim(), std::env::var("HOME").unwrap_or_default());

    let sleep = "trap 'exit 130' INT; trap 'exit 143' TERM; echo ready > ready; while :; do sleep 0.05; done";
    let start = || {
        let dir = tempfile::tempdir().unwrap();
        let process = Dlm::new("sh").args(["-c", sleep]).dir(&dir).start();
        let ready = dir.path().join("ready");
        wait_for("the shell", || fs::read(&ready).is_ok_and(|text| !text.is_empty()).then_some(()));
        (process, dir)
    };
    let (process, _dir) = start();
    process.interrupt();
    assert_eq!(process.wait().code, Some(130));
    let (process, _dir) = start();
    process.terminate();
    assert_eq!(process.wait().code, Some(143));
    let (mut process, _dir) = start();
    process.kill();
    assert_eq!(process.wait().code, None);
}

#[test]
fn json_lines_are_read() {
    let done = Dlm::new("printf").args(["{\"a\":18446744073709551615}\\n{}\\n"]).run();
    assert_eq!(done.json()[0]["a"], u64::MAX);
    assert_eq!(done.json().len(), 2);
}

/// The peers find each other by the tracker alone.
#[test]
fn libtorrent_seeds_to_libtorrent_through_opentracker() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = Content::new(3, 3 << 20);
    content.write_file(from.path().join("file.bin")).unwrap();
    // What the tracker serves has to be known before it starts, and a torrent's hash doesn't depend on its tracker.
    let hash = Torrent::builder().make(&from.path().join("file.bin")).info_hash().to_owned();
    let tracker = Opentracker::start([&hash]);
    for url in [tracker.http(), tracker.udp()] {
        let torrent = Torrent::builder().tier([url]).make(&from.path().join("file.bin"));
        assert_eq!(torrent.info_hash(), hash);
        let seed = Libtorrent::seed(torrent.path(), from.path());
        let leech = Libtorrent::leech(torrent.path(), to.path());
        wait_for("libtorrent to have it all", || leech.status().seeding.then_some(()));
        assert_eq!(fs::read(to.path().join("file.bin")).unwrap(), fs::read(from.path().join("file.bin")).unwrap());
        drop(seed);
        fs::remove_file(to.path().join("file.bin")).unwrap();
    }
}
