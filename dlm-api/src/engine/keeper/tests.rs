use super::*;
use crate::checkpoint::MemoryCheckpoint;
use crate::pipeline::Setup;
use crate::sink::MemorySink;

/// Files may be on their way to their final names when all is given up; whoever gives them these says first which they are.
#[tokio::test]
async fn nothing_is_recorded_of_what_was_given_up() {
    let shared = Arc::new(Shared::new(Arc::new(MemorySink::new(u64::MAX)), Setup::default()));
    for path in ["d/a", "d/b"] {
        let path = EntryPath::new(path).unwrap();
        shared.learn(Voice::User, Fact::Entry { path, len: Some(0) }).unwrap();
    }
    let store = Arc::new(MemoryCheckpoint::default());
    let keeper = Keeper::new(shared.clone(), Kept::Store(Some(store.clone())), Vec::new());
    shared.prepare(EntryId::FIRST).await.unwrap();
    keeper.begin().await.unwrap();
    assert!(store.load().await.unwrap().record.is_some());
    keeper.give_up().await.unwrap();
    keeper.begin().await.unwrap();
    keeper.checkpoint().await.unwrap();
    assert_eq!(store.load().await.unwrap().record, None);
}
