//! Forgetting: every five minutes the store lets go of what was superseded five minutes before.

use std::sync::Arc;
use std::time::Duration;

use knarr_storage::{Revision, Store};
use tokio_util::sync::CancellationToken;

/// How long old lists can be continued, and old watches taken up.
const INTERVAL: Duration = Duration::from_secs(300);

/// Runs until stopped.
pub async fn run(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut before: Option<Revision> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if let Some(revision) = before.take()
            && let Err(error) = store.compact(revision).await
        {
            tracing::warn!(%revision, %error, "the store could not be compacted");
        }
        before = store.revision().await.ok();
    }
}
