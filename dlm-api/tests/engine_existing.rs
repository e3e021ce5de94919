//! What is there before a download begins: what an earlier run recorded of it, and what nobody did.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Peer, Script, Swarm, content};
use dlm_api::{
    Algorithm, CheckpointStore, Client, Container, Digest, Download, EntryId, EntryPath, EntryRecord, Error, ErrorKind,
    Event, ExistingFiles, Fact, FileCheckpoint, Handle, Listed, Locator, NotNow, OnExists, Piece, Protocol, Ranged,
    Record, Registry, Resolved, Result, Source, SourceRecord, Span, Stamp, State, Transfer, Verification, Want,
    source_key,
};
use futures::{StreamExt, stream};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
const PIECE: u64 = 64 << 10;
const URL: &str = "place://x/";

/// What is at the only place there is.
#[derive(Clone, Debug)]
enum Place {
    Files(Vec<(&'static str, Script)>),
    /// The last one delivers when somebody says so.
    FilesAndLater(Vec<(&'static str, Script)>, watch::Receiver<bool>),
    Swarm(Swarm),
    Padded(Padded),
}

#[async_trait]
impl Protocol for Place {
    fn schemes(&self) -> &[&str] {
        &["place"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        let listed = |(path, script): &(&str, Script)| {
            Ok(Listed { path: EntryPath::new(path)?, len: None, source: Arc::new(Ranged::new(script.clone())) })
        };
        Ok(match self {
            Self::Files(files) => Resolved::Listing(stream::iter(files.iter().map(listed).collect::<Vec<_>>()).boxed()),
            Self::FilesAndLater(files, now) => {
                let mut files = files.iter().map(listed).collect::<Result<Vec<_>>>()?;
                if let Some(last) = files.last_mut() {
                    last.source = Arc::new(Later(last.source.clone(), now.clone()));
                }
                Resolved::Listing(stream::iter(files.into_iter().map(Ok)).boxed())
            }
            Self::Swarm(swarm) => Resolved::Many(Arc::new(swarm.clone())),
            Self::Padded(padded) => Resolved::Many(Arc::new(padded.clone())),
        })
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

/// A source that waits.
#[derive(Debug)]
struct Later(Arc<dyn Source>, watch::Receiver<bool>);

#[async_trait]
impl Source for Later {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        self.0.resolve(transfer).await
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let _ = self.1.clone().wait_for(|now| *now).await;
        self.0.run(transfer).await
    }
}

fn at(place: Place) -> Download {
    Client::builder().threads(2).protocol(place).build().download(URL).connections(1)
}

/// A swarm with a good peer, or with none.
fn swarm(files: &[(&str, Bytes)], peers: usize) -> Place {
    let all = Swarm::new(7, PIECE, files.iter().map(|(path, bytes)| (*path, bytes.clone()))).unwrap().that_ends();
    Place::Swarm((0..peers).fold(all, |swarm, _| swarm.with_peer(Peer::seed())))
}

fn path(path: &str) -> EntryPath {
    EntryPath::new(path).unwrap()
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let file = root.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn damaged(bytes: &Bytes, at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

fn stamp(file: &Path) -> Stamp {
    let metadata = file.metadata().unwrap();
    Stamp { device: metadata.dev(), inode: metadata.ino() }
}

/// What an earlier run would have recorded of an entry that it has all of, in this file.
fn recorded(root: &Path, name: &str, file: &str) -> EntryRecord {
    let mut entry = EntryRecord::new(path(name));
    let len = root.join(file).metadata().unwrap().len();
    entry.len = Some(len);
    entry.stamp = Some(stamp(&root.join(file)));
    entry.durable.push(0..len);
    entry
}

fn record(entries: Vec<EntryRecord>) -> Record {
    let locator: Locator = URL.parse().unwrap();
    let source = SourceRecord { key: source_key(&locator), locator: locator.to_string(), state: Vec::new() };
    Record { entries, sources: vec![source] }
}

fn store(root: &Path) -> FileCheckpoint {
    FileCheckpoint::new(root, path("d"))
}

/// Waits until a file is there.
async fn until(handle: &Handle, mut is_so: impl FnMut() -> bool) {
    let mut events = handle.events();
    while !is_so() {
        events.next().await.expect("it has ended");
    }
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Its record says that all of it is there, but not that it was checked: it is not given its name before it is.
#[tokio::test]
async fn what_an_earlier_run_left_whole_is_checked_before_it_gets_its_name() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a.part", &damaged(&a, 100_000));
    store(root.path()).save(&record(vec![recorded(root.path(), "d/a", "d/a.part")])).await.unwrap();
    let report = at(swarm(&[("d/a", a.clone()), ("d/b", b.clone())], 1)).to_dir(root.path()).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), a);
    assert_eq!(std::fs::read(root.path().join("d/b")).unwrap(), b);
    assert_eq!(report.transferred, MIB as u64 + PIECE);
    assert!(report.entries.iter().all(|entry| entry.verification == Verification::Pieces));
    assert_eq!(names(root.path()), ["d"]);
}

#[tokio::test]
async fn a_finished_file_that_is_wrong_is_taken_back_and_mended() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a", &damaged(&a, 100_000));
    put(root.path(), "d/b.part", &b);
    let entries = vec![recorded(root.path(), "d/a", "d/a"), recorded(root.path(), "d/b", "d/b.part")];
    store(root.path()).save(&record(entries)).await.unwrap();
    let before = stamp(&root.path().join("d/a"));
    // It has no final name while it is wrong.
    let handle = at(swarm(&[("d/a", a.clone()), ("d/b", b.clone())], 0)).to_dir(root.path()).start();
    until(&handle, || root.path().join("d/a.part").exists()).await;
    assert!(!root.path().join("d/a").exists());
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    // If the next run is killed just after the file got its name again, a third one knows it by that.
    let between = store(root.path()).load().await.unwrap().record.unwrap();
    assert!(!between.entries[0].in_place, "it is a part file by now");
    let report = at(swarm(&[("d/a", a.clone()), ("d/b", b.clone())], 1)).to_dir(root.path()).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), a);
    assert_eq!(std::fs::read(root.path().join("d/b")).unwrap(), b);
    assert_eq!(report.transferred, PIECE);
    assert_eq!(stamp(&root.path().join("d/a")), before, "it is the same file");
    assert_eq!(names(root.path()), ["d"]);
}

/// What a record says was checked is not read again, however much it is.
#[tokio::test]
async fn what_was_checked_is_not_checked_again() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    let wrong = damaged(&a, 100_000);
    put(root.path(), "d/a.part", &wrong);
    let mut entry = recorded(root.path(), "d/a", "d/a.part");
    entry.verified = entry.durable.clone();
    store(root.path()).save(&record(vec![entry])).await.unwrap();
    let report = at(swarm(&[("d/a", a), ("d/b", b)], 1)).to_dir(root.path()).await.unwrap();
    assert_eq!(report.transferred, MIB as u64);
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), wrong, "nobody has looked");
}

