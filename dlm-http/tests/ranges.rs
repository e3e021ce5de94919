//! What is made of answers, right and wrong.

mod common;

use common::{LEN, failure, failure_kind, fetch, headers, identity, read, source, source_at};
use dlm_api::{ErrorKind, RangeRequest, RangeSource, Ranges, Retry, Scope, Strength};
use dlm_fault_server::{Fault, FaultServer, File, Framing, Reply};
use dlm_http::HttpConfig;
use futures::StreamExt;
use std::time::{Duration, SystemTime};

const WHOLE: RangeRequest = RangeRequest::whole();
const MIDDLE: RangeRequest = RangeRequest::new(1000, Some(200_000));

fn file() -> File {
    File::new(1, LEN)
}

fn with(fault: Fault) -> FaultServer {
    FaultServer::file(file().with(fault))
}

// --- As it should be ---

#[tokio::test]
async fn the_whole_is_a_plain_get() {
    let server = FaultServer::file(file());
    let (opened, bytes) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!(bytes, file().content());
    assert_eq!((opened.start, opened.end, opened.len), (0, Some(LEN as u64), Some(LEN as u64)));
    assert_eq!(opened.ranges, Ranges::Unknown);
    assert_eq!(opened.warnings, [""; 0]);
    assert!(opened.rtt.is_some());
    let found: Vec<_> = opened.identities.iter().map(|i| (&*i.scheme, i.value.as_str(), i.strength)).collect();
    let date = "Sun, 13 Sep 2020 12:26:40 GMT";
    assert_eq!(found, [("etag", "\"1\"", Strength::Strong), ("last-modified", date, Strength::Strong)]);
    assert_eq!(opened.identities[0].origin.as_deref(), Some(&*source(&server).origin()));
    assert_eq!(opened.modified, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)));
    let request = &server.requests()[0].request;
    assert_eq!((request.method.as_str(), request.header("range")), ("GET", None));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("dlm/")));
}

#[tokio::test]
async fn a_range_is_what_was_asked_for() {
    let server = FaultServer::file(file());
    let source = source(&server);
    let (opened, bytes) = fetch(&source, &MIDDLE).await.unwrap();
    assert_eq!(bytes, file().content().slice(1000..200_000));
    assert_eq!((opened.start, opened.end, opened.len), (1000, Some(200_000), Some(LEN as u64)));
    assert_eq!(opened.ranges, Ranges::Yes);
    let (opened, bytes) = fetch(&source, &RangeRequest::new(299_999, None)).await.unwrap();
    assert_eq!((bytes, opened.end), (file().content().slice(299_999..), Some(LEN as u64)));
    let expected = [Some("bytes=1000-199999".to_owned()), Some("bytes=299999-".to_owned())];
    assert_eq!(headers(&server, "range"), expected);
}

