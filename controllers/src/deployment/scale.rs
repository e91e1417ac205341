//! Resizing a Deployment that is paused or was scaled in the middle of a rollout.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use knarr_client::Action;

use super::{
    arithmetic::{Fence, Share, available, proportions, replicas, wanted},
    revision,
    sets::{Sets, age_key},
    sync::{Sync, strategy},
};
use crate::error::Error;

/// Whether the Deployment's size changed since its active sets were last sized.
pub(super) fn was_scaled(deployment: &Deployment, sets: &Sets) -> bool {
    let mut active = sets.all().filter(|set| wanted(set) > 0);
    active.any(|set| revision::desired_before(set).is_some_and(|before| before != replicas(deployment)))
}

/// The one set with pods, or the newest if none has any; `None` if several have.
fn active_or_latest(sets: &Sets) -> Option<&Arc<ReplicaSet>> {
    let mut active = sets.all().filter(|set| wanted(set) > 0);
    match (active.next(), active.next()) {
        (None, _) => sets.new.as_ref().or(sets.old.last()),
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
    }
}

/// Whether the new set alone is what the Deployment asks for, all of it available.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let replicas = replicas(deployment);
    wanted(new) == replicas && revision::desired_before(new) == Some(replicas) && available(new) == replicas
}

impl Sync {
    pub(super) async fn rescale(
        &self,
        deployment: &mut Deployment,
        sets: &mut Sets,
    ) -> Result<Action, Error> {
        self.scale(deployment, sets).await?;
        if super::sync::is_paused(deployment) {
            self.clean_up(deployment, sets).await?;
        }
        self.report(deployment, sets).await
    }

    async fn scale(&self, deployment: &Deployment, sets: &mut Sets) -> Result<(), Error> {
        if let Some(only) = active_or_latest(sets) {
            return self.resize(deployment, &Arc::clone(only), replicas(deployment), false).await.map(drop);
        }
        if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
            for set in sets.old.iter().filter(|set| wanted(set) > 0) {
                self.resize(deployment, set, 0, false).await?;
            }
            return Ok(());
        }
        if strategy(deployment) == "RollingUpdate" {
            self.scale_in_proportion(deployment, sets).await?;
        }
        Ok(())
    }

    async fn scale_in_proportion(&self, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
        let fence = Fence::of(deployment)?;
        let allowed = if fence.replicas > 0 { fence.most() } else { 0 };
        let mut active: Vec<_> = sets.all().filter(|set| wanted(set) > 0).collect();
        // Of equal sets the newer grows first and the older shrinks first.
        if allowed >= sets.total() {
            active.sort_by_key(|set| (Reverse(wanted(set)), Reverse(age_key(set))));
        } else {
            active.sort_by_key(|set| (Reverse(wanted(set)), age_key(set)));
        }
        let shares: Vec<_> = active
            .iter()
            .map(|set| Share { wanted: wanted(set), most_before: revision::most_before(set) })
            .collect();
        let present = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        for (set, size) in active.into_iter().zip(proportions(allowed, present, &shares)) {
            self.resize(deployment, set, size, true).await?;
        }
        Ok(())
    }
}
