// A list of one range is meant, where clippy sees a list of numbers.
#![allow(clippy::single_range_in_vec_init)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::journal::{Binding, HEADER};
use super::*;
use crate::error::ErrorKind;
use crate::fact::{Identity, Strength};
use crate::path::EntryPath;
use crate::sink::Stamp;
use crate::span::Span;

const FIRST: EntryId = EntryId::FIRST;
const SECOND: EntryId = EntryId::new(1);
const BOOT: [u8; 16] = [1; 16];
const STAMP: Stamp = Stamp { device: 5, inode: u64::MAX };

fn path(path: &str) -> EntryPath {
    EntryPath::new(path).unwrap()
}

fn record() -> Record {
    let mut first = EntryRecord::new(path("a/b.bin"));
    first.len = Some(1000);
    first.stamp = Some(STAMP);
    first.durable = vec![0..100, 100..200, 500..1000];
    first.verified = vec![50..150, 600..700];
    first.identities = vec![Identity {
        scheme: "etag".into(),
        value: "\"ä\\\"\n".to_owned(),
        strength: Strength::Strong,
        origin: Some("https://h".to_owned()),
    }];
    first.modified = Some(SystemTime::UNIX_EPOCH - Duration::new(3, 5));
    let source = SourceRecord {
        key: source_key(&"https://u:p@h/f?token=secret".parse().unwrap()),
        locator: "https://h/f?token=***".to_owned(),
        state: vec![0, 255, 7],
    };
    Record { entries: vec![first, EntryRecord::new(path("c"))], sources: vec![source] }
}

fn store(dir: &Path, boot: [u8; 16]) -> FileCheckpoint {
    FileCheckpoint::with_boot(dir, path("f"), Some(boot))
}

fn file(dir: &TempDir, suffix: &str) -> std::path::PathBuf {
    dir.path().join(format!("f.part.dlm{suffix}"))
}

fn prepared(stamp: Stamp, len: u64) -> Prepared {
    Prepared::empty().with_stamp(stamp).with_existing(vec![Span::new(FIRST, 0..len)])
}

#[tokio::test]
async fn what_was_saved_and_appended_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let file: Box<dyn CheckpointStore> = Box::new(store(dir.path(), BOOT));
    for store in [file, Box::new(MemoryCheckpoint::new())] {
        assert_eq!(store.load().await.unwrap(), Loaded::default());
        assert_eq!(store.append(&[(FIRST, 0..1)]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        store.save(&record()).await.unwrap();
        store.append(&[(FIRST, 200..300), (SECOND, 0..5)]).await.unwrap();
        store.append(&[]).await.unwrap();
        store.append(&[(FIRST, 300..301)]).await.unwrap();
        for bad in [(EntryId::new(2), 0..1), (FIRST, 999..1001), (FIRST, 5..5), (SECOND, 0..u64::MAX)] {
            let error = store.append(&[(FIRST, 0..1), bad]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.record, Some(record()));
        assert_eq!(loaded.written, [(FIRST, 200..300), (SECOND, 0..5), (FIRST, 300..301)]);
        assert!(loaded.is_same_boot);

        // A new record empties the log, also one that is the same.
        store.save(&record()).await.unwrap();
        assert_eq!(store.load().await.unwrap().written, []);
        store.remove().await.unwrap();
        store.remove().await.unwrap();
        assert_eq!(store.load().await.unwrap(), Loaded::default());
        assert!(store.append(&[(FIRST, 0..1)]).await.is_err());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_is_made_where_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileCheckpoint::new(dir.path().join("none"), path("a/f"));
    assert_eq!(store.load().await.unwrap(), Loaded::default());
    store.remove().await.unwrap();
    assert_eq!(FileCheckpoint::find(dir.path().join("none"), "k").await.unwrap(), None);
    assert!(!dir.path().join("none").exists());
    store.save(&record()).await.unwrap();
    assert!(dir.path().join("none/a/f.part.dlm").is_file());
}

#[tokio::test]
async fn a_log_counts_in_its_own_boot_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), BOOT);
    first.save(&record()).await.unwrap();
    first.append(&[(FIRST, 200..300)]).await.unwrap();
    assert_eq!(store(dir.path(), BOOT).load().await.unwrap().written.len(), 1);
    for other in [Some([2; 16]), None] {
        let loaded = FileCheckpoint::with_boot(dir.path(), path("f"), other).load().await.unwrap();
        assert_eq!((loaded.record, loaded.written, loaded.is_same_boot), (Some(record()), vec![], false));
    }
    // Where boots can't be told apart there is no log.
    let unknown = FileCheckpoint::with_boot(dir.path(), path("g"), None);
    unknown.save(&record()).await.unwrap();
    unknown.append(&[(FIRST, 200..300)]).await.unwrap();
    assert!(!dir.path().join("g.part.dlm-log").exists());

    let memory = MemoryCheckpoint::new();
    memory.save(&record()).await.unwrap();
    memory.append(&[(FIRST, 200..300)]).await.unwrap();
    memory.reboot();
    let loaded = memory.load().await.unwrap();
    assert_eq!((loaded.record, loaded.written, loaded.is_same_boot), (Some(record()), vec![], false));
}

