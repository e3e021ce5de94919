use http::HeaderValue;

use super::*;

const ORIGIN: &str = "https://h.example:443";

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

fn satisfied(start: u64, end: u64) -> ContentRange {
    ContentRange::Satisfied { start, end, len: Some(100) }
}

fn described(pairs: &[(&'static str, &'static str)], body_len: Option<u64>, name: Option<&str>) -> Opened {
    let headers = headers(pairs);
    let mut opened = Opened::new(0, Box::pin(futures::stream::empty()));
    opened.end = body_len;
    opened.len = body_len;
    opened.identities = identities(&headers, ORIGIN);
    describe(&mut opened, &headers, body_len, &Url::parse("https://h.example/final.iso").unwrap(), name);
    opened
}

#[test]
fn a_range_begins_where_asked_and_ends_no_later() {
    let asked = RangeRequest::new(10, Some(20));
    let kind = |range| check_range(&asked, range).map_err(|e| e.kind());
    assert_eq!(kind(satisfied(10, 20)), Ok(Served { start: 10, end: Some(20), len: Some(100) }));
    assert_eq!(kind(satisfied(10, 15)).unwrap().end, Some(15));
    for bad in [satisfied(9, 20), satisfied(11, 20), satisfied(10, 21), ContentRange::Unsatisfied { len: 10 }] {
        assert_eq!(kind(bad), Err(ErrorKind::Protocol), "{bad}");
    }
    assert_eq!(check_range(&RangeRequest::new(10, None), satisfied(10, 100)).unwrap().end, Some(100));
}

#[test]
fn a_length_fits_its_range() {
    let served = Served { start: 10, end: Some(20), len: None };
    assert!(check_length(served, Some(10)).is_ok());
    assert!(check_length(served, None).is_ok());
    assert_eq!(check_length(served, Some(11)).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn two_content_ranges_are_none() {
    assert!(content_range(&headers(&[("content-range", "bytes 0-1/2"), ("content-range", "bytes 0-1/2")])).is_err());
    assert!(content_range(&headers(&[("content-range", "bytes 0-1")])).is_err());
    assert_eq!(content_range(&headers(&[])).unwrap(), None);
}

#[test]
fn a_range_behind_the_end_is_the_end_or_a_change() {
    let asked = RangeRequest::new(10, None);
    let of = |len| unsatisfied(&asked, Some(ContentRange::Unsatisfied { len })).map_err(|e| e.kind());
    assert_eq!(of(10), Ok(Served { start: 10, end: Some(10), len: Some(10) }));
    assert_eq!(of(9), Err(ErrorKind::Changed));
    assert_eq!(of(11), Err(ErrorKind::Changed));
    assert_eq!(unsatisfied(&asked, None).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn identities_are_the_strongest_first() {
    const MODIFIED: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    let found = |etag, date| {
        let all = identities(&headers(&[("last-modified", MODIFIED), ("date", date), ("etag", etag)]), ORIGIN);
        all.iter().map(|i| (i.scheme.to_string(), i.strength)).collect::<Vec<_>>()
    };
    let (tag, date) = (SCHEME_ETAG.to_owned(), SCHEME_MODIFIED.to_owned());
    let later = "Tue, 15 Nov 1994 12:45:27 GMT";
    assert_eq!(found("\"a\"", later), [(tag.clone(), Strength::Strong), (date.clone(), Strength::Strong)]);
    assert_eq!(found("W/\"a\"", later), [(date.clone(), Strength::Strong), (tag.clone(), Strength::Weak)]);
    assert_eq!(found("W/\"a\"", MODIFIED), [(tag, Strength::Weak), (date, Strength::Weak)]);
    assert!(identities(&headers(&[("etag", "\"a\""), ("etag", "\"b\"")]), ORIGIN).is_empty());
}

#[test]
fn only_what_is_comparable_is_compared() {
    let with = |etag| identities(&headers(&[("etag", etag)]), ORIGIN);
    let expected = with("\"a\"").remove(0);
    assert_eq!(compare(Some(&expected), &with("\"a\"")), Comparison::Same);
    assert_eq!(compare(Some(&expected), &with("W/\"a\"")), Comparison::Same);
    assert_eq!(compare(Some(&expected), &with("\"b\"")), Comparison::Differs);
    assert_eq!(compare(Some(&expected), &[]), Comparison::Unknown);
    assert_eq!(compare(None, &with("\"a\"")), Comparison::Unknown);
    let elsewhere = identities(&headers(&[("etag", "\"b\"")]), "https://other.example:443");
    assert_eq!(compare(Some(&expected), &elsewhere), Comparison::Unknown);
}

#[test]
fn if_range_needs_a_strong_validator_of_the_same_origin() {
    let identity = |value, origin| identities(&headers(&[("etag", value)]), origin).remove(0);
    assert_eq!(if_range(Some(&identity("\"a\"", ORIGIN)), ORIGIN), Some("\"a\""));
    assert_eq!(if_range(Some(&identity("W/\"a\"", ORIGIN)), ORIGIN), None);
    assert_eq!(if_range(Some(&identity("\"a\"", "https://other.example:443")), ORIGIN), None);
    let hash = Identity { scheme: "sha-256".into(), ..identity("\"a\"", ORIGIN) };
    assert_eq!(if_range(Some(&hash), ORIGIN), None);
    assert_eq!(if_range(None, ORIGIN), None);
}

#[test]
fn coded_content_is_neither_measured_nor_joined() {
    let opened = described(&[("content-encoding", "gzip"), ("etag", "\"a\"")], Some(10), Some("f.iso"));
    assert_eq!((opened.ranges, opened.end, opened.len), (Ranges::No, None, None));
    assert!(opened.identities.is_empty());
    assert!(opened.warnings[0].contains("gzip"), "{:?}", opened.warnings);
    let plain = described(&[("content-encoding", "identity"), ("etag", "\"a\"")], Some(10), Some("f.iso"));
    assert_eq!((plain.len, plain.warnings.len(), plain.identities.len()), (Some(10), 0, 1));
}

#[test]
fn a_page_in_place_of_a_file_is_told() {
    let warns =
        |content_type, name| !described(&[("content-type", content_type)], Some(1), Some(name)).warnings.is_empty();
    assert!(warns("text/html; charset=utf-8", "debian.iso"));
    assert!(warns("Text/HTML", "a.7z"));
    assert!(!warns("text/html", "index.html"));
    assert!(!warns("text/html", "release-1.25"));
    assert!(!warns("text/html", "page"));
    assert!(!warns("application/octet-stream", "debian.iso"));
}

#[test]
fn a_body_without_length_is_told() {
    assert_eq!(described(&[], None, Some("f")).warnings.len(), 1);
    assert_eq!(described(&[("transfer-encoding", "chunked")], None, Some("f")).warnings.len(), 0);
}

#[test]
fn a_name_comes_from_the_header_else_from_a_url() {
    let name = |pairs: &[_], given| described(pairs, Some(1), given).name;
    assert_eq!(name(&[("content-disposition", "attachment; filename=a.zip")], Some("f")).as_deref(), Some("a.zip"));
    // The driver knows the name in the URL that was given; a server must not put another in its place by redirecting.
    assert_eq!(name(&[], Some("f")), None);
    assert_eq!(name(&[], None).as_deref(), Some("final.iso"));
}

#[test]
fn only_chunks_are_a_transfer_coding() {
    assert!(check_transfer(&headers(&[("transfer-encoding", "Chunked")])).is_ok());
    assert!(check_transfer(&headers(&[])).is_ok());
    let error = check_transfer(&headers(&[("transfer-encoding", "gzip, chunked")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
