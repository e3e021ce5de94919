//! Whatever a `Content-Disposition` says, the file gets one visible name that stays in its folder.

#![no_main]

use dlm_api::EntryPath;
use dlm_http::wire::content_disposition::file_name;
use libfuzzer_sys::fuzz_target;

/// The longest name that every file system in use takes, in bytes.
const MAX_NAME: usize = 255;

fuzz_target!(|field: &[u8]| {
    let Some(path) = file_name(field).and_then(|name| EntryPath::from_untrusted_name(&name)) else { return };
    let text = path.as_str();
    assert_eq!(path.components().count(), 1, "{text:?}");
    assert!(!text.is_empty() && !text.starts_with("..") && text != ".", "{text:?}");
    assert!(!text.contains(['/', '\\', ':']) && !text.contains(char::is_control), "{text:?}");
    assert!(text.len() <= MAX_NAME, "{text:?}");
    let file = std::path::Path::new(text);
    assert!(file.is_relative() && file.file_name() == Some(text.as_ref()), "{text:?}");
});
