//! [`Place`]: what stands on the command line as something to download.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use dlm_api::Locator;

/// Where to download from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Place {
    /// A URL.
    Url(Locator),
    /// A torrent file on this machine.
    Torrent(PathBuf),
}

impl Place {
    /// A URL, or a torrent file that is there. The error does not repeat it: there may be a password in it.
    pub(in crate::cli) fn parse(argument: OsString) -> Result<Self, String> {
        let error = match argument.to_str().map(str::parse::<Locator>) {
            Some(Ok(url)) => return Ok(Self::Url(url)),
            Some(Err(error)) => error.to_string(),
            None => "not a URL".to_owned(),
        };
        let path = PathBuf::from(argument);
        if !is_torrent(&path) {
            return Err(error);
        }
        match path.is_file() {
            true => Ok(Self::Torrent(path)),
            false => Err("not a URL, and there is no such torrent file".to_owned()),
        }
    }
}

/// Takes URLs, and torrent files that are there.
pub(super) fn place() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().try_map(Place::parse)
}

/// Whether the name is that of a torrent file.
pub(in crate::cli) fn is_torrent(path: &Path) -> bool {
    cfg!(feature = "bittorrent") && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("torrent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: OsString) -> Result<Place, String> {
        Place::parse(text)
    }

    #[test]
    fn urls_are_urls() {
        for url in ["https://h/f.torrent", "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a"] {
            assert_eq!(parse(url.into()), Ok(Place::Url(url.parse().unwrap())));
        }
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn a_torrent_file_that_is_there_is_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("A.Torrent");
        assert!(parse(path.clone().into()).unwrap_err().contains("no such torrent file"));
        std::fs::create_dir(&path).unwrap();
        assert!(parse(path.clone().into()).is_err(), "a folder");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(parse(path.clone().into()), Ok(Place::Torrent(path.clone())));
        let other = path.with_extension("txt");
        std::fs::write(&other, "").unwrap();
        assert!(parse(other.into()).unwrap_err().starts_with("not a URL"));
    }
}
