//! ResourceQuotas: saying how much of what a namespace may have it has. (Refusing what is too much is admission's.)
//!
//! Admission adds what it lets in to the status before the object exists. A recount at that moment would take the
//! charge off again and let in too much, so that what comes starts none: only what goes, what is changed, and the
//! resync do, as upstream (pkg/controller/resourcequota, pkg/quota/v1/install/update_filter.go).

mod usage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_api::{quantity, time::SharedClock};
use knarr_client::{
    Action, Api, Cached, Change, Client, InformerFactory, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::is_not_found,
    informer::{LineageChange, LineageInformer, Subscription},
};
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Context,
    discovery::Resources,
    error::{Error, Step},
};

const WORKERS: usize = 5;
/// Upstream's `--resource-quota-sync-period`: how long a charge may stay for something that was not created then.
const RESYNC: Duration = Duration::from_secs(300);

/// Names of counted kinds from before every kind could be counted as `count/kind.group`.
const OLD_NAMES: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let quotas = context.informers.informer::<ResourceQuota>();
    let (pods, services) = (context.informers.informer::<Pod>(), context.informers.informer::<Service>());
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    watch_quotas(&quotas, &queue);
    let clock = Arc::clone(&context.clock);
    watch_used(&pods, &quotas, &queue, move |quota, old, new| {
        let now = clock.now();
        usage::of_pod(old, now) != usage::of_pod(new, now)
            || usage::is_about(quota, old) != usage::is_about(quota, new)
    });
    watch_used(&services, &quotas, &queue, |_, old, new| usage::of_service(old) != usage::of_service(new));
    watch_used(&claims, &quotas, &queue, |_, old, new| usage::of_claim(old) != usage::of_claim(new));
    let sync = Arc::new(Recount {
        quotas: quotas.clone(),
        pods: pods.clone(),
        services: services.clone(),
        claims: claims.clone(),
        counters: Mutex::default(),
        informers: context.informers.clone(),
        resources: context.resources.clone(),
        queue: Arc::clone(&queue),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
    });
    context.work("resourcequota-controller", WORKERS, queue, sync, async move {
        tokio::join!(quotas.synced(), pods.synced(), services.synced(), claims.synced());
    })
}

/// Queues a quota that is new, or whose status is not about what it asks for. What is used admission may change.
fn watch_quotas(quotas: &SharedInformer<ResourceQuota>, queue: &Arc<WorkQueue<ObjectKey>>) {
    let queue = Arc::clone(queue);
    let watch = move |change: Change<'_, ResourceQuota>| {
        let stale = match change {
            Change::Added(_) => true,
            Change::Updated { old, new } => old.spec != new.spec || hard(new) != status_hard(new),
            Change::Deleted { .. } => false,
        };
        if stale {
            queue.add(ObjectKey::of(&**change.object()));
        }
    };
    quotas.subscribe(watch).forever();
}

fn hard(quota: &ResourceQuota) -> Option<&BTreeMap<String, Quantity>> {
    quota.spec.as_ref()?.hard.as_ref()
}

fn status_hard(quota: &ResourceQuota) -> Option<&BTreeMap<String, Quantity>> {
    quota.status.as_ref()?.hard.as_ref()
}

/// Queues a namespace's quotas when something of a kind goes, or comes to use another amount.
fn watch_used<K: Cached>(
    used: &SharedInformer<K>,
    quotas: &SharedInformer<ResourceQuota>,
    queue: &Arc<WorkQueue<ObjectKey>>,
    differ: impl Fn(&ResourceQuota, &K, &K) -> bool + Send + Sync + 'static,
) {
    let (quotas, queue) = (quotas.clone(), Arc::clone(queue));
    let watch = move |change: Change<'_, K>| {
        let concerns = |quota: &ResourceQuota| match change {
            Change::Added(_) => false,
            Change::Updated { old, new } => differ(quota, old, new),
            Change::Deleted { .. } => true,
        };
        for quota in quotas.in_namespace(change.object().namespace()) {
            if concerns(&quota) {
                queue.add(ObjectKey::of(&*quota));
            }
        }
    };
    used.subscribe(watch).forever();
}

/// Counts the objects of one kind.
struct Counter {
    informer: Arc<dyn LineageInformer>,
    _subscription: Subscription,
}

