use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;
use tempfile::TempDir;

use super::*;
use crate::sink::Stamp;

mod existing;
mod kinds;
mod open_files;

const FIRST: EntryId = EntryId::FIRST;
const SECOND: EntryId = EntryId::new(1);

fn entry(path: &str) -> Entry {
    Entry::new(FIRST, EntryPath::new(path).unwrap())
}

fn sink(dir: &Path, on_exists: OnExists) -> FileSink {
    FileSink::with_options(dir, FileOptions::default().with_on_exists(on_exists))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn data(text: &str) -> Vec<Bytes> {
    text.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect()
}

async fn download(sink: &FileSink, entry: &Entry, text: &str) -> Result<()> {
    sink.prepare(entry).await?;
    sink.write(entry.id, 0, data(text)).await?;
    sink.sync(entry.id).await?;
    sink.finish(&entry.clone().with_len(text.len() as u64)).await
}

/// All that is beneath a folder: files with their content, and folders.
fn tree(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_symlink() {
            all.push(format!("{name}@"));
        } else if path.is_dir() {
            all.push(format!("{name}/"));
            all.extend(tree(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            all.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn an_entry_is_a_part_until_it_is_finished() {
    let dir = folder();
    let sink = FileSink::new(dir.path().join("new/root"));
    let root = dir.path().join("new/root");
    let entry = entry("a/b/f.bin").with_len(11);
    assert_eq!(sink.location(FIRST), None);

    let prepared = sink.prepare(&entry).await.unwrap();
    assert_eq!((prepared.existing.as_slice(), prepared.skip), (&[][..], false));
    sink.write(FIRST, 6, data("world")).await.unwrap();
    sink.write(FIRST, 0, data("hello ")).await.unwrap();
    sink.sync(FIRST).await.unwrap();
    assert_eq!(tree(&root), ["a/", "a/b/", "a/b/f.bin.part=hello world"]);
    assert_eq!(sink.read(&Span::new(FIRST, 4..8)).await.unwrap(), "o wo");
    assert_eq!(sink.location(FIRST).unwrap(), root.join("a/b/f.bin"));

    sink.finish(&entry).await.unwrap();
    sink.finish(&entry).await.unwrap();
    assert_eq!(tree(&root), ["a/", "a/b/", "a/b/f.bin=hello world"]);
    assert_eq!(sink.read(&Span::new(FIRST, 4..8)).await.unwrap(), "o wo");
    assert_eq!(sink.location(FIRST).unwrap(), root.join("a/b/f.bin"));
    assert_eq!(sink.write(FIRST, 0, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let again = sink.prepare(&entry).await.unwrap();
    assert_eq!((again.existing, again.stamp), (vec![Span::new(FIRST, 0..11)], prepared.stamp));

    sink.abort().await.unwrap();
    assert_eq!(tree(&root), ["a/", "a/b/", "a/b/f.bin=hello world"]);
}

#[tokio::test]
async fn what_an_earlier_run_left_is_found_and_bound_to_its_file() {
    let dir = folder();
    let stamp = {
        let sink = FileSink::new(dir.path());
        let stamp = sink.prepare(&entry("f").with_len(100)).await.unwrap().stamp;
        sink.write(FIRST, 0, data("hello")).await.unwrap();
        stamp
    };
    let metadata = fs::metadata(dir.path().join("f.part")).unwrap();
    assert_eq!(stamp, Some(Stamp { device: metadata.dev(), inode: metadata.ino() }));

    let again = FileSink::new(dir.path()).prepare(&entry("f").with_len(100)).await.unwrap();
    assert_eq!((again.existing, again.stamp), (vec![Span::new(FIRST, 0..5)], stamp));
    // Longer than the content is: only what can be content is named.
    let again = FileSink::new(dir.path()).prepare(&entry("f").with_len(3)).await.unwrap();
    assert_eq!(again.existing, [Span::new(FIRST, 0..3)]);
}

#[tokio::test]
async fn space_is_reserved_without_changing_the_size_and_given_back() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let part = dir.path().join("f.part");
    sink.prepare(&entry("f")).await.unwrap();
    assert_eq!(fs::metadata(&part).unwrap().blocks(), 0);
    let prepared = sink.prepare(&entry("f").with_len(1 << 20)).await.unwrap();
    assert!(prepared.existing.is_empty());
    assert_eq!(fs::metadata(&part).unwrap().len(), 0);
    // As much as the file system itself reserves: nothing on those that can't, or shouldn't.
    let like = fs::File::create(dir.path().join("like")).unwrap();
    let can = rustix::fs::fallocate(&like, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 1 << 20).is_ok();
    let reserved = fs::metadata(&part).unwrap().blocks() * 512 >= 1 << 20;
    assert_eq!(reserved, can && !io::UNRESERVED.contains(&(rustix::fs::fstatfs(&like).unwrap().f_type as u32)));

    // It turned out to be shorter.
    sink.write(FIRST, 0, data("short")).await.unwrap();
    sink.finish(&entry("f").with_len(5)).await.unwrap();
    let metadata = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!(metadata.len(), 5);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[tokio::test]
async fn a_disk_without_the_space_is_found_before_the_first_byte() {
    let dir = folder();
    let huge = entry("sub/f").with_len(OPEN_END / 2);
    let sink = FileSink::new(dir.path());
    assert_eq!(sink.prepare(&huge).await.unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(tree(dir.path()).is_empty());
    assert_eq!(sink.prepare(&entry("f").with_len(u64::MAX)).await.unwrap_err().kind(), ErrorKind::InvalidInput);

    // Not looked at where the caller doesn't want it.
    let sink = FileSink::with_options(dir.path(), FileOptions::default().with_preallocate(false));
    sink.prepare(&huge).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_short_is_not_filled_up_with_zeros() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let entry = entry("f");
    sink.prepare(&entry).await.unwrap();
    sink.write(FIRST, 0, data("123456789")).await.unwrap();
    assert_eq!(sink.finish(&entry.clone().with_len(10)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(sink.finish(&entry).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tree(dir.path()), ["f.part=123456789"]);
}

#[tokio::test]
async fn what_an_earlier_run_left_beyond_the_end_is_cut_off() {
    let dir = folder();
    fs::write(dir.path().join("f.part"), "the content of before").unwrap();
    download(&FileSink::new(dir.path()), &entry("f"), "another").await.unwrap();
    assert_eq!(tree(dir.path()), ["f=another"]);
}

#[tokio::test]
async fn the_time_of_the_content_is_kept_unless_it_is_not_wanted() {
    let dir = folder();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let options = FileOptions::default();
    for (name, options, kept) in [("a", options.clone(), true), ("b", options.with_keep_mtime(false), false)] {
        let sink = FileSink::with_options(dir.path(), options);
        download(&sink, &entry(name).with_modified(time), "x").await.unwrap();
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().modified().unwrap() == time, kept);
    }
    // Before 1970.
    let early = SystemTime::UNIX_EPOCH - Duration::from_millis(1_500);
    download(&FileSink::new(dir.path()), &entry("c").with_modified(early), "x").await.unwrap();
    assert_eq!(fs::metadata(dir.path().join("c")).unwrap().modified().unwrap(), early);
}

#[tokio::test]
async fn a_file_that_is_there_before() {
    for (on_exists, wanted) in [
        (OnExists::Fail, Err(ErrorKind::Exists)),
        (OnExists::Overwrite, Ok(["f.bin=new"].as_slice())),
        (OnExists::Rename, Ok(["f.1.bin=new", "f.bin=old"].as_slice())),
        (OnExists::Skip, Ok(["f.bin=old"].as_slice())),
    ] {
        let dir = folder();
        fs::write(dir.path().join("f.bin"), "old").unwrap();
        let sink = sink(dir.path(), on_exists);
        let entry = entry("f.bin");
        let prepared = sink.prepare(&entry).await;
        let Ok(wanted) = wanted else {
            assert_eq!(prepared.unwrap_err().kind(), ErrorKind::Exists);
            assert_eq!(tree(dir.path()), ["f.bin=old"]);
            continue;
        };
        let prepared = prepared.unwrap();
        assert_eq!(prepared.skip, on_exists == OnExists::Skip);
        let name = if on_exists == OnExists::Rename { "f.1.bin" } else { "f.bin" };
        assert_eq!(prepared.path.unwrap().as_str(), name);
        assert_eq!(sink.location(FIRST).unwrap(), dir.path().join(name));
        if !prepared.skip {
            sink.write(FIRST, 0, data("new")).await.unwrap();
            assert!(tree(dir.path()).contains(&"f.bin=old".to_owned()));
        }
        sink.finish(&entry.with_len(3)).await.unwrap();
        assert_eq!(tree(dir.path()), wanted, "{on_exists:?}");
        sink.abort().await.unwrap();
        assert_eq!(tree(dir.path()), wanted, "{on_exists:?}");
    }
}

#[tokio::test]
async fn a_file_that_appears_meanwhile() {
    for (on_exists, wanted) in [
        (OnExists::Fail, ["f.bin.part=new", "f.bin=theirs"].as_slice()),
        (OnExists::Skip, ["f.bin.part=new", "f.bin=theirs"].as_slice()),
        (OnExists::Overwrite, ["f.bin=new"].as_slice()),
        (OnExists::Rename, ["f.1.bin=new", "f.bin=theirs"].as_slice()),
        (OnExists::Check, ["f.bin.part=new", "f.bin=theirs"].as_slice()),
    ] {
        let dir = folder();
        let sink = sink(dir.path(), on_exists);
        let entry = entry("f.bin");
        sink.prepare(&entry).await.unwrap();
        sink.write(FIRST, 0, data("new")).await.unwrap();
        fs::write(dir.path().join("f.bin"), "theirs").unwrap();
        let result = sink.finish(&entry.with_len(3)).await;
        match on_exists {
            OnExists::Fail | OnExists::Skip | OnExists::Check => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Exists)
            }
            OnExists::Overwrite | OnExists::Rename => result.unwrap(),
        }
        assert_eq!(tree(dir.path()), wanted, "{on_exists:?}");
    }
}

#[tokio::test]
async fn the_first_free_number_is_taken_and_resumed() {
    let dir = folder();
    for name in ["f.bin", "f.1.bin", "f.2.bin"] {
        fs::write(dir.path().join(name), "old").unwrap();
    }
    for existing in [vec![], vec![Span::new(FIRST, 0..4)]] {
        let sink = sink(dir.path(), OnExists::Rename);
        let prepared = sink.prepare(&entry("f.bin")).await.unwrap();
        assert_eq!((prepared.path.unwrap().as_str(), prepared.existing), ("f.3.bin", existing));
        sink.write(FIRST, 0, data("part")).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_of_that_name_is_never_replaced_or_skipped() {
    let dir = folder();
    fs::create_dir(dir.path().join("f")).unwrap();
    for on_exists in [OnExists::Fail, OnExists::Overwrite, OnExists::Skip, OnExists::Check] {
        let error = sink(dir.path(), on_exists).prepare(&entry("f")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists, "{on_exists:?}");
    }
}

#[tokio::test]
async fn two_downloads_never_write_one_file() {
    let dir = folder();
    let first = FileSink::new(dir.path());
    first.prepare(&entry("f")).await.unwrap();
    first.write(FIRST, 0, data("first")).await.unwrap();

    for on_exists in [OnExists::Fail, OnExists::Overwrite, OnExists::Skip, OnExists::Check] {
        let error = sink(dir.path(), on_exists).prepare(&entry("f")).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Exists, "another download is writing this file"));
    }
    let renamed = sink(dir.path(), OnExists::Rename);
    assert_eq!(renamed.prepare(&entry("f")).await.unwrap().path.unwrap().as_str(), "f.1");
    // Two entries of one download are no different.
    let mut second = entry("f");
    second.id = SECOND;
    assert_eq!(first.prepare(&second).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(tree(dir.path()), ["f.1.part=", "f.part=first"]);

    drop(first);
    let third = FileSink::new(dir.path());
    assert_eq!(third.prepare(&entry("f")).await.unwrap().existing, [Span::new(FIRST, 0..5)]);
}

#[tokio::test]
async fn another_path_replaces_one_to_which_nothing_was_written() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    sink.prepare(&entry("a/b/first")).await.unwrap();
    sink.prepare(&entry("a/second").with_len(5)).await.unwrap();
    assert_eq!(tree(dir.path()), ["a/", "a/second.part="]);
    sink.write(FIRST, 0, data("hello")).await.unwrap();
    assert_eq!(sink.prepare(&entry("third")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    sink.finish(&entry("a/second").with_len(5)).await.unwrap();
    assert_eq!(sink.prepare(&entry("third")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tree(dir.path()), ["a/", "a/second=hello"]);

    // What an earlier run wrote stays.
    fs::write(dir.path().join("old.part"), "old").unwrap();
    let sink = FileSink::new(dir.path());
    sink.prepare(&entry("old")).await.unwrap();
    sink.prepare(&entry("new")).await.unwrap();
    assert_eq!(tree(dir.path()), ["a/", "a/second=hello", "new.part=", "old.part=old"]);
}

#[tokio::test]
async fn reset_starts_over() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    sink.prepare(&entry("f").with_len(5)).await.unwrap();
    sink.write(FIRST, 0, data("hello")).await.unwrap();
    sink.reset(FIRST).await.unwrap();
    assert!(sink.prepare(&entry("f").with_len(3)).await.unwrap().existing.is_empty());
    sink.write(FIRST, 0, data("bye")).await.unwrap();
    sink.finish(&entry("f").with_len(3)).await.unwrap();
    assert_eq!(tree(dir.path()), ["f=bye"]);
    assert!(sink.reset(FIRST).await.is_err());
}

#[tokio::test]
async fn abort_takes_away_what_it_made_and_nothing_else() {
    let dir = folder();
    fs::create_dir(dir.path().join("theirs")).unwrap();
    let sink = FileSink::new(dir.path());
    download(&sink, &entry("done/f"), "done").await.unwrap();
    for (id, path) in [(1, "done/open"), (2, "a/b/c/open"), (3, "theirs/open")] {
        let mut entry = entry(path);
        entry.id = EntryId::new(id);
        sink.prepare(&entry).await.unwrap();
        sink.write(entry.id, 0, data("x")).await.unwrap();
    }
    // A part file that is somebody else's by now.
    let mut replaced = entry("replaced");
    replaced.id = EntryId::new(4);
    sink.prepare(&replaced).await.unwrap();
    fs::remove_file(dir.path().join("replaced.part")).unwrap();
    fs::write(dir.path().join("replaced.part"), "theirs").unwrap();

    sink.abort().await.unwrap();
    sink.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["done/", "done/f=done", "replaced.part=theirs", "theirs/"]);
    assert_eq!(sink.write(SECOND, 0, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_part_file_that_was_replaced_does_not_become_final() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    sink.prepare(&entry("f")).await.unwrap();
    sink.write(FIRST, 0, data("ours")).await.unwrap();
    fs::rename(dir.path().join("f.part"), dir.path().join("moved")).unwrap();
    fs::write(dir.path().join("f.part"), "theirs").unwrap();
    assert_eq!(sink.finish(&entry("f").with_len(4)).await.unwrap_err().kind(), ErrorKind::Storage);
    assert!(!dir.path().join("f").exists());
}

#[tokio::test]
async fn a_finished_file_that_was_replaced_is_not_read() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    download(&sink, &entry("f"), "ours").await.unwrap();
    fs::write(dir.path().join("other"), "evil").unwrap();
    fs::rename(dir.path().join("other"), dir.path().join("f")).unwrap();
    assert_eq!(sink.read(&Span::new(FIRST, 0..4)).await.unwrap_err().kind(), ErrorKind::Storage);
}

#[tokio::test]
async fn a_link_never_leads_a_write_out_of_the_folder() {
    let outside = folder();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let attempt = |path: &'static str, dir: TempDir, on_exists| async move {
        let sink = sink(dir.path(), on_exists);
        let outcome = download(&sink, &entry(path), "evil").await;
        (outcome.map_err(|e| e.kind()), tree(dir.path()))
    };
    for on_exists in [OnExists::Fail, OnExists::Overwrite, OnExists::Rename, OnExists::Skip, OnExists::Check] {
        // The part file is a link, to a file or to nothing.
        for target in [outside.path().join("victim"), outside.path().join("made")] {
            let dir = folder();
            symlink(target, dir.path().join("f.part")).unwrap();
            assert_eq!(attempt("f", dir, on_exists).await, (Err(ErrorKind::Denied), vec!["f.part@".to_owned()]));
        }
        // A folder on the way is a link, also one to a place inside of the root.
        for target in [outside.path(), Path::new(".")] {
            let dir = folder();
            symlink(target, dir.path().join("sub")).unwrap();
            assert_eq!(attempt("sub/f", dir, on_exists).await.0, Err(ErrorKind::Denied));
        }
        // The part file is a second name of another file.
        let dir = folder();
        fs::write(dir.path().join("victim"), "safe").unwrap();
        fs::hard_link(dir.path().join("victim"), dir.path().join("f.part")).unwrap();
        let (outcome, left) = attempt("f", dir, on_exists).await;
        assert_eq!((outcome, left), (Err(ErrorKind::Denied), vec!["f.part=safe".to_owned(), "victim=safe".to_owned()]));
    }
    // The final name is a link: it may be replaced, but is not followed.
    for (on_exists, wanted) in [
        (OnExists::Fail, (Err(ErrorKind::Exists), vec!["f@".to_owned()])),
        (OnExists::Overwrite, (Ok(()), vec!["f=evil".to_owned()])),
        (OnExists::Rename, (Ok(()), vec!["f.1=evil".to_owned(), "f@".to_owned()])),
        (OnExists::Check, (Err(ErrorKind::Denied), vec!["f@".to_owned()])),
    ] {
        let dir = folder();
        symlink(outside.path().join("victim"), dir.path().join("f")).unwrap();
        assert_eq!(attempt("f", dir, on_exists).await, wanted);
    }
    assert_eq!(tree(outside.path()), ["victim=safe"]);
}

#[tokio::test]
async fn a_part_file_that_is_no_file_is_refused_at_once() {
    let dir = folder();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("f.part"),
        FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(FileSink::new(dir.path()).prepare(&entry("f")).await.unwrap_err().kind(), ErrorKind::Denied);
    fs::create_dir(dir.path().join("g.part")).unwrap();
    assert!(FileSink::new(dir.path()).prepare(&entry("g")).await.is_err());
}

#[tokio::test]
async fn hostile_names_stay_in_the_folder() {
    let outer = folder();
    let root = outer.path().join("root");
    for name in ["../evil", "..\\evil", "%2e%2e%2fevil", "/etc/evil", "....//evil", "x.part", "-rf", &"x".repeat(400)] {
        let path = EntryPath::from_untrusted_name(name).unwrap();
        download(&sink(&root, OnExists::Rename), &Entry::new(FIRST, path), "x").await.unwrap();
    }
    assert!(tree(outer.path()).iter().all(|item| item.starts_with("root/")));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 8);
}

#[tokio::test]
async fn reads_and_writes_have_bounds() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    sink.prepare(&entry("f")).await.unwrap();
    let invalid = |result: Result<Bytes>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    invalid(sink.read(&Span::new(FIRST, 0..MAX_READ + 1)).await);
    invalid(sink.read(&Span::new(FIRST, 5..5)).await);
    invalid(sink.read(&Span::new(SECOND, 0..1)).await);
    // Past what was written.
    assert_eq!(sink.read(&Span::new(FIRST, 0..1)).await.unwrap_err().kind(), ErrorKind::Storage);
    for offset in [OPEN_END, u64::MAX] {
        assert_eq!(sink.write(FIRST, offset, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    sink.write(FIRST, MAX_READ - 1, data("x")).await.unwrap();
    assert_eq!(sink.read(&Span::new(FIRST, 0..MAX_READ)).await.unwrap().len() as u64, MAX_READ);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_entries_finish_at_once() {
    let dir = folder();
    let sink = Arc::new(FileSink::new(dir.path()));
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let sink = sink.clone();
            tokio::spawn(async move {
                let mut entry = entry(&format!("d{}/e/f{i}", i % 3));
                entry.id = EntryId::new(i);
                download(&sink, &entry, &i.to_string()).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let files = tree(dir.path()).into_iter().filter(|item| item.contains('=')).count();
    assert_eq!(files, 200);
    assert!(
        (0..200).all(|i| fs::read_to_string(dir.path().join(format!("d{}/e/f{i}", i % 3))).unwrap() == i.to_string())
    );
    // A finished entry holds nothing open.
    assert!(lock(&sink.0.folders).used.values().all(|folder| folder.strong_count() == 0));
    assert_eq!(sink.0.pool.open(), 0);
}
