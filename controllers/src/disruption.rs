//! PodDisruptionBudgets: how many pods of an application may be taken away at the moment.

mod budget;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::is_not_found,
    events::{EventRecorder, EventType},
    object::controller_of,
    ownership::selector,
};
use kube::{
    api::PostParams,
    core::{Selector, SelectorExt},
};
use tokio::sync::watch;

use self::budget::{Counts, condition};
use crate::{
    Context,
    context::follow,
    discovery::Resources,
    error::{Error, Step},
    pods,
};

const COMPONENT: &str = "controllermanager";
const WORKERS: usize = 4;
/// How long a pod whose eviction was allowed counts as going.
const GOING: Duration = Duration::from_secs(2 * 60);

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (budgets, pods) =
        (context.informers.informer::<PodDisruptionBudget>(), context.informers.informer::<Pod>());
    let owners = Owners {
        deployments: context.informers.informer(),
        replica_sets: context.informers.informer(),
        stateful_sets: context.informers.informer(),
        controllers: context.informers.informer(),
    };
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    follow(&budgets, &queue);
    {
        let (queue, budgets) = (Arc::clone(&queue), budgets.clone());
        pods.subscribe(move |change| {
            for budget in budgets.in_namespace(change.object().namespace()) {
                if selector_of(&budget).is_ok_and(|selector| selects(&selector, change.object())) {
                    queue.add(ObjectKey::of(&*budget));
                }
            }
        })
        .forever();
    }
    owners.follow(&budgets, &queue);
    let sync = Arc::new(Sync {
        budgets: budgets.clone(),
        pods: pods.clone(),
        owners: owners.clone(),
        resources: context.resources.clone(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
        recorder: context.recorder(COMPONENT),
    });
    context.work("disruption-controller", WORKERS, queue, sync, async move {
        tokio::join!(budgets.synced(), pods.synced(), owners.synced());
    })
}

/// An empty selector means all pods, none at all means none.
fn selector_of(budget: &PodDisruptionBudget) -> Result<Option<Selector>, Error> {
    let labels = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    Ok(labels.map(selector).transpose()?)
}

fn selects(selector: &Option<Selector>, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    selector.as_ref().is_some_and(|selector| selector.matches(&labels))
}

/// Those who say how many pods there should be.
#[derive(Clone)]
struct Owners {
    deployments: SharedInformer<Deployment>,
    replica_sets: SharedInformer<ReplicaSet>,
    stateful_sets: SharedInformer<StatefulSet>,
    controllers: SharedInformer<ReplicationController>,
}

/// An owner and the number of pods it asks for.
type Scale = (String, i32);

impl Owners {
    async fn synced(&self) {
        tokio::join!(
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.controllers.synced()
        );
    }

    /// When an owner is resized, what may be taken from it changes.
    fn follow(&self, budgets: &SharedInformer<PodDisruptionBudget>, queue: &Arc<WorkQueue<ObjectKey>>) {
        fn each<K: Cached>(
            owners: &SharedInformer<K>,
            budgets: &SharedInformer<PodDisruptionBudget>,
            queue: &Arc<WorkQueue<ObjectKey>>,
        ) {
            let (budgets, queue) = (budgets.clone(), Arc::clone(queue));
            owners
                .subscribe(move |change| {
                    for budget in budgets.in_namespace(change.object().namespace()) {
                        queue.add(ObjectKey::of(&*budget));
                    }
                })
                .forever();
        }
        each(&self.deployments, budgets, queue);
        each(&self.replica_sets, budgets, queue);
        each(&self.stateful_sets, budgets, queue);
        each(&self.controllers, budgets, queue);
    }

    /// The scale of a built-in owner; a ReplicaSet of a Deployment counts as that Deployment.
    fn scale(&self, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
        let same = |uid: &str| uid == owner.uid;
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => {
                let set = self.replica_sets.get(namespace, &owner.name).filter(|set| same(set.uid()))?;
                let deployment = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
                let deployment = deployment.and_then(|owner| self.deployments.get(namespace, &owner.name));
                Some(match deployment {
                    Some(deployment) => (deployment.uid().to_owned(), deployment.spec.replicas.unwrap_or(1)),
                    None => (owner.uid.clone(), set.spec.replicas.unwrap_or(1)),
                })
            }
            ("apps/v1", "StatefulSet") => {
                let set = self.stateful_sets.get(namespace, &owner.name).filter(|set| same(set.uid()))?;
                Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)))
            }
            ("v1", "ReplicationController") => {
                let controller = self.controllers.get(namespace, &owner.name).filter(|c| same(c.uid()))?;
                Some((
                    owner.uid.clone(),
                    controller.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
                ))
            }
            _ => None,
        }
    }
}

