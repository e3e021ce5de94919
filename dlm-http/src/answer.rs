//! What the head of an answer says about the content: pure, without I/O.
//!
//! The invariant: what is reported is what really comes. An answer that contradicts itself, or is about other bytes than those
//! asked for, is an error, because its bytes must not be joined with any others (RFC 9110 section 14.4).

use dlm_api::{Error, ErrorKind, Identity, Opened, RangeRequest, Ranges, Result, Strength};
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap,
    HeaderName, LAST_MODIFIED, TRANSFER_ENCODING,
};
use url::Url;

use crate::wire::validators::{ETag, is_strong_date, parse_date};
use crate::wire::{ContentRange, content_disposition, trim_ows};

/// The scheme of an [`Identity`] that is an entity tag.
pub(crate) const SCHEME_ETAG: &str = "etag";

/// The scheme of an [`Identity`] that is a date.
pub(crate) const SCHEME_MODIFIED: &str = "last-modified";

/// Endings of URLs behind which a page is no surprise.
const PAGES: [&str; 11] = ["asp", "aspx", "cgi", "do", "htm", "html", "jsp", "php", "shtml", "xhtml", "xht"];

/// The longest ending of a name that says what kind of file it is.
const MAX_EXTENSION: usize = 5;

/// The bytes that an answer brings.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    pub(crate) len: Option<u64>,
}

/// Checks the range of a 206 against what was asked for (RFC 9110 section 15.3.7).
///
/// It may end sooner than asked, never later, and must begin where asked: then it is the answer to another question.
pub(crate) fn check_range(asked: &RangeRequest, range: ContentRange) -> Result<Served> {
    let bad = |message: &'static str| {
        let end = asked.end.map_or_else(String::new, |end| end.to_string());
        Error::new(ErrorKind::Protocol, message).with("asked", format!("{}..{end}", asked.start)).with("got", range)
    };
    match range {
        ContentRange::Unsatisfied { .. } => Err(bad("the server sent a range without saying which")),
        ContentRange::Satisfied { start, .. } if start != asked.start => {
            Err(bad("the server sent a range that begins elsewhere"))
        }
        ContentRange::Satisfied { end, .. } if asked.end.is_some_and(|asked| end > asked) => {
            Err(bad("the server sent a longer range than asked for"))
        }
        ContentRange::Satisfied { start, end, len } => Ok(Served { start, end: Some(end), len }),
    }
}

/// The `Content-Range` of an answer; `None` if it has none.
pub(crate) fn content_range(headers: &HeaderMap) -> Result<Option<ContentRange>> {
    let mut values = headers.get_all(CONTENT_RANGE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (ContentRange::parse(value.as_bytes()), values.next()) {
        (Some(range), None) => Ok(Some(range)),
        _ => Err(Error::new(ErrorKind::Protocol, "the server's Content-Range makes no sense")
            .with("value", value.as_bytes().escape_ascii())),
    }
}

/// Checks that the length of the body is that of the range. `body_len` is `None` where only the end of the body tells it.
pub(crate) fn check_length(served: Served, body_len: Option<u64>) -> Result<()> {
    match (served.end, body_len) {
        (Some(end), Some(len)) if end - served.start != len => {
            Err(Error::new(ErrorKind::Protocol, "the server's Content-Length and Content-Range contradict each other")
                .with("content_length", len)
                .with("range_length", end - served.start))
        }
        _ => Ok(()),
    }
}

/// What a 416 to `asked` means, the content's length being `len` if the answer tells it (RFC 9110 section 15.5.17).
pub(crate) fn unsatisfied(asked: &RangeRequest, range: Option<ContentRange>) -> Result<Served> {
    match range {
        // Everything before `start` is all there is.
        Some(ContentRange::Unsatisfied { len }) if len == asked.start => {
            Ok(Served { start: len, end: Some(len), len: Some(len) })
        }
        Some(ContentRange::Unsatisfied { len }) => {
            Err(Error::new(ErrorKind::Changed, "the content has not the length that it had")
                .with("start", asked.start)
                .with("len", len))
        }
        _ => Err(Error::new(ErrorKind::Protocol, "the server refuses the range, and does not tell the length")
            .with("start", asked.start)),
    }
}

/// Whether the content can't be had in ranges, because its coding is not the one asked for: none.
///
/// Lengths and offsets then count coded bytes (RFC 9110 section 8.4), which need not be the same ones the next time.
pub(crate) fn coding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let coded: Vec<String> = codings
        .map(trim_ows)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
        .map(|coding| coding.escape_ascii().to_string())
        .collect();
    (!coded.is_empty()).then(|| coded.join(", "))
}

/// Refuses a transfer coding that was not offered (RFC 9112 section 7.4): the bytes would not be the content.
pub(crate) fn check_transfer(headers: &HeaderMap) -> Result<()> {
    let mut codings =
        headers.get_all(TRANSFER_ENCODING).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    match codings.find(|coding| !trim_ows(coding).eq_ignore_ascii_case(b"chunked")) {
        Some(coding) => {
            Err(Error::new(ErrorKind::Unsupported, "the server uses a transfer coding that was not offered")
                .with("coding", coding.escape_ascii()))
        }
        None => Ok(()),
    }
}