#[tokio::test]
async fn an_empty_range_is_not_asked_for() {
    let server = FaultServer::file(file());
    assert_eq!(failure_kind(&source(&server), &RangeRequest::new(5, Some(5))).await, ErrorKind::InvalidInput);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn head_is_never_asked() {
    let server = with(Fault::Head(405));
    let source = source(&server);
    fetch(&source, &WHOLE).await.unwrap();
    fetch(&source, &MIDDLE).await.unwrap();
    assert!(server.requests().iter().all(|e| e.request.method == "GET"));
}

// --- The content changes ---

#[tokio::test]
async fn if_range_goes_out_with_a_strong_tag() {
    let server = FaultServer::file(file());
    let source = source(&server);
    let expected = identity(&source).await;
    let (opened, _) = fetch(&source, &MIDDLE.expecting(expected)).await.unwrap();
    assert_eq!(opened.ranges, Ranges::Yes);
    assert_eq!(headers(&server, "if-range"), [None, Some("\"1\"".to_owned())]);
}

#[tokio::test]
async fn if_range_goes_out_with_a_strong_date_without_a_tag() {
    // The 206 leaves the date out, as it may: its status has confirmed it.
    let server = FaultServer::file(file().with_etag(None).with(Fault::NoDateInRanges));
    let source = source(&server);
    let expected = identity(&source).await;
    let (opened, _) = fetch(&source, &MIDDLE.expecting(expected.clone())).await.unwrap();
    assert_eq!(headers(&server, "if-range"), [None, Some("Sun, 13 Sep 2020 12:26:40 GMT".to_owned())]);
    assert_eq!(opened.identities, expected.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_weak_validator_is_reported_but_not_asked_with() {
    // A clock that runs ahead: the date can't be later than the content by a second.
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    for file in
        [file().with_etag(Some("W/\"1\"")).with_modified(None), file().with_etag(None).with_modified(Some(ahead))]
    {
        let server = FaultServer::file(file);
        let source = source(&server);
        let expected = identity(&source).await;
        assert_eq!(expected.as_ref().map(|i| i.strength), Some(Strength::Weak));
        fetch(&source, &MIDDLE.expecting(expected)).await.unwrap();
        assert_eq!(headers(&server, "if-range"), [None, None]);
    }
}

#[tokio::test]
async fn if_range_is_for_its_origin_only() {
    let server = FaultServer::file(file());
    let source = source(&server);
    let mut expected = identity(&source).await.unwrap();
    expected.origin = Some("http://other.example:80".to_owned());
    fetch(&source, &MIDDLE.expecting(Some(expected))).await.unwrap();
    assert_eq!(headers(&server, "if-range"), [None, None]);
}

#[tokio::test]
async fn a_changed_content_comes_whole() {
    let server = with(Fault::ChangesAt(1));
    let source = source(&server);
    let expected = identity(&source).await;
    let (opened, bytes) = fetch(&source, &MIDDLE.expecting(expected.clone())).await.unwrap();
    assert_eq!((opened.start, bytes), (0, file().changed_content()));
    assert_eq!(opened.ranges, Ranges::Unknown);
    assert_ne!(opened.identities.first(), expected.as_ref());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_changed_content_is_seen_where_if_range_is_ignored() {
    let server = FaultServer::file(file().with(Fault::ChangesAt(1)).with(Fault::IgnoresIfRange));
    let source = source(&server);
    let expected = identity(&source).await;
    assert_eq!(failure_kind(&source, &MIDDLE.expecting(expected)).await, ErrorKind::Changed);
}

#[tokio::test]
async fn nodes_with_tags_of_their_own_are_a_change() {
    let server = FaultServer::file(file().with(Fault::TagPerRequest).with(Fault::IgnoresIfRange));
    let source = source(&server);
    let expected = identity(&source).await;
    assert_eq!(failure_kind(&source, &MIDDLE.expecting(expected)).await, ErrorKind::Changed);
}

#[tokio::test]
async fn a_server_that_distrusts_if_range_is_asked_without_it() {
    let server = with(Fault::DistrustsIfRange);
    let source = source(&server);
    let expected = identity(&source).await;
    for _ in 0..2 {
        let (opened, bytes) = fetch(&source, &MIDDLE.expecting(expected.clone())).await.unwrap();
        assert_eq!((opened.ranges, bytes.len()), (Ranges::Yes, 199_000));
    }
    // It is tried once, and then known.
    let conditions = headers(&server, "if-range");
    assert_eq!(conditions, [None, Some("\"1\"".to_owned()), None, None]);
}

#[tokio::test]
async fn a_server_that_distrusts_if_range_can_still_change() {
    let server = FaultServer::file(file().with(Fault::DistrustsIfRange).with(Fault::ChangesAt(2)));
    let source = source(&server);
    let expected = identity(&source).await;
    assert_eq!(failure_kind(&source, &MIDDLE.expecting(expected)).await, ErrorKind::Changed);
}

// --- The range is not the one asked for ---

#[tokio::test]
async fn the_whole_in_place_of_a_range_is_told() {
    let server = with(Fault::IgnoresRange);
    let (opened, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!((opened.start, opened.end, opened.ranges), (0, Some(LEN as u64), Ranges::No));
    assert_eq!(bytes, file().content());
}

#[tokio::test]
async fn the_whole_in_place_of_a_later_range_is_told() {
    let server = with(Fault::IgnoresRangeFrom(1));
    let source = source(&server);
    let (first, _) = fetch(&source, &MIDDLE).await.unwrap();
    let (second, _) = fetch(&source, &MIDDLE).await.unwrap();
    assert_eq!((first.start, first.ranges), (1000, Ranges::Yes));
    assert_eq!((second.start, second.ranges), (0, Ranges::No));
}

#[tokio::test]
async fn the_whole_to_an_if_range_although_nothing_changed_is_asked_twice_at_most() {
    let server = with(Fault::IgnoresRange);
    let source = source(&server);
    let expected = identity(&source).await;
    let (opened, _) = fetch(&source, &MIDDLE.expecting(expected)).await.unwrap();
    assert_eq!((opened.start, opened.ranges), (0, Ranges::No));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_shifted_range_is_refused() {
    assert_eq!(failure_kind(&source(&with(Fault::Shifted(1))), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_range_that_ends_too_late_is_refused() {
    assert_eq!(failure_kind(&source(&with(Fault::OpenEnded)), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_shorter_range_is_told() {
    let server = with(Fault::Short(1000));
    let (opened, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!((opened.start, opened.end, opened.ranges), (1000, Some(2000), Ranges::Yes));
    assert_eq!(bytes, file().content().slice(1000..2000));
}

#[tokio::test]
async fn other_bytes_under_the_right_header_come_as_they_are() {
    // Nothing in the head gives the liar away: only an overlap or a digest can.
    let server = with(Fault::BodyFromZero);
    let (opened, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!((opened.start, bytes), (1000, file().content().slice(..199_000)));
}

#[tokio::test]
async fn a_range_without_its_place_is_refused() {
    assert_eq!(failure_kind(&source(&with(Fault::NoContentRange)), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_range_that_contradicts_itself_is_refused() {
    for bad in [
        "bytes 1000-199999/1500",
        "bytes 1000-999/300000",
        "items 1000-199999/300000",
        "bytes */300000",
        "bytes 1000-199999",
        "1000-199999/300000",
    ] {
        let server = with(Fault::ContentRange(bad));
        assert_eq!(failure_kind(&source(&server), &MIDDLE).await, ErrorKind::Protocol, "{bad}");
    }
}

#[tokio::test]
async fn a_range_of_an_unknown_whole_is_taken() {
    let server = with(Fault::ContentRange("bytes 1000-199999/*"));
    let (opened, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!((opened.end, opened.len, bytes.len()), (Some(200_000), None, 199_000));
}

#[tokio::test]
async fn a_length_that_contradicts_the_range_is_refused() {
    assert_eq!(failure_kind(&source(&with(Fault::LongerThanRange(1))), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_range_to_a_plain_get_counts_from_zero() {
    let serve = |value: &'static str| {
        let server = FaultServer::start(move |_| Reply::new(206).with_header("Content-Range", value).with_body("abc"));
        (source(&server), server)
    };
    let (good, _server) = serve("bytes 0-2/10");
    let (opened, bytes) = fetch(&good, &WHOLE).await.unwrap();
    assert_eq!((opened.end, opened.len, &bytes[..]), (Some(3), Some(10), &b"abc"[..]));
    let (bad, _server) = serve("bytes 1-3/10");
    assert_eq!(failure_kind(&bad, &WHOLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn one_part_of_a_multipart_answer_is_its_content() {
    let server = with(Fault::Multipart);
    let (opened, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!((opened.start, opened.end, opened.ranges), (1000, Some(200_000), Ranges::Yes));
    assert_eq!(bytes, file().content().slice(1000..200_000));
}

#[tokio::test]
async fn a_multipart_answer_of_two_parts_is_refused() {
    assert_eq!(failure_kind(&source(&with(Fault::TwoParts)), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_multipart_answer_to_another_range_is_refused() {
    let server = FaultServer::file(file().with(Fault::Multipart).with(Fault::Shifted(7)));
    assert_eq!(failure_kind(&source(&server), &MIDDLE).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_multipart_answer_that_is_cut_off_is_an_error() {
    // Within the head of the part, its content, and its tail.
    let len = 16 + 23 + 19 + 38 + 4 + 199_000;
    for cut in [10, 5000, len + 6] {
        let file = file().with(Fault::Multipart).with(Fault::Framed(Framing::Close)).with(Fault::CutAt(cut));
        let server = FaultServer::file(file);
        assert_eq!(failure_kind(&source(&server), &MIDDLE).await, ErrorKind::Network, "{cut}");
    }
}

#[tokio::test]
async fn a_body_behind_its_range_is_cut() {
    let server = with(Fault::Excess(5));
    let (_, bytes) = fetch(&source(&server), &MIDDLE).await.unwrap();
    assert_eq!(bytes, file().content().slice(1000..200_000));
    server.until(|log| log.closed == 1).await;
}

// --- 416 ---

#[tokio::test]
async fn a_range_from_the_end_on_is_empty() {
    let server = FaultServer::file(file());
    let (opened, bytes) = fetch(&source(&server), &RangeRequest::new(LEN as u64, None)).await.unwrap();
    let len = Some(LEN as u64);
    assert_eq!((opened.start, opened.end, opened.len, bytes.len()), (LEN as u64, len, len, 0));
}

#[tokio::test]
async fn a_range_from_behind_the_end_on_is_a_change() {
    let server = FaultServer::file(file());
    let error = failure(&source(&server), &RangeRequest::new(LEN as u64 + 1, None)).await;
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(error.to_string().contains("300000"), "{error}");
}

#[tokio::test]
async fn a_range_of_nothing_is_empty() {
    let server = FaultServer::file(File::new(1, 0));
    let (opened, _) = fetch(&source(&server), &RangeRequest::new(0, Some(10))).await.unwrap();
    assert_eq!((opened.end, opened.len), (Some(0), Some(0)));
    let (opened, bytes) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!((opened.len, bytes.len()), (Some(0), 0));
}

#[tokio::test]
async fn a_416_without_a_length_is_an_error() {
    let server = FaultServer::start(|_| Reply::new(416));
    assert_eq!(failure_kind(&source(&server), &MIDDLE).await, ErrorKind::Protocol);
}

// --- Framing ---

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error() {
    let cases = [
        (Fault::CutAt(70_000), WHOLE),
        (Fault::CutAt(70_000), MIDDLE),
        (Fault::ResetAt(70_000), WHOLE),
        (Fault::ResetAt(70_000), MIDDLE),
        (Fault::Framed(Framing::UnfinishedChunks), WHOLE),
    ];
    for (fault, request) in cases {
        let error = failure(&source(&with(fault.clone())), &request).await;
        let expected = (ErrorKind::Network, Retry::Now, Scope::Span);
        assert_eq!((error.kind(), error.retry(), error.scope()), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn a_range_in_chunks_that_is_cut_off_is_an_error() {
    for framing in [Framing::UnfinishedChunks, Framing::Close] {
        let server = FaultServer::file(file().with(Fault::Framed(framing)).with(Fault::CutAt(70_000)));
        let mut opened = source(&server).open(&MIDDLE).await.unwrap();
        assert_eq!(opened.end, Some(200_000));
        assert_eq!(read(&mut opened).await.unwrap_err().kind(), ErrorKind::Network, "{framing:?}");
        assert!(opened.body.next().await.is_none(), "after an error there is nothing more");
    }
}

#[tokio::test]
async fn chunks_have_no_length() {
    let server = with(Fault::Framed(Framing::Chunked));
    let (opened, bytes) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!((opened.end, opened.len, bytes), (None, None, file().content()));
    assert_eq!(opened.warnings, [""; 0]);
}

#[tokio::test]
async fn the_end_of_the_connection_is_the_end_and_a_warning() {
    let server = with(Fault::Framed(Framing::Close));
    let (opened, bytes) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!((opened.end, opened.len, bytes), (None, None, file().content()));
    assert!(opened.warnings[0].contains("no length"), "{:?}", opened.warnings);
}

#[tokio::test]
async fn coded_content_is_neither_measured_nor_decoded() {
    let server = with(Fault::Coded("gzip"));
    let (opened, bytes) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!((opened.ranges, opened.end, opened.len), (Ranges::No, None, None));
    assert!(opened.identities.is_empty());
    assert!(opened.warnings[0].contains("gzip"));
    assert_eq!(bytes, file().content());
    // Where a range of it would belong, nobody can tell.
    assert_eq!(failure_kind(&source(&server), &RangeRequest::new(0, Some(1000))).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(2_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned();
    for raw in ["220 FTP server ready\r\n".to_owned(), huge, many, both, "HTTP/1.1 abc\r\n\r\n".to_owned()] {
        let server = FaultServer::start(move |_| Reply::raw(raw.clone()));
        assert_eq!(failure_kind(&source(&server), &WHOLE).await, ErrorKind::Protocol);
    }
    let server = FaultServer::start(|_| Reply::hang_up());
    assert_eq!(failure_kind(&source(&server), &WHOLE).await, ErrorKind::Network);
}

#[tokio::test]
async fn a_transfer_coding_that_was_not_offered_is_refused() {
    let raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let server = FaultServer::start(move |_| Reply::raw(raw));
    assert_eq!(failure_kind(&source(&server), &WHOLE).await, ErrorKind::Unsupported);
}

// --- Statuses ---

#[tokio::test]
async fn a_refused_span_is_denied() {
    let server = with(Fault::MaxSpan(10_000));
    assert_eq!(failure_kind(&source(&server), &MIDDLE).await, ErrorKind::Denied);
    fetch(&source(&server), &RangeRequest::new(0, Some(10_000))).await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    for (status, retry_after, wait) in [(429, "7", 7), (503, "3600", 300), (503, "Sat, 01 Jan 2000 00:00:00 GMT", 0)] {
        let server = with(Fault::Failing { requests: 1, status, retry_after: Some(retry_after) });
        let source = source(&server);
        let error = failure(&source, &WHOLE).await;
        let expected = (ErrorKind::Throttled, Retry::After(Duration::from_secs(wait)));
        assert_eq!((error.kind(), error.retry()), expected, "{retry_after}");
        // The explanation was read, so the connection was kept.
        fetch(&source, &WHOLE).await.unwrap();
        assert_eq!(server.log().accepted, 1);
    }
}

#[tokio::test]
async fn an_error_tells_the_place_without_its_secrets() {
    let server = with(Fault::Failing { requests: 9, status: 404, retry_after: None });
    let url = server.url_at("user:SECRET@127.0.0.1", "/file?token=SECRET");
    let source = source_at(&url, HttpConfig::new().with_header("X-Key", "SECRET"));
    let error = failure(&source, &WHOLE).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::NotFound, Retry::Never));
    let text = format!("{error} {error:?} {source:?}");
    assert!(text.contains("404") && text.contains("/file") && !text.contains("SECRET"), "{text}");
}

// --- What is said about the file ---

#[tokio::test]
async fn the_name_is_that_of_the_header() {
    let value = "attachment; filename=\"x\"; filename*=UTF-8''%e2%82%ac.bin";
    let server = FaultServer::file(file().with_header("Content-Disposition", value));
    let (opened, _) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert_eq!(opened.name.as_deref(), Some("€.bin"));
}

#[tokio::test]
async fn a_page_in_place_of_a_file_is_told() {
    let server = FaultServer::file(file().with_header("Content-Type", "text/html; charset=utf-8"));
    let (opened, _) = fetch(&source(&server), &WHOLE).await.unwrap();
    assert!(opened.warnings[0].contains("web page"), "{:?}", opened.warnings);
    assert_eq!(opened.media_type.as_deref(), Some("text/html; charset=utf-8"));
}
