//! Whatever link is taken is read as the same when it is written again.

#![no_main]

use dlm_bittorrent::Magnet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    for link in [text.to_owned(), format!("magnet:?xt=urn:btih:{hash}&{text}")] {
        let Ok(magnet) = link.parse::<Magnet>() else { continue };
        let written = magnet.to_string();
        // Encoding makes three characters of one, and there is a limit on the length.
        match written.parse::<Magnet>() {
            Ok(again) => assert_eq!(again, magnet, "{written}"),
            Err(e) => assert_eq!(e.kind(), dlm_api::ErrorKind::TooLarge, "{e}"),
        }
    }
});
