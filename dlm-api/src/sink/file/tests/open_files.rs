//! Files that are closed while they are written and read.

use rustix::fs::{FlockOperation, flock};

use super::*;

/// A sink that has one file and its folder open at a time.
fn narrow(dir: &Path, on_exists: OnExists) -> FileSink {
    FileSink::with_options(dir, FileOptions::default().with_on_exists(on_exists).with_open_files(2))
}

fn numbered(id: u32, path: &str) -> Entry {
    Entry::new(EntryId::new(id), EntryPath::new(path).unwrap())
}

/// Two entries with something written to each; the first is closed.
async fn two(sink: &FileSink) -> [Entry; 2] {
    let entries = [numbered(0, "a/f").with_len(10), numbered(1, "b/g").with_len(10)];
    for entry in &entries {
        sink.prepare(entry).await.unwrap();
        sink.write(entry.id, 0, data("01234")).await.unwrap();
    }
    assert!(sink.0.place(FIRST).get().is_none());
    entries
}

#[tokio::test]
async fn entries_take_turns() {
    let dir = folder();
    let sink = narrow(dir.path(), OnExists::Fail);
    let entries = two(&sink).await;
    for entry in &entries {
        sink.write(entry.id, 5, data("56789")).await.unwrap();
        assert!(sink.0.pool.open() <= 2);
        sink.sync(entry.id).await.unwrap();
    }
    for entry in &entries {
        assert_eq!(sink.read(&Span::new(entry.id, 3..7)).await.unwrap(), "3456");
        sink.finish(entry).await.unwrap();
    }
    for entry in &entries {
        assert_eq!(sink.read(&Span::new(entry.id, 3..7)).await.unwrap(), "3456");
    }
    assert!(sink.0.pool.open() <= 2);
    assert_eq!(tree(dir.path()), ["a/", "a/f=0123456789", "b/", "b/g=0123456789"]);
}

#[tokio::test]
async fn a_finished_file_stays_open_for_the_next_read() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    download(&sink, &entry("f"), "hello").await.unwrap();
    assert!(sink.0.place(FIRST).get().is_none());
    for _ in 0..2 {
        assert_eq!(sink.read(&Span::new(FIRST, 1..3)).await.unwrap(), "el");
        assert!(sink.0.place(FIRST).get().is_some());
        assert_eq!(sink.0.pool.open(), 1);
    }
    // The one that it was.
    fs::remove_file(dir.path().join("f")).unwrap();
    assert_eq!(sink.read(&Span::new(FIRST, 1..3)).await.unwrap(), "el");
}

