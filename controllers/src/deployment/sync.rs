//! One look at one Deployment.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, SharedInformer,
    events::{EventRecorder, EventType},
    object::controller_of,
    ownership::{Claimer, selector},
};
use kube::api::PostParams;

use super::{
    conditions::{self, PROGRESSING, TIMED_OUT},
    progress, scale,
};
use crate::error::{Error, Step};

pub(super) struct Sync {
    pub(super) deployments: SharedInformer<Deployment>,
    pub(super) sets: SharedInformer<ReplicaSet>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) recorder: EventRecorder,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

pub(super) fn strategy(deployment: &Deployment) -> &str {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.paused.unwrap_or(false)
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(cached) = self.deployments.get_key(key) else { return Ok(Action::Done) };
        let mut deployment = (*cached).clone();
        let wanted = deployment.spec.selector.clone();
        if wanted == LabelSelector::default() {
            return self.refuse_all(&mut deployment).await;
        }
        let sets = self.claim_sets(&deployment, &wanted).await?;
        if deployment.metadata.deletion_timestamp.is_some() {
            let sets = self.settle_sets(&mut deployment, sets, false).await?;
            return self.report(&mut deployment, &sets).await;
        }
        self.note_pause(&mut deployment).await?;
        if is_paused(&deployment) {
            let mut sets = self.settle_sets(&mut deployment, sets, false).await?;
            return self.rescale(&mut deployment, &mut sets).await;
        }
        let mut settled = self.settle_sets(&mut deployment, sets, false).await?;
        if scale::was_scaled(&deployment, &settled) {
            return self.rescale(&mut deployment, &mut settled).await;
        }
        let sets = settled.all().cloned().collect();
        match strategy(&deployment) {
            "Recreate" => self.recreate(&mut deployment, sets).await,
            "RollingUpdate" => self.roll(&mut deployment, sets).await,
            other => Err(Error::Unusable(format!("unexpected deployment strategy type: {other}"))),
        }
    }
}

impl Sync {
    async fn refuse_all(&self, deployment: &mut Deployment) -> Result<Action, Error> {
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        self.recorder.event(deployment, EventType::Warning, "SelectingAll", text);
        let generation = deployment.metadata.generation;
        if deployment.status.as_ref().and_then(|status| status.observed_generation) < generation {
            deployment.status.get_or_insert_default().observed_generation = generation;
            self.write_status(deployment).await?;
        }
        Ok(Action::Done)
    }

    async fn claim_sets(
        &self,
        deployment: &Deployment,
        wanted: &LabelSelector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let selector = selector(wanted)?;
        let all = self.sets.in_namespace(deployment.metadata.namespace.as_deref().unwrap_or_default());
        let candidates = all.into_iter().filter(|set| {
            controller_of(&set.metadata)
                .is_none_or(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
        });
        Ok(Claimer::new(&self.client, deployment, &selector).claim_all(candidates.collect()).await?)
    }

    /// While paused nobody waits for progress; resuming starts the deadline anew.
    async fn note_pause(&self, deployment: &mut Deployment) -> Result<(), Error> {
        let status = deployment.status.clone().unwrap_or_default();
        let current = conditions::get(&status, PROGRESSING);
        if !self.has_deadline(deployment) || conditions::has_reason(current, TIMED_OUT) {
            return Ok(());
        }
        let noted = conditions::has_reason(current, "DeploymentPaused");
        match (is_paused(deployment), noted) {
            (true, false) => {
                self.set_progress(
                    deployment,
                    "Unknown",
                    "DeploymentPaused",
                    "Deployment is paused".to_owned(),
                );
            }
            (false, true) => {
                self.set_progress(
                    deployment,
                    "Unknown",
                    "DeploymentResumed",
                    "Deployment is resumed".to_owned(),
                );
            }
            _ => return Ok(()),
        }
        self.write_status(deployment).await
    }

    pub(super) fn has_deadline(&self, deployment: &Deployment) -> bool {
        progress::deadline(deployment).is_some()
    }

    pub(super) fn set_progress(&self, deployment: &mut Deployment, value: &str, reason: &str, text: String) {
        let condition = conditions::new(PROGRESSING, value, reason, text, self.clock.now());
        conditions::set(deployment.status.get_or_insert_default(), condition);
    }

    /// Writes status and annotations, and takes over the version they got.
    pub(super) async fn write_status(&self, deployment: &mut Deployment) -> Result<(), Error> {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<Deployment>::namespaced(self.client.clone(), &namespace);
        let written = api.replace_status(&name, &PostParams::default(), deployment).await;
        *deployment = written.step("update status of", &name)?;
        Ok(())
    }
}
