use crate::fact::Fact;
use crate::ledger::{Ledger, Voice};
use crate::path::EntryPath;
use crate::sink::EntryKind;
use crate::span::EntryId;

#[test]
fn padding_is_what_somebody_says_who_is_not_withdrawn() {
    let mut ledger = Ledger::new();
    for name in ["a", "b"] {
        ledger.learn(Voice::User, Fact::Entry { path: EntryPath::new(name).unwrap(), len: Some(10) }).unwrap();
    }
    let source = ledger.add_source("s");
    let kinds = |ledger: &Ledger| [0, 1].map(|i| ledger.entry(EntryId::new(i)).unwrap().kind);
    assert_eq!(kinds(&ledger), [EntryKind::File, EntryKind::File]);
    ledger.learn(Voice::Source(source), Fact::Padding(EntryId::new(1))).unwrap();
    assert_eq!(kinds(&ledger), [EntryKind::File, EntryKind::Padding]);
    assert!(ledger.learn(Voice::Source(source), Fact::Padding(EntryId::new(2))).is_err());
    ledger.withdraw_facts(Voice::Source(source));
    assert_eq!(kinds(&ledger), [EntryKind::File, EntryKind::File]);
}
