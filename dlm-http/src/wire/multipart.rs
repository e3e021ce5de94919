//! `multipart/byteranges` (RFC 9110 section 14.6), of which exactly one part is understood.
//!
//! A server may answer a request for one range in this form. The body is then a delimiter, the header of the part, its
//! bytes, and a closing delimiter (RFC 2046 section 5.1.1).

use super::{ContentRange, parameters, trim_ows};

/// The longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The most bytes that may stand before a part's content: preamble, delimiter and header. A header of a part has two
/// fields, so this is generous.
pub const MAX_HEAD: usize = 16 * 1024;

/// The boundary named in a `Content-Type`, if that is `multipart/byteranges`.
pub fn boundary(content_type: &[u8]) -> Option<String> {
    let media_type = trim_ows(content_type.split(|b| *b == b';').next().unwrap_or_default());
    if !media_type.eq_ignore_ascii_case(b"multipart/byteranges") {
        return None;
    }
    let (_, value) = parameters(content_type).find(|(name, _)| name == "boundary")?;
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(b);
    let valid = (1..=MAX_BOUNDARY).contains(&value.len()) && value.iter().all(allowed) && !value.ends_with(b" ");
    if valid { String::from_utf8(value).ok() } else { None }
}

/// What stands at the beginning of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Head {
    /// More bytes are needed.
    Partial,
    /// A part begins.
    Part {
        /// The number of bytes before its content.
        len: usize,
        /// What its `Content-Range` says.
        range: ContentRange,
    },
    /// It is not a body of this kind, or no part with a usable `Content-Range` comes first.
    Invalid,
}

/// Parses the beginning of a body: everything before the content of the first part. Bytes beyond that are not looked at.
pub fn parse_head(body: &[u8], boundary: &str) -> Head {
    let delimiter = format!("--{boundary}");
    let Some(after) = find_delimiter(body, delimiter.as_bytes()) else { return more(body) };
    // The delimiter's line may end in white space, which a gateway may have added.
    let Some(line_end) = find(&body[after..], b"\r\n") else { return more(body) };
    if !trim_ows(&body[after..after + line_end]).is_empty() {
        return Head::Invalid;
    }
    let mut at = after + line_end + 2;
    let mut range = None;
    loop {
        let Some(len) = find(&body[at..], b"\r\n") else { return more(body) };
        let line = &body[at..at + len];
        at += len + 2;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { return Head::Invalid };
        if line[..colon].eq_ignore_ascii_case(b"content-range") {
            if range.is_some() {
                return Head::Invalid;
            }
            range = ContentRange::parse(&line[colon + 1..]);
            if range.is_none() {
                return Head::Invalid;
            }
        }
    }
    match range {
        Some(range) if at <= MAX_HEAD => Head::Part { len: at, range },
        _ => Head::Invalid,
    }
}

/// What follows a part's content.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Tail {
    /// More bytes are needed.
    Partial,
    /// The closing delimiter: it was the only part.
    Closed,
    /// Another part, or something else.
    Other,
}

/// Looks at the bytes behind the content of a part.
pub fn parse_tail(rest: &[u8], boundary: &str) -> Tail {
    let closing = format!("\r\n--{boundary}--");
    let known = rest.len().min(closing.len());
    if rest[..known] != closing.as_bytes()[..known] {
        Tail::Other
    } else if known < closing.len() {
        Tail::Partial
    } else {
        Tail::Closed
    }
}

/// `Partial` as long as the limit allows for more.
fn more(body: &[u8]) -> Head {
    if body.len() < MAX_HEAD { Head::Partial } else { Head::Invalid }
}

/// The place behind the first delimiter: at the start of the body or of a line.
fn find_delimiter(body: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = find(&body[from..], delimiter) {
        let at = from + found;
        if at == 0 || body[..at].ends_with(b"\r\n") {
            return Some(at + delimiter.len());
        }
        from = at + 1;
    }
    None
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|w| w == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n\
        Content-Range: bytes 500-999/8000\r\n\r\nthe bytes\r\n--THIS_STRING_SEPARATES--\r\n";

    #[test]
    fn example_of_rfc_9110() {
        let boundary = boundary(b"multipart/byteranges; boundary=THIS_STRING_SEPARATES").unwrap();
        let Head::Part { len, range } = parse_head(BODY, &boundary) else { panic!("no part") };
        assert_eq!(range, ContentRange::Satisfied { start: 500, end: 1000, len: Some(8000) });
        let rest = &BODY[len..];
        assert!(rest.starts_with(b"the bytes"));
        assert_eq!(parse_tail(&rest[b"the bytes".len()..], &boundary), Tail::Closed);
    }

    #[test]
    fn every_beginning_of_it_is_partial() {
        let head = BODY.len() - b"the bytes\r\n--THIS_STRING_SEPARATES--\r\n".len();
        for end in 0..head {
            assert_eq!(parse_head(&BODY[..end], "THIS_STRING_SEPARATES"), Head::Partial, "{end}");
        }
        assert_eq!(parse_tail(b"\r\n--THIS", "THIS_STRING_SEPARATES"), Tail::Partial);
        assert_eq!(parse_tail(b"", "b"), Tail::Partial);
    }

    #[test]
    fn a_second_part_is_seen() {
        assert_eq!(parse_tail(b"\r\n--b\r\nContent-Range: bytes 1-2/3", "b"), Tail::Other);
        assert_eq!(parse_tail(b"more of the content", "b"), Tail::Other);
    }

    #[test]
    fn a_part_needs_one_range() {
        for bad in [
            "--b\r\nContent-Type: a/b\r\n\r\n",
            "--b\r\nContent-Range: bytes 0-1\r\n\r\n",
            "--b\r\nContent-Range: bytes 0-1/2\r\nContent-Range: bytes 0-1/2\r\n\r\n",
            "--b\r\nno colon\r\n\r\n",
            "--bb\r\nContent-Range: bytes 0-1/2\r\n\r\n",
            "--b--\r\n",
        ] {
            assert_eq!(parse_head(bad.as_bytes(), "b"), Head::Invalid, "{bad:?}");
        }
        assert_eq!(parse_head(&vec![b'x'; MAX_HEAD], "b"), Head::Invalid);
    }

    #[test]
    fn a_preamble_is_skipped() {
        let body = b"x--b\r\n--b \r\ncontent-range:bytes 0-1/2\r\n\r\n";
        let range = ContentRange::Satisfied { start: 0, end: 2, len: Some(2) };
        assert_eq!(parse_head(body, "b"), Head::Part { len: body.len(), range });
    }

    #[test]
    fn only_byteranges_have_a_boundary() {
        assert_eq!(boundary(b"Multipart/ByteRanges;x=1; Boundary=\"a b\"").as_deref(), Some("a b"));
        for bad in [
            "multipart/form-data; boundary=a",
            "multipart/byteranges",
            "multipart/byteranges; boundary=",
            "multipart/byteranges; boundary=\"a \"",
            "multipart/byteranges; boundary=\"a\\\nb\"",
        ] {
            assert_eq!(boundary(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(body: Vec<u8>, b in "[a-z]{1,3}") {
            let _ = parse_head(&body, &b);
            let _ = parse_tail(&body, &b);
            let _ = boundary(&body);
        }

        #[test]
        fn a_head_is_never_longer_than_the_body(noise in "(--b|\r\n|content-range: bytes 0-1/2|:|x){0,12}") {
            if let Head::Part { len, .. } = parse_head(noise.as_bytes(), "b") {
                prop_assert!(len <= noise.len());
            }
        }
    }
}
