//! Documents that tell where the content is: recognised, fetched into memory, and followed.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::testkit::{Act, Script, content};
use dlm_api::{
    Algorithm, Client, Container, Digest, EntryId, EntryPath, Error, ErrorKind, Event, Fact, Handle, Listed, Locator,
    MemorySink, Protocol, Ranged, Registry, Resolved, Result, Source, Transfer, Verification,
};
use futures::{StreamExt, stream};

const MIB: usize = 1 << 20;

/// The longest list.
const MAX_LIST: u64 = 1000;

/// Scripts, each at its URL.
#[derive(Debug)]
struct Scripts(HashMap<String, Script>);

#[async_trait]
impl Protocol for Scripts {
    fn schemes(&self) -> &[&str] {
        &["script"]
    }

    async fn open(&self, locator: &Locator) -> Result<Resolved> {
        let script = self.0.get(locator.url().as_str()).ok_or_else(|| Error::new(ErrorKind::NotFound, "no script"))?;
        Ok(Resolved::Source(Arc::new(Ranged::new(script.clone()))))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "scripts are no containers"))
    }
}

/// A container of URLs, one a line, each relative to the container's own. One URL is a file; of several each is one.
#[derive(Debug)]
struct Lists;

#[async_trait]
impl Protocol for Lists {
    fn schemes(&self) -> &[&str] {
        &[]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "lists have no URLs of their own"))
    }

    fn containers(&self) -> &[Container] {
        &[Container { suffix: ".list", media_type: "text/x-list", max_len: MAX_LIST }]
    }

    async fn open_container(&self, bytes: Bytes, base: &Locator, others: &Registry) -> Result<Resolved> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "not a list");
        let text = std::str::from_utf8(&bytes).map_err(|_| corrupt())?;
        let urls: Result<Vec<_>> = text.lines().map(|line| base.url().join(line).map_err(|_| corrupt())).collect();
        let urls: Vec<Locator> = urls?.into_iter().map(Locator::from).collect();
        if let [url] = &*urls {
            return others.open(url).await;
        }
        let mut files = Vec::new();
        for url in urls {
            // What is in a folder that is called so goes to one.
            let name = match url.url().path().trim_start_matches('/') {
                path if path.contains(".d/") => EntryPath::new(path).ok(),
                _ => url.file_name().and_then(|name| EntryPath::from_untrusted_name(&name)),
            };
            let name = name.ok_or_else(corrupt)?;
            let Resolved::Source(source) = others.open(&url).await? else { return Err(corrupt()) };
            files.push(Ok(Listed { path: name, len: None, source }));
        }
        Ok(Resolved::Listing(stream::iter(files).boxed()))
    }
}

fn client(scripts: impl IntoIterator<Item = Script>) -> Client {
    let by_url = scripts.into_iter().map(|script| (format!("{script:?}"), script)).collect();
    Client::builder().threads(2).protocol(Scripts(by_url)).protocol(Lists).build()
}

fn script(url: &str, bytes: impl Into<Bytes>) -> Script {
    Script::new(url, bytes.into()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// Downloads what is at `url` into a folder; the names and the bytes of what is there then.
async fn fetch(client: &Client, url: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = tempfile::tempdir().unwrap();
    client.download(url).to_dir(folder.path()).await?;
    Ok(files(folder.path()))
}

fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_container_is_known_by_its_name() {
    let bytes = content(1, MIB);
    let (list, file) = (script("script://a/x.List", "f.bin\n"), script("script://a/f.bin", bytes.clone()));
    let client = client([list.clone(), file]);
    let memory = MemorySink::new(u64::MAX);
    let handle = client.download("script://a/x.List").to_memory(memory.clone()).start();
    let events = handle.events();
    handle.wait().await.unwrap();
    assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes);
    assert_eq!(list.requests().len(), 1);
    let told =
        events.any(|event| async move { event == Event::Container { source: "script://a/x.List".into(), bytes: 6 } });
    assert!(told.await);
}

#[tokio::test]
async fn a_container_is_known_by_its_media_type_and_by_the_name_that_a_server_gives_it() {
    let bytes = content(1, MIB);
    let ways = [
        script("script://a/get", "f.bin\n").with_media_type("Text/X-List; charset=utf-8"),
        script("script://a/get", "f.bin\n").with_name("x.list"),
    ];
    for list in ways {
        let client = client([list.clone(), script("script://a/f.bin", bytes.clone())]);
        assert_eq!(fetch(&client, "script://a/get").await.unwrap(), [("get".into(), bytes.to_vec())]);
        assert_eq!(list.requests().len(), 2, "once to see what it is, and once to have it");
    }
    let plain = script("script://a/get", "f.bin\n").with_media_type("text/plain").with_name("list");
    assert_eq!(fetch(&client([plain]), "script://a/get").await.unwrap(), [("list".into(), b"f.bin\n".to_vec())]);
}

#[tokio::test]
async fn a_container_of_many_files_brings_them_all() {
    let (one, two) = (content(1, MIB), content(2, 3));
    let client = client([
        script("script://a/x.list", "one\nsub/two\n"),
        script("script://a/one", one.clone()),
        script("script://a/sub/two", two.clone()),
    ]);
    let files = fetch(&client, "script://a/x.list").await.unwrap();
    assert_eq!(files, [("one".into(), one.to_vec()), ("two".into(), two.to_vec())]);
}

#[tokio::test]
async fn a_container_that_is_not_to_be_followed_is_kept() {
    let client = client([script("script://a/x.list", "f.bin\n").with_media_type("text/x-list")]);
    let folder = tempfile::tempdir().unwrap();
    client.download("script://a/x.list").follow_containers(false).to_dir(folder.path()).await.unwrap();
    assert_eq!(files(folder.path()), [("x.list".into(), b"f.bin\n".to_vec())]);
}

#[tokio::test]
async fn what_a_container_leads_to_is_content_even_if_it_is_a_container() {
    let inner = script("script://a/inner.list", "f.bin\n").with_media_type("text/x-list");
    let client = client([script("script://a/x.list", "inner.list\n"), inner]);
    let files = fetch(&client, "script://a/x.list").await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].1, b"f.bin\n");
}

