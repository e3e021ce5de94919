//! A `Content-Disposition` gives a name or none; one in plain ASCII quotes is the name that was meant.

#![no_main]

use dlm_http::wire::content_disposition::file_name;
use libfuzzer_sys::fuzz_target;

/// The longest name that is believed, in bytes before decoding; ISO-8859-1 can double it.
const MAX_NAME: usize = 2 * 4096;

fuzz_target!(|field: &[u8]| {
    let Some(name) = file_name(field) else { return };
    assert!(!name.is_empty() && name.len() <= MAX_NAME, "{} bytes", name.len());
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    if quoted.len() <= 4096 {
        assert_eq!(file_name(format!("attachment; filename=\"{quoted}\"").as_bytes()), Some(name));
    }
});
