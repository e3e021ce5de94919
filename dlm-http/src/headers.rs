//! What the user gave to be sent: headers and credentials, checked once and hidden from then on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dlm_api::{Error, ErrorKind, Result};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::{Credentials, HttpConfig};

/// Headers that say how a message is framed, where it goes or which part is wanted. One from the user would contradict what
/// is sent anyway, and the answer would be misread.
const REFUSED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-range",
    "keep-alive",
    "proxy-connection",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers of a configuration, ready to be sent. All are marked as sensitive: nobody but the user knows which are.
pub(crate) fn given(config: &HttpConfig) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let bad =
            |message: &'static str| Error::new(ErrorKind::InvalidInput, message).with("header", name.escape_debug());
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header's name can't be sent"))?;
        if REFUSED.contains(&parsed.as_str()) {
            return Err(bad("this header can't be chosen"));
        }
        // The cause would show the value.
        let mut value = HeaderValue::from_str(value).map_err(|_| bad("a header's value can't be sent"))?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Adds basic authentication (RFC 7617): what the URL says, else what the configuration says. A header of the user's own
/// stays.
pub(crate) fn authorize(headers: &mut HeaderMap, url: &Url, configured: Option<&Credentials>) -> Result<()> {
    let in_url = in_url(url);
    let Some(credentials) = in_url.as_ref().or(configured) else { return Ok(()) };
    if credentials.user().contains(':') {
        return Err(Error::new(ErrorKind::InvalidInput, "a user with a colon can't be sent"));
    }
    let pair = format!("{}:{}", credentials.user(), credentials.password());
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(pair)))
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "the credentials can't be sent"))?;
    value.set_sensitive(true);
    headers.entry(AUTHORIZATION).or_insert(value);
    Ok(())
}

fn in_url(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Credentials::new(decode(url.username()), decode(url.password().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(url: &str, configured: Option<Credentials>) -> Option<String> {
        let mut headers = HeaderMap::new();
        authorize(&mut headers, &Url::parse(url).unwrap(), configured.as_ref()).unwrap();
        headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn example_of_rfc_7617() {
        let expected = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!(authorization("http://Aladdin:open%20sesame@h/", None), expected);
        assert_eq!(authorization("http://h/", Some(Credentials::new("Aladdin", "open sesame"))), expected);
        assert_eq!(authorization("http://Aladdin:open%20sesame@h/", Some(Credentials::new("x", "y"))), expected);
        assert_eq!(authorization("http://h/", None), None);
    }

    #[test]
    fn a_colon_belongs_to_the_password() {
        let mut headers = HeaderMap::new();
        assert!(authorize(&mut headers, &Url::parse("http://a%3Ab:c@h/").unwrap(), None).is_err());
    }

    #[test]
    fn headers_are_checked_and_hidden() {
        let config = HttpConfig::new().with_header("Cookie", "a=SECRET").with_header("cookie", "b=2");
        let headers = given(&config).unwrap();
        assert_eq!(headers.get_all("cookie").iter().count(), 2);
        assert!(!format!("{headers:?}").contains("SECRET"));
        for (name, value) in [("Range", "bytes=0-"), ("HOST", "x"), ("a b", "x"), ("X", "SECRET\n")] {
            let error = given(&HttpConfig::new().with_header(name, value)).unwrap_err();
            assert!(!error.chain().contains("SECRET"), "{}", error.chain());
        }
    }
}
