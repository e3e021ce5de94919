//! From the command line to the downloads that it asks for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
#[cfg(feature = "bittorrent")]
use dlm_api::ErrorKind;
use dlm_api::{Digest, Locator};
#[cfg(feature = "bittorrent")]
use dlm_bittorrent::{InfoHash, Metainfo};
use url::Url;

use super::args::{Credentials, GetArgs, Place};
use super::input;

/// One download, as it was asked for.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Request {
    /// Where it is; of a torrent file on this machine, a URL that is known by that.
    pub url: Locator,
    /// The torrent file.
    pub container: Option<Bytes>,
    /// Where else it is.
    pub mirrors: Vec<Locator>,
    /// What it must hash to.
    pub checksum: Option<Digest>,
    /// Where it goes.
    pub target: Target,
}

impl Request {
    /// What the user calls it, until its real name is known: the last part of the URL, what a magnet link calls it, or the
    /// URL without its secrets.
    pub fn label(&self) -> String {
        match &self.target {
            Target::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Target::Dir(_) | Target::Stdout => {
                self.url.file_name().or_else(|| magnet_name(&self.url)).unwrap_or_else(|| self.url.to_string())
            }
        }
    }

    /// Whether it names content without saying what that is, so that a peer who knows has to be found first.
    pub fn is_only_a_name(&self) -> bool {
        magnet_name(&self.url).is_some()
    }
}

/// Where a download goes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Target {
    /// To standard output.
    Stdout,
    /// To a file of this name.
    File(PathBuf),
    /// Into this folder, under the name that it has at its source.
    Dir(PathBuf),
}

/// The downloads that `args` ask for, in the order given.
///
/// # Errors
///
/// A sentence for the user, if they contradict each other or the list of URLs can't be read.
pub fn requests(args: &GetArgs) -> Result<Vec<Request>, String> {
    let mut places = args.urls.clone();
    if let Some(path) = &args.input {
        places.extend(input::read(path)?);
    }
    let mut urls: Vec<(Locator, Option<Bytes>)> = places.into_iter().map(open).collect::<Result<_, _>>()?;
    urls.extend(torrents(args)?);
    if let (Some(path), true) = (&args.input, urls.is_empty()) {
        return Err(format!("there is no URL in {}", path.display()));
    }
    if args.no_follow && urls.iter().any(|(_, container)| container.is_some()) {
        return Err("--no-follow saves a torrent file, but one is here already".to_owned());
    }
    if args.no_follow && urls.iter().any(|(url, _)| is_magnet(url)) {
        return Err("--no-follow saves a torrent file, but a magnet link leads to none".to_owned());
    }
    if urls.len() > 1 {
        for (given, option, instead) in [
            (args.output.is_some(), "--output", "name a folder with --dir"),
            (!args.mirrors.is_empty(), "--mirror", "run dlm once for each file"),
            (args.checksum.is_some(), "--checksum", "run dlm once for each file"),
        ] {
            if given {
                return Err(format!("{option} belongs to one URL, but there are {}: {instead}", urls.len()));
            }
        }
    }
    let target = target(args)?;
    urls.into_iter()
        .map(|(url, container)| {
            Ok(Request {
                url: if container.is_some() { url } else { with_login(url, args.user.as_ref())? },
                container,
                mirrors: args.mirrors.clone(),
                checksum: args.checksum.clone(),
                target: target.clone(),
            })
        })
        .collect()
}

/// The URL, and the torrent file if that is what was named.
fn open(place: Place) -> Result<(Locator, Option<Bytes>), String> {
    match place {
        Place::Url(url) => Ok((url, None)),
        Place::Torrent(path) => Ok((file_url(&path)?, Some(input::read_all(&path, "a torrent")?.into()))),
    }
}

fn file_url(path: &Path) -> Result<Locator, String> {
    // The folder without links and dots, so that it is the same download from wherever it is named; the name as it is given.
    let full = path.file_name().and_then(|name| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(name))
    });
    let url = full.and_then(|path| Url::from_file_path(path).ok());
    Ok(url.ok_or_else(|| format!("{} has no absolute path", path.display()))?.into())
}

/// The torrents that `--torrent` names. Those from standard input, or with a name that says nothing, are known by their
/// info-hash, so that another one is not taken for the same download.
#[cfg(feature = "bittorrent")]
fn torrents(args: &GetArgs) -> Result<Vec<(Locator, Option<Bytes>)>, String> {
    args.swarm.torrents.iter().map(|path| torrent_at(path).map(|(url, bytes)| (url, Some(bytes)))).collect()
}