#[tokio::test]
async fn a_container_that_is_too_large_is_not_taken_into_memory() {
    let long = vec![b'\n'; MAX_LIST as usize + 1];
    let by_name = script("script://a/x.list", long.clone());
    let by_type = script("script://a/get", long.clone()).with_media_type("text/x-list").without_len();
    let client = client([by_name, by_type]);
    for url in ["script://a/x.list", "script://a/get"] {
        assert_eq!(fetch(&client, url).await.unwrap_err().kind(), ErrorKind::TooLarge, "{url}");
    }
    let held = client.download_container("script://a/x.list", long).to_memory(MemorySink::new(0));
    assert_eq!(held.await.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_checksum_is_that_of_the_container() {
    let file = script("script://a/f.bin", content(1, MIB));
    for (url, list) in [
        ("script://a/x.list", script("script://a/x.list", "f.bin\n")),
        ("script://a/get", script("script://a/get", "f.bin\n").with_media_type("text/x-list")),
    ] {
        let client = client([list, file.clone()]);
        let report =
            client.download(url).checksum(sha256(b"f.bin\n")).to_memory(MemorySink::new(u64::MAX)).await.unwrap();
        assert_eq!(report.entries[0].verification, Verification::SameContent, "nobody knows the content's");
        let before = file.requests().len();
        let wrong = client.download(url).checksum(sha256(b"another")).to_memory(MemorySink::new(u64::MAX));
        assert_eq!(wrong.await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(file.requests().len(), before, "and nothing of the content was asked for");
    }
}

#[tokio::test]
async fn a_container_that_makes_no_sense_says_so() {
    let client = client([script("script://a/x.list", &b"\xff"[..])]);
    assert_eq!(fetch(&client, "script://a/x.list").await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fetch(&client, "script://a/gone.list").await.unwrap_err().kind(), ErrorKind::NotFound);
    let unknown = client.download_container("script://a/x.pdf", "f.bin\n").to_memory(MemorySink::new(0)).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_container_that_the_caller_has_is_followed() {
    let bytes = content(1, MIB);
    let client = client([script("script://a/f.bin", bytes.clone())]);
    let memory = MemorySink::new(u64::MAX);
    // What he has is not what he wants to be sure of.
    let list = client.download_container("script://a/x.list", "f.bin\n").checksum(sha256(&bytes));
    let report = list.to_memory(memory.clone()).await.unwrap();
    assert_eq!(report.entries[0].verification, Verification::Digest("sha-256".to_owned()));
    assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes);
    let wrong = client.download_container("script://a/x.list", "f.bin\n").checksum(sha256(b"f.bin\n"));
    let error = wrong.to_memory(MemorySink::new(u64::MAX)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_mirror_serves_beside_what_a_container_leads_to() {
    let bytes = content(1, 8 * MIB);
    let file = script("script://a/f.bin", bytes.clone()).with_rate(4 << 20);
    let mirror = script("script://b/other", bytes.clone()).with_rate(4 << 20);
    let list = script("script://a/get", "f.bin\n").with_media_type("text/x-list");
    let client = client([list, file.clone(), mirror.clone()]);
    let memory = MemorySink::new(u64::MAX);
    let download = client.download("script://a/get").mirror("script://b/other");
    download
        .pieces(MIB as u64, bytes.chunks(MIB).map(|piece| Digest::of(Algorithm::Sha256, piece)))
        .to_memory(memory.clone())
        .await
        .unwrap();
    assert_eq!(memory.bytes(EntryId::FIRST).unwrap(), bytes);
    assert!(!file.requests().is_empty() && !mirror.requests().is_empty());
}

/// The second run finds what the first one left before it knows that there is a container in between.
#[tokio::test]
async fn a_download_through_a_container_goes_on_where_it_was() {
    let bytes = content(1, 8 * MIB);
    for list in
        [script("script://a/get", "f.bin\n").with_media_type("text/x-list"), script("script://a/get.list", "f.bin\n")]
    {
        let url = format!("{list:?}");
        let file = script("script://a/f.bin", bytes.clone());
        let folder = tempfile::tempdir().unwrap();
        for to_dir in [false, true] {
            let target = folder.path().join(to_dir.to_string());
            let client = client([list.clone(), file.clone()]);
            let run = || {
                let download = client.download(&url);
                if to_dir { download.to_dir(&target) } else { download.to_file(target.join("here")) }
            };
            std::fs::create_dir(&target).unwrap();
            file.act([Act::BreakAfter(5 * MIB)]).always(Act::Refuse(ErrorKind::NotFound));
            assert_eq!(run().await.unwrap_err().kind(), ErrorKind::NotFound);
            file.always(Act::Serve);
            let report = run().await.unwrap();
            assert!(report.resumed >= 4 << 20, "{url}: {}", report.resumed);
            assert_eq!(files(&target).len(), 1);
            assert_eq!(files(&target)[0].1, bytes);
        }
    }
}

#[tokio::test]
async fn what_there_is_can_be_told_without_fetching_it() {
    let list = script("script://a/x.list", "one\ntwo\n");
    let typed = script("script://a/get", "one\n").with_media_type("text/x-list");
    let one = script("script://a/one", content(1, MIB)).with_name("../called.iso");
    let client = client([list, typed, one, script("script://a/two", content(2, 3))]);
    let inspect = async |url: &str| {
        let entries = client.download(url).inspect().await?;
        Ok::<_, Error>(entries.into_iter().map(|e| (e.path.to_string(), e.len)).collect::<Vec<_>>())
    };
    assert_eq!(inspect("script://a/one").await.unwrap(), [("called.iso".into(), Some(MIB as u64))]);
    assert_eq!(inspect("script://a/get").await.unwrap(), [("called.iso".into(), Some(MIB as u64))]);
    assert_eq!(inspect("script://a/x.list").await.unwrap(), [("one".into(), None), ("two".into(), None)]);
    assert_eq!(inspect("script://a/gone").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(inspect("nonsense").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let with_mirror = client.download("script://a/gone").mirror("script://a/one").inspect().await.unwrap();
    assert_eq!(with_mirror[0].len, Some(MIB as u64));
}

/// Known as a container only when its server answers, and what it leads to was begun by an earlier run.
#[tokio::test]
async fn what_a_container_without_a_name_leads_to_is_gone_on_with() {
    for files in [&["f.bin", "g.bin"][..], &["all.d/f", "all.d/g"]] {
        let bytes = content(1, 4 * MIB);
        let text: String = files.iter().map(|file| format!("{file}\n")).collect();
        let list = script("script://a/get", text).with_media_type("text/x-list");
        let scripts: Vec<Script> =
            files.iter().map(|file| script(&format!("script://a/{file}"), bytes.clone())).collect();
        scripts.iter().for_each(|script| _ = script.act([Act::StallAfter(3 * MIB)]));
        let client = client(scripts.into_iter().chain([list]));
        let root = tempfile::tempdir().unwrap();
        let handle = client.download("script://a/get").connections(1).to_dir(root.path()).start();
        let mut events = handle.events();
        while handle.progress().received < 6 * MIB as u64 {
            events.next().await.expect("it has ended");
        }
        handle.stop();
        handle.wait().await.unwrap_err();
        drop(handle);
        let report = client.download("script://a/get").connections(1).to_dir(root.path()).await.unwrap();
        assert!(report.resumed >= 6 * MIB as u64, "{files:?}: {report:?}");
        for file in files {
            assert_eq!(std::fs::read(root.path().join(file)).unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), files.len() - usize::from(files[0].contains('/')));
    }
}

/// Is stopped from outside, and turns out to be a container in the same moment.
#[derive(Debug)]
struct Stopped(Arc<tokio::sync::SetOnce<Arc<Handle>>>, bool);

#[async_trait]
impl Source for Stopped {
    async fn resolve(&self, _: &Transfer) -> Result<()> {
        Ok(())
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        let handle = self.0.wait().await;
        if self.1 {
            handle.remove()
        } else {
            handle.stop()
        }
        let learned = transfer.learn(Fact::MediaType(EntryId::FIRST, "text/x-list".into()));
        assert_eq!(learned.unwrap_err().kind(), ErrorKind::Unsupported);
        std::future::pending().await
    }
}

/// Gives the same source for every URL.
#[derive(Debug)]
struct Always(Arc<Stopped>);

#[async_trait]
impl Protocol for Always {
    fn schemes(&self) -> &[&str] {
        &["always"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Ok(Resolved::Source(self.0.clone()))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

#[tokio::test]
async fn who_stops_it_in_the_moment_in_which_a_container_is_found_is_obeyed() {
    for removes in [false, true] {
        let handle = Arc::new(tokio::sync::SetOnce::new());
        let always = Always(Arc::new(Stopped(handle.clone(), removes)));
        let client = Client::builder().threads(1).protocol(always).protocol(Lists).build();
        let running = Arc::new(client.download("always://a/get").to_memory(MemorySink::new(u64::MAX)).start());
        handle.set(running.clone()).unwrap();
        assert_eq!(running.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