#[tokio::test]
async fn a_part_file_that_was_replaced_while_it_was_closed_is_not_written() {
    let part = |dir: &Path| dir.join("a/f.part");
    type Change = fn(&Path);
    let changes: [(Change, ErrorKind); 5] = [
        (|part| fs::remove_file(part).unwrap(), ErrorKind::Storage),
        (
            |part| {
                // Another one, even if it is given the same number.
                fs::rename(part, part.with_extension("moved")).unwrap();
                fs::write(part, "theirs is long enough").unwrap();
            },
            ErrorKind::Storage,
        ),
        (|part| fs::write(part, "new").unwrap(), ErrorKind::Storage),
        (
            |part| {
                fs::rename(part, part.with_extension("moved")).unwrap();
                symlink(part.with_extension("moved"), part).unwrap();
            },
            ErrorKind::Denied,
        ),
        (|part| fs::hard_link(part, part.with_extension("other")).unwrap(), ErrorKind::Denied),
    ];
    for (i, (change, kind)) in changes.into_iter().enumerate() {
        let dir = folder();
        let sink = narrow(dir.path(), OnExists::Fail);
        let entries = two(&sink).await;
        change(&part(dir.path()));
        let before = tree(dir.path());
        let error = sink.write(FIRST, 5, data("56789")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{i}: {}", error.chain());
        assert!(sink.finish(&entries[0]).await.is_err(), "{i}");
        assert_eq!(tree(dir.path()), before, "{i}");
    }
}

#[tokio::test]
async fn a_folder_that_was_replaced_while_it_was_closed_is_not_used() {
    let (dir, other) = (folder(), folder());
    let sink = narrow(dir.path(), OnExists::Fail);
    two(&sink).await;
    fs::rename(dir.path().join("a"), other.path().join("a")).unwrap();
    symlink(other.path().join("a"), dir.path().join("a")).unwrap();
    assert_eq!(sink.write(FIRST, 5, data("56789")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(tree(other.path()), ["a/", "a/f.part=01234"]);
}

#[tokio::test]
async fn a_part_file_is_locked_again_when_it_is_opened_again() {
    let dir = folder();
    let sink = narrow(dir.path(), OnExists::Fail);
    two(&sink).await;
    let theirs = fs::File::open(dir.path().join("a/f.part")).unwrap();
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = sink.write(FIRST, 5, data("56789")).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Exists, "another download is writing this file"));
    drop(theirs);

    sink.write(FIRST, 5, data("56789")).await.unwrap();
    let theirs = fs::File::open(dir.path().join("a/f.part")).unwrap();
    assert!(flock(&theirs, FlockOperation::NonBlockingLockExclusive).is_err());
}

#[tokio::test]
async fn another_sink_of_this_process_does_not_get_a_part_file_that_is_closed() {
    let dir = folder();
    let first = narrow(dir.path(), OnExists::Fail);
    two(&first).await;
    let second = FileSink::new(dir.path());
    assert_eq!(second.prepare(&entry("a/f")).await.unwrap_err().message(), "another download is writing this file");
    // Unless it is gone, and a new one has its name.
    fs::remove_file(dir.path().join("a/f.part")).unwrap();
    second.prepare(&entry("a/f")).await.unwrap();
    second.write(FIRST, 0, data("theirs, and longer")).await.unwrap();
    assert!(first.write(FIRST, 5, data("56789")).await.is_err());
    assert_eq!(fs::read_to_string(dir.path().join("a/f.part")).unwrap(), "theirs, and longer");

    drop(first);
    let mut b = entry("b/g");
    b.id = SECOND;
    assert_eq!(second.prepare(&b).await.unwrap().existing, [Span::new(SECOND, 0..5)]);
}

#[tokio::test]
async fn a_part_file_whose_number_was_given_to_another_while_it_was_closed_is_not_written() {
    let dir = folder();
    let sink = narrow(dir.path(), OnExists::Fail);
    let entries = two(&sink).await;
    let stamp = sink.prepare(&entries[0]).await.unwrap().stamp.unwrap();
    // Closes it again.
    sink.write(SECOND, 5, data("56789")).await.unwrap();
    let _another = ours::Ours::made(stamp);
    assert_eq!(sink.write(FIRST, 5, data("56789")).await.unwrap_err().kind(), ErrorKind::Storage);
}

#[tokio::test]
async fn a_read_that_began_before_the_finish_is_of_the_finished_file() {
    let dir = folder();
    let sink = narrow(dir.path(), OnExists::Fail);
    let entries = two(&sink).await;
    sink.write(FIRST, 5, data("56789")).await.unwrap();
    let before = sink.0.place(FIRST);
    sink.finish(&entries[0]).await.unwrap();
    sink.write(SECOND, 5, data("56789")).await.unwrap();
    assert!(before.get().is_none());
    assert_eq!(sink.0.read_opening(&before, &Span::new(FIRST, 3..7)).unwrap(), "3456");
}

#[tokio::test]
async fn what_is_closed_is_reset_and_taken_away_as_well() {
    let dir = folder();
    let sink = narrow(dir.path(), OnExists::Fail);
    let entries = two(&sink).await;
    for entry in &entries {
        sink.reset(entry.id).await.unwrap();
        assert!(sink.prepare(entry).await.unwrap().existing.is_empty());
    }
    sink.abort().await.unwrap();
    assert!(tree(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_write_at_once_with_few_files_open() {
    let dir = folder();
    let options = FileOptions::default().with_open_files(3);
    let sink = Arc::new(FileSink::with_options(dir.path(), options));
    let tasks: Vec<_> = (0..24)
        .map(|i| {
            let sink = sink.clone();
            tokio::spawn(async move {
                let entry = numbered(i, &format!("d{}/f{i}", i % 5)).with_len(100);
                sink.prepare(&entry).await?;
                for at in (0..100).rev() {
                    sink.write(entry.id, at, vec![Bytes::from(vec![b'a' + (at % 24) as u8 + i as u8 % 3])]).await?;
                    tokio::task::yield_now().await;
                }
                sink.finish(&entry).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for i in 0..24_u32 {
        let wanted: Vec<u8> = (0..100).map(|at: u64| b'a' + (at % 24) as u8 + i as u8 % 3).collect();
        assert_eq!(fs::read(dir.path().join(format!("d{}/f{i}", i % 5))).unwrap(), wanted);
    }
    assert!(sink.0.pool.open() <= 3);
}
