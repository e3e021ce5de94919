//! The formats of trackers' protocols: [`http`] (BEP 3, 7, 23, 24, 31, 48) and [`udp`] (BEP 15, 41).

pub mod http;
pub mod udp;

/// The longest text, in characters, that is kept of what a tracker says to people.
const MAX_TEXT: usize = 512;

/// What a tracker says to people, without control characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
