use super::super::text::tests::some_progress;
use super::*;
use crate::cli::plan::Target;
use dlm_api::{Entry, EntryPath, EntryReport, ErrorKind, SourceReport};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(in crate::cli::show) fn request() -> Request {
    Request {
        url: "https://me:secret@h/f.iso?k=secret".parse().unwrap(),
        container: None,
        mirrors: Vec::new(),
        checksum: None,
        target: Target::Dir(".".into()),
    }
}

/// What is written for one call, as text and as JSON. It is always one line.
fn told(tell: impl FnOnce(&mut Json<&mut Vec<u8>>) -> io::Result<()>) -> (String, Value) {
    let mut out = Vec::new();
    tell(&mut Json::new(&mut out)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((text.lines().count(), text.ends_with('\n')), (1, true), "{text}");
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

fn event(event: &Event) -> Value {
    told(|json| json.event(3, event, Instant::now())).1
}

/// Every kind of line there is.
fn all() -> Vec<(Value, Value)> {
    let entry = EntryId::new(1);
    let big = 1 << 40;
    let text = || "x".to_owned();
    let mut report = Report::default();
    report.entries.push(EntryReport::new(
        EntryPath::new("f.iso").unwrap(),
        big,
        Verification::Digest("sha-256".into()),
    ));
    report.entries[0].file = Some("./f.iso".into());
    (report.resumed, report.transferred, report.wasted, report.elapsed) = (1, 2, 3, Duration::from_millis(1_500));
    report.sources.push(SourceReport::new("https://h/f.iso", 2));
    report.warnings.push(text());
    let failure = Error::new(ErrorKind::NotFound, "gone").with_source(io::Error::other("why"));
    let outcomes = [Ok(Report::default()), Err(Error::new(ErrorKind::Corrupt, "bad"))];

    vec![
        (
            told(|json| json.started(3, &request(), Instant::now())).1,
            json!({"event": "started", "download": 3, "url": "https://h/f.iso?k=***"}),
        ),
        (event(&Event::State(State::Finishing)), json!({"event": "state", "download": 3, "state": "finishing"})),
        (
            event(&Event::Named { entry, path: EntryPath::new("a/b").unwrap() }),
            json!({"event": "named", "download": 3, "entry": 1, "path": "a/b"}),
        ),
        (event(&Event::Resumed { bytes: u64::MAX }), json!({"event": "resumed", "download": 3, "bytes": u64::MAX})),
        (
            event(&Event::Container { source: text(), bytes: 9 }),
            json!({"event": "container", "download": 3, "source": "x", "bytes": 9}),
        ),
        (
            event(&Event::Progress(some_progress())),
            json!({
                "event": "progress", "download": 3, "total": 3_221_225_472_u64, "received": 1_610_612_736_u64,
                "verified": 1_073_741_824_u64, "durable": 536_870_912, "transferred": u64::MAX, "wasted": 7,
                "uploaded": 0, "upload_rate": 0, "peers": null,
                "rate": 12_582_912, "connections": 4, "elapsed_ms": 90_500, "eta_ms": 128_000
            }),
        ),
        (
            event(&Event::SourceRetry { source: text(), reason: text(), after: Duration::from_millis(1_500) }),
            json!({"event": "source_retry", "download": 3, "source": "x", "reason": "x", "after_ms": 1_500}),
        ),
        (
            event(&Event::SourceBenched { source: text(), kind: ErrorKind::Changed, reason: text() }),
            json!({"event": "source_benched", "download": 3, "source": "x", "kind": "changed", "reason": "x"}),
        ),
        (
            event(&Event::PieceCorrupt { entry, range: big..big + 1, source: text() }),
            json!({"event": "piece_corrupt", "download": 3, "entry": 1, "start": big, "end": big + 1, "source": "x"}),
        ),
        (
            event(&Event::Repaired { entry, range: 0..big }),
            json!({"event": "repaired", "download": 3, "entry": 1, "start": 0, "end": big}),
        ),
        (
            event(&Event::Restarted { entry, reason: text() }),
            json!({"event": "restarted", "download": 3, "entry": 1, "reason": "x"}),
        ),
        (event(&Event::Warning(text())), json!({"event": "warning", "download": 3, "message": "x"})),
        (event(&Event::Missed(9)), json!({"event": "missed", "download": 3, "events": 9})),
        (
            told(|json| json.finished(3, &request(), &Ok(report))).1,
            json!({
                "event": "complete", "download": 3,
                "entries": [{
                    "path": "f.iso", "file": "./f.iso", "len": big, "verification": "digest", "hash": "sha-256",
                    "skipped": false
                }],
                "resumed": 1, "transferred": 2, "wasted": 3, "uploaded": 0, "elapsed_ms": 1_500,
                "sources": [{"source": "https://h/f.iso", "transferred": 2, "benched": null}],
                "warnings": ["x"]
            }),
        ),
        (
            told(|json| json.finished(3, &request(), &Err(failure))).1,
            json!({
                "event": "failed", "download": 3, "url": "https://h/f.iso?k=***", "kind": "not_found",
                "message": "gone: why", "hint": "check the URL; if the file has moved, give its new place",
                "exit_code": 4
            }),
        ),
        (
            told(|json| json.file(3, &Entry::new(entry, EntryPath::new("a/b").unwrap()).with_len(big))).1,
            json!({"event": "file", "download": 3, "entry": 1, "path": "a/b", "len": big}),
        ),
        (told(|json| json.stopping()).1, json!({"event": "stopping"})),
        (
            told(|json| json.done(&outcomes, Exit::Corrupt)).1,
            json!({"event": "done", "complete": 1, "failed": 1, "exit_code": 3}),
        ),
    ]
}

#[test]
fn each_event_has_its_line() {
    for (written, wanted) in all() {
        assert_eq!(written, wanted);
    }
}

#[test]
fn the_event_comes_first() {
    let (text, _) = told(|json| json.event(0, &Event::Missed(1), Instant::now()));
    assert_eq!(text, "{\"event\":\"missed\",\"download\":0,\"events\":1}\n");
}

#[test]
fn what_is_not_known_is_null() {
    let mut progress = Progress::default();
    progress.peers = Some(dlm_api::Peers::new(3, 1, 1_250));
    let peers = event(&Event::Progress(progress))["peers"].clone();
    let nobody_knows = json!({"connected": 3, "seeds": 1, "copies": 1.25, "known_seeds": null, "known_others": null});
    assert_eq!(peers, nobody_knows);
    progress.peers = Some(dlm_api::Peers::new(3, 1, 1_250).with_known(7, 9));
    let peers = event(&Event::Progress(progress))["peers"].clone();
    assert_eq!(peers, json!({"connected": 3, "seeds": 1, "copies": 1.25, "known_seeds": 7, "known_others": 9}));
    let value = event(&Event::Progress(Progress::default()));
    assert_eq!((&value["total"], &value["eta_ms"]), (&Value::Null, &Value::Null));
}

#[test]
fn each_state_and_verification_has_a_name() {
    use State::{Complete, Failed, Finishing, Paused, Running, Sharing, Starting, Stopped};
    let states =
        [Starting, Running, Paused, Finishing, Sharing, Complete, Failed, Stopped].map(|s| state_name(s).unwrap());
    assert_eq!(states, ["starting", "running", "paused", "finishing", "sharing", "complete", "failed", "stopped"]);
    for (how, name) in [
        (Verification::Pieces, "pieces"),
        (Verification::SameContent, "same_content"),
        (Verification::Unverified, "unverified"),
    ] {
        assert_eq!(verification(&how), (name, None));
    }
}

/// The document has a heading for every event, and under it a line for every field.
#[test]
fn the_document_describes_every_event_and_field() {
    let document = include_str!("../../../../docs/json-events.md");
    for (written, _) in all() {
        let name = written["event"].as_str().unwrap();
        let heading = format!("\n### `{name}`\n");
        let section = document.split_once(&heading).unwrap_or_else(|| panic!("no section {name}")).1;
        let section = section.split("\n### ").next().unwrap();
        let fields = written.as_object().unwrap().keys().filter(|key| !["event", "download"].contains(&key.as_str()));
        for field in fields {
            assert!(section.contains(&format!("\n| `{field}` |")), "{name} has {field}");
        }
    }
}

#[test]
fn nothing_from_a_server_is_obeyed_by_the_terminal() {
    let evil = "\x1b[2J\u{9b}2J\x7f\u{202e}\"\\ü".to_owned();
    let (text, value) = told(|json| json.event(0, &Event::Warning(evil.clone()), Instant::now()));
    assert!(!text.trim_end().contains(escape::is_unsafe), "{text:?}");
    assert!(text.contains("\\u001b[2J\\u009b2J\\u007f\\u202e\\\"\\\\ü"), "{text:?}");
    assert_eq!(value["message"], Value::String(evil));
}

#[test]
fn a_closed_output_is_reported() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = Json::new(Closed).event(0, &Event::Missed(1), Instant::now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

proptest! {
    #[test]
    fn any_text_is_read_back_and_harmless(message in any::<String>()) {
        let (text, value) = told(|json| json.event(0, &Event::Warning(message.clone()), Instant::now()));
        prop_assert!(!text.trim_end_matches('\n').contains(escape::is_unsafe));
        prop_assert_eq!(value["message"].as_str(), Some(message.as_str()));
    }
}