#[cfg(feature = "bittorrent")]
pub(super) fn torrent_at(path: &Path) -> Result<(Locator, Bytes), String> {
    let bytes = Bytes::from(input::read_all(path, "a torrent")?);
    if super::args::is_torrent(path) {
        return Ok((file_url(path)?, bytes));
    }
    let hash = match Metainfo::parse(bytes.clone()) {
        Ok(torrent) => torrent.info_hash(),
        // Whoever opens it says so.
        Err(error) if error.kind() == ErrorKind::Unsupported => InfoHash::of(&bytes),
        Err(error) => return Err(format!("{}: {}", path.display(), error.chain())),
    };
    Ok((file_url(Path::new(&format!("/{hash}.torrent")))?, bytes))
}

#[cfg(not(feature = "bittorrent"))]
fn torrents(_: &GetArgs) -> Result<Vec<(Locator, Option<Bytes>)>, String> {
    Ok(Vec::new())
}

#[cfg(feature = "bittorrent")]
fn seeds(args: &GetArgs) -> bool {
    args.swarm.seed.goal() != dlm_bittorrent::SeedGoal::OFF
}

#[cfg(not(feature = "bittorrent"))]
fn seeds(_: &GetArgs) -> bool {
    false
}

fn is_magnet(url: &Locator) -> bool {
    cfg!(feature = "bittorrent") && url.scheme() == "magnet"
}

/// What a magnet link calls its torrent.
#[cfg(feature = "bittorrent")]
fn magnet_name(url: &Locator) -> Option<String> {
    let magnet: dlm_bittorrent::Magnet = url.url().as_str().parse().ok()?;
    Some(magnet.name.unwrap_or_else(|| magnet.info_hash.to_string()))
}

#[cfg(not(feature = "bittorrent"))]
fn magnet_name(_: &Locator) -> Option<String> {
    None
}

fn target(args: &GetArgs) -> Result<Target, String> {
    let dir = args.dir.as_deref();
    let Some(output) = args.output.as_deref() else {
        return Ok(Target::Dir(dir.unwrap_or(Path::new(".")).to_owned()));
    };
    if output == OsStr::new("-") {
        if dir.is_some() {
            return Err("--output - is standard output, which is in no --dir".to_owned());
        }
        if args.json {
            return Err("--output - and --json would both write to standard output".to_owned());
        }
        if seeds(args) {
            return Err("--seed: what went to standard output can't be read again to give it to others".to_owned());
        }
        return Ok(Target::Stdout);
    }
    let path = dir.map_or_else(|| output.to_owned(), |dir| dir.join(output));
    let ends_in_separator = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_in_separator || path.file_name().is_none() || path.is_dir() {
        return Err(format!("{} is a folder: --output names a file, --dir a folder", path.display()));
    }
    Ok(Target::File(path))
}

