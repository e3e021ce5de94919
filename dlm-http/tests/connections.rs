//! When connections are kept, used again and closed.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{LEN, failure_kind, fetch, source, source_at};
use dlm_api::{ErrorKind, RangeRequest, RangeSource};
use dlm_fault_server::{Ending, Fault, FaultServer, File, Framing, Gate, Reply};
use dlm_http::{HttpClient, HttpConfig};
use futures::StreamExt;
use http::{Method, Request};

const WHOLE: RangeRequest = RangeRequest::whole();

/// Far longer than any test takes, but not forever.
const LONG: Duration = Duration::from_secs(60);

/// Short, for tests in which nothing comes whatever the time.
const SHORT: Duration = Duration::from_millis(50);

fn request(method: Method, url: String) -> Request<Bytes> {
    Request::builder().method(method).uri(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again() {
    for framing in [Framing::Length, Framing::Chunked] {
        let server = FaultServer::file(File::new(1, LEN).with(Fault::Framed(framing)));
        let source = source(&server);
        for _ in 0..3 {
            fetch(&source, &WHOLE).await.unwrap();
        }
        assert_eq!(server.log().accepted, 1, "{framing:?}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_when_all_was_read_and_the_end_not_asked_for() {
    let server = FaultServer::file(File::new(1, LEN));
    let source = source(&server);
    for _ in 0..3 {
        let mut opened = source.open(&WHOLE).await.unwrap();
        let mut left = LEN;
        while left > 0 {
            left -= opened.body.next().await.unwrap().unwrap().len();
        }
    }
    assert_eq!(server.log().accepted, 1);
}

#[tokio::test]
async fn a_connection_is_used_again_though_the_last_chunk_comes_later() {
    const MANY: usize = 1000;
    let gate = Gate::new();
    let held = gate.clone();
    let file = File::new(1, LEN);
    // The last chunk of the first answer waits until its content was read. Other connections are never kept.
    let chunked = file.clone().with(Fault::Framed(Framing::Chunked));
    let closing = file.with(Fault::Framed(Framing::Close));
    let server = FaultServer::start(move |request| match request.connection {
        0 => chunked.reply(request).with_gate(1000, &held),
        _ => closing.reply(request),
    });
    let source = source(&server);
    let request = RangeRequest::new(0, Some(1000));
    fetch(&source, &request).await.unwrap();
    gate.open();
    // When the last chunk comes is for the network to say; once it has, the first connection is the only one to be used.
    for _ in 0..MANY {
        fetch(&source, &request).await.unwrap();
        if server.requests().last().is_some_and(|e| e.request.connection == 0) {
            return;
        }
    }
    panic!("the first connection was never used again");
}

#[tokio::test]
async fn sources_of_one_client_share_connections() {
    let server = FaultServer::file(File::new(1, LEN));
    let http = dlm_http::Http::new().unwrap();
    for path in ["/a", "/b"] {
        let source = http.range_source(&server.url(path).parse().unwrap()).unwrap();
        fetch(&source, &WHOLE).await.unwrap();
    }
    assert_eq!(server.log().accepted, 1);
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_its_connection() {
    let gate = Gate::new();
    let held = gate.clone();
    let file = File::new(1, LEN);
    let server = FaultServer::start(move |request| file.reply(request).with_gate(100_000, &held));
    let source = source(&server);
    let mut opened = source.open(&WHOLE).await.unwrap();
    opened.body.next().await.unwrap().unwrap();
    drop(opened);
    gate.open();
    server.until(|log| log.closed == 1).await;
    fetch(&source, &WHOLE).await.unwrap();
    assert_eq!(server.log().accepted, 2);
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = FaultServer::start(move |_| Reply::ok("x").with_gate(0, &held));
    let source = source(&server);
    {
        let request = WHOLE;
        let open = source.open(&request);
        tokio::pin!(open);
        tokio::select! {
            _ = &mut open => panic!("an answer came"),
            () = server.until(|log| log.exchanges.len() == 1) => {}
        }
    }
    gate.open();
    server.until(|log| log.closed == 1).await;
}

#[tokio::test]
async fn a_pooled_connection_that_has_died_is_replaced() {
    // It ends after the first answer has been read, without having said so.
    for ending in [Ending::Close, Ending::Reset] {
        let server = FaultServer::start(move |request| {
            let reply = Reply::ok("abc");
            if request.number == 0 { reply.with_ending(ending) } else { reply }
        });
        let source = source(&server);
        fetch(&source, &WHOLE).await.unwrap();
        server.until(|log| log.closed == 1).await;
        fetch(&source, &WHOLE).await.unwrap();
        assert_eq!(server.log().accepted, 2, "{ending:?}");
    }
}

#[tokio::test]
async fn a_request_that_a_pooled_connection_swallows_is_sent_once_more() {
    // The server takes the second request, and hangs up instead of answering: three requests come, two are answered.
    let server = FaultServer::start(|r| if r.number == 1 { Reply::hang_up() } else { Reply::ok("abc") });
    let source = source(&server);
    fetch(&source, &WHOLE).await.unwrap();
    fetch(&source, &WHOLE).await.unwrap();
    let log = server.log();
    assert_eq!((log.exchanges.len(), log.accepted), (3, 2));
}

#[tokio::test]
async fn a_new_connection_that_is_hung_up_on_is_not_retried() {
    let server = FaultServer::start(|_| Reply::hang_up());
    assert_eq!(failure_kind(&source(&server), &WHOLE).await, ErrorKind::Network);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_must_not_be_repeated_is_not() {
    let server = FaultServer::start(|r| if r.number == 1 { Reply::hang_up() } else { Reply::ok("abc") });
    let client = HttpClient::new(HttpConfig::new()).unwrap();
    let first = client.send(request(Method::GET, server.url("/"))).await.unwrap();
    first.into_body().collect(10).await.unwrap();
    let error = client.send(request(Method::POST, server.url("/"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_that_was_idle_too_long_is_not_used() {
    let server = FaultServer::file(File::new(1, LEN));
    let source = source_at(&server.url("/f"), HttpConfig::new().with_idle_timeout(Duration::ZERO));
    for _ in 0..2 {
        fetch(&source, &WHOLE).await.unwrap();
    }
    assert_eq!(server.log().accepted, 2);
}

#[test]
fn a_connection_stays_on_its_runtime() {
    let server = FaultServer::file(File::new(1, LEN));
    let source = source(&server);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (a, b) = (runtime(), runtime());
    for runtime in [&a, &b, &a, &b] {
        runtime.block_on(fetch(&source, &WHOLE)).unwrap();
    }
    let connections: Vec<_> = server.requests().iter().map(|e| e.request.connection).collect();
    assert_eq!(connections, [0, 1, 0, 1]);
}

#[tokio::test]
async fn a_body_that_stops_is_a_timeout() {
    let server = FaultServer::file(File::new(1, LEN).with(Fault::StallAt(1000)));
    let source = source_at(&server.url("/f"), HttpConfig::new().with_read_timeout(SHORT));
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Timeout);
    server.until(|log| log.closed == 1).await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_a_timeout() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = FaultServer::start(move |_| Reply::ok("x").with_gate(0, &held));
    let source = source_at(&server.url("/f"), HttpConfig::new().with_head_timeout(SHORT));
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Timeout);
    gate.open();
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_a_timeout() {
    // It accepts nothing: the handshake of TLS waits for ever.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let source = source_at(&url, HttpConfig::new().with_connect_timeout(SHORT));
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Timeout);
}

#[tokio::test]
async fn a_refused_connection_can_be_tried_again() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let source = source_at(&format!("http://{address}/f"), HttpConfig::new());
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Network);
}

#[tokio::test]
async fn a_large_explanation_is_not_read() {
    let body = vec![b'x'; 10_000_000];
    let server = FaultServer::start(move |_| Reply::new(404).with_body(body.clone()));
    let source = source_at(&server.url("/f"), HttpConfig::new().with_head_timeout(LONG));
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::NotFound);
    server.until(|log| log.closed == 1).await;
    assert!(server.requests()[0].sent < 10_000_000);
}

#[tokio::test]
async fn the_client_sends_bodies_and_takes_every_status() {
    let server = FaultServer::start(|r| Reply::new(418).with_body(r.body.clone()));
    let client = HttpClient::new(HttpConfig::new()).unwrap();
    let body = File::new(1, LEN).content();
    for _ in 0..2 {
        let request = Request::put(server.url("/up?x=1")).header("X-A", "b").body(body.clone()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 418);
        assert_eq!(response.into_body().collect(LEN).await.unwrap(), body);
    }
    let log = server.log();
    assert_eq!(log.accepted, 1);
    let sent = &log.exchanges[0].request;
    assert_eq!((sent.method.as_str(), sent.path.as_str(), sent.header("x-a")), ("PUT", "/up?x=1", Some("b")));
    assert_eq!(sent.header("host"), Some(server.address().to_string().as_str()));
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_refused() {
    let server = FaultServer::file(File::new(1, LEN));
    let client = HttpClient::new(HttpConfig::new()).unwrap();
    let get = || client.send(request(Method::GET, server.url("/")));
    assert_eq!(get().await.unwrap().into_body().collect(LEN - 1).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(get().await.unwrap().into_body().collect(LEN).await.unwrap().len(), LEN);
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let server = FaultServer::start(|r| if r.method == "HEAD" { Reply::ok("abc") } else { Reply::new(204) });
    let client = HttpClient::new(HttpConfig::new()).unwrap();
    for method in [Method::HEAD, Method::GET, Method::DELETE] {
        let response = client.send(request(method, server.url("/"))).await.unwrap();
        assert!(response.into_body().collect(0).await.unwrap().is_empty());
    }
    assert_eq!(server.log().accepted, 1);
}
