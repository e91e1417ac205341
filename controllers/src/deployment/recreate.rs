//! Removing all old pods before the first new one.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use knarr_client::Action;

use super::{
    arithmetic::{actual, replicas},
    sets::Sets,
    status,
    sync::Sync,
};
use crate::{error::Error, pods};

impl Sync {
    pub(super) async fn recreate(
        &self,
        deployment: &mut Deployment,
        all: Vec<Arc<ReplicaSet>>,
    ) -> Result<Action, Error> {
        let mut sets = self.settle_sets(deployment, all.clone(), false).await?;
        if self.empty_old(deployment, &mut sets).await? || self.old_pods_run(&sets) {
            return self.report_rollout(deployment, &sets).await;
        }
        if sets.new.is_none() {
            sets = self.settle_sets(deployment, all, true).await?;
        }
        if let Some(new) = &mut sets.new {
            *new = self.resize(deployment, new, replicas(deployment), false).await?.0;
        }
        if status::is_complete(deployment, &deployment.status.clone().unwrap_or_default()) {
            self.clean_up(deployment, &sets).await?;
        }
        self.report_rollout(deployment, &sets).await
    }

    async fn empty_old(&self, deployment: &Deployment, sets: &mut Sets) -> Result<bool, Error> {
        let mut any = false;
        for set in &mut sets.old {
            let (resized, changed) = self.resize(deployment, set, 0, false).await?;
            *set = resized;
            any |= changed;
        }
        Ok(any)
    }

    /// Whether an old set has pods that may still run, those on their way out included.
    fn old_pods_run(&self, sets: &Sets) -> bool {
        sets.old.iter().any(|set| {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            actual(set) > 0
                || pods::index::owned_by(&self.pods, uid).iter().any(|pod| !pods::is_finished(pod))
        })
    }
}
