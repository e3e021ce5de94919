use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8]) -> Result<Document<'_>, Fault> {
    Document::parse(bytes, &Limits::TORRENT)
}

fn fault(bytes: &[u8]) -> (usize, Reason) {
    let fault = parse(bytes).expect_err("it should not parse");
    (fault.offset(), fault.reason())
}

fn owned(value: Value<'_>) -> Item {
    if let Some(number) = value.as_int() {
        Item::Int(number)
    } else if let Some(bytes) = value.as_bytes() {
        Item::Bytes(Bytes::copy_from_slice(bytes))
    } else if let Some(items) = value.as_list() {
        Item::List(items.map(owned).collect())
    } else {
        Item::dict(value.as_dict().unwrap().map(|(key, value)| (Bytes::copy_from_slice(key), owned(value))))
    }
}

#[test]
fn values_are_found_where_they_stand() {
    let text = b"d1:ai-7e1:bl3:xyzlee1:cd0:i0eee";
    let document = parse(text).unwrap();
    let root = document.root();
    assert_eq!(document.len(), text.len());
    assert_eq!(root.get("a").unwrap().as_int(), Some(-7));
    let list: Vec<_> = root.get("b").unwrap().as_list().unwrap().collect();
    assert_eq!((list.len(), list[0].as_bytes(), list[0].content()), (2, Some(&b"xyz"[..]), Some(14..17)));
    assert_eq!(list[1].as_list().unwrap().count(), 0);
    assert_eq!(root.get("c").unwrap().raw(), b"d0:i0ee");
    assert_eq!(root.get("c").unwrap().get("").unwrap().as_int(), Some(0));
    assert_eq!(root.as_dict().unwrap().map(|(key, _)| key).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert!(root.get("d").is_none() && root.as_list().is_none() && root.as_int().is_none());
    assert!(root.as_bytes().is_none() && list[0].get("a").is_none());
}

#[test]
fn what_swarms_send_is_taken() {
    for (text, value) in [("i03e", 3), ("i-0e", 0), ("i00000e", 0)] {
        assert_eq!(parse(text.as_bytes()).unwrap().root().as_int(), Some(value), "{text}");
    }
    assert_eq!(parse(b"003:abc").unwrap().root().as_bytes(), Some(&b"abc"[..]));
    // Not sorted, and twice.
    let document = parse(b"d1:bi1e1:ai2e1:bi3ee").unwrap();
    assert_eq!(document.root().get("b").unwrap().as_int(), Some(1));
    // A number that nobody needs may be any.
    let document = parse(b"i18446744073709551615e").unwrap();
    assert_eq!(document.root().as_int(), None);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let table: &[(&[u8], usize, Reason)] = &[
        (b"", 0, Reason::Truncated),
        (b"e", 0, Reason::NotAValue),
        (b"x", 0, Reason::NotAValue),
        (b"-1:", 0, Reason::NotAValue),
        (b"l-5:abcdee", 1, Reason::NotAValue),
        (b"ie", 0, Reason::BadInteger),
        (b"i-e", 0, Reason::BadInteger),
        (b"i--1e", 0, Reason::BadInteger),
        (b"i1-e", 0, Reason::BadInteger),
        (b"i+1e", 0, Reason::BadInteger),
        (b"i1.5e", 0, Reason::BadInteger),
        (b"i 1e", 0, Reason::BadInteger),
        (b"li1ei1", 6, Reason::Truncated),
        (b"i1111111111111111111111111e", 0, Reason::BadInteger),
        (b"d2222222222:l", 1, Reason::Truncated),
        (b"99999999999999999999:", 0, Reason::BadLength),
        (b"18446744073709551615:", 0, Reason::BadLength),
        (b"5:abc", 0, Reason::Truncated),
        (b"5", 1, Reason::Truncated),
        (b"5x:abcde", 0, Reason::BadLength),
        (b"di1ei2ee", 1, Reason::NotAKey),
        (b"dlei2ee", 1, Reason::NotAKey),
        (b"d1:ae", 4, Reason::NoValue),
        (b"d1:ai1e", 7, Reason::Truncated),
        (b"l", 1, Reason::Truncated),
        (b"i1ei2e", 3, Reason::Trailing),
        (b"le\n", 2, Reason::Trailing),
    ];
    for (text, at, reason) in table {
        assert_eq!(fault(text), (*at, *reason), "{}", text.escape_ascii());
    }
}

#[test]
fn a_value_may_be_followed_where_that_is_asked_for() {
    let document = Document::parse_prefix(b"d1:ai1eepayload", &Limits::MESSAGE).unwrap();
    assert_eq!(document.len(), 8);
}

#[test]
fn nesting_is_bounded_for_every_way_in() {
    for limits in [Limits::TORRENT, Limits::MESSAGE, Limits::TRACKER, Limits::DHT] {
        let lists = [b'l'; 20 * 1024];
        let lists = &lists[..lists.len().min(limits.max_len)];
        let fault = Document::parse(lists, &limits).unwrap_err();
        assert_eq!((fault.offset(), fault.reason()), (limits.max_depth, Reason::TooDeep));
        let deep = [vec![b'l'; limits.max_depth], vec![b'e'; limits.max_depth]].concat();
        Document::parse(&deep, &limits).unwrap();
        let dicts = b"d1:a".repeat(limits.max_depth + 1);
        let fault = Document::parse(&dicts, &limits).unwrap_err();
        assert_eq!(fault.reason(), Reason::TooDeep);
    }
}

#[test]
fn length_and_number_are_bounded() {
    let limits = Limits { max_len: 8, max_depth: 2, max_values: 3 };
    let reason = |text: &[u8]| Document::parse(text, &limits).map(|_| ()).map_err(|f| (f.offset(), f.reason()));
    assert_eq!(reason(b"lleleeXX"), Err((6, Reason::Trailing)));
    assert_eq!(reason(b"l0:0:e"), Ok(()));
    assert_eq!(reason(b"l0:0:0:e"), Err((5, Reason::TooMany)));
    assert_eq!(reason(b"l0:0:0:0:e"), Err((8, Reason::TooLong)));
}

#[test]
fn a_fault_says_whose_it_is() {
    let fault = parse(b"x").unwrap_err();
    let error = Error::from(fault);
    assert_eq!((error.kind(), error.scope()), (ErrorKind::Protocol, Scope::Source));
    assert_eq!(error.chain(), "not valid bencoding (at: 0): no value starts like this");
    let deep = parse(&[b'l'; 100]).unwrap_err();
    assert_eq!((Error::from(deep).kind(), Error::from(deep).scope()), (ErrorKind::TooLarge, Scope::Source));
}

#[test]
fn what_is_written_is_canonical() {
    let item = Item::dict([("b", Item::Int(-1)), ("a", Item::list(["x", ""])), ("", Item::List(Vec::new()))]);
    assert_eq!(item.encode().unwrap(), "d0:le1:al1:x0:e1:bi-1ee");
    let mut deep = Item::Int(0);
    for _ in 0..100 {
        deep = Item::List(vec![deep]);
    }
    assert_eq!(deep.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Item::Int),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|b| Item::Bytes(b.into())),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Item::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from), inner, 0..6)
                .prop_map(Item::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(item in item()) {
        let bytes = item.encode().unwrap();
        let document = parse(&bytes).unwrap();
        prop_assert_eq!(owned(document.root()), item);
        prop_assert!((0..bytes.len()).all(|end| parse(&bytes[..end]).is_err()));
    }

    #[test]
    fn anything_parses_or_does_not(bytes: Vec<u8>, text in "[dlie0-9:-]{0,40}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            if let Ok(document) = Document::parse_prefix(bytes, &Limits::TORRENT) {
                prop_assert!(document.len() <= bytes.len());
                let _ = format!("{:?}", document.root());
            }
        }
    }
}
