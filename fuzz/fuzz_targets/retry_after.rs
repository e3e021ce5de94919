//! A `Retry-After` is a pause or nothing; a number of seconds is that number, and a date is never before now.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use dlm_http::wire::retry_after::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (now, value) = input;
    let now = UNIX_EPOCH + Duration::from_secs(now.into());
    let Some(pause) = parse(value, now) else { return };
    let seconds = std::str::from_utf8(value).ok().map(|text| text.trim_matches([' ', '\t']));
    match seconds.and_then(|text| text.parse::<u64>().ok()) {
        Some(seconds) => assert_eq!(pause, Duration::from_secs(seconds)),
        // A date has four digits for its year.
        None => assert!(pause < Duration::from_secs(10_000 * 366 * 86_400), "{pause:?}"),
    }
});
