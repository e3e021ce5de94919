//! Files that are there before, and are taken over.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn check(dir: &Path) -> FileSink {
    sink(dir, OnExists::Check)
}

fn there(content: &str) -> TempDir {
    let dir = folder();
    fs::write(dir.path().join("f"), content).unwrap();
    dir
}

#[tokio::test]
async fn what_is_right_stays_as_it_is() {
    let dir = there("hello");
    let before = fs::metadata(dir.path().join("f")).unwrap();
    let sink = check(dir.path());
    let entry = entry("f").with_len(5).with_modified(SystemTime::UNIX_EPOCH);
    let prepared = sink.prepare(&entry).await.unwrap();
    assert!(prepared.taken_over && !prepared.skip);
    assert_eq!(prepared.existing, [Span::new(FIRST, 0..5)]);
    assert_eq!(prepared.stamp, Some(Stamp { device: before.dev(), inode: before.ino() }));
    assert_eq!(sink.prepare(&entry).await.unwrap(), prepared);
    assert_eq!(sink.read(&Span::new(FIRST, 0..5)).await.unwrap(), "hello");
    // It is as good as being written: nobody else gets it.
    assert_eq!(check(dir.path()).prepare(&entry).await.unwrap_err().kind(), ErrorKind::Exists);
    sink.sync(FIRST).await.unwrap();
    for _ in 0..2 {
        sink.finish(&entry).await.unwrap();
    }
    let after = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!((after.ino(), after.ctime(), after.ctime_nsec()), (before.ino(), before.ctime(), before.ctime_nsec()));
    assert_eq!(sink.read(&Span::new(FIRST, 0..5)).await.unwrap(), "hello");
    check(dir.path()).prepare(&entry).await.unwrap();
    assert_eq!(tree(dir.path()), ["f=hello"]);
}

#[tokio::test]
async fn what_is_wrong_loses_its_name_before_it_is_written() {
    for open_files in [2, 256] {
        let dir = there("hexxo, and more");
        let options = FileOptions::default().with_on_exists(OnExists::Check).with_open_files(open_files);
        let sink = FileSink::with_options(dir.path(), options);
        let entry = entry("f").with_len(5);
        let stamp = sink.prepare(&entry).await.unwrap().stamp;
        sink.write(FIRST, 2, data("ll")).await.unwrap();
        assert_eq!(tree(dir.path()), ["f.part=hello, and more"]);
        // It is the same one still, also to a checkpoint.
        let again = sink.prepare(&entry).await.unwrap();
        assert_eq!((again.stamp, again.taken_over), (stamp, false));
        let mut other = entry.clone();
        (other.id, other.path) = (SECOND, EntryPath::new("g").unwrap());
        sink.prepare(&other).await.unwrap();
        sink.write(FIRST, 0, data("j")).await.unwrap();
        sink.finish(&entry).await.unwrap();
        assert_eq!(tree(dir.path()), ["f=jello", "g.part="]);
    }
}

#[tokio::test]
async fn what_is_too_long_or_too_short_is_not_finished_as_it_is() {
    let dir = there("hello, and more");
    let sink = check(dir.path());
    let known = entry("f").with_len(5);
    assert_eq!(sink.prepare(&known).await.unwrap().existing, [Span::new(FIRST, 0..5)]);
    sink.finish(&known).await.unwrap();
    assert_eq!(tree(dir.path()), ["f=hello"]);

    let sink = check(dir.path());
    sink.prepare(&entry("f")).await.unwrap();
    assert_eq!(sink.finish(&entry("f").with_len(6)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(tree(dir.path()), ["f.part=hello"]);
}

#[tokio::test]
async fn giving_up_takes_away_nothing_that_was_there() {
    let dir = there("hello");
    let sink = check(dir.path());
    sink.prepare(&entry("f").with_len(100)).await.unwrap();
    sink.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["f=hello"]);

    let sink = check(dir.path());
    sink.prepare(&entry("f").with_len(5)).await.unwrap();
    sink.write(FIRST, 0, data("j")).await.unwrap();
    sink.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["f.part=jello"]);
    // The next run finds it as any other part file.
    let sink = check(dir.path());
    let prepared = sink.prepare(&entry("f").with_len(5)).await.unwrap();
    assert_eq!((prepared.existing, prepared.taken_over), (vec![Span::new(FIRST, 0..5)], false));
}

