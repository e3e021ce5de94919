//! Files that are there already: what becomes of them, whatever becomes of the download.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Script, Swarm, content};
use dlm_api::{
    Algorithm, Client, Container, Digest, Download, Error, ErrorKind, Handle, Locator, OnExists, Protocol, Ranged,
    Registry, Resolved, Result, Verification,
};
use futures::StreamExt;

const MIB: usize = 1 << 20;
const PIECE: u64 = 64 << 10;

/// What is at the only place there is.
#[derive(Clone, Debug)]
enum Place {
    One(Script),
    Swarm(Swarm),
}

#[async_trait]
impl Protocol for Place {
    fn schemes(&self) -> &[&str] {
        &["place"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Ok(match self {
            Self::One(script) => Resolved::Source(Arc::new(Ranged::new(script.clone()))),
            Self::Swarm(swarm) => Resolved::Many(Arc::new(swarm.clone())),
        })
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

fn at(place: Place) -> Download {
    let client = Client::builder().threads(2).protocol(place).build();
    client.download("place://x/f").connections(1).on_exists(OnExists::Check)
}

fn script(bytes: &Bytes) -> Script {
    Script::new("script://s/f", bytes.clone()).unwrap()
}

fn one(bytes: &Bytes) -> Download {
    at(Place::One(script(bytes)))
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

fn swarm(files: &[(&'static str, &Bytes)]) -> Swarm {
    Swarm::new(7, PIECE, files.iter().map(|(path, bytes)| (*path, (*bytes).clone()))).unwrap()
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let file = root.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until something is so of the files.
async fn until(handle: &Handle, mut is_so: impl FnMut() -> bool) {
    let mut events = handle.events();
    while !is_so() {
        events.next().await.expect("it has ended");
    }
}

/// A later run has no checksum, and the front that was found is not of the content under whose validator the rest came.
#[tokio::test]
async fn what_was_found_is_not_said_to_be_of_the_same_content_later() {
    let root = tempfile::tempdir().unwrap();
    let bytes = content(3, 6 * MIB);
    let mut old = bytes[..3 * MIB].to_vec();
    old[5] ^= 1;
    let file = root.path().join("f");
    put(root.path(), "f", &old);
    let stalls = script(&bytes);
    stalls.always(Act::StallAfter(1 << 20));
    let handle = at(Place::One(stalls)).checksum(sha256(&bytes)).to_file(&file).start();
    until(&handle, || handle.progress().transferred >= 1 << 20).await;
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    let report = one(&bytes).on_exists(OnExists::Fail).to_file(&file).await.unwrap();
    let is_right = std::fs::read(&file).unwrap() == bytes;
    let verification = &report.entries[0].verification;
    assert!(is_right || *verification == Verification::Unverified, "a splice is said to be {verification:?}");
    assert!(report.resumed > 0, "the test means a run that goes on: {report:?}");
}

/// Neither is what follows the content cut off, nor does anything get another name.
#[tokio::test]
async fn what_is_only_shared_is_not_changed() {
    let (a, b) = (content(1, PIECE as usize), content(2, 48 * MIB));
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a", &[&a[..], b"what the user added"].concat());
    put(root.path(), "d/b", &b);
    let place = Place::Swarm(swarm(&[("d/a", &a), ("d/b", &b)]).that_ends());
    at(place).share_only().to_dir(root.path()).await.unwrap();
    assert_eq!(root.path().join("d/a").metadata().unwrap().len(), PIECE + 19);
    assert_eq!(names(&root.path().join("d")), ["a", "b"]);
}

/// The name is the server's to tell, and the connection always breaks.
#[tokio::test]
async fn a_right_file_is_not_emptied_where_its_name_is_learned_late() {
    let root = tempfile::tempdir().unwrap();
    let bytes = content(3, 300_000);
    put(root.path(), "f", &bytes);
    let breaks = script(&bytes);
    breaks.always(Act::BreakAfter(100));
    let report = at(Place::One(breaks)).retries(0).checksum(sha256(&bytes)).to_dir(root.path()).await.unwrap();
    assert_eq!(report.transferred, 0, "{report:?}");
    assert_eq!(std::fs::read(root.path().join("f")).unwrap(), bytes);
    assert_eq!(names(root.path()), ["f"]);
}

/// Nobody answers when the name is asked for.
#[tokio::test]
async fn a_right_file_stays_where_nobody_tells_its_name() {
    let root = tempfile::tempdir().unwrap();
    let bytes = content(3, 300_000);
    put(root.path(), "f", &bytes);
    let refuses = script(&bytes);
    refuses.act([Act::Refuse(ErrorKind::Network)]).always(Act::BreakAfter(100));
    let failed = at(Place::One(refuses)).retries(0).checksum(sha256(&bytes)).to_dir(root.path()).await;
    failed.unwrap_err();
    let there: Vec<_> = names(root.path()).iter().map(|name| std::fs::read(root.path().join(name)).unwrap()).collect();
    assert!(there.contains(&bytes.to_vec()), "{:?}", names(root.path()));
}

#[tokio::test]
async fn what_a_checksum_proves_is_not_fetched_into_a_folder_either() {
    let bytes = content(3, 300_000);
    for (there, transferred) in [(bytes.to_vec(), 0), (bytes[..100_000].to_vec(), 200_000)] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "f", &there);
        let report = one(&bytes).checksum(sha256(&bytes)).to_dir(root.path()).await.unwrap();
        assert_eq!(report.transferred - report.wasted, transferred, "{report:?}");
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), bytes);
        assert_eq!(names(root.path()), ["f"]);
    }
}
