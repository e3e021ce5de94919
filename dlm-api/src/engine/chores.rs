//! What is done beside a running download, a few times a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time;

use super::keeper::Keeper;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Shared;
use crate::transfer::Task;

/// How often the log is written and digests are brought up to date.
const EVERY: Duration = Duration::from_millis(100);

/// The log, checkpoints and digests of the whole, until one of them fails.
pub(super) fn spawn(shared: &Arc<Shared>, keeper: &Arc<Keeper>) -> Task<Error> {
    let (shared, keeper) = (shared.clone(), keeper.clone());
    let spawner = shared.setup.spawner.clone();
    let log = {
        let keeper = keeper.clone();
        async move {
            loop {
                time::sleep(EVERY).await;
                keeper.log().await?;
            }
        }
    };
    let checkpoint = async move {
        loop {
            time::sleep(EVERY).await;
            keeper.checkpoint_if_due().await?;
        }
    };
    let hash = async move {
        loop {
            time::sleep(EVERY).await;
            shared.whole.catch_up_all(&shared).await?;
            match shared.check_seams().await {
                // Whoever is to blame is accused, and that is dealt with elsewhere.
                Err(error) if error.kind() == ErrorKind::Changed => shared.notify(),
                checked => checked?,
            }
        }
    };
    Task::new(&spawner, async move {
        let all: Result<((), (), ())> = futures::future::try_join3(log, checkpoint, hash).await;
        all.err().unwrap_or_else(|| unreachable!("the chores never end by themselves"))
    })
}

/// How they ended; never, if there are none.
pub(super) async fn ended(chores: &mut Option<Task<Error>>) -> Error {
    match chores {
        Some(task) => task.await.unwrap_or_else(|| Error::new(ErrorKind::Internal, "the checkpoint's task is gone")),
        None => std::future::pending().await,
    }
}