/// What tells this content from another one at `origin`, the strongest first.
pub(crate) fn identities(headers: &HeaderMap, origin: &str) -> Vec<Identity> {
    let identity = |scheme: &'static str, value: String, strong| Identity {
        scheme: scheme.into(),
        value,
        strength: if strong { Strength::Strong } else { Strength::Weak },
        origin: Some(origin.to_owned()),
    };
    let mut found = Vec::new();
    if let Some(tag) = single(headers, &ETAG).and_then(ETag::parse) {
        found.push(identity(SCHEME_ETAG, tag.to_header(), !tag.is_weak()));
    }
    if let Some(modified) = single(headers, &LAST_MODIFIED).and_then(parse_date) {
        let strong = is_strong_date(modified, single(headers, &DATE).and_then(parse_date));
        found.push(identity(SCHEME_MODIFIED, httpdate::fmt_http_date(modified), strong));
    }
    // The sort is stable: a tag stays before a date of the same strength.
    found.sort_by_key(|identity| std::cmp::Reverse(identity.strength));
    found
}

/// How the content that came compares to the one expected.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    /// A validator says that it is the same.
    Same,
    /// A validator says that it is another one.
    Differs,
    /// Nothing that came can be compared.
    Unknown,
}

/// Compares what is expected with what came. Entity tags compare weakly: whether equal ones are enough to join bytes is told
/// by their strength.
pub(crate) fn compare(expected: Option<&Identity>, found: &[Identity]) -> Comparison {
    let pair = expected.and_then(|e| Some((e, found.iter().find(|i| i.is_comparable(e))?)));
    let Some((expected, found)) = pair else { return Comparison::Unknown };
    let same = if expected.scheme == SCHEME_ETAG {
        match (ETag::parse(expected.value.as_bytes()), ETag::parse(found.value.as_bytes())) {
            (Some(a), Some(b)) => a.weakly_equals(&b),
            _ => expected.value == found.value,
        }
    } else {
        expected.value == found.value
    };
    if same { Comparison::Same } else { Comparison::Differs }
}

/// The value of an `If-Range` that asks for `expected` at `origin` (RFC 9110 section 13.1.5); `None` where that can't be
/// asked: it needs a strong validator of the same origin.
pub(crate) fn if_range<'a>(expected: Option<&'a Identity>, origin: &str) -> Option<&'a str> {
    let expected = expected?;
    let usable = expected.strength == Strength::Strong
        && expected.origin.as_deref() == Some(origin)
        && (expected.scheme == SCHEME_ETAG || expected.scheme == SCHEME_MODIFIED);
    usable.then_some(expected.value.as_str())
}

/// Fills in what the headers tell about the content whatever its range. `body_len` is as for [`check_length`], `url` the one
/// that was asked in the end, and `name` what the URL that was given suggests.
pub(crate) fn describe(opened: &mut Opened, headers: &HeaderMap, body_len: Option<u64>, url: &Url, name: Option<&str>) {
    opened.media_type = single(headers, &CONTENT_TYPE).and_then(|value| str::from_utf8(value).ok()).map(str::to_owned);
    opened.modified = single(headers, &LAST_MODIFIED).and_then(parse_date);
    opened.name = single(headers, &CONTENT_DISPOSITION).and_then(content_disposition::file_name);
    if opened.name.is_none() && name.is_none() {
        opened.name = dlm_api::Locator::from(url.clone()).file_name();
    }
    let refuses_ranges = single(headers, &ACCEPT_RANGES).is_some_and(|v| trim_ows(v).eq_ignore_ascii_case(b"none"));
    // A range that came says more than a header.
    if refuses_ranges && opened.ranges == Ranges::Unknown {
        opened.ranges = Ranges::No;
    }
    if body_len.is_none() && !headers.contains_key(TRANSFER_ENCODING) && opened.end.is_none() {
        opened.is_delimited = false;
        opened.warnings.push("the server gives no length: if the content were cut off, nobody would notice".to_owned());
    }
    if let Some(coding) = coding(headers) {
        opened.end = None;
        opened.len = None;
        opened.ranges = Ranges::No;
        opened.identities.clear();
        opened
            .warnings
            .push(format!("the server sent the content coded, though not asked to ({coding}): it is kept as it came"));
    }
    let is_page = single(headers, &CONTENT_TYPE).is_some_and(is_html);
    if is_page && opened.name.as_deref().or(name).is_some_and(is_no_page) {
        opened.warnings.push("the server sent a web page in place of a file: it may want a login".to_owned());
    }
}

fn is_html(content_type: &[u8]) -> bool {
    let media_type = trim_ows(content_type.split(|b| *b == b';').next().unwrap_or_default());
    media_type.eq_ignore_ascii_case(b"text/html") || media_type.eq_ignore_ascii_case(b"application/xhtml+xml")
}

/// Whether the ending of a name says that it is a file of some other kind than a page.
fn is_no_page(name: &str) -> bool {
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    let extension = extension.to_ascii_lowercase();
    (1..=MAX_EXTENSION).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        // A version number is no kind of file.
        && extension.bytes().any(|b| b.is_ascii_alphabetic())
        && !PAGES.contains(&extension.as_str())
}

/// The value of a header that must come once; `None` where it came several times, since then none can be believed.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

#[cfg(test)]
mod tests;
