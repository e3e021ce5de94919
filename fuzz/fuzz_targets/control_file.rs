//! A control file is believed as a whole or not at all, and what is believed is written again as it was read. Of the log
//! beside it, only spans of the record's entries count.
//!
//! The digest keeps a fuzzer out, so the input is a body that is given the right first line.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use dlm_api::{Binding, EntryPath, EntryRecord, Record, SourceRecord, Stamp, decode_log};
use libfuzzer_sys::fuzz_target;

/// What a record can be made of, sense or not.
#[derive(Arbitrary, Debug)]
struct Made {
    entries: Vec<MadeEntry>,
    sources: Vec<(String, String, Vec<u8>)>,
    log: Vec<u8>,
    boot: [u8; 16],
}

#[derive(Arbitrary, Debug)]
struct MadeEntry {
    path: String,
    len: Option<u64>,
    stamp: Option<(u64, u64)>,
    durable: Vec<(u64, u64)>,
    verified: Vec<(u64, u64)>,
}

fuzz_target!(|bytes: &[u8]| {
    decode(bytes);
    // As if an attacker, or a program of another version, had written this body.
    if let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let body = &bytes[end + 1..];
        let digest = Record { entries: Vec::new(), sources: Vec::new() };
        let (empty, _) = digest.encode().unwrap();
        let (words, _) = empty.split_at(empty.iter().position(|b| *b == b'\n').unwrap());
        let version = words.splitn(3, |b| *b == b' ').nth(1).unwrap();
        let digest = dlm_api::Digest::of(dlm_api::Algorithm::Blake3, body).to_string();
        let hex = digest.split_once(':').unwrap().1;
        let first = format!("dlm-control {} {} {hex}\n", String::from_utf8_lossy(version), body.len());
        decode(&[first.as_bytes(), body].concat());
    }
    if let Ok(made) = Made::arbitrary(&mut Unstructured::new(bytes)) {
        make(made);
    }
});

fn decode(bytes: &[u8]) {
    let Ok((record, _)) = Record::decode(bytes) else { return };
    let (again, generation) = record.encode().expect("what is read can be written");
    let (same, second) = Record::decode(&again).expect("what is written can be read");
    assert_eq!((&same, second), (&record, generation));
}

fn make(made: Made) {
    let pairs = |ranges: Vec<(u64, u64)>| ranges.into_iter().map(|(start, end)| start..end).collect();
    let entries = made.entries.into_iter().filter_map(|entry| {
        let mut record = EntryRecord::new(EntryPath::from_untrusted_name(&entry.path)?);
        record.len = entry.len;
        record.stamp = entry.stamp.map(|(device, inode)| Stamp { device, inode });
        record.durable = pairs(entry.durable);
        record.verified = pairs(entry.verified);
        Some(record)
    });
    let sources = made.sources.into_iter().map(|(key, locator, state)| SourceRecord { key, locator, state });
    let record = Record { entries: entries.collect(), sources: sources.collect() };
    let Ok((bytes, generation)) = record.encode() else { return };
    assert_eq!(Record::decode(&bytes).expect("what is written can be read"), (record.clone(), generation));
    let binding = Binding { boot: made.boot, generation };
    for (entry, range) in decode_log(&made.log, &binding, &record) {
        let len = record.entries[entry.index()].len.unwrap_or(dlm_api::OPEN_END);
        assert!(range.start < range.end && range.end <= len, "{range:?}");
    }
}
