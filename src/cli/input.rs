//! What is read from files that the command line names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::args::Place;

/// No list of URLs and no torrent is larger; what is was named by mistake.
const MAX_LEN: u64 = 64 << 20;

/// All of the file at `path`, or of standard input if that is `-`.
///
/// # Errors
///
/// A sentence for the user, if it can't be read, or is so large that it can't be `what` it should be.
pub fn read_all(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_LEN + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes))
    };
    let name = path.display();
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(format!("{name} is not {what}: it is larger than {} MiB", MAX_LEN >> 20));
    }
    Ok(bytes)
}

/// The URLs, and names of torrent files, in the file at `path`, or in standard input if that is `-`.
///
/// # Errors
///
/// A sentence for the user, with the line where there is one.
pub fn read(path: &Path) -> Result<Vec<Place>, String> {
    let text = read_all(path, "a list of URLs")?;
    let name = path.display();
    let text = String::from_utf8(text).map_err(|_| format!("{name} is not a list of URLs: it is not UTF-8 text"))?;
    parse(&text).map_err(|error| format!("{name}, {error}"))
}

/// The URLs, and names of torrent files, in `text`, one a line. Blank lines and lines that start with `#` are skipped.
///
/// # Errors
///
/// A sentence that names the first line that is neither. It does not repeat the line: there may be a password in it.
pub fn parse(text: &str) -> Result<Vec<Place>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| Place::parse(line.into()).map_err(|error| format!("line {}: {error}", index + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(place: &Place) -> String {
        match place {
            Place::Url(url) => url.url().to_string(),
            Place::Torrent(path) => path.display().to_string(),
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped() {
        let text = "\u{feff}# a list\r\n\r\nhttps://a/1#x\r\n   \n  https://b/2  \n#https://c/3";
        let urls: Vec<String> = parse(text).unwrap().iter().map(text_of).collect();
        assert_eq!(urls, ["https://a/1#x", "https://b/2"]);
    }

    #[test]
    fn the_line_of_a_mistake_is_named_but_not_shown() {
        let error = parse("https://a/1\n\nsecret\n").unwrap_err();
        assert!(error.starts_with("line 3: not a URL"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_list_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        assert!(read(&path).unwrap_err().contains("cannot read"));
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(read(&path).unwrap_err().contains("not UTF-8"));
        File::create(&path).unwrap().set_len(MAX_LEN + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than 64 MiB"));
        std::fs::write(&path, "https://a/1\nx").unwrap();
        assert!(read(&path).unwrap_err().contains("list, line 2: "));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
