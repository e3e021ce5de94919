//! Pieces that cross files, from sources that have one file each.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Script, content};
use dlm_api::{
    Algorithm, Client, Container, Digest, EntryPath, Error, ErrorKind, Event, Fact, Handle, Listed, Locator, OnExists,
    Piece, Protocol, Ranged, Registry, Resolved, Result, Source, Span, Transfer, Verification,
};
use futures::{StreamExt, stream};

const PIECE: usize = 64 << 10;

/// Files whose bytes are divided into pieces as if they were one: none of them ends with one.
const LENS: [usize; 5] = [3 * PIECE + 1000, 10, 700, 2 * PIECE - 7, PIECE / 2];

/// Says which files and pieces there are, as a swarm without a peer would.
#[derive(Clone, Debug)]
struct Said(Vec<(&'static str, Bytes)>);

#[async_trait]
impl Source for Said {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        let mut entries = Vec::new();
        for (name, bytes) in &self.0 {
            let path = EntryPath::new(name)?;
            transfer.learn(Fact::Entry { path: path.clone(), len: Some(bytes.len() as u64) })?;
            entries.extend(transfer.entry_at(&path));
        }
        let all: Vec<u8> = self.0.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        let mut pieces = Vec::new();
        for (i, piece) in all.chunks(PIECE).enumerate() {
            let (start, end) = (i * PIECE, i * PIECE + piece.len());
            let (mut base, mut spans) = (0, Vec::new());
            for (entry, (_, bytes)) in entries.iter().zip(&self.0) {
                let (from, to) = (start.max(base), end.min(base + bytes.len()));
                if from < to {
                    spans.push(Span::new(*entry, (from - base) as u64..(to - base) as u64));
                }
                base += bytes.len();
            }
            pieces.push(Piece { spans: spans.into(), digest: Digest::of(Algorithm::Sha1, piece) });
        }
        transfer.learn(Fact::Pieces(pieces))?;
        transfer.learn(Fact::LayoutComplete)
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        self.resolve(&transfer).await
    }
}

/// What is said, and folders that have the files.
#[derive(Debug)]
struct Torrent(Said, Vec<(&'static str, Script)>);

#[async_trait]
impl Protocol for Torrent {
    fn schemes(&self) -> &[&str] {
        &["pieces"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        let listed = |(path, script): &(&str, Script)| {
            Ok(Listed { path: EntryPath::new(path)?, len: None, source: Arc::new(Ranged::new(script.clone())) })
        };
        let files: Vec<Result<Listed>> = self.1.iter().map(listed).collect();
        Ok(Resolved::All(vec![
            Resolved::Many(Arc::new(self.0.clone())),
            Resolved::Listing(stream::iter(files).boxed()),
        ]))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

fn files() -> Vec<(&'static str, Bytes)> {
    let names = ["t/a", "t/b", "t/c", "t/d", "t/e"];
    names.into_iter().zip(LENS).enumerate().map(|(i, (name, len))| (name, content(i as u64, len))).collect()
}

/// A folder with these files on a server.
fn mirror(server: &str, files: &[(&'static str, Bytes)]) -> Vec<(&'static str, Script)> {
    let script = |name: &str, bytes: &Bytes| Script::new(&format!("script://{server}/{name}"), bytes.clone()).unwrap();
    files.iter().map(|(name, bytes)| (*name, script(name, bytes))).collect()
}

/// Has the files of a folder, at paths below `files:`.
#[derive(Debug)]
struct Below(Vec<(&'static str, Script)>);

#[async_trait]
impl Protocol for Below {
    fn schemes(&self) -> &[&str] {
        &["files"]
    }

    async fn open(&self, locator: &Locator) -> Result<Resolved> {
        let path = locator.url().path().trim_start_matches("/pub/");
        let script = match self.0.iter().find(|(name, _)| *name == path) {
            Some((_, script)) => script.clone(),
            None => Script::new("script://gone/f", Bytes::new())?.always(Act::Refuse(ErrorKind::NotFound)).clone(),
        };
        Ok(Resolved::Source(Arc::new(Ranged::new(script))))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

/// What is said, and a server with these files.
fn with_folder(files: &[(&'static str, Bytes)]) -> Client {
    Client::builder()
        .threads(2)
        .protocol(Torrent(Said(self::files()), Vec::new()))
        .protocol(Below(mirror("m", files)))
        .build()
}

fn client(scripts: &[Vec<(&'static str, Script)>]) -> Client {
    let said = Said(files());
    Client::builder().threads(2).protocol(Torrent(said, scripts.concat())).build()
}

/// The same files with a wrong byte in some of them, in a piece that crosses.
fn wrong(which: &[&str]) -> Vec<(&'static str, Bytes)> {
    let spoil = |(name, bytes): (&'static str, Bytes)| {
        if !which.contains(&name) {
            return (name, bytes);
        }
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        (name, bytes.into())
    };
    files().into_iter().map(spoil).collect()
}

fn assert_there(root: &Path) {
    for (name, bytes) in files() {
        assert!(std::fs::read(root.join(name)).unwrap() == bytes, "{name} is wrong");
    }
    let left: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["t"]);
}

async fn until_there(handle: &Handle, file: &Path) {
    let mut events = handle.events();
    while !file.exists() {
        events.next().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_piece_that_crosses_files_is_put_together_from_their_mirrors() {
    let root = tempfile::tempdir().unwrap();
    let client = client(&[mirror("one", &files())]);
    let report = client.download("pieces://x/").to_dir(root.path()).await.unwrap();
    assert_there(root.path());
    assert_eq!(report.transferred, LENS.iter().sum::<usize>() as u64, "nothing is fetched twice");
    assert!(report.entries.iter().all(|entry| entry.verification == Verification::Pieces), "{report:?}");
}

#[tokio::test]
async fn a_mirror_that_lies_where_files_meet_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let client = client(&[mirror("liar", &wrong(&["t/d"])), mirror("honest", &files())]);
    let handle = client.download("pieces://x/").connections(1).to_dir(root.path()).start();
    let mut events = handle.events();
    let report = handle.wait().await.unwrap();
    assert_there(root.path());
    assert!(report.entries.iter().all(|entry| entry.verification == Verification::Pieces), "{report:?}");
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::SourceBenched { .. }), "nobody can know whose part it was: {event:?}");
    }
}

#[tokio::test]
async fn who_lies_alone_is_found_out_and_that_is_the_end() {
    let root = tempfile::tempdir().unwrap();
    let client = client(&[mirror("liar", &wrong(&["t/a", "t/b", "t/d"]))]);
    let error = client.download("pieces://x/").to_dir(root.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    for (name, _) in files() {
        assert!(!root.path().join(name).exists(), "{name} has its final name");
    }
}

#[tokio::test]
async fn a_file_is_lost_whose_neighbour_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let scripts = mirror("one", &files());
    scripts[4].1.act([Act::StallAfter(5)]);
    let client = client(&[scripts]);
    let handle = client.download("pieces://x/").connections(1).to_dir(root.path()).start();
    until_there(&handle, &root.path().join("t/b")).await;
    handle.stop();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    drop(handle);
    // Somebody takes a file away that shares a piece with those that are finished.
    std::fs::remove_file(root.path().join("t/b")).unwrap();
    let report = client.download("pieces://x/").connections(1).to_dir(root.path()).await.unwrap();
    assert_there(root.path());
    assert!(report.resumed > 3 * PIECE as u64, "{report:?}");
}

#[tokio::test]
async fn a_mirror_of_many_files_is_their_folder() {
    for url in ["files://h/pub", "files://h/pub/"] {
        let root = tempfile::tempdir().unwrap();
        let report = with_folder(&files()).download("pieces://x/").mirror(url).to_dir(root.path()).await.unwrap();
        assert_there(root.path());
        assert!(report.entries.iter().all(|entry| entry.verification == Verification::Pieces), "{report:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_has_nothing_is_done_without() {
    let root = tempfile::tempdir().unwrap();
    let client = with_folder(&files());
    let download = client.download("pieces://x/").mirror("files://h/elsewhere/").mirror("files://h/pub/");
    let report = download.to_dir(root.path()).await.unwrap();
    assert_there(root.path());
    let of_pub = report.sources.iter().filter(|source| source.transferred > 0);
    assert!(of_pub.clone().count() == LENS.len() && of_pub.clone().all(|s| s.source.contains("/pub/")), "{report:?}");
}

#[tokio::test]
async fn of_a_file_that_nobody_wants_the_mirror_gives_what_others_need() {
    let root = tempfile::tempdir().unwrap();
    let client = with_folder(&files());
    let wanted = |path: &EntryPath| matches!(path.as_str(), "t/b" | "t/e");
    let report =
        client.download("pieces://x/").mirror("files://h/pub/").select(wanted).to_dir(root.path()).await.unwrap();
    let names: Vec<_> = report.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["t/b", "t/e"]);
    for (name, bytes) in files() {
        let there = std::fs::read(root.path().join(name)).ok();
        assert!(there == Some(bytes.to_vec()).filter(|_| names.contains(&name)), "{name}");
    }
    // Two pieces, with what they have of the neighbours.
    assert!(report.transferred < 3 * PIECE as u64, "{report:?}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

/// Two of the files are there, and are not the torrent's.
fn two_are_there(root: &Path) {
    std::fs::create_dir(root.join("t")).unwrap();
    for name in ["t/b", "t/d"] {
        std::fs::write(root.join(name), b"somebody's own").unwrap();
    }
}

#[tokio::test]
async fn what_is_there_already_is_told_before_anything_comes() {
    let root = tempfile::tempdir().unwrap();
    two_are_there(root.path());
    let scripts = mirror("m", &files());
    for (_, script) in &scripts {
        script.always(Act::StallAfter(0));
    }
    let error = client(&[scripts]).download("pieces://x/").to_dir(root.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
    assert_eq!(std::fs::read_dir(root.path().join("t")).unwrap().count(), 2);
}

#[tokio::test]
async fn what_is_left_as_it_is_keeps_its_neighbours_from_nothing() {
    let root = tempfile::tempdir().unwrap();
    two_are_there(root.path());
    let client = client(&[mirror("m", &files())]);
    let report = client.download("pieces://x/").on_exists(OnExists::Skip).to_dir(root.path()).await.unwrap();
    for (name, bytes) in files() {
        let there = std::fs::read(root.path().join(name)).unwrap();
        let is_left = matches!(name, "t/b" | "t/d");
        assert!(if is_left { there == b"somebody's own" } else { there == bytes }, "{name}");
        let entry = report.entries.iter().find(|entry| entry.path.as_str() == name).unwrap();
        assert_eq!((entry.skipped, entry.verification == Verification::Pieces), (is_left, !is_left), "{entry:?}");
        assert_eq!(entry.file.as_deref(), Some(&*root.path().join(name)));
    }
    // Of the larger one only the two pieces at its ends are fetched.
    assert!(report.transferred < (LENS.iter().sum::<usize>() - PIECE / 2) as u64, "{report:?}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}
