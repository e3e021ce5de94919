//! Of any list every line is either understood or told of.

#![no_main]

use dlm_bittorrent::peer::IpFilter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|list: &[u8]| {
    let Ok(read) = IpFilter::new().add_list(list) else { return };
    assert!(read.ranges + read.skipped <= list.split(|byte| *byte == b'\n').count());
    assert_eq!(read.first_skipped.is_some(), read.skipped > 0);
});