#[tokio::test]
async fn what_is_there_without_a_record_is_kept_where_it_is_right() {
    let (a, b, c, d) = (content(1, MIB + 1), content(2, MIB), content(3, 100_000), content(4, 300_000));
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a", &damaged(&a, 100_000));
    put(root.path(), "d/b", &b);
    // Unfinished, by whom ever.
    put(root.path(), "d/d.part", &d[..200_000]);
    let untouched = root.path().join("d/b").metadata().unwrap();
    let files = [("d/b", b.clone()), ("d/a", a.clone()), ("d/c", c.clone()), ("d/d", d.clone())];
    let handle = at(swarm(&files, 1)).on_exists(OnExists::Check).to_dir(root.path()).start();
    let events: Vec<Event> = handle.events().collect().await;
    let report = handle.wait().await.unwrap();
    for (name, bytes) in &files {
        assert_eq!(std::fs::read(root.path().join(name)).unwrap(), *bytes, "{name}");
    }
    let after = root.path().join("d/b").metadata().unwrap();
    let marks = |m: &std::fs::Metadata| (m.ino(), m.ctime(), m.ctime_nsec());
    assert_eq!(marks(&after), marks(&untouched), "what is right is not touched");
    // The damaged piece; those of the missing file and of what is missing of the last one, to the edges of pieces.
    let most = PIECE + (100_000 + 100_000) + 3 * PIECE;
    assert!(report.transferred <= most, "{} of {most}", report.transferred);
    assert!(report.entries.iter().all(|entry| entry.verification == Verification::Pieces));
    assert_eq!(names(root.path()), ["d"]);
    let checked = events.iter().filter(|event| matches!(event, Event::Checked { .. }));
    assert_eq!(checked.count(), 1);
    assert!(events.contains(&Event::State(State::Checking)));
}

