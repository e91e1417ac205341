//! Forgetting old history at upstream's pace.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{Error, Store};

/// Every `interval`, forgets what was superseded before the previous turn: watches and paged lists can go back
/// between one and two intervals (kube-apiserver's `--etcd-compaction-interval`, 5 minutes). Ends with the store.
pub async fn compact_periodically(store: Arc<dyn Store>, interval: Duration) -> Result<(), Error> {
    let mut last_turn = store.revision().await?;
    loop {
        tokio::time::sleep(interval).await;
        let now = match store.revision().await {
            Ok(revision) => revision,
            Err(Error::Closed) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "could not ask the store for its revision: trying again next time");
                continue;
            }
        };
        match store.compact(last_turn).await {
            Ok(()) => last_turn = now,
            Err(Error::Closed) => return Ok(()),
            Err(error) => tracing::warn!(%error, "could not compact the store: trying again next time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, Expect, Memory, Revision};

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_for_one_interval_and_gone_after_two() {
        let store = Arc::new(Memory::new());
        let interval = Duration::from_secs(300);
        let task = tokio::spawn(compact_periodically(store.clone(), interval));
        tokio::task::yield_now().await;
        store.put("/a", "1".into(), Expect::Absent, Durability::Durable).await.expect("put");
        store.put("/a", "2".into(), Expect::At(Revision(1)), Durability::Durable).await.expect("put");
        tokio::time::sleep(interval + Duration::from_secs(1)).await;
        assert!(store.watch("/", Some(Revision(1))).await.is_ok());
        tokio::time::sleep(interval).await;
        let old = store.watch("/", Some(Revision(1))).await;
        assert!(matches!(old, Err(Error::Compacted { oldest: Revision(2), .. })));
        store.close().await.expect("close");
        tokio::time::sleep(interval).await;
        task.await.expect("no panic").expect("ends with the store");
    }
}
