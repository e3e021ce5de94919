//! Where redirects lead, and what is never taken along.

mod common;

use common::{LEN, failure, failure_kind, fetch, headers, source, source_at};
use dlm_api::{ErrorKind, RangeRequest, RangeSource};
use dlm_fault_server::{Authority, FaultServer, File, Reply, Request, Validity};
use dlm_http::{Credentials, HttpConfig};

const WHOLE: RangeRequest = RangeRequest::whole();
const MIDDLE: RangeRequest = RangeRequest::new(1000, Some(2000));

/// Redirects from `/start` to `to`, and serves a file everywhere else.
fn redirecting(status: u16, to: &str) -> FaultServer {
    let (to, file) = (to.to_owned(), File::new(1, LEN));
    FaultServer::start(move |request| match request.path.as_str() {
        "/start" => Reply::redirect(status, to.clone()).with_body("over there"),
        _ => file.reply(request),
    })
}

fn paths(server: &FaultServer) -> Vec<String> {
    server.requests().iter().map(|e| e.request.path.clone()).collect()
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let server = redirecting(status, "end?x=1#part");
        let (_, bytes) = fetch(&source_at(&server.url("/start"), HttpConfig::new()), &WHOLE).await.unwrap();
        assert_eq!(bytes, File::new(1, LEN).content());
        assert_eq!(paths(&server), ["/start", "/end?x=1"]);
        assert_eq!(headers(&server, "referer"), [None, None]);
        // The redirect's body was read, so one connection did for both.
        assert_eq!(server.log().accepted, 1);
    }
}