/// In a file of one download the digest of the whole says it, and without one all is fetched.
#[tokio::test]
async fn a_digest_of_the_whole_proves_what_is_there() {
    let bytes = content(1, MIB);
    let digest = Digest::of(Algorithm::Sha256, &bytes).to_string();
    for (there, checksum, transferred) in [
        (bytes.to_vec(), Some(&digest), 0),
        (damaged(&bytes, 5), Some(&digest), MIB as u64),
        (bytes.to_vec(), None, MIB as u64),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "f", &there);
        let script = Script::new("script://a/f", bytes.clone()).unwrap();
        let client = Client::builder().threads(2).build();
        let mut download = client.download_from_sources().source(Ranged::new(script)).connections(1);
        if let Some(checksum) = checksum {
            download = download.checksum(checksum);
        }
        let report = download.on_exists(OnExists::Check).to_file(root.path().join("f")).await.unwrap();
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), bytes);
        let useful = report.transferred - report.wasted;
        assert_eq!(useful, transferred, "{report:?}");
        assert_eq!(names(root.path()), ["f"]);
    }
}

#[tokio::test]
async fn a_file_that_was_only_looked_at_is_not_taken_for_finished() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    let wrong = damaged(&a, 100_000);
    put(root.path(), "d/a", &wrong);
    let files = [("d/a", a.clone()), ("d/b", b.clone())];
    let handle = at(swarm(&files, 0)).on_exists(OnExists::Check).to_dir(root.path()).start();
    let mut events = handle.events();
    while !matches!(events.next().await.expect("it has ended"), Event::Checked { .. }) {}
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    assert!(root.path().join("d.part.dlm").exists());

    let script = |name: &str, bytes: &Bytes| Script::new(&format!("script://{name}/f"), bytes.clone()).unwrap();
    let listed = Place::Files(vec![("d/a", script("a", &a)), ("d/b", script("b", &b))]);
    let error = at(listed).to_dir(root.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), wrong);

    let report = at(swarm(&files, 1)).on_exists(OnExists::Check).to_dir(root.path()).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), a);
    assert!(report.transferred <= MIB as u64 + PIECE, "{}", report.transferred);
}

#[tokio::test]
async fn another_name_that_was_chosen_is_gone_on_with() {
    let (a, b) = (content(1, 2 * MIB), content(2, MIB));
    let script = |name: &str, bytes: &Bytes| Script::new(&format!("script://{name}/f"), bytes.clone()).unwrap();
    let scripts = [script("a", &a), script("b", &b)];
    scripts[0].act([Act::StallAfter(MIB + MIB / 2)]);
    let place = Place::Files(vec![("d/a", scripts[0].clone()), ("d/b", scripts[1].clone())]);
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a", b"mine");
    put(root.path(), "d/b", b"mine too");
    let handle = at(place.clone()).on_exists(OnExists::Rename).to_dir(root.path()).start();
    until(&handle, || handle.progress().received >= 2 * MIB as u64 && root.path().join("d/b.1").exists()).await;
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    let report = at(place).on_exists(OnExists::Rename).to_dir(root.path()).await.unwrap();
    assert!(report.resumed >= 2 * MIB as u64, "{report:?}");
    assert_eq!(names(&root.path().join("d")), ["a", "a.1", "b", "b.1"]);
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), b"mine");
    assert_eq!(std::fs::read(root.path().join("d/a.1")).unwrap(), a);
    assert_eq!(std::fs::read(root.path().join("d/b.1")).unwrap(), b);
}

