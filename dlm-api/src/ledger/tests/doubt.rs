use crate::fact::Fact;
use crate::ledger::{Ledger, Voice};
use crate::span::EntryId;

/// Between the word that overturns a length and the entry's new start there is time for bytes to be compared, and what is there
/// is no measure then.
#[test]
fn what_is_about_to_be_taken_back_is_in_doubt() {
    let mut ledger = Ledger::new();
    let entry = ledger.add_unnamed();
    let sources = ["first", "second", "third"].map(|name| ledger.add_source(name));
    ledger.learn(Voice::Source(sources[0]), Fact::Len(entry, 101)).unwrap();
    assert!(ledger.learn(Voice::Source(sources[1]), Fact::Len(entry, 100)).is_err(), "one against one");
    assert!(!ledger.is_in_doubt(entry, sources[0]));
    ledger.learn(Voice::Source(sources[2]), Fact::Len(entry, 100)).unwrap();
    assert!(ledger.is_in_doubt(entry, sources[0]) && ledger.is_in_doubt(EntryId::new(0), sources[2]));
    ledger.take_restarts();
    ledger.take_accused();
    assert!(!ledger.is_in_doubt(entry, sources[2]));
    ledger.bench(sources[0]);
    let past = ledger.add_past();
    assert!(!ledger.is_in_doubt(entry, sources[0]) && !ledger.is_in_doubt(entry, past));
}