#[tokio::test]
async fn other_statuses_are_not_followed() {
    for status in [300, 304, 305, 399] {
        let server = redirecting(status, "/end");
        let source = source_at(&server.url("/start"), HttpConfig::new());
        assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Protocol, "{status}");
    }
    let nowhere = FaultServer::start(|_| Reply::new(302));
    assert_eq!(failure_kind(&source(&nowhere), &WHOLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_circle_and_an_endless_chain_are_errors() {
    let circle = FaultServer::start(|r| Reply::redirect(302, if r.path == "/a" { "/b" } else { "/a" }));
    let error = failure(&source_at(&circle.url("/a"), HttpConfig::new()), &WHOLE).await;
    assert!(error.message().contains("circle"), "{error}");
    assert_eq!(circle.requests().len(), 2);

    let endless = FaultServer::start(|r| Reply::redirect(302, format!("/{}", r.number)));
    let config = HttpConfig::new().with_max_redirects(5);
    assert_eq!(failure_kind(&source_at(&endless.url("/start"), config), &WHOLE).await, ErrorKind::Protocol);
    assert_eq!(endless.requests().len(), 6);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    for to in ["ftp://127.0.0.1/f", "file:///etc/passwd", "data:,x"] {
        let server = redirecting(302, to);
        let source = source_at(&server.url("/start"), HttpConfig::new());
        assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Unsupported, "{to}");
    }
}

#[tokio::test]
async fn where_a_redirect_led_is_remembered() {
    let server = redirecting(302, "/end");
    let source = source_at(&server.url("/start"), HttpConfig::new());
    for _ in 0..2 {
        fetch(&source, &MIDDLE).await.unwrap();
    }
    assert_eq!(paths(&server), ["/start", "/end", "/end"]);
}

#[tokio::test]
async fn an_expired_place_is_looked_up_again() {
    for status in [401, 403, 404, 410] {
        let file = File::new(1, LEN);
        // Each signed URL is good for one request.
        let server = FaultServer::start(move |request| match request.path.as_str() {
            "/start" => Reply::redirect(302, format!("/signed-{}", request.number)),
            path if path == format!("/signed-{}", request.number - 1) => file.reply(request),
            _ => Reply::new(status),
        });
        let source = source_at(&server.url("/start"), HttpConfig::new());
        for _ in 0..2 {
            fetch(&source, &MIDDLE).await.unwrap();
        }
        assert_eq!(paths(&server), ["/start", "/signed-0", "/signed-0", "/start", "/signed-3"]);
    }
}

#[tokio::test]
async fn a_place_that_is_gone_is_not_asked_again() {
    let file = File::new(1, LEN);
    // At first it is elsewhere, later it is here.
    let server = FaultServer::start(move |request| match (request.path.as_str(), request.number) {
        ("/start", 0) => Reply::redirect(302, "/end"),
        ("/end", 2..) => Reply::new(404),
        _ => file.reply(request),
    });
    let source = source_at(&server.url("/start"), HttpConfig::new());
    for _ in 0..3 {
        fetch(&source, &MIDDLE).await.unwrap();
    }
    assert_eq!(paths(&server), ["/start", "/end", "/end", "/start", "/start"]);
}

#[tokio::test]
async fn a_place_that_stays_gone_is_looked_up_once() {
    let file = File::new(1, LEN);
    let server = FaultServer::start(move |request| match (request.path.as_str(), request.number) {
        ("/start", _) => Reply::redirect(302, "/end"),
        (_, 1) => file.reply(request),
        _ => Reply::new(410),
    });
    let source = source_at(&server.url("/start"), HttpConfig::new());
    fetch(&source, &MIDDLE).await.unwrap();
    assert_eq!(failure_kind(&source, &MIDDLE).await, ErrorKind::NotFound);
    assert_eq!(paths(&server), ["/start", "/end", "/end", "/start", "/end"]);
}

#[tokio::test]
async fn a_place_that_fails_is_forgotten() {
    let file = File::new(1, LEN);
    let server = FaultServer::start(move |request| match (request.path.as_str(), request.number) {
        ("/start", number) => Reply::redirect(302, format!("/end-{number}")),
        (_, 2) => Reply::new(502),
        _ => file.reply(request),
    });
    let source = source_at(&server.url("/start"), HttpConfig::new());
    fetch(&source, &MIDDLE).await.unwrap();
    assert_eq!(failure_kind(&source, &MIDDLE).await, ErrorKind::Network);
    fetch(&source, &MIDDLE).await.unwrap();
    assert_eq!(paths(&server), ["/start", "/end-0", "/end-0", "/start", "/end-3"]);
}

#[tokio::test]
async fn an_identity_is_of_the_origin_where_it_was_found() {
    let end = FaultServer::file(File::new(1, LEN));
    let server = redirecting(302, &end.url("/end"));
    let source = source_at(&server.url("/start"), HttpConfig::new());
    let (opened, _) = fetch(&source, &WHOLE).await.unwrap();
    assert_eq!(opened.identities[0].origin, Some(format!("http://{}", end.address())));
    assert_eq!(source.origin(), format!("http://{}", server.address()));
    // So a later range can be asked for with it.
    fetch(&source, &MIDDLE.expecting(opened.identities.first().cloned())).await.unwrap();
    assert_eq!(headers(&end, "if-range")[1].as_deref(), Some("\"1\""));
}

// --- Secrets ---

/// What the user gave, and must not go anywhere else.
const SECRETS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

fn with_secrets() -> HttpConfig {
    HttpConfig::new()
        .with_credentials(Credentials::new("user", "password"))
        .with_header("Cookie", "session=1")
        .with_header("X-Api-Key", "key")
}

/// Which secrets a request brought.
fn secrets(request: &Request) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|name| request.header(name).is_some()).collect()
}

/// Redirects from a server to another place, and says which secrets came to either.
async fn secrets_sent(from: &FaultServer, to: &FaultServer, url: &str, config: HttpConfig) -> [Vec<&'static str>; 2] {
    fetch(&source_at(url, config), &MIDDLE).await.unwrap();
    let (first, last) = (from.requests(), to.requests());
    [secrets(&first[0].request), secrets(&last[last.len() - 1].request)]
}

/// A server that has a file, over TLS or not, and its authority's certificate.
struct Place {
    server: FaultServer,
    ca: tempfile::NamedTempFile,
}