/// As after a kill: what was written of a file that was begun after the record was saved is in a log that knows the file.
#[tokio::test]
async fn the_log_knows_files_that_were_begun_later() {
    let bytes = [content(1, 4 * MIB), content(2, 4 * MIB)];
    let scripts: Vec<Script> =
        (0..).zip(&bytes).map(|(i, bytes)| Script::new(&format!("script://{i}/f"), bytes.clone()).unwrap()).collect();
    scripts.iter().for_each(|script| _ = script.act([Act::StallAfter(3 * MIB)]));
    let (now, is_now) = watch::channel(false);
    let files = vec![("d/a", scripts[0].clone()), ("d/b", scripts[1].clone())];
    let root = tempfile::tempdir().unwrap();
    let handle = at(Place::FilesAndLater(files, is_now)).to_dir(root.path()).start();
    until(&handle, || root.path().join("d.part.dlm").exists()).await;
    now.send_replace(true);
    let mut events = handle.events();
    loop {
        events.next().await.expect("it has ended");
        let Ok(loaded) = store(root.path()).load().await else { continue };
        let second = EntryId::new(1);
        if loaded.written.iter().any(|(entry, _)| *entry == second) {
            assert_eq!(loaded.record.unwrap().entries[1].stamp, Some(stamp(&root.path().join("d/b.part"))));
            return;
        }
    }
}

/// A file, padding to the end of its piece, and another file; and whether there was a file of the padding when it ran.
#[derive(Clone, Debug)]
struct Padded {
    files: [Bytes; 2],
    root: std::path::PathBuf,
    saw: Arc<Mutex<bool>>,
}

const PAD: u64 = 31_072;

impl Padded {
    fn content(&self) -> Vec<u8> {
        [&self.files[0][..], &[0; PAD as usize], &self.files[1]].concat()
    }

    fn spans(&self, piece: std::ops::Range<u64>) -> Vec<Span> {
        let mut at = 0;
        let lens = [self.files[0].len() as u64, PAD, self.files[1].len() as u64];
        let span = |(i, len): (u32, u64)| {
            let (start, end) = (piece.start.max(at) - at, piece.end.min(at + len).saturating_sub(at));
            at += len;
            (start < end).then(|| Span::new(EntryId::new(i), start..end))
        };
        (0..).zip(lens).filter_map(span).collect()
    }
}

