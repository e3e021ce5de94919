//! Whatever a server calls a file, what becomes of it is one visible name that stays in its folder.

#![no_main]

use dlm_api::EntryPath;
use libfuzzer_sys::fuzz_target;

/// The longest name that every file system in use takes, in bytes.
const MAX_NAME: usize = 255;

fuzz_target!(|name: &str| {
    let Some(path) = EntryPath::from_untrusted_name(name) else { return };
    let text = path.as_str();
    assert_eq!(path.components().count(), 1, "{text:?}");
    assert!(!text.is_empty() && text != "." && text != "..", "{text:?}");
    assert!(!text.contains(['/', '\\', ':']), "{text:?}");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() <= MAX_NAME, "{text:?}");
    // What is safe is accepted as safe, and made no safer.
    assert_eq!(EntryPath::new(text).ok().as_ref(), Some(&path));
    assert_eq!(EntryPath::from_untrusted_name(text), Some(path));
});