#[tokio::test]
async fn bytes_that_are_there_already_are_no_change() {
    let dir = there("hello");
    let before = fs::metadata(dir.path().join("f")).unwrap();
    let sink = check(dir.path());
    sink.prepare(&entry("f").with_len(7)).await.unwrap();
    sink.write(FIRST, 1, vec!["el".into(), "l".into()]).await.unwrap();
    assert!(sink.prepare(&entry("f").with_len(7)).await.unwrap().taken_over);
    let after = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!((after.ctime(), after.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
    sink.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["f=hello"]);

    // What goes on beyond its end is one.
    let sink = check(dir.path());
    sink.prepare(&entry("f").with_len(7)).await.unwrap();
    sink.write(FIRST, 4, data("o, ")).await.unwrap();
    assert_eq!(tree(dir.path()), ["f.part=hello, "]);
}

#[tokio::test]
async fn a_reset_is_a_change_as_well() {
    let dir = there("hello");
    let sink = check(dir.path());
    sink.prepare(&entry("f").with_len(3)).await.unwrap();
    sink.reset(FIRST).await.unwrap();
    assert_eq!(tree(dir.path()), ["f.part="]);
    sink.write(FIRST, 0, data("bye")).await.unwrap();
    sink.finish(&entry("f").with_len(3)).await.unwrap();
    assert_eq!(tree(dir.path()), ["f=bye"]);
}

#[tokio::test]
async fn of_two_files_none_is_taken_for_the_other() {
    let dir = there("hello");
    fs::write(dir.path().join("f.part"), "part").unwrap();
    assert_eq!(check(dir.path()).prepare(&entry("f")).await.unwrap_err().kind(), ErrorKind::Exists);
    fs::remove_file(dir.path().join("f.part")).unwrap();

    // One that appears meanwhile is not replaced.
    let sink = check(dir.path());
    sink.prepare(&entry("f")).await.unwrap();
    fs::write(dir.path().join("f.part"), "theirs").unwrap();
    assert_eq!(sink.write(FIRST, 0, data("x")).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(tree(dir.path()), ["f.part=theirs", "f=hello"]);
}

#[tokio::test]
async fn what_may_not_be_written_can_still_be_right() {
    // A second name under which a write would show.
    let dir = there("hello");
    fs::hard_link(dir.path().join("f"), dir.path().join("other")).unwrap();
    // One that is only to be read. Who may do anything may write it all the same.
    fs::write(dir.path().join("locked"), "hello").unwrap();
    fs::set_permissions(dir.path().join("locked"), fs::Permissions::from_mode(0o444)).unwrap();
    let before = tree(dir.path());
    let is_refused = |path: &str| fs::File::options().write(true).open(dir.path().join(path)).is_err();
    for (path, refused) in [("f", true), ("locked", is_refused("locked"))] {
        let entry = entry(path).with_len(5);
        let sink = check(dir.path());
        sink.prepare(&entry).await.unwrap();
        assert_eq!(sink.read(&Span::new(FIRST, 0..5)).await.unwrap(), "hello");
        if refused {
            assert_eq!(sink.write(FIRST, 0, data("x")).await.unwrap_err().kind(), ErrorKind::Denied, "{path}");
        }
        sink.finish(&entry).await.unwrap();
        assert_eq!(tree(dir.path()), before, "{path}");
    }
}

#[tokio::test]
async fn a_look_makes_nothing() {
    let dir = folder();
    let sink = check(dir.path());
    let wanted = Entry::new(FIRST, EntryPath::new("d/f").unwrap()).with_len(5);
    let look = wanted.clone().with_only_look(true);
    assert_eq!(sink.prepare(&look).await.unwrap(), Prepared::empty());
    assert_eq!(tree(dir.path()), [""; 0]);
    for there in ["d/f", "d/f.part"] {
        fs::create_dir_all(dir.path().join("d")).unwrap();
        fs::write(dir.path().join(there), "hello").unwrap();
        let sink = check(dir.path());
        let prepared = sink.prepare(&look).await.unwrap();
        assert_eq!((prepared.existing, prepared.taken_over), (vec![Span::new(FIRST, 0..5)], there == "d/f"));
        assert_eq!(sink.read(&Span::new(FIRST, 1..3)).await.unwrap(), "el");
        assert_eq!(tree(dir.path()), ["d/".to_owned(), format!("{there}=hello")]);
        fs::remove_file(dir.path().join(there)).unwrap();
    }
}

#[tokio::test]
async fn what_was_finished_can_be_taken_back() {
    for on_exists in [OnExists::Fail, OnExists::Rename, OnExists::Check] {
        let dir = folder();
        let sink = sink(dir.path(), on_exists);
        let entry = entry("f").with_len(5);
        let stamp = sink.prepare(&entry).await.unwrap().stamp;
        sink.write(FIRST, 0, data("hexlo")).await.unwrap();
        sink.finish(&entry).await.unwrap();
        assert_eq!(tree(dir.path()), ["f=hexlo"]);
        let wrong = entry.clone().with_is_wrong(true);
        assert_eq!(sink.prepare(&wrong).await.unwrap().stamp, stamp);
        assert_eq!(tree(dir.path()), ["f.part=hexlo"]);
        // Twice changes nothing, nor is it written anew.
        sink.prepare(&wrong).await.unwrap();
        sink.write(FIRST, 2, data("l")).await.unwrap();
        sink.finish(&entry).await.unwrap();
        assert_eq!(tree(dir.path()), ["f=hello"]);
    }
    // What somebody else put there is not ours.
    let dir = folder();
    let sink = sink(dir.path(), OnExists::Fail);
    let entry = entry("f").with_len(5);
    sink.prepare(&entry).await.unwrap();
    sink.write(FIRST, 0, data("hello")).await.unwrap();
    sink.finish(&entry).await.unwrap();
    fs::write(dir.path().join("new"), "other").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("f")).unwrap();
    assert_eq!(sink.prepare(&entry.with_is_wrong(true)).await.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(tree(dir.path()), ["f=other"]);
}

#[tokio::test]
async fn another_name_is_found_again() {
    let dir = there("mine");
    let renaming = || sink(dir.path(), OnExists::Rename);
    fs::write(dir.path().join("f.1.part"), "a").unwrap();
    fs::write(dir.path().join("f.2.part"), "b").unwrap();
    for placed in ["f.2", "f.1"] {
        let entry = entry("f").with_len(5).with_placed(Some(EntryPath::new(placed).unwrap()));
        let prepared = renaming().prepare(&entry).await.unwrap();
        assert_eq!(prepared.path.unwrap().as_str(), placed);
        assert_eq!(prepared.existing, [Span::new(FIRST, 0..1)]);
    }
}
