//! Percent-encoding (RFC 3986), of bytes that need not be text: info-hashes, and names as a torrent has them.

use std::fmt::Write as _;

/// Appends the bytes; all but unreserved characters are encoded, so that it fits anywhere in a URL.
pub(crate) fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The bytes that a value in a query stands for; a plus sign is a space there. What is not encoded right stays as it is.
pub(crate) fn decode_query(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        encode(&all, &mut text);
        assert!(text.starts_with("%00%01") && text.contains("%2B%2C-.%2F0") && text.ends_with("%FE%FF"), "{text}");
        assert_eq!(decode_query(&text), all);
        assert_eq!(decode_query("a+b%2+%zz%"), b"a b%2 %zz%");
    }
}
