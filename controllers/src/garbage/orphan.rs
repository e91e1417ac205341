//! Setting dependents free before their owner goes.

use std::sync::Arc;

use futures::{StreamExt, stream};
use knarr_client::{Action, Reconcile};

use super::{Shared, Uid, graph::ORPHAN, requests::Requests};
use crate::error::Error;

/// Dependents written to at the same time.
const AT_ONCE: usize = 16;

pub(super) struct Orphan {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Requests,
}

impl Reconcile for Orphan {
    type Key = Uid;
    type Error = Error;

    async fn reconcile(&self, uid: &Uid) -> Result<Action, Error> {
        let Some(owner) = self.shared.graph.lock().get(uid).cloned() else { return Ok(Action::Done) };
        let freed: Vec<Result<(), Error>> = stream::iter(owner.dependents.iter().cloned())
            .map(|dependent| self.free(dependent, uid))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        freed.into_iter().collect::<Result<(), Error>>()?;
        if let Some(live) = self.requests.find(&owner.place).await?.filter(|live| *live.uid() == **uid) {
            self.requests.remove_finalizer(&live, ORPHAN).await?;
        }
        Ok(Action::Done)
    }
}

impl Orphan {
    async fn free(&self, dependent: Uid, owner: &Uid) -> Result<(), Error> {
        let Some(node) = self.shared.graph.lock().get(&dependent).cloned() else { return Ok(()) };
        let live = self.requests.find(&node.place).await?.filter(|live| *live.uid() == *dependent);
        let Some(live) = live else { return Ok(()) };
        let owners = live.lineage().owners;
        let rest: Vec<_> = owners.iter().filter(|other| *other.uid != **owner).collect();
        if rest.len() < owners.len() {
            self.requests.set_owners(&live, &rest).await?;
        }
        Ok(())
    }
}