#[tokio::test]
async fn a_log_counts_with_its_own_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), BOOT);
    store.save(&record()).await.unwrap();
    store.append(&[(FIRST, 200..300)]).await.unwrap();
    let old = fs::read(file(&dir, "-log")).unwrap();
    let mut newer = record();
    newer.entries[0].durable.pop();
    newer.entries[0].verified.pop();
    store.save(&newer).await.unwrap();
    // Killed after the record was replaced and before the log was.
    fs::write(file(&dir, "-log"), old).unwrap();
    assert_eq!(store.load().await.unwrap().written, []);
}

#[tokio::test]
async fn a_torn_log_counts_up_to_the_tear() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), BOOT);
    store.save(&record()).await.unwrap();
    let spans: Vec<_> = (0..10).map(|i| (FIRST, i * 10..i * 10 + 10)).collect();
    store.append(&spans).await.unwrap();
    let whole = fs::read(file(&dir, "-log")).unwrap();
    let item = (whole.len() - HEADER) / spans.len();
    for len in 0..=whole.len() {
        fs::write(file(&dir, "-log"), &whole[..len]).unwrap();
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.written, spans[..len.saturating_sub(HEADER) / item], "{len}");
        assert_eq!(loaded.is_same_boot, len >= HEADER);
    }
}

#[tokio::test]
async fn a_log_does_not_grow_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), BOOT);
    store.save(&record()).await.unwrap();
    let spans = vec![(FIRST, 0..1); journal::MAX_SPANS / 2 + 1];
    store.append(&spans).await.unwrap();
    store.append(&spans).await.unwrap();
    assert!(fs::metadata(file(&dir, "-log")).unwrap().len() <= journal::MAX_LOG as u64);
    assert_eq!(store.load().await.unwrap().written.len(), spans.len());
}

#[tokio::test]
async fn a_damaged_record_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), BOOT);
    store.save(&record()).await.unwrap();
    let mut bytes = fs::read(file(&dir, "")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(file(&dir, ""), &bytes).unwrap();
    let error = store.load().await.unwrap_err();
    assert_eq!((error.kind(), error.scope()), (ErrorKind::Corrupt, crate::Scope::Download));
    assert!(error.to_string().contains("f.part.dlm") && error.to_string().contains("at: byte"), "{error}");
    // The way out.
    store.save(&record()).await.unwrap();
    assert_eq!(store.load().await.unwrap().record, Some(record()));
}

#[tokio::test]
async fn a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    for suffix in ["", "-log", "-tmp"] {
        std::os::unix::fs::symlink(&victim, file(&dir, suffix)).unwrap();
    }
    let store = store(dir.path(), BOOT);
    assert_eq!(store.load().await.unwrap_err().kind(), ErrorKind::Denied);
    store.save(&record()).await.unwrap();
    store.append(&[(FIRST, 200..300)]).await.unwrap();
    assert_eq!(store.load().await.unwrap().written.len(), 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
}

#[tokio::test]
async fn a_control_file_is_the_owners_and_has_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), BOOT).save(&record()).await.unwrap();
    for suffix in ["", "-log"] {
        assert_eq!(fs::metadata(file(&dir, suffix)).unwrap().permissions().mode() & 0o077, 0);
    }
    let text = fs::read_to_string(file(&dir, "")).unwrap();
    assert!(!text.contains("secret") && !text.contains("u:p"), "{text}");
}

#[tokio::test]
async fn an_unfinished_download_is_found_by_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let key = record().sources[0].key.clone();
    let find = || FileCheckpoint::find(dir.path(), &key);
    let mut other = record();
    other.sources[0].key = source_key(&"https://u:p@h/f?token=another".parse().unwrap());
    for (name, record) in [("0", &other), ("f", &record()), ("g", &record())] {
        FileCheckpoint::new(dir.path(), path(name)).save(record).await.unwrap();
    }
    fs::write(dir.path().join("a.part.dlm"), "damaged").unwrap();
    fs::create_dir(dir.path().join("b.part.dlm")).unwrap();
    // A record of which no file is left.
    assert_eq!(find().await.unwrap(), None);
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/b.bin.part"), "").unwrap();
    assert_eq!(find().await.unwrap(), Some(path("f")));
    assert_eq!(FileCheckpoint::find(dir.path(), "").await.unwrap(), None);
}

