//! Rolling from the old sets to the new one within surge and unavailability.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use knarr_client::Action;

use super::{
    arithmetic::{Fence, Size, available, shrink_old, wanted},
    sets::Sets,
    status,
    sync::Sync,
};
use crate::error::Error;

fn size(set: &ReplicaSet) -> Size {
    Size { wanted: wanted(set), available: available(set) }
}

impl Sync {
    pub(super) async fn roll(
        &self,
        deployment: &mut Deployment,
        sets: Vec<Arc<ReplicaSet>>,
    ) -> Result<Action, Error> {
        let mut sets = self.settle_sets(deployment, sets, true).await?;
        if !self.grow_new(deployment, &mut sets).await? && !self.shrink_old(deployment, &mut sets).await? {
            let present = deployment.status.clone().unwrap_or_default();
            if status::is_complete(deployment, &present) {
                self.clean_up(deployment, &sets).await?;
            }
        }
        self.report_rollout(deployment, &sets).await
    }

    /// Whether the new set was resized.
    async fn grow_new(&self, deployment: &Deployment, sets: &mut Sets) -> Result<bool, Error> {
        let fence = Fence::of(deployment)?;
        let total = sets.total();
        let Some(new) = &mut sets.new else { return Ok(false) };
        let target =
            if wanted(new) >= fence.replicas { fence.replicas } else { fence.new_set(wanted(new), total) };
        let (resized, changed) = self.resize(deployment, new, target, false).await?;
        *new = resized;
        Ok(changed)
    }

    /// Whether any old set was resized.
    async fn shrink_old(&self, deployment: &Deployment, sets: &mut Sets) -> Result<bool, Error> {
        let Some(new) = &sets.new else { return Ok(false) };
        let old: Vec<Size> = sets.old.iter().map(|set| size(set)).collect();
        let targets = shrink_old(&Fence::of(deployment)?, sets.total(), size(new), &old);
        let mut any = false;
        for (set, target) in sets.old.iter_mut().zip(targets) {
            let (resized, changed) = self.resize(deployment, set, target, false).await?;
            *set = resized;
            any |= changed;
        }
        Ok(any)
    }
}
