//! What becomes of a file when something is wrong with its neighbours, or with those who have them.

use dlm_api::testkit::Swarm;

use super::*;

/// Nobody has the neighbour of a wanted file that nobody wants.
#[tokio::test]
async fn a_wanted_file_is_not_finished_with_a_part_that_nobody_checked() {
    let root = tempfile::tempdir().unwrap();
    let mut lies = wrong(&["t/d"]);
    lies.retain(|(name, _)| *name != "t/e");
    let wanted = |path: &EntryPath| path.as_str() == "t/d";
    let job = with_folder(&lies).download("pieces://x/").mirror("files://h/pub/").select(wanted).to_dir(root.path());
    let report = job.await;
    let there = std::fs::read(root.path().join("t/d")).ok();
    assert!(
        there.is_none_or(|bytes| bytes == files()[3].1),
        "wrong bytes have the final name although their piece has a digest: {report:?}"
    );
}

#[tokio::test]
async fn a_finished_neighbour_keeps_its_name_or_gets_it_again() {
    let root = tempfile::tempdir().unwrap();
    let scripts = mirror("one", &files());
    scripts[4].1.act([Act::StallAfter(5)]);
    let handle = client(&[scripts]).download("pieces://x/").connections(1).to_dir(root.path()).start();
    for name in ["t/a", "t/b", "t/c"] {
        until_there(&handle, &root.path().join(name)).await;
    }
    handle.stop();
    assert_eq!(handle.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    drop(handle);
    std::fs::remove_file(root.path().join("t/b")).unwrap();
    // The first place has a wrong byte in what is missing.
    let honest = mirror("honest", &files());
    honest[1].1.act([Act::Refuse(ErrorKind::Network)]);
    let client = client(&[mirror("liar", &wrong(&["t/b"])), honest]);
    let report = client.download("pieces://x/").connections(1).to_dir(root.path()).await.unwrap();
    let names: Vec<_> = std::fs::read_dir(root.path().join("t")).unwrap().map(|e| e.unwrap().file_name()).collect();
    println!("{names:?} {report:?}");
    assert_there(root.path());
}

/// A mirror that was right everywhere but in its part of one piece, and a swarm that has all.
#[tokio::test]
async fn a_good_swarm_is_not_benched_for_the_part_of_a_mirror() {
    for round in 0..12 {
        let root = tempfile::tempdir().unwrap();
        let all = Swarm::new(round, PIECE as u64, files()).unwrap().that_ends();
        let swarm = all.with_peer(dlm_api::testkit::Peer::seed());
        let scripts = mirror("m", &wrong(&["t/d"]));
        // It has only the one file.
        for (_, script) in scripts.iter().filter(|(name, _)| *name != "t/d") {
            script.always(Act::Refuse(ErrorKind::NotFound));
        }
        let client = Client::builder().threads(2).protocol(Both(swarm, scripts)).build();
        let handle = client.download("both://x/").connections(1).to_dir(root.path()).start();
        let mut events = handle.events();
        let report = handle.wait().await;
        while let Some(event) = events.next().await {
            if matches!(event, Event::SourceBenched { .. } | Event::PieceCorrupt { .. }) {
                println!("{round} {event:?}");
            }
        }
        report.unwrap();
        assert_there(root.path());
    }
}

#[derive(Debug)]
struct Both(Swarm, Vec<(&'static str, Script)>);

#[async_trait]
impl Protocol for Both {
    fn schemes(&self) -> &[&str] {
        &["both"]
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

/// A folder that tells of its files, and another one that has them, too.
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

#[tokio::test]
async fn a_mirror_of_a_listing_waits_for_the_listing() {
    let root = tempfile::tempdir().unwrap();
    let listing = mirror("l", &files());
    listing.iter().for_each(|(_, script)| {
        script.always(Act::Refuse(ErrorKind::NotFound));
    });
    let client = Client::builder().threads(2).protocol(Folder(listing)).protocol(Below(mirror("m", &files()))).build();
    let report = client.download("folder://x/").mirror("files://h/pub/").to_dir(root.path()).await.unwrap();
    println!("{report:?}");
    assert_there(root.path());
}

/// Padding fills the last piece of a file, as in most torrents of today. Nobody but a swarm has padding.
#[tokio::test]
async fn the_last_piece_before_padding_is_checked() {
    let root = tempfile::tempdir().unwrap();
    let bytes = content(1, PIECE + 1000);
    let mut lie = bytes.to_vec();
    *lie.last_mut().unwrap() ^= 1;
    let script = Script::new("script://m/t/a", lie.into()).unwrap();
    let client =
        Client::builder().threads(2).protocol(Pad(bytes.clone())).protocol(Below(vec![("t/a", script)])).build();
    let report = client.download("pad://x/").mirror("files://h/pub/").to_dir(root.path()).await;
    let there = std::fs::read(root.path().join("t/a")).ok();
    assert!(there.is_none_or(|there| there == bytes), "wrong bytes have the final name: {report:?}");
}

#[derive(Clone, Debug)]
struct Pad(Bytes);

#[async_trait]
impl Source for Pad {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        let (a, pad) = (EntryPath::new("t/a")?, EntryPath::new("t/pad")?);
        let fill = PIECE - self.0.len() % PIECE;
        transfer.learn(Fact::Entry { path: a.clone(), len: Some(self.0.len() as u64) })?;
        transfer.learn(Fact::Entry { path: pad.clone(), len: Some(fill as u64) })?;
        let (a, pad) = (transfer.entry_at(&a).unwrap(), transfer.entry_at(&pad).unwrap());
        transfer.learn(Fact::Padding(pad))?;
        let last = [&self.0[PIECE..], &vec![0; fill]].concat();
        let first = Piece::new(Span::new(a, 0..PIECE as u64), Digest::of(Algorithm::Sha1, &self.0[..PIECE]));
        let spans = [Span::new(a, PIECE as u64..self.0.len() as u64), Span::new(pad, 0..fill as u64)];
        let last = Piece { spans: spans.into(), digest: Digest::of(Algorithm::Sha1, &last) };
        transfer.learn(Fact::Pieces(vec![first, last]))?;
        transfer.learn(Fact::LayoutComplete)
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        self.resolve(&transfer).await
    }
}

#[async_trait]
impl Protocol for Pad {
    fn schemes(&self) -> &[&str] {
        &["pad"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Ok(Resolved::Many(Arc::new(self.clone())))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

/// A mirror that may still be right, and a swarm that delivered once and has nobody any more.
#[tokio::test]
async fn good_mirrors_do_not_wait_for_a_swarm_without_peers() {
    let root = tempfile::tempdir().unwrap();
    let peer = dlm_api::testkit::Peer::seed().leaving_after(1);
    let swarm = Swarm::new(1, PIECE as u64, files()).unwrap().that_ends().with_peer(peer);
    let scripts = mirror("m", &files());
    // Once its last byte is wrong.
    scripts[3].1.act([Act::LieFrom(LENS[3] as u64 - 1)]);
    let client = Client::builder().threads(2).protocol(Both(swarm, scripts)).build();
    let handle = client.download("both://x/").connections(1).to_dir(root.path()).start();
    let mut events = handle.events();
    let report = tokio::time::timeout(std::time::Duration::from_secs(20), handle.wait()).await;
    while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::from_millis(100), events.next()).await {
        if matches!(event, Event::SourceBenched { .. } | Event::PieceCorrupt { .. }) {
            println!("{event:?}");
        }
    }
    println!("{report:?} {:?}", handle.progress());
    report.expect("it hangs").unwrap();
    assert_there(root.path());
}

/// Tells of files and pieces, delivers the first piece, and then has nobody any more, as a swarm whose peers are gone.
#[derive(Clone, Debug)]
struct Dead(Said);

#[async_trait]
impl Source for Dead {
    async fn resolve(&self, transfer: &Transfer) -> Result<()> {
        self.0.resolve(transfer).await
    }

    async fn run(&self, transfer: Transfer) -> Result<()> {
        self.resolve(&transfer).await?;
        let entry = transfer.entry_at(&EntryPath::new("t/a")?).unwrap();
        let first = Span::new(entry, 0..PIECE as u64);
        if let Some(mut lease) = transfer.next(dlm_api::Want::Exactly(vec![first]), None).await {
            let _ = lease.write(entry, 0, self.0.0[0].1.slice(..PIECE)).await?;
        }
        let mut changes = transfer.changes();
        while !transfer.is_complete() {
            changes.next().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Protocol for Dead {
    fn schemes(&self) -> &[&str] {
        &["dead"]
    }

    async fn open(&self, _: &Locator) -> Result<Resolved> {
        Ok(Resolved::Many(Arc::new(self.clone())))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "no containers here"))
    }
}

#[tokio::test]
async fn mirrors_do_not_leave_a_piece_to_a_swarm_without_peers_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let scripts = mirror("m", &files());
    // Once its last byte is wrong.
    scripts[3].1.act([Act::LieFrom(LENS[3] as u64 - 1)]);
    let client = Client::builder().threads(2).protocol(Dead(Said(files()))).protocol(Below(scripts)).build();
    let handle = client.download("dead://x/").mirror("files://h/pub/").connections(1).to_dir(root.path()).start();
    let report = tokio::time::timeout(std::time::Duration::from_secs(30), handle.wait()).await;
    println!("{report:?} {:?}", handle.progress());
    report.expect("it hangs").unwrap();
    assert_there(root.path());
}

/// A place that has some of the files only, listed beside a source that tells of all.
#[tokio::test]
async fn who_lists_some_files_does_not_change_their_order() {
    let root = tempfile::tempdir().unwrap();
    let swarm = Swarm::new(1, PIECE as u64, files()).unwrap().that_ends();
    let swarm = swarm.with_peer(dlm_api::testkit::Peer::seed());
    let some = mirror("m", &files()[3..4]);
    let client = Client::builder().threads(2).protocol(Both(swarm, some)).build();
    client.download("both://x/").to_dir(root.path()).await.unwrap();
    assert_there(root.path());
}