#[test]
fn only_what_is_in_the_same_file_is_believed() {
    let mut loaded = Loaded { record: Some(record()), written: Vec::new(), is_same_boot: true };
    loaded.written = vec![(FIRST, 200..300), (SECOND, 0..5), (FIRST, 450..460)];
    let all = loaded.believed(FIRST, &prepared(STAMP, 1000));
    assert_eq!(all.durable, record().entries[0].durable);
    assert_eq!(all.verified, record().entries[0].verified);
    assert_eq!(all.written, [200..300, 450..460]);

    // Shorter than it was: cut off, gone, or not there at all.
    let short = loaded.believed(FIRST, &prepared(STAMP, 250));
    assert_eq!((short.durable, short.verified, short.written), (vec![0..100, 100..200], vec![50..150], vec![200..250]));
    assert_eq!(loaded.believed(FIRST, &Prepared::empty().with_stamp(STAMP)), Believed::default());

    // Another file of that name.
    for other in [Stamp { inode: 1, ..STAMP }, Stamp { device: 1, ..STAMP }] {
        assert_eq!(loaded.believed(FIRST, &prepared(other, 1000)), Believed::default());
    }
    let nameless = Prepared::empty().with_existing(vec![Span::new(FIRST, 0..1000)]);
    assert_eq!(loaded.believed(FIRST, &nameless), Believed::default());
    assert_eq!(loaded.believed(EntryId::new(7), &prepared(STAMP, 1000)), Believed::default());

    // A new boot may number the devices in another way, but not the files.
    loaded.is_same_boot = false;
    assert_eq!(loaded.believed(FIRST, &prepared(Stamp { device: 1, ..STAMP }, 1000)).durable, all.durable);
    assert_eq!(loaded.believed(FIRST, &prepared(Stamp { inode: 1, ..STAMP }, 1000)), Believed::default());
}

#[test]
fn damage_at_any_byte_of_a_record_is_found() {
    let (bytes, _) = record().encode().unwrap();
    assert_eq!(Record::decode(&bytes).unwrap().0, record());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let kind = Record::decode(&damaged).unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{at} {bit}: {kind}");
        }
        assert!(Record::decode(&bytes[..at]).is_err(), "{at}");
        assert!(Record::decode(&[&bytes[..at], b"0", &bytes[at..]].concat()).is_err(), "{at}");
    }
    assert!(Record::decode(&[&bytes[..], b"\n"].concat()).is_err());
    let later = String::from_utf8(bytes).unwrap().replacen("control 1", "control 2", 1);
    assert_eq!(Record::decode(later.as_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn damage_at_any_byte_of_a_log_ends_it_there() {
    let record = record();
    let binding = Binding { boot: BOOT, generation: record.encode().unwrap().1 };
    let spans: Vec<_> = (0..4).map(|i| (FIRST, i * 10..i * 10 + 10)).collect();
    let bytes = [binding.header(), binding.encode(0, &spans).unwrap()].concat();
    assert_eq!(decode_log(&bytes, &binding, &record), spans);
    let item = (bytes.len() - HEADER) / spans.len();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let good = if at < HEADER { 0 } else { (at - HEADER) / item };
            assert_eq!(decode_log(&damaged, &binding, &record), spans[..good], "{at} {bit}");
        }
    }
    // Spans that the record has no place for.
    for bad in [(EntryId::new(2), 0..1), (FIRST, 999..1001), (FIRST, 5..5)] {
        let bytes = [binding.header(), binding.encode(0, &[(FIRST, 0..1), bad, (FIRST, 1..2)]).unwrap()].concat();
        assert_eq!(decode_log(&bytes, &binding, &record), [(FIRST, 0..1)]);
    }
    // Items that are right, but not there.
    let mut moved = bytes.clone();
    moved.copy_within(HEADER..HEADER + item, HEADER + item);
    assert_eq!(decode_log(&moved, &binding, &record), spans[..1]);
}

