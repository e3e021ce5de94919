//! The header fields and formats that a download needs, parsed from bytes. No I/O, no clock, no state.
//!
//! Everything here takes what a server sent, so nothing here may panic or hold on to more than it was given.

pub mod content_disposition;
pub mod content_range;
pub mod multipart;
pub mod retry_after;
pub mod validators;

pub use content_range::{ContentRange, RangeSpec};
pub use validators::ETag;

/// Removes optional white space (RFC 9110 section 5.6.3) from both ends.
pub(crate) fn trim_ows(text: &[u8]) -> &[u8] {
    let is_ows = |b: &u8| matches!(b, b' ' | b'\t');
    let start = text.iter().position(|b| !is_ows(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_ows(b)).map_or(start, |at| at + 1);
    &text[start..end]
}

/// Whether `b` may stand in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A number of ASCII digits and nothing else; `None` if it is empty or does not fit.
pub(crate) fn parse_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The parameters of a field such as `Content-Type` or `Content-Disposition`: what follows the first `;`.
///
/// Names are in lower case. Values in quotes have their escapes removed (RFC 9110 section 5.6.4); others are taken as they
/// stand up to the next `;`, even where white space makes them no token, because servers send such names of files.
/// A quote that is never closed ends with the field.
pub(crate) fn parameters(field: &[u8]) -> Parameters<'_> {
    let rest = field.iter().position(|b| *b == b';').map_or(&[][..], |at| &field[at + 1..]);
    Parameters { rest }
}

pub(crate) struct Parameters<'a> {
    rest: &'a [u8],
}

impl Iterator for Parameters<'_> {
    type Item = (String, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let name_end = self.rest.iter().position(|b| matches!(b, b'=' | b';')).unwrap_or(self.rest.len());
            let name = trim_ows(&self.rest[..name_end]);
            let has_value = self.rest.get(name_end) == Some(&b'=');
            self.rest = self.rest.get(name_end + 1..).unwrap_or_default();
            if !has_value {
                continue;
            }
            let value = self.value();
            if !name.is_empty() && name.iter().all(|b| is_token_byte(*b)) {
                return Some((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
            }
        }
    }
}

impl Parameters<'_> {
    /// The value that starts here, and steps behind the `;` that ends it.
    fn value(&mut self) -> Vec<u8> {
        let text = self.rest;
        let skipped = text.len() - text.trim_ascii_start().len();
        if text.get(skipped) != Some(&b'"') {
            let end = text.iter().position(|b| *b == b';').unwrap_or(text.len());
            self.rest = text.get(end + 1..).unwrap_or_default();
            return trim_ows(&text[..end]).to_vec();
        }
        let mut value = Vec::new();
        let mut at = skipped + 1;
        while let Some(&b) = text.get(at) {
            at += 1;
            match b {
                b'"' => break,
                b'\\' => {
                    if let Some(&escaped) = text.get(at) {
                        value.push(escaped);
                        at += 1;
                    }
                }
                _ => value.push(b),
            }
        }
        let end = text[at..].iter().position(|b| *b == b';').map_or(text.len(), |n| at + n + 1);
        self.rest = &text[end..];
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(field: &str) -> Vec<(String, String)> {
        parameters(field.as_bytes()).map(|(n, v)| (n, String::from_utf8(v).unwrap())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn parameters_are_tokens_or_quoted() {
        assert_eq!(all("x; A=b ; c=\"d;\\\"e\"; f"), [pair("a", "b"), pair("c", "d;\"e")]);
        assert_eq!(all("x"), []);
        assert_eq!(all("x; a=\"never closed"), [pair("a", "never closed")]);
        assert_eq!(all("x; a=two words.txt; b=1"), [pair("a", "two words.txt"), pair("b", "1")]);
        assert_eq!(all("x; a = \"b\" junk; c=1"), [pair("a", "b"), pair("c", "1")]);
        assert_eq!(all("x;;=;=a;b c=d;e=f"), [pair("e", "f")]);
    }

    #[test]
    fn digits_are_only_digits() {
        assert_eq!(parse_digits(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", " 1", "18446744073709551616", "1e3"] {
            assert_eq!(parse_digits(bad.as_bytes()), None, "{bad}");
        }
    }
}
