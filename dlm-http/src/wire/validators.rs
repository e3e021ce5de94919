//! `ETag` and `Last-Modified`, and what they promise (RFC 9110 sections 8.8.1 to 8.8.3).

use std::time::{Duration, SystemTime};

use super::trim_ows;

/// How much later than `Last-Modified` the `Date` must be for the former to be strong: the resolution of both is a second,
/// so within the same second the content may have changed twice (RFC 9110 section 8.8.2.2).
const STRONG_AFTER: Duration = Duration::from_secs(1);

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ETag {
    weak: bool,
    opaque: String,
}

impl ETag {
    /// Parses an `ETag` value. A tag without its quotes, which some servers send, is taken as weak: whoever gets the
    /// syntax wrong is not believed to know that the bytes are the same. `None` if it is empty or not printable.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = trim_ows(value);
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let (weak, opaque) = match quoted.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")) {
            Some(opaque) => (weak, opaque),
            None => (true, quoted),
        };
        let is_etagc = |b: &u8| *b == 0x21 || (0x23..=0x7e).contains(b) || *b >= 0x80;
        if !opaque.iter().all(is_etagc) || (opaque.is_empty() && quoted.is_empty()) {
            return None;
        }
        // Bytes above 0x7f have no meaning of their own, so a tag that is not UTF-8 could not be sent back truly.
        Some(Self { weak, opaque: String::from_utf8(opaque.to_vec()).ok()? })
    }

    /// Whether equal tags promise only the same meaning, not the same bytes.
    pub fn is_weak(&self) -> bool {
        self.weak
    }

    /// The value in quotes, as `If-Range` wants it, with `W/` in front if it is weak.
    pub fn to_header(&self) -> String {
        format!("{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque)
    }

    /// Weak comparison (RFC 9110 section 8.8.3.2): whether the tags name the same content, the same bytes or not.
    pub fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// Strong comparison (RFC 9110 section 8.8.3.2): whether the tags promise the same bytes.
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }
}

/// Parses a date of any of the three forms of RFC 9110 section 5.6.7.
pub fn parse_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(trim_ows(value)).ok()?).ok()
}

/// Whether a `Last-Modified` is a strong validator: the `Date` of the same answer is later by a second at least
/// (RFC 9110 section 8.8.2.2).
pub fn is_strong_date(last_modified: SystemTime, date: Option<SystemTime>) -> bool {
    date.and_then(|date| date.duration_since(last_modified).ok()).is_some_and(|age| age >= STRONG_AFTER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(value: &str) -> ETag {
        ETag::parse(value.as_bytes()).unwrap()
    }

    #[test]
    fn comparisons_of_rfc_9110() {
        // The table of section 8.8.3.2.
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(a).strongly_equals(&tag(b)), strong, "{a} {b}");
            assert_eq!(tag(a).weakly_equals(&tag(b)), weak, "{a} {b}");
        }
    }

    #[test]
    fn examples_of_rfc_9110() {
        assert!(!tag("\"xyzzy\"").is_weak());
        assert!(tag("W/\"xyzzy\"").is_weak());
        assert_eq!(tag("\"\"").to_header(), "\"\"");
        assert_eq!(tag("W/\"xyzzy\"").to_header(), "W/\"xyzzy\"");
    }

    #[test]
    fn a_tag_of_wrong_syntax_is_weak_or_nothing() {
        assert!(tag("abc123").is_weak());
        assert!(tag("w/\"abc\"".trim_start_matches("w/")).strongly_equals(&tag("\"abc\"")));
        for bad in ["", " ", "W/", "\"a b\"", "\"a\"b\"", "\"", "\"a\nb\""] {
            assert_eq!(ETag::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(ETag::parse(b"\"\xff\""), None);
    }

    #[test]
    fn a_date_is_strong_a_second_later() {
        let modified = parse_date(b"Tue, 15 Nov 1994 12:45:26 GMT").unwrap();
        assert!(!is_strong_date(modified, Some(modified)));
        assert!(!is_strong_date(modified, None));
        assert!(!is_strong_date(modified, Some(modified - Duration::from_secs(5))));
        assert!(is_strong_date(modified, Some(modified + Duration::from_secs(1))));
    }

    #[test]
    fn the_three_forms_of_a_date_are_one() {
        let date = parse_date(b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(date.is_some());
        assert_eq!(parse_date(b"Sunday, 06-Nov-94 08:49:37 GMT"), date);
        assert_eq!(parse_date(b"Sun Nov  6 08:49:37 1994"), date);
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(value: Vec<u8>) {
            let _ = ETag::parse(&value);
            let _ = parse_date(&value);
        }

        #[test]
        fn what_is_written_is_read(weak: bool, opaque in "[!#-~]{0,20}") {
            let tag = ETag { weak, opaque };
            prop_assert_eq!(ETag::parse(tag.to_header().as_bytes()), Some(tag));
        }
    }
}