struct Sync {
    budgets: SharedInformer<PodDisruptionBudget>,
    pods: SharedInformer<Pod>,
    owners: Owners,
    resources: watch::Receiver<Arc<Resources>>,
    client: Client,
    clock: SharedClock,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Action::Done) };
        let now = self.clock.now();
        let selector = selector_of(&budget)?;
        let pods: Vec<_> = self.pods.in_namespace(&key.namespace).into_iter().collect();
        let pods: Vec<_> =
            pods.into_iter().filter(|pod| selects(&selector, pod) && !pods::is_finished(pod)).collect();
        if pods.is_empty() {
            self.recorder.event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let (going, recheck) = self.going(&budget, &pods, now);
        let status = match self.counts(&budget, &pods, &going).await {
            Ok(counts) => status(&budget, &counts, going, now),
            Err(error) => {
                let text = format!("Failed to calculate the number of expected pods: {error}");
                self.recorder.event(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", text);
                self.write(&budget, failed(&budget, &error, now)).await?;
                return Err(error);
            }
        };
        self.write(&budget, status).await?;
        Ok(recheck.map_or(Action::Done, Action::After))
    }
}

/// While the counting fails nothing may be taken away.
fn failed(budget: &PodDisruptionBudget, error: &Error, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    let generation = budget.metadata.generation;
    condition(&mut status, "SyncFailed", &error.to_string(), generation, now);
    status
}

fn status(
    budget: &PodDisruptionBudget,
    counts: &Counts,
    going: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let allowed = counts.allowed();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(counts.healthy),
        desired_healthy: Some(counts.desired),
        expected_pods: Some(counts.expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(going).filter(|going| !going.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    condition(&mut status, reason, "", budget.metadata.generation, now);
    status
}

impl Sync {
    /// The pods whose eviction was allowed and that are still there, and when the first of them is given up on.
    fn going(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> (BTreeMap<String, Time>, Option<Duration>) {
        let listed =
            budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
        let (mut going, mut recheck) = (BTreeMap::new(), None);
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let Some(since) = listed.get(pod.name()) else { continue };
            let passed = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
            match GOING.saturating_sub(passed) {
                left if left.is_zero() => {
                    let (namespace, name) = (budget.namespace(), budget.name());
                    let text =
                        format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't");
                    self.recorder.event(&**pod, EventType::Warning, "NotDeleted", text);
                }
                left => {
                    recheck = recheck.into_iter().chain([left]).min();
                    going.insert(pod.name().to_owned(), since.clone());
                }
            }
        }
        (going, recheck)
    }

    async fn counts(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
        going: &BTreeMap<String, Time>,
    ) -> Result<Counts, Error> {
        let spec = budget.spec.clone().unwrap_or_default();
        let expected =
            if budget::needs_scale(&spec) { Some(self.expected(budget, pods).await?) } else { None };
        let is_healthy = |pod: &&Arc<Pod>| {
            pod.metadata.deletion_timestamp.is_none()
                && !going.contains_key(pod.name())
                && pods::is_ready(pod)
        };
        Counts::new(&spec, pods.len(), expected, pods.iter().filter(is_healthy).count())
    }

    /// How many pods their owners ask for together.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32, Error> {
        let (mut scales, mut unmanaged) = (BTreeMap::new(), false);
        let mut asked = std::collections::BTreeSet::new();
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                unmanaged = true;
                continue;
            };
            if asked.insert(owner.uid.clone()) {
                let (uid, scale) = self.scale(pod, owner).await?;
                scales.insert(uid, scale);
            }
        }
        if unmanaged {
            let text = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of \
                        the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
                        these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
            self.recorder.event(budget, EventType::Warning, "UnmanagedPods", text);
        }
        Ok(scales.values().sum())
    }

    async fn scale(&self, pod: &Pod, owner: &OwnerReference) -> Result<Scale, Error> {
        if let Some(scale) = self.owners.scale(pod.namespace(), owner) {
            return Ok(scale);
        }
        let unknown = || Error::Unusable(format!("found no controllers for pod {:?}", pod.name()));
        let resource =
            self.resources.borrow().of_kind(&owner.api_version, &owner.kind).cloned().ok_or_else(unknown)?;
        // A custom kind says its size where every scalable kind does.
        let path = format!("{}/scale", resource.path(pod.namespace(), Some(&owner.name)));
        let request = http::Request::get(&path).body(Vec::new()).map_err(|_| unknown())?;
        match self.client.request::<k8s_openapi::api::autoscaling::v1::Scale>(request).await {
            Ok(scale) => Ok((owner.uid.clone(), scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))),
            Err(error) if is_not_found(&error) => Err(unknown()),
            Err(error) => Err(error).step("get", &path),
        }
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = budget.clone();
        updated.status = Some(status);
        let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), budget.namespace());
        match api.replace_status(budget.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of budget", budget.name()),
        }
    }
}
