//! Whatever is read has its parts in their places, within the limits, and what is made of it in canonical form is read as
//! the same again.

#![no_main]

use dlm_bittorrent::bencode::{Document, Item, Limits, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for limits in [Limits::TORRENT, Limits::MESSAGE, Limits::TRACKER, Limits::DHT] {
        match Document::parse_prefix(bytes, &limits) {
            Ok(document) => check(bytes, &document, &limits),
            Err(fault) => assert!(fault.offset() <= bytes.len(), "{fault:?}"),
        }
    }
});

fn check(bytes: &[u8], document: &Document<'_>, limits: &Limits) {
    let root = document.root();
    assert_eq!(root.span(), 0..document.len());
    assert!(document.len() <= bytes.len());
    // Alone it is the same, and no part of it is whole.
    let alone = Document::parse(&bytes[..document.len()], limits).expect("it ends where it ends");
    assert_eq!(alone.len(), document.len());
    assert!(Document::parse(&bytes[..document.len() - 1], limits).is_err());
    let item = owned(root, 0, limits.max_depth);
    if fits(&item) {
        let encoded = item.encode().expect("it is as deep as it was");
        let again = Document::parse(&encoded, limits).expect("what is written can be read");
        assert_eq!(owned(again.root(), 0, limits.max_depth), item);
    }
}

fn owned(value: Value<'_>, depth: usize, max_depth: usize) -> Item {
    assert!(depth <= max_depth);
    if let Some(items) = value.as_list() {
        let mut at = value.span().start + 1;
        let items = items.map(|item| {
            assert_eq!(item.span().start, at, "nothing is between the items of a list");
            at = item.span().end;
            owned(item, depth + 1, max_depth)
        });
        let list = Item::List(items.collect());
        assert_eq!(at + 1, value.span().end);
        return list;
    }
    if let Some(entries) = value.as_dict() {
        for (key, first) in entries.clone() {
            assert!(value.get(key).is_some_and(|value| value.span().start <= first.span().start));
        }
        return Item::dict(entries.map(|(key, value)| (key.to_vec(), owned(value, depth + 1, max_depth))));
    }
    match (value.as_bytes(), value.as_int()) {
        (Some(bytes), None) => Item::Bytes(bytes.to_vec().into()),
        (None, Some(number)) => Item::Int(number),
        // One that doesn't fit.
        (None, None) => Item::Bytes(value.raw().to_vec().into()),
        (Some(_), Some(_)) => panic!("one value of two kinds"),
    }
}

/// Whether it is sure to be within every limit when it is written.
fn fits(item: &Item) -> bool {
    const FEW: usize = 64;
    match item {
        Item::List(items) => items.len() < FEW && items.iter().all(fits),
        Item::Dict(entries) => entries.len() < FEW && entries.values().all(fits),
        Item::Bytes(bytes) => bytes.len() < FEW,
        Item::Int(_) => true,
    }
}
