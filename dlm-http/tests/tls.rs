//! Whom to believe.

mod common;

use std::sync::Arc;

use common::{LEN, failure, failure_kind, fetch, source_at};
use dlm_api::{Error, ErrorKind, RangeRequest, Retry};
use dlm_fault_server::{Authority, Fault, FaultServer, File, Framing, Validity};
use dlm_http::HttpConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const WHOLE: RangeRequest = RangeRequest::whole();

/// A server whose certificate is for `names`, and a configuration that knows its authority.
struct Place {
    server: FaultServer,
    config: HttpConfig,
    _ca: tempfile::NamedTempFile,
}

fn place_with(file: File, names: &[&str], validity: Validity) -> Place {
    let authority = Authority::new();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), authority.pem()).unwrap();
    let server = FaultServer::start_tls(authority.server_config(names, validity), move |r| file.reply(r));
    Place { server, config: HttpConfig::new().with_ca_certificate(ca.path()), _ca: ca }
}

fn place(names: &[&str], validity: Validity) -> Place {
    place_with(File::new(1, LEN), names, validity)
}

async fn refusal(place: &Place, config: HttpConfig) -> Error {
    let error = failure(&source_at(&place.server.url("/f"), config), &WHOLE).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Protocol, Retry::Never), "{error}");
    assert!(place.server.requests().is_empty());
    error
}

#[tokio::test]
async fn a_certificate_of_a_given_authority_is_believed() {
    let place = place(&["127.0.0.1", "localhost"], Validity::Now);
    for host in ["127.0.0.1", "localhost"] {
        let source = source_at(&place.server.url_at(host, "/f"), place.config.clone());
        for _ in 0..2 {
            let (opened, bytes) = fetch(&source, &WHOLE).await.unwrap();
            assert_eq!(bytes, File::new(1, LEN).content());
            assert_eq!(opened.warnings, [""; 0]);
        }
    }
    // One connection each, used twice.
    assert_eq!(place.server.log().accepted, 2);
}

#[tokio::test]
async fn an_unknown_issuer_is_refused_with_advice() {
    let place = place(&["127.0.0.1"], Validity::Now);
    let other = self::place(&["127.0.0.1"], Validity::Now);
    // Of the system's authorities, if there are any, none is meant.
    let error = refusal(&place, other.config.clone()).await;
    assert!(error.message().contains("--ca-certificate"), "{error}");
}

#[tokio::test]
async fn another_host_is_refused_with_advice() {
    let place = place(&["other.example"], Validity::Now);
    let error = refusal(&place, place.config.clone()).await;
    assert!(error.message().contains("another host"), "{error}");
    assert!(error.chain().contains("other.example"), "{}", error.chain());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_advice() {
    let expired = place(&["127.0.0.1"], Validity::Expired);
    assert!(refusal(&expired, expired.config.clone()).await.message().contains("expired"));
    let early = place(&["127.0.0.1"], Validity::NotYet);
    assert!(refusal(&early, early.config.clone()).await.message().contains("not valid yet"));
}

#[tokio::test]
async fn without_checks_anything_is_taken_with_a_warning() {
    for (names, validity) in [("127.0.0.1", Validity::Expired), ("other.example", Validity::Now)] {
        let place = place(&[names], validity);
        let source = source_at(&place.server.url("/f"), HttpConfig::new().with_insecure(true));
        let (opened, bytes) = fetch(&source, &WHOLE).await.unwrap();
        assert_eq!(bytes.len(), LEN);
        assert!(opened.warnings[0].contains("not checked"), "{:?}", opened.warnings);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    };
    let source = source_at(&url, HttpConfig::new().with_insecure(true));
    let request = WHOLE;
    let (_tcp, error) = tokio::join!(serve, failure(&source, &request));
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("http://"), "{error}");
}

#[tokio::test]
async fn a_content_that_ends_without_the_end_of_tls_is_an_error() {
    // Whoever sits on the way can cut a connection, but not send TLS's own end.
    let file = File::new(1, LEN).with(Fault::Framed(Framing::Close)).with(Fault::ResetAt(100_000));
    let place = place_with(file, &["127.0.0.1"], Validity::Now);
    let source = source_at(&place.server.url("/f"), place.config.clone());
    assert_eq!(failure_kind(&source, &WHOLE).await, ErrorKind::Network);
}

#[tokio::test]
async fn only_versions_and_protocols_that_are_safe_are_spoken() {
    let authority = Authority::new();
    let mut config = (*authority.server_config(&["127.0.0.1"], Validity::Now)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let file = File::new(1, LEN);
    let server = FaultServer::start_tls(Arc::new(config), move |r| file.reply(r));
    let source = source_at(&server.url("/f"), HttpConfig::new().with_insecure(true));
    let error = failure(&source, &WHOLE).await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::Protocol, "the server refused the TLS handshake"));
}
