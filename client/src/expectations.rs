//! What a controller has asked for and not yet seen in its cache.
//!
//! A controller that counts children in a cache would create one too many whenever the cache lags behind its own
//! writes. So it notes before the write what it expects to see, handlers note what was seen, and the controller
//! does not count until nothing is outstanding, or five minutes have passed and something was evidently lost.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::object::ObjectKey;

/// How long an expectation is waited for.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

struct Outstanding {
    creations: i64,
    /// The children whose deletion was asked for, by uid: each is counted once, whether it is first seen being
    /// deleted or gone.
    deletions: HashSet<Arc<str>>,
    since: Instant,
}

/// The expectations of one controller, by the key of the owner.
#[derive(Default)]
pub struct Expectations(Mutex<HashMap<ObjectKey, Outstanding>>);

impl Expectations {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the cache can be believed: everything asked for was seen, or has been waited for long enough.
    pub fn satisfied(&self, owner: &ObjectKey) -> bool {
        self.0.lock().get(owner).is_none_or(|outstanding| {
            (outstanding.creations <= 0 && outstanding.deletions.is_empty())
                || outstanding.since.elapsed() > PATIENCE
        })
    }

    /// Replaces what is outstanding by `count` creations.
    pub fn expect_creations(&self, owner: &ObjectKey, count: usize) {
        self.expect(owner, count, HashSet::new());
    }

    /// Replaces what is outstanding by the deletion of these children.
    pub fn expect_deletions<'a>(&self, owner: &ObjectKey, uids: impl IntoIterator<Item = &'a str>) {
        self.expect(owner, 0, uids.into_iter().map(Arc::from).collect());
    }

    /// Replaces what is outstanding by both.
    pub fn expect_both<'a>(
        &self,
        owner: &ObjectKey,
        creations: usize,
        uids: impl IntoIterator<Item = &'a str>,
    ) {
        self.expect(owner, creations, uids.into_iter().map(Arc::from).collect());
    }

    fn expect(&self, owner: &ObjectKey, creations: usize, deletions: HashSet<Arc<str>>) {
        let creations = i64::try_from(creations).unwrap_or(i64::MAX);
        self.0.lock().insert(owner.clone(), Outstanding { creations, deletions, since: Instant::now() });
    }

    /// A child was seen for the first time, or its creation failed.
    pub fn creation_observed(&self, owner: &ObjectKey) {
        self.creations_observed(owner, 1);
    }

    /// Like [`Self::creation_observed`] for several, as when a batch was cut short.
    pub fn creations_observed(&self, owner: &ObjectKey, count: usize) {
        if let Some(outstanding) = self.0.lock().get_mut(owner) {
            outstanding.creations -= i64::try_from(count).unwrap_or(i64::MAX);
        }
    }

    /// A child was seen being deleted or gone, or its deletion failed.
    pub fn deletion_observed(&self, owner: &ObjectKey, uid: &str) {
        if let Some(outstanding) = self.0.lock().get_mut(owner) {
            outstanding.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.0.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counting_waits_for_what_was_asked_but_not_for_ever() {
        let (expectations, owner) = (Expectations::new(), ObjectKey::new("ns", "web"));
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 2);
        expectations.creation_observed(&owner);
        assert!(!expectations.satisfied(&owner));
        expectations.creation_observed(&owner);
        assert!(expectations.satisfied(&owner));
        expectations.expect_deletions(&owner, ["a", "b"]);
        expectations.deletion_observed(&owner, "a");
        expectations.deletion_observed(&owner, "a");
        assert!(!expectations.satisfied(&owner), "one deletion seen twice is one deletion");
        tokio::time::advance(PATIENCE + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&owner));
    }
}