#[test]
fn a_record_that_makes_no_sense_is_neither_written_nor_read() {
    type Spoil = fn(&mut Record);
    let spoils: [(&str, Spoil); 9] = [
        ("empty", |r| r.entries[0].durable[1] = 150..150),
        ("overlap", |r| r.entries[0].durable[1] = 99..200),
        ("disorder", |r| r.entries[0].durable.swap(0, 2)),
        ("too long", |r| r.entries[0].durable[2] = 500..1001),
        ("past any file", |r| r.entries[1].durable = vec![0..u64::MAX]),
        ("verified only", |r| r.entries[0].verified = vec![150..250]),
        ("verified past all", |r| r.entries[1].verified = vec![0..1]),
        ("twice", |r| r.entries[1].path = r.entries[0].path.clone()),
        ("large state", |r| r.sources[0].state = vec![0; 5 << 20]),
    ];
    for (name, spoil) in spoils {
        let mut record = record();
        spoil(&mut record);
        assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
    // Well-formed, with a good digest, and yet wrong.
    let (bytes, _) = record().encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let body = text.split_once('\n').unwrap().1;
    for (from, to) in [
        ("\"a/b.bin\"", "\"../b.bin\""),
        ("[0,100]", "[0,101]"),
        ("[500,1000]", "[500,1001]"),
        ("[0,100]", "[-1,100]"),
        ("[0,100]", "[0,1e2]"),
        ("\"00ff07\"", "\"00ff0\""),
        ("\"00ff07\"", "\"00fg07\""),
        (",999999995]", ",1000000000]"),
        ("[-4,", "[9223372036854775808,"),
        ("{", "{\"more\":1,"),
        ("}]}", "}]}}"),
    ] {
        assert!(body.contains(from), "{from}");
        let body = body.replacen(from, to, 1);
        let bytes = format!("dlm-control 1 {} {}\n{body}", body.len(), blake3::hash(body.as_bytes()).to_hex());
        assert_eq!(Record::decode(bytes.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{to}");
    }
}

/// Sorted ranges that don't overlap, from gaps and lengths.
fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
    proptest::collection::vec((0..50u64, 1..50u64), 0..20).prop_map(|steps| {
        let mut at = 0;
        steps
            .into_iter()
            .map(|(gap, len)| {
                let start = at + gap;
                at = start + len;
                start..at
            })
            .collect()
    })
}

fn records() -> impl Strategy<Value = Record> {
    let identity = (any::<String>(), any::<String>(), any::<bool>(), any::<Option<String>>()).prop_map(
        |(scheme, value, strong, origin)| Identity {
            scheme: scheme.into(),
            value,
            strength: if strong { Strength::Strong } else { Strength::Weak },
            origin,
        },
    );
    let modified = proptest::option::of((-10_000_000_000..10_000_000_000i64, 0..1_000_000_000u32));
    let entry = (
        ranges(),
        any::<Option<(u64, u64)>>(),
        proptest::collection::vec(identity, 0..3),
        modified,
        proptest::option::of(0..100u64),
        any::<(bool, bool)>(),
    );
    let source = (any::<String>(), any::<String>(), any::<Vec<u8>>());
    let entries = proptest::collection::vec(entry, 0..4).prop_map(|entries| {
        let entries = entries.into_iter().enumerate();
        entries
            .map(|(i, (durable, stamp, identities, modified, more, (is_verified, left_out)))| EntryRecord {
                path: path(&format!("d/{i}")),
                placed: (i == 1).then(|| path("d/1.1")),
                is_padding: i == 2,
                in_place: is_verified,
                len: more.map(|more| durable.last().map_or(0, |range| range.end) + more),
                stamp: stamp.map(|(device, inode)| Stamp { device, inode }),
                verified: if is_verified { durable.clone() } else { Vec::new() },
                durable,
                identities,
                modified: modified.map(|(seconds, nanos)| {
                    let whole = Duration::from_secs(seconds.unsigned_abs());
                    let start = SystemTime::UNIX_EPOCH;
                    (if seconds < 0 { start - whole } else { start + whole }) + Duration::from_nanos(nanos.into())
                }),
                left_out,
            })
            .collect()
    });
    let sources = proptest::collection::vec(source, 0..4).prop_map(|sources| {
        sources.into_iter().map(|(key, locator, state)| SourceRecord { key, locator, state }).collect()
    });
    (entries, sources).prop_map(|(entries, sources)| Record { entries, sources })
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(record in records()) {
        let (bytes, generation) = record.encode().unwrap();
        prop_assert_eq!(Record::decode(&bytes).unwrap(), (record, generation));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), body in "[\\[\\]{}\",:0-9a-z]{0,200}") {
        prop_assert!(Record::decode(&bytes).is_err());
        let text = format!("dlm-control 1 {} {}\n{body}", body.len(), blake3::hash(body.as_bytes()).to_hex());
        let _ = Record::decode(text.as_bytes());
        let record = record();
        let binding = Binding { boot: BOOT, generation: record.encode().unwrap().1 };
        prop_assert_eq!(decode_log(&bytes, &binding, &record), vec![]);
        prop_assert_eq!(decode_log(&[binding.header(), bytes].concat(), &binding, &record), vec![]);
    }

    #[test]
    fn verified_must_be_within_durable(durable in ranges(), verified in ranges()) {
        let mut entry = EntryRecord::new(path("f"));
        let covered = |ranges: &[Range<u64>], at: u64| ranges.iter().any(|range| range.contains(&at));
        let is_within = (0..2000).all(|at| !covered(&verified, at) || covered(&durable, at));
        (entry.durable, entry.verified) = (durable, verified);
        let record = Record { entries: vec![entry], sources: vec![] };
        prop_assert_eq!(record.encode().is_ok(), is_within);
    }
}
