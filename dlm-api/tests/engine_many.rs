//! Downloads of many files: each is finished by itself, and what an earlier run left of any of them counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Peer, Script, Swarm, client_here, content};
use dlm_api::{
    Client, Container, Download, EntryId, EntryPath, Error, ErrorKind, Event, Handle, Listed, Locator, OnExists,
    Protocol, Ranged, Registry, Resolved, Result, Source, Span, State, Transfer, Verification,
};
use futures::{FutureExt, StreamExt, stream};

const MIB: usize = 1 << 20;

/// A folder of scripts.
#[derive(Debug)]
struct Folder(Vec<(&'static str, Script)>);

#[async_trait]
impl Protocol for Folder {
    fn schemes(&self) -> &[&str] {
        &["folder"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        let listed = |(path, script): &(&str, Script)| {
            Ok(Listed { path: EntryPath::new(path)?, len: None, source: Arc::new(Ranged::new(script.clone())) })
        };
        let files: Vec<Result<Listed>> = self.0.iter().map(listed).collect();
        Ok(Resolved::Listing(stream::iter(files).boxed()))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

fn folder(files: &[(&'static str, &Script)]) -> Client {
    let files = files.iter().map(|(path, script)| (*path, (*script).clone())).collect();
    Client::builder().threads(2).protocol(Folder(files)).build()
}

fn script(name: &str, bytes: &Bytes) -> Script {
    Script::new(&format!("script://{name}/f"), bytes.clone()).unwrap()
}

/// All files below a folder.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn expected(files: &[(&str, &Bytes)]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// Waits until this many bytes count.
async fn until_received(handle: &Handle, bytes: u64) {
    let mut events = handle.events();
    while handle.progress().received < bytes {
        events.next().await.expect("it has ended");
    }
}

/// Waits until a file is there.
async fn until_there(handle: &Handle, file: &Path) {
    let mut events = handle.events();
    while !file.exists() {
        events.next().await.expect("it has ended");
    }
}

#[tokio::test]
async fn each_file_is_finished_by_itself_and_the_rest_goes_on_in_a_later_run() {
    let (a, b, c) = (content(1, MIB), content(2, 3 * MIB), content(3, 5));
    let scripts = [script("a", &a), script("b", &b), script("c", &c)];
    scripts[1].act([Act::StallAfter(2 * MIB)]);
    let client = folder(&[("d/a", &scripts[0]), ("d/b", &scripts[1]), ("d/sub/c", &scripts[2])]);
    let root = tempfile::tempdir().unwrap();
    let handle = client.download("folder://x/").connections(1).to_dir(root.path()).start();
    until_there(&handle, &root.path().join("d/a")).await;
    until_there(&handle, &root.path().join("d/sub/c")).await;
    until_received(&handle, (MIB + 2 * MIB + 5) as u64).await;
    handle.stop();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    drop(handle);
    assert!(root.path().join("d/b.part").exists() && root.path().join("d.part.dlm").exists());

    let before: Vec<usize> = scripts.iter().map(|script| script.requests().len()).collect();
    let report = client.download("folder://x/").connections(1).to_dir(root.path()).await.unwrap();
    assert_eq!(report.resumed, (MIB + 2 * MIB + 5) as u64);
    assert!(report.transferred <= MIB as u64 + 8192, "{}", report.transferred);
    assert_eq!(files(root.path()), expected(&[("d/a", &a), ("d/b", &b), ("d/sub/c", &c)]));
    let after: Vec<usize> = scripts.iter().map(|script| script.requests().len()).collect();
    assert_eq!((after[0], after[2]), (before[0], before[2]), "what was finished is not asked for again");
    assert!(after[1] > before[1]);
}

/// As after a kill: nobody makes a checkpoint at the end.
#[tokio::test]
async fn what_was_written_just_before_a_kill_counts() {
    let (a, b) = (content(1, 4 * MIB), content(2, 4 * MIB));
    let scripts = [script("a", &a), script("b", &b)];
    for script in &scripts {
        script.act([Act::StallAfter(3 * MIB)]);
    }
    let client = folder(&[("d/a", &scripts[0]), ("d/b", &scripts[1])]);
    let root = tempfile::tempdir().unwrap();
    let handle = client.download("folder://x/").connections(1).to_dir(root.path()).start();
    until_received(&handle, 6 * MIB as u64).await;
    let log = root.path().join("d.part.dlm-log");
    let mut events = handle.events();
    // Both are in the log once it has grown twice, or by one large batch: a few turns of progress are enough.
    while log.metadata().map_or(0, |m| m.len()) < 64 || handle.progress().received < 6 * MIB as u64 {
        events.next().await.unwrap();
    }
    drop(handle);
    drop(client);
    let client = folder(&[("d/a", &scripts[0]), ("d/b", &scripts[1])]);
    let report = loop {
        match client.download("folder://x/").connections(1).to_dir(root.path()).await {
            // The first run's threads are on their way to their end, and hold the files until then.
            Err(error) if error.kind() == ErrorKind::Exists => tokio::task::yield_now().await,
            report => break report.unwrap(),
        }
    };
    assert!(report.resumed >= 3 * MIB as u64, "{}", report.resumed);
    assert_eq!(files(root.path()), expected(&[("d/a", &a), ("d/b", &b)]));
}

#[tokio::test]
async fn a_file_that_is_not_there_costs_no_other_file() {
    let (a, c) = (content(1, MIB), content(3, 2 * MIB));
    let gone = script("b", &c);
    gone.always(Act::Refuse(ErrorKind::NotFound));
    let client = folder(&[("d/a", &script("a", &a)), ("d/b", &gone), ("d/c", &script("c", &c))]);
    let root = tempfile::tempdir().unwrap();
    let error = client.download("folder://x/").connections(1).to_dir(root.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut found = files(root.path());
    found.retain(|name, _| !name.ends_with(".dlm") && !name.ends_with(".dlm-log"));
    assert_eq!(found, expected(&[("d/a", &a), ("d/c", &c)]));

    // It has come back.
    gone.always(Act::Serve);
    let report = client.download("folder://x/").connections(1).to_dir(root.path()).await.unwrap();
    assert_eq!(report.transferred, 2 * MIB as u64);
    assert_eq!(files(root.path()), expected(&[("d/a", &a), ("d/b", &c), ("d/c", &c)]));
}

/// A file that was listed when the download began, and is not any more.
#[tokio::test]
async fn a_file_that_is_not_listed_any_more_is_not_waited_for() {
    let (a, b) = (content(1, 2 * MIB), content(2, 2 * MIB));
    let scripts = [script("a", &a), script("b", &b)];
    for script in &scripts {
        script.act([Act::StallAfter(MIB)]);
    }
    let root = tempfile::tempdir().unwrap();
    let both = folder(&[("d/a", &scripts[0]), ("d/b", &scripts[1])]);
    let handle = both.download("folder://x/").connections(1).to_dir(root.path()).start();
    until_received(&handle, 2 * MIB as u64).await;
    handle.stop();
    handle.wait().await.unwrap_err();
    drop(handle);
    let report =
        folder(&[("d/b", &scripts[1])]).download("folder://x/").connections(1).to_dir(root.path()).await.unwrap();
    assert_eq!(report.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["d/b"]);
    assert_eq!(std::fs::read(root.path().join("d/b")).unwrap(), b);
    assert!(!root.path().join("d/a").exists());
}

#[tokio::test]
async fn only_what_is_selected_is_fetched() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let scripts = [script("a", &a), script("b", &b)];
    let client = folder(&[("d/a.txt", &scripts[0]), ("d/b.bin", &scripts[1])]);
    let root = tempfile::tempdir().unwrap();
    let download = client.download("folder://x/").connections(1).select(|path| path.as_str().ends_with(".txt"));
    let report = download.to_dir(root.path()).await.unwrap();
    assert_eq!(files(root.path()), expected(&[("d/a.txt", &a)]));
    assert_eq!(report.entries.len(), 1);
    assert_eq!(scripts[1].requests().len(), 0);
}

#[tokio::test]
async fn a_file_that_is_there_is_left_as_it_is_and_the_others_are_fetched() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let client = folder(&[("d/a", &script("a", &a)), ("d/b", &script("b", &b))]);
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("d")).unwrap();
    std::fs::write(root.path().join("d/a"), "mine").unwrap();
    let download = || client.download("folder://x/").connections(1).on_exists(OnExists::Skip);
    let report = download().to_dir(root.path()).await.unwrap();
    assert_eq!(files(root.path()), expected(&[("d/a", &Bytes::from_static(b"mine")), ("d/b", &b)]));
    let skipped: Vec<(&str, bool)> = report.entries.iter().map(|e| (e.path.as_str(), e.skipped)).collect();
    assert_eq!(skipped, [("d/a", true), ("d/b", false)]);
    // All of them.
    let report = download().to_dir(root.path()).await.unwrap();
    assert!(report.entries.iter().all(|entry| entry.skipped));
}

fn swarm(files: &[(&str, Bytes)]) -> Swarm {
    let files = files.iter().map(|(path, bytes)| (*path, bytes.clone()));
    Swarm::new(7, 64 << 10, files).unwrap().with_peer(Peer::seed()).with_peer(Peer::seed().with_share(0.5))
}

fn download_of(client: &Client, swarm: Swarm) -> Download {
    client.download_from_sources().source_of_many(swarm)
}

/// Pieces cross files, so that a file is complete only when its neighbours have come far enough.
#[tokio::test(start_paused = true)]
async fn a_swarm_s_files_are_finished_one_by_one_and_checked() {
    let client = client_here();
    let contents = [content(1, 700_001), content(2, 0), content(3, 40_000), content(4, 1_500_000)];
    let names = ["s/a", "s/b", "s/c/d", "s/e"];
    let listed: Vec<(&str, Bytes)> = names.into_iter().zip(contents.iter().cloned()).collect();
    let root = tempfile::tempdir().unwrap();
    let report = download_of(&client, swarm(&listed)).to_dir(root.path()).await.unwrap();
    let wanted: Vec<(&str, &Bytes)> = names.into_iter().zip(&contents).collect();
    assert_eq!(files(root.path()), expected(&wanted));
    let of_len = |entry: &&dlm_api::EntryReport| entry.len > 0;
    assert!(report.entries.iter().filter(of_len).all(|entry| entry.verification == Verification::Pieces));
}

#[tokio::test]
async fn selected_files_bring_the_pieces_that_they_share() {
    let client = Client::builder().threads(2).build();
    let contents = [content(1, 100_000), content(2, 100_000), content(3, 300_000)];
    let names = ["s/a", "s/b", "s/c"];
    let listed: Vec<(&str, Bytes)> = names.into_iter().zip(contents.iter().cloned()).collect();
    let root = tempfile::tempdir().unwrap();
    let download = download_of(&client, swarm(&listed).that_ends()).select(|path| path.as_str() == "s/b");
    download.to_dir(root.path()).await.unwrap();
    assert_eq!(files(root.path()), expected(&[("s/b", &contents[1])]));
}

/// Has everything at once, and gives it to others until it is told that this is enough.
#[derive(Debug)]
struct Giver(Bytes, tokio::sync::watch::Receiver<bool>);

#[async_trait]
impl Source for Giver {
    async fn resolve(&self, _: &Transfer) -> Result<()> {
        Ok(())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let _sharing = transfer.share();
        let span = Span::new(EntryId::FIRST, 0..self.0.len() as u64);
        transfer.learn(dlm_api::Fact::Len(EntryId::FIRST, span.len()))?;
        if let Some(mut lease) = transfer.next(dlm_api::Want::Any { max: u64::MAX }, None).await {
            let _ = lease.write(EntryId::FIRST, 0, self.0.clone()).await?;
        }
        let mut enough = self.1.clone();
        while !*enough.borrow() {
            transfer.count_uploaded(transfer.read(&span).await?.len() as u64);
            tokio::select! {
                _ = enough.changed() => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_source_shares_what_is_finished_until_that_is_enough_or_it_is_stopped() {
    let bytes = content(1, 100_000);
    for stops in [false, true] {
        let (enough, is_enough) = tokio::sync::watch::channel(false);
        let client = Client::builder().threads(2).build();
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("f");
        let download = client.download_from_sources().source(Giver(bytes.clone(), is_enough));
        let handle = download.to_file(&file).start();
        let mut events = handle.events();
        while events.next().await.expect("it has ended") != Event::State(State::Sharing) {}
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "it is finished before it is shared");
        let before = handle.progress().uploaded;
        while handle.progress().uploaded < before + 200_000 {
            events.next().await.expect("it has ended");
        }
        if stops {
            handle.stop();
        } else {
            enough.send_replace(true);
        }
        let report = handle.wait().await.unwrap();
        assert!(report.uploaded >= 200_000, "{}", report.uploaded);
    }
}

/// Has everything at once, and waits for something before it ends.
#[derive(Debug)]
struct Leaver(Bytes, tokio::sync::watch::Receiver<bool>);

#[async_trait]
impl Source for Leaver {
    async fn resolve(&self, _: &Transfer) -> Result<()> {
        Ok(())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let _leaving = transfer.leave();
        transfer.learn(dlm_api::Fact::Len(EntryId::FIRST, self.0.len() as u64))?;
        if let Some(mut lease) = transfer.next(dlm_api::Want::Any { max: u64::MAX }, None).await {
            let _ = lease.write(EntryId::FIRST, 0, self.0.clone()).await?;
        }
        let _ = self.1.clone().wait_for(|may_end| *may_end).await;
        Ok(())
    }
}

#[tokio::test]
async fn a_source_that_takes_its_leave_is_waited_for_and_not_said_to_share() {
    let (end, may_end) = tokio::sync::watch::channel(false);
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("f");
    let client = Client::builder().threads(2).build();
    let handle = client.download_from_sources().source(Leaver(content(1, 1000), may_end)).to_file(&file).start();
    let mut events = handle.events();
    let mut told = Vec::new();
    // It goes on telling of its progress when everything is here.
    while !file.exists() || !matches!(told.last(), Some(Event::Progress(_))) {
        told.push(events.next().await.expect("it has not ended"));
    }
    assert!(handle.wait().now_or_never().is_none(), "it is waited for");
    end.send_replace(true);
    told.extend(events.collect::<Vec<_>>().await);
    assert!(!told.contains(&Event::State(State::Sharing)), "{told:?}");
    assert_eq!(told.last(), Some(&Event::State(State::Complete)));
}

/// What was finished of many is not all there is.
#[tokio::test]
async fn a_file_that_is_there_ends_a_download_of_many_and_is_no_success() {
    let (a, b) = (content(1, MIB), content(2, MIB));
    let client = folder(&[("a", &script("a", &a)), ("b", &script("b", &b))]);
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("b"), "mine").unwrap();
    for _ in 0..3 {
        let error = client.download("folder://x/").connections(1).to_dir(root.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(std::fs::read(root.path().join("b")).unwrap(), b"mine");
    }
}
