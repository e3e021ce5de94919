//! The head of a part is found within the body, is the same however the body was cut when it came, and takes no more than
//! its limit.

#![no_main]

use dlm_http::wire::multipart::{Head, MAX_HEAD, Tail, boundary, parse_head, parse_tail};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (content_type, body) = input;
    let boundary = boundary(content_type).unwrap_or_else(|| "b".to_owned());
    assert!((1..=70).contains(&boundary.len()));
    let whole = parse_head(body, &boundary);
    match &whole {
        Head::Part { len, .. } => {
            assert!(*len <= body.len() && *len <= MAX_HEAD);
            // Not before all of it is there, and not changed by what follows.
            assert_eq!(parse_head(&body[..*len - 1], &boundary), Head::Partial);
            assert_eq!(parse_head(&body[..*len], &boundary), whole);
        }
        Head::Partial => assert!(body.len() < MAX_HEAD),
        Head::Invalid => {}
    }
    if parse_tail(body, &boundary) == Tail::Closed {
        assert!(body.starts_with(format!("\r\n--{boundary}--").as_bytes()));
    }
});
