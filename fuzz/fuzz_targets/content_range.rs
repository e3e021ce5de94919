//! A `Content-Range` that is believed makes sense, and is read again as it is written.

#![no_main]

use dlm_http::wire::ContentRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Some(range) = ContentRange::parse(value) else { return };
    if let ContentRange::Satisfied { start, end, len } = range {
        assert!(start < end && len.is_none_or(|len| end <= len), "{range:?}");
    }
    assert_eq!(ContentRange::parse(range.to_string().as_bytes()), Some(range));
});
