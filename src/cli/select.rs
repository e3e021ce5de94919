//! `--select`: which files of a download are wanted.

use std::fmt::Write as _;
use std::str::FromStr;

use dlm_api::{EntryPath, Error, ErrorKind, Result};
use globset::{GlobBuilder, GlobMatcher};

/// How many of the files that there are an error lists: enough to see how they are called.
const LISTED: usize = 20;

/// What the path, or the name, of a wanted file looks like: `*.iso`, `album/disc 1/*`, `**/*.{jpg,png}`.
#[derive(Clone, Debug)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    fn matches(&self, path: &EntryPath) -> bool {
        self.0.is_match(path.as_str()) || self.0.is_match(path.file_name())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|error| error.kind().to_string())?;
        match text {
            "" => Err("nothing is called so".to_owned()),
            _ => Ok(Self(glob.compile_matcher())),
        }
    }
}

/// Whether this file is wanted: all are if nobody said which.
pub fn is_wanted(patterns: &[Pattern], path: &EntryPath) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(path))
}

/// Fails for a pattern that none of these files matches, and says which there are: it was mistyped, and what it was meant
/// for would be missed much later.
pub fn check(patterns: &[Pattern], paths: &[EntryPath]) -> Result<()> {
    let Some(lost) = patterns.iter().find(|pattern| !paths.iter().any(|path| pattern.matches(path))) else {
        return Ok(());
    };
    let mut there = String::new();
    for path in paths.iter().take(LISTED) {
        // Writing to a string can't fail.
        let _ = write!(there, "{}{path}", if there.is_empty() { "" } else { ", " });
    }
    if paths.len() > LISTED {
        let _ = write!(there, ", and {} more, which --list-files shows", paths.len() - LISTED);
    }
    let message = format!("--select {}: no file is called so; there are: {there}", lost.0.glob());
    Err(Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> EntryPath {
        EntryPath::new(path).unwrap()
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_pattern_is_of_the_path_or_of_the_name() {
        for (pattern, wanted, unwanted) in [
            ("*.iso", &["a.iso", "top/a.iso", "top/b/a.iso"][..], &["a.iso.txt", "iso"][..]),
            ("top/*", &["top/a"], &["top/b/a", "other/top/a"]),
            ("top/**", &["top/a", "top/b/a"], &["other/a"]),
            ("**/b/*", &["b/a", "top/b/a"], &["top/a"]),
            ("*.{jpg,png}", &["top/a.jpg", "b.png"], &["a.gif"]),
            ("[ab]?", &["top/a1", "b2"], &["c1", "a"]),
            ("a", &["a", "top/a"], &["A", "a/b"]),
        ] {
            let patterns = patterns(&[pattern]);
            wanted.iter().for_each(|text| assert!(is_wanted(&patterns, &path(text)), "{pattern} {text}"));
            unwanted.iter().for_each(|text| assert!(!is_wanted(&patterns, &path(text)), "{pattern} {text}"));
        }
        let two = patterns(&["a", "b"]);
        assert!(is_wanted(&two, &path("a")) && is_wanted(&two, &path("x/b")) && !is_wanted(&two, &path("c")));
        assert!(is_wanted(&[], &path("anything")));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "[", "{a", "a[b-a]"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_for_nothing_says_what_there_is() {
        let paths = [path("top/a"), path("top/b")];
        assert!(check(&patterns(&["a", "b"]), &paths).is_ok());
        let error = check(&patterns(&["a", "*.c"]), &paths).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.message(), "--select *.c: no file is called so; there are: top/a, top/b");
        let many: Vec<EntryPath> = (0..25).map(|i| path(&i.to_string())).collect();
        let error = check(&patterns(&["x"]), &many).unwrap_err();
        assert!(error.message().ends_with(", 19, and 5 more, which --list-files shows"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([*?\\[\\]{},!/\\\\-]|[a-c]|\\PC){0,12}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                is_wanted(&[pattern], &path("a/b.c"));
            }
        }
    }
}
