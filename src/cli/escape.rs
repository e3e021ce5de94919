//! Text from elsewhere, made fit for a terminal.
//!
//! Invariant: nothing that a server, a file name or an error says reaches a terminal as anything but visible text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, or the eye, could be fooled by this character: controls (escape sequences start with one), and
/// the marks that turn the direction of writing.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text, with what is unsafe written as `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string can't fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_shown_not_obeyed() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{9b}d\u{202e}e\x7f"), "a\\u{1b}[2Jb\\u{a}c\\u{9b}d\\u{202e}e\\u{7f}");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        assert!(matches!(plain("größe – 文件.iso"), Cow::Borrowed("größe – 文件.iso")));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_comes_through(text in any::<String>()) {
            prop_assert!(!plain(&text).contains(is_unsafe));
        }
    }
}