struct Recount {
    quotas: SharedInformer<ResourceQuota>,
    pods: SharedInformer<Pod>,
    services: SharedInformer<Service>,
    claims: SharedInformer<PersistentVolumeClaim>,
    /// By the name in quotas, made when a quota first asks for it.
    counters: Mutex<BTreeMap<String, Counter>>,
    informers: InformerFactory,
    resources: watch::Receiver<Arc<Resources>>,
    queue: Arc<WorkQueue<ObjectKey>>,
    client: Client,
    clock: SharedClock,
}

impl Reconcile for Recount {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(quota) =
            self.quotas.get_key(key).filter(|quota| quota.metadata.deletion_timestamp.is_none())
        else {
            return Ok(Action::Done);
        };
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let mut used = BTreeMap::new();
        let mut complete = true;
        let measured = self.measure(&quota);
        let before = quota.status.as_ref().and_then(|status| status.used.clone()).unwrap_or_default();
        for name in hard.keys() {
            let amount = match measured.get(name) {
                Some(amount) => Some(Quantity(amount.to_string())),
                None if usage::is_measured(name) => Some(Quantity("0".to_owned())),
                None => match self.count(name, &key.namespace) {
                    Count::Of(count) => Some(Quantity(count.to_string())),
                    Count::NotYet => {
                        complete = false;
                        before.get(name).cloned()
                    }
                    Count::Unknown => before.get(name).cloned(),
                },
            };
            used.extend(amount.map(|amount| (name.clone(), amount)));
        }
        self.write(&quota, ResourceQuotaStatus { hard: Some(hard), used: Some(used) }).await?;
        Ok(if complete { Action::After(RESYNC) } else { Action::Retry })
    }
}

enum Count {
    Of(usize),
    /// The cache is not full yet.
    NotYet,
    /// The server has no such kind.
    Unknown,
}

impl Recount {
    /// What the pods, services and claims that the quota is about use.
    fn measure(&self, quota: &ResourceQuota) -> BTreeMap<String, quantity::Quantity> {
        let namespace = quota.namespace();
        let mut total = BTreeMap::new();
        let now = self.clock.now();
        for pod in self.pods.in_namespace(namespace) {
            if usage::is_about(quota, &pod) {
                usage::add(&mut total, usage::of_pod(&pod, now));
            }
        }
        // Scopes are about pods: a quota with any is about nothing else.
        if !usage::has_scopes(quota) {
            for service in self.services.in_namespace(namespace) {
                usage::add(&mut total, usage::of_service(&service));
            }
            for claim in self.claims.in_namespace(namespace) {
                usage::add(&mut total, usage::of_claim(&claim));
            }
        }
        total
    }

    /// How many objects of a kind a namespace has, by the name quotas give it.
    fn count(&self, name: &str, namespace: &str) -> Count {
        let mut counters = self.counters.lock();
        if !counters.contains_key(name) {
            let Some(counter) = self.counter(name) else { return Count::Unknown };
            counters.insert(name.to_owned(), counter);
        }
        let counter = &counters[name];
        if counter.informer.has_synced() {
            Count::Of(counter.informer.count_in(namespace))
        } else {
            Count::NotYet
        }
    }

    fn counter(&self, name: &str) -> Option<Counter> {
        let kind = name.strip_prefix("count/").or_else(|| OLD_NAMES.contains(&name).then_some(name))?;
        let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
        let resources = self.resources.borrow().clone();
        let mut preferred = resources.preferred();
        let resource = preferred.find(|resource| resource.plural == plural && resource.group == group)?;
        let informer = self.informers.lineages(&resource.selection());
        let (quotas, queue) = (self.quotas.clone(), Arc::clone(&self.queue));
        let subscription = informer.subscribe_lineages(Box::new(move |change| {
            let LineageChange::Gone(seen) = change else { return };
            for quota in quotas.in_namespace(seen.namespace) {
                queue.add(ObjectKey::of(&*quota));
            }
        }));
        Some(Counter { informer, _subscription: subscription })
    }

    async fn write(&self, quota: &ResourceQuota, status: ResourceQuotaStatus) -> Result<(), Error> {
        if quota.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = quota.clone();
        updated.status = Some(status);
        let api = Api::<ResourceQuota>::namespaced(self.client.clone(), quota.namespace());
        match api.replace_status(quota.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of quota", quota.name()),
        }
    }
}
