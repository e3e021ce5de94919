//! Entries that become no file.

use super::*;
use crate::sink::EntryKind;

fn unwanted(id: u32, path: &str, base: u64, len: u64) -> Entry {
    let entry = Entry::new(EntryId::new(id), EntryPath::new(path).unwrap());
    entry.with_len(len).with_kind(EntryKind::Unwanted { base })
}

#[tokio::test]
async fn padding_never_reaches_the_disk() {
    let dir = folder();
    let root = dir.path().join("root");
    let sink = FileSink::new(&root);
    let padding = entry(".pad/5").with_len(5).with_kind(EntryKind::Padding);
    assert!(sink.prepare(&padding).await.unwrap().existing.is_empty());
    assert_eq!(sink.location(FIRST), None);
    sink.write(FIRST, 0, data("\0\0\0\0\0")).await.unwrap();
    for (offset, bytes) in [(0, "\0\0x"), (3, "\0\0\0")] {
        assert_eq!(sink.write(FIRST, offset, data(bytes)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    sink.sync(FIRST).await.unwrap();
    sink.reset(FIRST).await.unwrap();
    sink.finish(&padding).await.unwrap();
    assert_eq!(sink.read(&Span::new(FIRST, 1..5)).await.unwrap(), "\0\0\0\0");
    assert_eq!(sink.read(&Span::new(FIRST, 1..6)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    sink.abort().await.unwrap();
    assert!(!root.exists());
}

#[tokio::test]
async fn an_entry_becomes_another_kind_before_it_is_written() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let kinds = [EntryKind::File, EntryKind::Padding, EntryKind::Unwanted { base: 7 }, EntryKind::File];
    let trees = [&["d/", "d/f.part="][..], &[], &["d.part.dlm-rest="], &["d/", "d/f.part="]];
    for (kind, wanted) in kinds.into_iter().zip(trees) {
        let entry = entry("d/f").with_len(5).with_kind(kind);
        let first = sink.prepare(&entry).await.unwrap();
        assert_eq!(sink.prepare(&entry).await.unwrap(), first);
        assert_eq!(tree(dir.path()), wanted, "{kind:?}");
    }
    // Not afterwards, as its bytes would be somewhere else.
    for (id, kind, other) in [(0, kinds[0], kinds[2]), (1, kinds[2], kinds[0])] {
        let mut entry = entry(&format!("d/f{id}")).with_len(5).with_kind(kind);
        entry.id = EntryId::new(id);
        sink.prepare(&entry).await.unwrap();
        sink.write(entry.id, 0, data("12345")).await.unwrap();
        assert_eq!(sink.prepare(&entry.with_kind(other)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn what_is_not_wanted_shares_one_file_that_goes_with_the_last() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let wanted = entry("t/wanted").with_len(3);
    let entries = [unwanted(1, "t/a", 3, 1 << 30), unwanted(2, "t/sub/b", (1 << 30) + 3, 6)];
    sink.prepare(&wanted).await.unwrap();
    for entry in &entries {
        sink.prepare(entry).await.unwrap();
        assert_eq!(sink.location(entry.id), None);
    }
    sink.write(FIRST, 0, data("abc")).await.unwrap();
    // A piece from the end of the one to the start of the other, at once in both.
    sink.write(EntryId::new(1), (1 << 30) - 3, data("123")).await.unwrap();
    sink.write(EntryId::new(2), 0, data("456")).await.unwrap();
    for entry in &entries {
        sink.sync(entry.id).await.unwrap();
    }
    assert_eq!(sink.read(&Span::new(EntryId::new(1), (1 << 30) - 3..1 << 30)).await.unwrap(), "123");
    assert_eq!(sink.read(&Span::new(EntryId::new(2), 0..3)).await.unwrap(), "456");
    let rest = dir.path().join("t.part.dlm-rest");
    assert!(fs::metadata(&rest).unwrap().blocks() * 512 < 1 << 20, "only what is written takes space");
    // Nobody reaches into the place of another.
    assert_eq!(sink.write(EntryId::new(1), 1 << 30, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(sink.read(&Span::new(EntryId::new(1), (1 << 30) - 1..(1 << 30) + 1)).await.is_err());
    sink.reset(EntryId::new(1)).await.unwrap();
    assert_eq!(sink.read(&Span::new(EntryId::new(2), 0..3)).await.unwrap(), "456");

    sink.finish(&wanted).await.unwrap();
    sink.finish(&entries[0]).await.unwrap();
    sink.finish(&entries[0]).await.unwrap();
    assert!(sink.read(&Span::new(EntryId::new(1), 0..1)).await.is_err());
    assert!(rest.exists());
    assert_eq!(sink.read(&Span::new(EntryId::new(2), 0..3)).await.unwrap(), "456");
    sink.finish(&entries[1]).await.unwrap();
    assert_eq!(tree(dir.path()), ["t/", "t/wanted=abc"]);
}

#[tokio::test]
async fn what_is_not_wanted_is_found_again_and_taken_away_by_abort() {
    let dir = folder();
    let options = FileOptions::default().with_rest(EntryPath::new("sub/name").unwrap());
    let sink = || FileSink::with_options(dir.path(), options.clone());
    // In another order, and not all of them.
    let entries = [unwanted(0, "a", 0, 5), unwanted(1, "b", 5, 5), unwanted(2, "c", 10, 5)];
    let first = sink();
    let mut stamps = Vec::new();
    for (entry, text) in entries.iter().zip(["aaaaa", "bbbbb", "cc"]) {
        stamps.push(first.prepare(entry).await.unwrap().stamp);
        first.write(entry.id, 0, data(text)).await.unwrap();
    }
    // Another download of the same would write the same file.
    assert_eq!(sink().prepare(&entries[1]).await.unwrap_err().kind(), ErrorKind::Exists);
    drop(first);

    let second = sink();
    for (i, existing, text) in [(2, 0..2, "cc"), (1, 0..5, "bbbbb")] {
        let prepared = second.prepare(&entries[i]).await.unwrap();
        assert_eq!(prepared.existing, [Span::new(entries[i].id, existing.clone())]);
        assert_eq!(prepared.stamp, stamps[i]);
        assert_eq!(second.read(&Span::new(entries[i].id, existing)).await.unwrap(), text);
    }
    assert_eq!(tree(dir.path()), ["sub/", "sub/name.part.dlm-rest=aaaaabbbbbcc"]);
    second.abort().await.unwrap();
    second.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["sub/"]);
}

#[tokio::test]
async fn what_is_not_wanted_needs_a_place() {
    let dir = folder();
    let sink = FileSink::new(dir.path());
    let mut endless = unwanted(0, "a", 0, 5);
    endless.len = None;
    for entry in [endless, unwanted(0, "a", OPEN_END, 1), unwanted(0, "a", u64::MAX, 1)] {
        assert_eq!(sink.prepare(&entry).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(tree(dir.path()).is_empty());
}

#[tokio::test]
async fn a_skipped_entry_is_one_of_several() {
    let dir = folder();
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t/old"), "old").unwrap();
    let sink = sink(dir.path(), OnExists::Skip);
    let (old, new) = (entry("t/old").with_len(5), Entry::new(SECOND, EntryPath::new("t/new").unwrap()).with_len(3));
    assert!(sink.prepare(&old).await.unwrap().skip);
    assert!(!sink.prepare(&new).await.unwrap().skip);
    assert!(sink.prepare(&old).await.unwrap().skip);
    assert_eq!(sink.write(FIRST, 0, data("x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    sink.write(SECOND, 0, data("new")).await.unwrap();
    // What is done to all entries spares it.
    for entry in [&old, &new] {
        sink.sync(entry.id).await.unwrap();
    }
    sink.reset(FIRST).await.unwrap();
    // A piece that it shares with the other is kept elsewhere.
    let other = old.clone().with_kind(EntryKind::Unwanted { base: 0 });
    assert!(!sink.prepare(&other).await.unwrap().skip);
    sink.write(FIRST, 3, data("zz")).await.unwrap();
    assert_eq!(sink.read(&Span::new(FIRST, 3..5)).await.unwrap(), "zz");
    assert!(tree(dir.path()).contains(&"t/old=old".to_owned()));

    sink.finish(&other).await.unwrap();
    assert!(sink.prepare(&old).await.unwrap().skip);
    for entry in [&old, &new] {
        sink.finish(entry).await.unwrap();
    }
    sink.abort().await.unwrap();
    assert_eq!(tree(dir.path()), ["t/", "t/new=new", "t/old=old"]);
}
