//! `Retry-After` (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

use super::{parse_digits, trim_ows};

/// How long to wait, from `now` on. A date that has passed is no wait at all. `None` if it is neither a number of seconds
/// nor a date.
pub fn parse(value: &[u8], now: SystemTime) -> Option<Duration> {
    let value = trim_ows(value);
    if let Some(seconds) = parse_digits(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    /// One minute before the date of the example in RFC 9110.
    fn now() -> SystemTime {
        httpdate::parse_http_date("Fri, 31 Dec 1999 23:58:59 GMT").unwrap()
    }

    #[test]
    fn examples_of_rfc_9110() {
        assert_eq!(parse(b"Fri, 31 Dec 1999 23:59:59 GMT", now()), Some(Duration::from_secs(60)));
        assert_eq!(parse(b"120", now()), Some(Duration::from_secs(120)));
        assert_eq!(parse(b" 0 ", now()), Some(Duration::ZERO));
    }

    #[test]
    fn the_past_is_now_and_nonsense_is_nothing() {
        assert_eq!(parse(b"Thu, 30 Dec 1999 23:59:59 GMT", now()), Some(Duration::ZERO));
        assert_eq!(parse(b"-5", now()), None);
        assert_eq!(parse(b"soon", now()), None);
        assert_eq!(parse(b"1.5", now()), None);
        assert_eq!(parse(b"", now()), None);
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(value: Vec<u8>) {
            let _ = parse(&value, now());
        }

        #[test]
        fn a_date_is_its_distance(seconds in 0u64..4_000_000_000, from in 0u64..4_000_000_000) {
            let at = |s| UNIX_EPOCH + Duration::from_secs(s);
            let wait = parse(httpdate::fmt_http_date(at(seconds)).as_bytes(), at(from));
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds.saturating_sub(from))));
        }
    }
}
