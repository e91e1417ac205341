//! Events live an hour: every minute those go that were last written an hour before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use knarr_storage::{Durability, Expect, Revision};
use tokio_util::sync::CancellationToken;

use crate::cache::Selection;
use crate::registry::Registry;

const INTERVAL: Duration = Duration::from_secs(60);
/// `--event-ttl`
const INTERVALS: usize = 60;

/// Runs until stopped. A restart gives events another hour.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    // The revisions of the last hour, one a minute: an event written before the oldest is an hour old.
    let mut revisions = VecDeque::with_capacity(INTERVALS + 1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        revisions.push_back(registry.cache.revision());
        if revisions.len() > INTERVALS
            && let Some(before) = revisions.pop_front()
        {
            expire(&registry, before).await;
        }
    }
}

async fn expire(registry: &Registry, before: u64) {
    let events = registry.catalogue().preferred("", "events").and_then(|events| events.stored()).cloned();
    let Some(events) = events else { return };
    for entry in events.cache.snapshot(&Selection::all(), 0).entries {
        if entry.revision() > before {
            continue;
        }
        // A conflict means that the event was written again, or deleted: both are fine.
        let expect = Expect::At(Revision(entry.revision()));
        if let Err(error) = registry.store.delete(entry.key(), expect, Durability::Batched).await {
            tracing::warn!(%error, "old events could not be deleted");
            return;
        }
    }
}