fn place(tls: bool, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Place {
    let authority = Authority::new();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), authority.pem()).unwrap();
    let names = ["127.0.0.1", "localhost"];
    let server = match tls {
        true => FaultServer::start_tls(authority.server_config(&names, Validity::Now), handler),
        false => FaultServer::start(handler),
    };
    Place { server, ca }
}

#[tokio::test]
async fn secrets_go_to_their_origin_and_nowhere_else() {
    // Scheme, host and port of the place redirected to, against the one that was given. A scheme or a port of its own
    // needs a server of its own; a port that is the same for another scheme can't be had.
    for from_tls in [false, true] {
        for to_tls in [false, true] {
            for (to_host, other_port) in
                [("127.0.0.1", false), ("127.0.0.1", true), ("localhost", false), ("localhost", true)]
            {
                let needs_other = other_port || from_tls != to_tls;
                let file = File::new(1, LEN);
                let end = place(to_tls, move |request| file.reply(request));
                let (file, other) = (File::new(1, LEN), end.server.url_at(to_host, "/end"));
                let from = place(from_tls, move |request| match request.path.as_str() {
                    "/start" if needs_other => Reply::redirect(302, other.clone()),
                    "/start" => {
                        // The same server by another name, or by the same.
                        let port =
                            request.header("host").and_then(|host| host.rsplit_once(':')).map_or("", |(_, port)| port);
                        let scheme = if from_tls { "https" } else { "http" };
                        Reply::redirect(302, format!("{scheme}://{to_host}:{port}/end"))
                    }
                    _ => file.reply(request),
                });
                let config = with_secrets()
                    .with_allow_downgrade(true)
                    .with_ca_certificate(from.ca.path())
                    .with_ca_certificate(end.ca.path());
                let to = if needs_other { &end.server } else { &from.server };
                let sent = secrets_sent(&from.server, to, &from.server.url("/start"), config).await;
                let same_origin = !needs_other && to_host == "127.0.0.1";
                let expected = if same_origin { SECRETS.to_vec() } else { Vec::new() };
                let case = format!("tls {from_tls} -> {to_tls}, host {to_host}, other port {other_port}");
                assert_eq!(sent, [SECRETS.to_vec(), expected], "{case}");
            }
        }
    }
}

#[tokio::test]
async fn secrets_are_not_sent_to_a_remembered_place_either() {
    let end = FaultServer::file(File::new(1, LEN));
    let server = redirecting(302, &end.url("/end"));
    let source = source_at(&server.url("/start"), with_secrets());
    for _ in 0..3 {
        fetch(&source, &MIDDLE).await.unwrap();
    }
    assert_eq!(end.requests().len(), 3);
    assert!(end.requests().iter().all(|e| secrets(&e.request).is_empty()));
}

#[tokio::test]
async fn user_info_in_a_url_is_for_its_origin_and_in_a_location_for_nobody() {
    let end = FaultServer::file(File::new(1, LEN));
    let server = redirecting(302, &end.url_at("evil:evil@127.0.0.1", "/end"));
    let url = server.url_at("Aladdin:open%20sesame@127.0.0.1", "/start");
    fetch(&source_at(&url, HttpConfig::new()), &WHOLE).await.unwrap();
    assert_eq!(headers(&server, "authorization"), [Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned())]);
    assert_eq!(headers(&end, "authorization"), [None]);
    assert_eq!(headers(&end, "host"), [Some(end.address().to_string())]);
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused_unless_allowed() {
    let end = FaultServer::file(File::new(1, LEN));
    let url = end.url("/end");
    let from = place(true, move |_| Reply::redirect(302, url.clone()));
    let config = HttpConfig::new().with_ca_certificate(from.ca.path());
    let start = from.server.url("/start");
    assert_eq!(failure_kind(&source_at(&start, config.clone()), &WHOLE).await, ErrorKind::Denied);
    assert!(end.requests().is_empty());
    fetch(&source_at(&start, config.with_allow_downgrade(true)), &WHOLE).await.unwrap();
}
