//! `Range` and `Content-Range` (RFC 9110 sections 14.1.2, 14.2 and 14.4).

use std::fmt;

use super::{parse_digits, trim_ows};

/// The value of a `Range` header: one range of bytes, from `start` to before `end`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RangeSpec {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; `None` for all that follow. Greater than `start`.
    pub end: Option<u64>,
}

impl fmt::Display for RangeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            // On the wire the last byte is named, not the one after it.
            Some(end) => write!(f, "bytes={}-{}", self.start, end.saturating_sub(1)),
            None => write!(f, "bytes={}-", self.start),
        }
    }
}

/// The value of a `Content-Range` header, its unit being `bytes`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum ContentRange {
    /// The range that comes with the answer.
    Satisfied {
        /// The first byte.
        start: u64,
        /// The byte after the last one. Greater than `start`.
        end: u64,
        /// The length of the whole content, at least `end`; `None` where the server wrote `*`.
        len: Option<u64>,
    },
    /// `bytes */N`: the range asked for is not there; the content has this length.
    Unsatisfied {
        /// The length of the whole content.
        len: u64,
    },
}

impl ContentRange {
    /// Parses the value. `None` if the unit is not `bytes`, the numbers contradict each other, or it is no such value at
    /// all: RFC 9110 section 14.4 then forbids combining the content with any other.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = trim_ows(value);
        let space = value.iter().position(|b| *b == b' ')?;
        let (unit, rest) = (&value[..space], trim_ows(&value[space..]));
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let slash = rest.iter().position(|b| *b == b'/')?;
        let (range, len) = (&rest[..slash], &rest[slash + 1..]);
        if range == b"*" {
            return Some(Self::Unsatisfied { len: parse_digits(len)? });
        }
        let dash = range.iter().position(|b| *b == b'-')?;
        let start = parse_digits(&range[..dash])?;
        let end = parse_digits(&range[dash + 1..])?.checked_add(1)?;
        let len = if len == b"*" { None } else { Some(parse_digits(len)?) };
        let consistent = start < end && len.is_none_or(|len| end <= len);
        consistent.then_some(Self::Satisfied { start, end, len })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Satisfied { start, end, len } => {
                write!(f, "bytes {start}-{}/", end.saturating_sub(1))?;
                match len {
                    Some(len) => len.fmt(f),
                    None => f.write_str("*"),
                }
            }
            Self::Unsatisfied { len } => write!(f, "bytes */{len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Option<ContentRange> {
        ContentRange::parse(value.as_bytes())
    }

    #[test]
    fn examples_of_rfc_9110() {
        let satisfied = |start, end, len| Some(ContentRange::Satisfied { start, end, len });
        assert_eq!(parse("bytes 42-1233/1234"), satisfied(42, 1234, Some(1234)));
        assert_eq!(parse("bytes 42-1233/*"), satisfied(42, 1234, None));
        assert_eq!(parse("bytes */1234"), Some(ContentRange::Unsatisfied { len: 1234 }));
        assert_eq!(parse("bytes 0-499/1234"), satisfied(0, 500, Some(1234)));
        assert_eq!(parse("Bytes  0-0/1 "), satisfied(0, 1, Some(1)));
    }

    #[test]
    fn what_contradicts_itself_is_nothing() {
        for bad in [
            "",
            "bytes",
            "bytes ",
            "bytes */*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-9",
            "bytes=0-9/10",
            "items 0-9/10",
            "bytes -9/10",
            "bytes 0-/10",
            "bytes 0-18446744073709551615/*",
            "bytes 0-9/10, bytes 20-29/40",
            "bytes 0 - 9/10",
            "bytes 0x0-0x9/10",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_names_its_last_byte() {
        assert_eq!(RangeSpec { start: 0, end: Some(500) }.to_string(), "bytes=0-499");
        assert_eq!(RangeSpec { start: 9500, end: None }.to_string(), "bytes=9500-");
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(value: Vec<u8>) {
            let _ = ContentRange::parse(&value);
        }

        #[test]
        fn what_is_written_is_read(start in 0..u64::MAX - 1, more in 1..u64::MAX, rest: Option<u32>) {
            let end = start.saturating_add(more).min(u64::MAX - 1);
            prop_assume!(start < end);
            let len = rest.map(|rest| end.saturating_add(rest.into()));
            let range = ContentRange::Satisfied { start, end, len };
            prop_assert_eq!(ContentRange::parse(range.to_string().as_bytes()), Some(range));
        }
    }
}
