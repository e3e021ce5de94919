//! Places that the user doesn't name: content does, and it may be written by somebody who wants to use us.

mod common;

use common::{LEN, failure_kind, fetch, headers};
use dlm_api::{ErrorKind, Locator, RangeRequest};
use dlm_fault_server::{FaultServer, File};
use dlm_http::{Credentials, Http, HttpConfig, HttpSource};

const WHOLE: RangeRequest = RangeRequest::whole();

fn source(locator: &Locator) -> HttpSource {
    let config = HttpConfig::new().with_header("X-Mine", "1").with_credentials(Credentials::new("me", "secret"));
    Http::with_config(config).unwrap().range_source(locator).unwrap()
}

/// Each connection is looked at, so that a redirect leads no further than the URL itself.
#[tokio::test]
async fn a_stranger_leads_to_no_local_address() {
    let server = FaultServer::file(File::new(1, LEN));
    let url = server.url("/file.bin");
    for host in ["127.0.0.1", "localhost", "0", "[::ffff:127.0.0.1]"] {
        let locator = Locator::named_by_content(url.replace("127.0.0.1", host).parse().unwrap(), false);
        assert_eq!(failure_kind(&source(&locator), &WHOLE).await, ErrorKind::Denied, "{host}");
    }
    assert_eq!(server.log().accepted, 0);
    fetch(&source(&Locator::named_by_content(url.parse().unwrap(), true)), &WHOLE).await.unwrap();
}

/// A connection that was made for the user isn't used for a stranger.
#[tokio::test]
async fn a_stranger_gets_none_of_the_users_connections() {
    let server = FaultServer::file(File::new(1, LEN));
    let http = Http::new().unwrap();
    let url = server.url("/file.bin");
    fetch(&http.range_source(&url.parse().unwrap()).unwrap(), &WHOLE).await.unwrap();
    let stranger = Locator::named_by_content(url.parse().unwrap(), false);
    assert_eq!(failure_kind(&http.range_source(&stranger).unwrap(), &WHOLE).await, ErrorKind::Denied);
}

/// What the user gave is for his own places.
#[tokio::test]
async fn a_stranger_gets_nothing_of_the_users() {
    let server = FaultServer::file(File::new(1, LEN));
    let url = server.url("/file.bin");
    for locator in [Locator::named_by_content(url.parse().unwrap(), true), url.parse().unwrap()] {
        fetch(&source(&locator), &WHOLE).await.unwrap();
    }
    assert_eq!(headers(&server, "x-mine"), [None, Some("1".into())]);
    let said: Vec<bool> = headers(&server, "authorization").iter().map(Option::is_some).collect();
    assert_eq!(said, [false, true]);
}