/// The URL with the login in it, where it has none of its own: so it goes to that server alone, and nowhere that the
/// server sends us.
fn with_login(url: Locator, login: Option<&Credentials>) -> Result<Locator, String> {
    let Some(login) = login else { return Ok(url) };
    let mut full = url.url().clone();
    if !full.username().is_empty() || full.password().is_some() {
        return Ok(url);
    }
    full.set_username(login.user())
        .and_then(|()| full.set_password(Some(login.password())))
        .map_err(|()| format!("--user makes no sense for {url}"))?;
    Ok(full.into())
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn plan(args: &[&str]) -> Result<Vec<Request>, String> {
        match Cli::parse_from(["dlm", "get"].iter().chain(args)).command {
            Command::Get(args) => requests(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_belongs_to_one_url_is_refused_with_several() {
        let digest = format!("md5:{}", "00".repeat(16));
        for option in [["-o", "x"], ["-o", "-"], ["-m", "https://m/f"], ["--checksum", &digest]] {
            let error = plan(&[&option[..], &["https://a/1", "https://a/2"]].concat()).unwrap_err();
            assert!(error.contains("belongs to one URL, but there are 2"), "{error}");
            assert_eq!(plan(&[&option[..], &["https://a/1"]].concat()).unwrap().len(), 1);
        }
    }

    #[test]
    fn urls_of_a_file_count_too() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("urls");
        let name = list.to_str().unwrap();
        std::fs::write(&list, "https://a/2\n").unwrap();
        let urls: Vec<String> = plan(&["https://a/1", "-i", name]).unwrap().iter().map(|r| r.url.to_string()).collect();
        assert_eq!(urls, ["https://a/1", "https://a/2"]);
        assert!(plan(&["https://a/1", "-i", name, "-o", "x"]).is_err());
        std::fs::write(&list, "# nothing\n").unwrap();
        assert!(plan(&["-i", name]).unwrap_err().contains("no URL in"));
    }

    #[test]
    fn targets() {
        let target = |args: &[&str]| plan(&[args, &["https://h/f"]].concat()).map(|r| r[0].target.clone());
        assert_eq!(target(&[]), Ok(Target::Dir(".".into())));
        assert_eq!(target(&["-d", "there"]), Ok(Target::Dir("there".into())));
        assert_eq!(target(&["-o", "name"]), Ok(Target::File("name".into())));
        assert_eq!(target(&["-o", "name", "-d", "there"]), Ok(Target::File("there/name".into())));
        assert_eq!(target(&["-o", "-"]), Ok(Target::Stdout));
        for refused in
            [&["-o", "-", "-d", "x"][..], &["-o", "-", "--json"], &["-o", "new/"], &["-o", "."], &["-o", ".."]]
        {
            assert!(target(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_login_goes_to_the_urls_but_not_to_the_mirrors() {
        let request = &plan(&["--user", "me:a:b/@", "-m", "https://m/f", "https://h/f"]).unwrap()[0];
        assert_eq!(request.url.url().as_str(), "https://me:a%3Ab%2F%40@h/f");
        assert_eq!(request.mirrors[0].url().as_str(), "https://m/f");
    }

    #[test]
    fn a_url_with_a_login_keeps_it() {
        let request = &plan(&["--user", "me:x", "https://you@h/f"]).unwrap()[0];
        assert_eq!(request.url.url().as_str(), "https://you@h/f");
        assert!(plan(&["--user", "me:x", "data:,x"]).unwrap_err().contains("--user"));
    }

    #[test]
    fn labels() {
        let label = |args: &[&str]| plan(args).unwrap()[0].label();
        assert_eq!(label(&["https://h/a/b%20c.iso?token=x"]), "b c.iso");
        assert_eq!(label(&["https://me:secret@h/"]), "https://h/");
        assert_eq!(label(&["https://h/f", "-o", "dir/name"]), "name");
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn a_magnet_link_is_called_what_it_says() {
        let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        let label = |rest: &str| plan(&[&format!("magnet:?xt=urn:btih:{hash}{rest}")]).unwrap()[0].label();
        assert_eq!(label("&dn=a+b&tr=http://t/key/announce"), "a b");
        assert_eq!(label("&tr=http://t/key/announce"), hash);
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn what_makes_no_sense_of_a_torrent_is_refused() {
        let magnet = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        assert!(plan(&["--no-follow", magnet]).unwrap_err().contains("leads to none"));
        assert!(plan(&["-o", "-", "--seed", "ratio=1", magnet]).unwrap_err().contains("--seed"));
        assert!(plan(&["-o", "-", "--seed", "off", magnet]).is_ok());
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn torrents_are_read_and_known_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let torrent = b"d4:infod6:lengthi3e4:name1:a12:piece lengthi16384e6:pieces20:xxxxxxxxxxxxxxxxxxxxee";
        let (named, other) = (dir.path().join("a b#.torrent"), dir.path().join("a"));
        std::fs::write(&named, torrent).unwrap();
        std::fs::write(&other, torrent).unwrap();
        let (named, other) = (named.to_str().unwrap(), other.to_str().unwrap());
        for args in [&[named, "--user", "me:x"][..], &["--torrent", named]] {
            let request = &plan(args).unwrap()[0];
            assert_eq!(request.container.as_deref(), Some(&torrent[..]));
            assert!(request.url.url().as_str().ends_with("/a%20b%23.torrent"), "{:?}", request.url);
            assert_eq!(request.label(), "a b#.torrent");
        }
        let request = &plan(&["--torrent", other]).unwrap()[0];
        let hash = dlm_bittorrent::InfoHash::of(&torrent[7..torrent.len() - 1]);
        assert_eq!(request.url.to_string(), format!("file:///{hash}.torrent"));
        assert!(plan(&[named, "--no-follow"]).unwrap_err().contains("--no-follow"));
        let list = dir.path().join("list");
        std::fs::write(&list, format!("# mine\n{named}\nhttps://h/f\n")).unwrap();
        let requests = plan(&["-i", list.to_str().unwrap()]).unwrap();
        assert_eq!(requests[0].container.as_deref(), Some(&torrent[..]));
        assert_eq!(requests[1].url.to_string(), "https://h/f");
        std::fs::create_dir(dir.path().join("g")).unwrap();
        let roundabout = dir.path().join("g/../a b#.torrent");
        assert_eq!(plan(&[roundabout.to_str().unwrap()]).unwrap()[0].url, plan(&[named]).unwrap()[0].url);
        std::fs::write(other, "x").unwrap();
        assert!(plan(&["--torrent", other]).unwrap_err().contains("not a torrent"));
    }
}