#[async_trait]
impl Source for Padded {
    async fn resolve(&self, _: &Transfer) -> Result<()> {
        Ok(())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        *self.saw.lock().unwrap() |= self.root.join(".pad").exists();
        let content = self.content();
        for (name, len) in [("d/a", self.files[0].len()), (".pad/1", PAD as usize), ("d/b", self.files[1].len())] {
            transfer.learn(Fact::Entry { path: path(name), len: Some(len as u64) })?;
        }
        transfer.learn(Fact::Padding(EntryId::new(1)))?;
        let pieces = (0..content.len() as u64).step_by(131_072).map(|at| at..(at + 131_072).min(content.len() as u64));
        for piece in pieces.clone() {
            let digest = Digest::of(Algorithm::Sha1, &content[piece.start as usize..piece.end as usize]);
            transfer.learn(Fact::Pieces(vec![Piece { spans: self.spans(piece).into(), digest }]))?;
        }
        transfer.learn(Fact::LayoutComplete)?;
        for piece in pieces {
            let spans = self.spans(piece.clone());
            let mut changes = transfer.changes();
            // What is being checked can't be had, and may not have to be.
            let lease = loop {
                if spans.iter().all(|span| transfer.is_sealed(span)) {
                    break None;
                }
                match transfer.claim(Want::Exactly(spans.clone()), None) {
                    Ok(lease) => break Some(lease),
                    Err(NotNow::Done) => return Ok(()),
                    Err(NotNow::Wait) => changes.next().await,
                }
            };
            let Some(mut lease) = lease else { continue };
            let mut at = piece.start as usize;
            for span in spans {
                let bytes = Bytes::copy_from_slice(&content[at..at + span.len() as usize]);
                at += bytes.len();
                let _ = lease.write(span.entry, span.range.start, bytes).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn padding_in_a_record_becomes_no_file() {
    let files = [content(1, 100_000), content(2, MIB)];
    for on_exists in [OnExists::Fail, OnExists::Check] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "d/a.part", &files[0]);
        let mut padding = EntryRecord::new(path(".pad/1"));
        (padding.len, padding.is_padding) = (Some(PAD), true);
        let mut a = recorded(root.path(), "d/a", "d/a.part");
        a.durable.clear();
        let earlier = store(root.path());
        earlier.save(&record(vec![a, padding])).await.unwrap();
        earlier.append(&[(EntryId::FIRST, 0..100_000), (EntryId::new(1), 0..PAD)]).await.unwrap();
        let padded = Padded { files: files.clone(), root: root.path().to_owned(), saw: Arc::default() };
        let report = at(Place::Padded(padded.clone())).on_exists(on_exists).to_dir(root.path()).await.unwrap();
        assert_eq!(report.transferred, MIB as u64, "the padding counts, and with it the first file");
        assert!(!*padded.saw.lock().unwrap());
        assert_eq!(
            (names(root.path()), names(&root.path().join("d"))),
            (vec!["d".into()], vec!["a".into(), "b".into()])
        );
    }
}

#[tokio::test]
async fn padding_is_there_without_a_record() {
    let files = [content(1, 100_000), content(2, MIB)];
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "d/a", &files[0]);
    put(root.path(), "d/b", &damaged(&files[1], 5));
    let padded = Padded { files: files.clone(), root: root.path().to_owned(), saw: Arc::default() };
    let report = at(Place::Padded(padded)).on_exists(OnExists::Check).to_dir(root.path()).await.unwrap();
    assert_eq!(report.transferred, 131_072);
    assert_eq!(std::fs::read(root.path().join("d/b")).unwrap(), files[1]);
    assert_eq!(names(root.path()), ["d"]);
}

/// Nothing is fetched although there is somebody to fetch it from, and what is right is shared.
#[tokio::test]
async fn what_is_only_to_be_shared_stays_as_it_is() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    let wrong = damaged(&a, 100_000);
    put(root.path(), "a", &wrong);
    let place = swarm(&[("d/a", a), ("d/b", b.clone()), ("d/c", content(3, 5))], 1);
    put(root.path(), "other", &b);
    let files = ExistingFiles::new(
        [("d/a", "a"), ("d/b", "other"), ("d/c", "missing")].map(|(entry, file)| (path(entry), root.path().join(file))),
    );
    let handle = at(place).share_only().to_sink(files.clone()).start();
    let events: Vec<Event> = handle.events().collect().await;
    let report = handle.wait().await.unwrap();
    assert!(events.contains(&Event::Checked { pieces: 33, right: 31 }), "{events:?}");
    let reported: Vec<_> = report.entries.iter().map(|entry| (entry.path.as_str(), &entry.verification)).collect();
    assert_eq!(reported, [("d/b", &Verification::Pieces)]);
    assert_eq!((report.transferred, names(root.path())), (0, vec!["a".to_owned(), "other".to_owned()]));
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), wrong);
    assert_eq!(std::fs::read(root.path().join("other")).unwrap(), b);
    let nothing = at(swarm(&[("d/a", content(9, MIB))], 1)).share_only().to_sink(files).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Corrupt);
}

/// The first bytes of what an earlier run left are wrong, and it could not check them. A source whose pieces prove themselves is
/// not measured by them.
#[tokio::test]
async fn who_is_proven_by_pieces_is_not_accused_by_the_front_of_what_was_there() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let root = tempfile::tempdir().unwrap();
    // Of the second piece some bytes are missing, and some are wrong.
    put(root.path(), "d/a.part", &damaged(&a, PIECE as usize + 1001));
    let mut entry = recorded(root.path(), "d/a", "d/a.part");
    entry.durable.clear();
    entry.durable.push(PIECE + 1000..MIB as u64);
    store(root.path()).save(&record(vec![entry])).await.unwrap();
    let handle = at(swarm(&[("d/a", a.clone()), ("d/b", b.clone())], 1)).to_dir(root.path()).start();
    let events: Vec<Event> = handle.events().collect().await;
    let report = handle.wait().await;
    let benched = events.iter().find(|event| matches!(event, Event::SourceBenched { .. }));
    assert_eq!(benched, None, "{report:?}");
    report.unwrap();
    assert_eq!(std::fs::read(root.path().join("d/a")).unwrap(), a);
}
