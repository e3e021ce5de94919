//! The file name in `Content-Disposition` (RFC 6266, RFC 8187).

use percent_encoding::percent_decode;

use super::parameters;

/// The longest name that is believed, in bytes before decoding: longer than any file system's, with every byte
/// percent-encoded.
const MAX_NAME: usize = 4096;

/// The name that the field suggests for the file: `filename*` if it can be decoded, else `filename`.
///
/// The name is as the server gave it, separators and all: making it safe is
/// [`EntryPath::from_untrusted_name`](dlm_api::EntryPath::from_untrusted_name)'s. Forms that are wrong but common are
/// understood: no disposition type, no quotes around white space, raw UTF-8 or ISO-8859-1, quotes around an extended value.
pub fn file_name(field: &[u8]) -> Option<String> {
    let mut plain = None;
    let mut extended = None;
    for (name, value) in parameters(&with_type(field)) {
        if value.is_empty() || value.len() > MAX_NAME {
            continue;
        }
        // RFC 6266 section 4.1: the first of several is as good as any; taking it makes the answer stable.
        match name.as_str() {
            "filename" if plain.is_none() => plain = Some(value),
            "filename*" if extended.is_none() => extended = decode_extended(&value),
            _ => {}
        }
    }
    extended.or_else(|| plain.map(|value| decode_text(&value))).filter(|name| !name.is_empty())
}

/// The field with a disposition type in front, where the server left it out: `filename="x"` alone.
fn with_type(field: &[u8]) -> Vec<u8> {
    let first = field.split(|b| *b == b';').next().unwrap_or_default();
    let mut whole = Vec::with_capacity(field.len() + 1);
    if first.contains(&b'=') {
        whole.push(b';');
    }
    whole.extend_from_slice(field);
    whole
}

/// An extended value (RFC 8187 section 3.2.1): `charset'language'percent-encoded`.
fn decode_extended(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |b| *b == b'\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes: Vec<u8> = percent_decode(encoded).collect();
    if charset.eq_ignore_ascii_case(b"utf-8") {
        String::from_utf8(bytes).ok()
    } else if charset.eq_ignore_ascii_case(b"iso-8859-1") {
        Some(latin_1(&bytes))
    } else {
        None
    }
}

/// A plain value: ASCII by the standard, in fact UTF-8 or else ISO-8859-1. Percent signs stay: they may be meant.
fn decode_text(value: &[u8]) -> String {
    std::str::from_utf8(value).map_or_else(|_| latin_1(value), str::to_owned)
}

/// ISO-8859-1 is the first 256 code points.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(field: &str) -> Option<String> {
        file_name(field.as_bytes())
    }

    #[test]
    fn examples_of_rfc_6266_and_rfc_8187() {
        for (field, expected) in [
            ("Attachment; filename=example.html", "example.html"),
            ("INLINE; FILENAME= \"an example.html\"", "an example.html"),
            ("attachment; filename*= UTF-8''%e2%82%ac%20rates", "€ rates"),
            ("attachment; filename=\"EURO rates\"; filename*=utf-8''%e2%82%ac%20rates", "€ rates"),
            ("attachment; filename*=UTF-8'en'%c2%a3%20and%20%e2%82%ac%20rates", "£ and € rates"),
            ("attachment; filename*=iso-8859-1'en'%A3%20rates", "£ rates"),
        ] {
            assert_eq!(name(field).as_deref(), Some(expected), "{field}");
        }
    }

    #[test]
    fn what_servers_really_send() {
        for (field, expected) in [
            ("attachment; filename=two words.zip", "two words.zip"),
            ("attachment;filename=a.zip;size=5", "a.zip"),
            ("attachment; filename=\"a \\\"b\\\" c.txt\"", "a \"b\" c.txt"),
            ("attachment; filename=\"naïve.txt\"", "naïve.txt"),
            ("filename=\"alone.bin\"", "alone.bin"),
            ("attachment; filename*=\"UTF-8''quoted%20.txt\"", "quoted .txt"),
            ("attachment; filename=\"unclosed.txt", "unclosed.txt"),
            ("attachment; filename=\"fall back.txt\"; filename*=koi8-r''%c1", "fall back.txt"),
            ("attachment; filename=\"fall back.txt\"; filename*=UTF-8''%ff", "fall back.txt"),
            ("attachment; filename=first; filename=second", "first"),
            ("attachment; filename=\"../../etc/passwd\"", "../../etc/passwd"),
            ("attachment; filename=\"100%25.txt\"", "100%25.txt"),
            ("attachment; filename=\"a;b.txt\"", "a;b.txt"),
        ] {
            assert_eq!(name(field).as_deref(), Some(expected), "{field}");
        }
        assert_eq!(file_name(b"attachment; filename=\"caf\xe9.txt\"").as_deref(), Some("café.txt"));
    }

    #[test]
    fn no_name_is_no_name() {
        for field in ["", "inline", "attachment; filename=", "attachment; filename=\"\"", "attachment; name=x", ";;;"] {
            assert_eq!(name(field), None, "{field}");
        }
        assert_eq!(name(&format!("attachment; filename={}", "x".repeat(MAX_NAME + 1))), None);
    }

    proptest! {
        #[test]
        fn anything_parses_or_does_not(value: Vec<u8>) {
            let _ = file_name(&value);
        }

        #[test]
        fn a_quoted_name_is_read_back(wanted in "[^\\x00-\\x1f\\x7f]{1,40}") {
            let quoted = wanted.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(name(&format!("attachment; filename=\"{quoted}\"")), Some(wanted));
        }

        #[test]
        fn an_extended_name_is_read_back(wanted in "\\PC{1,40}") {
            let encoded: String = wanted.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(name(&format!("attachment; filename*=UTF-8''{encoded}")), Some(wanted));
        }
    }
}
