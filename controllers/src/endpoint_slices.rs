//! EndpointSlices: where the pods behind each Service are.

mod desired;
mod plan;

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::{is_namespace_terminating, is_not_found, message},
    events::{EventRecorder, EventType},
    expectations::Expectations,
    runner,
};
use kube::api::{DeleteParams, PostParams};

use self::{
    desired::{Desired, desired},
    plan::{Plan, plan},
};
use crate::{
    Context,
    error::{Error, Step},
    services,
};

const MANAGER: &str = "endpointslice-controller.k8s.io";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const WORKERS: usize = 5;
const BY_SERVICE: &str = "service";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (services, pods) = (context.informers.informer::<Service>(), context.informers.informer::<Pod>());
    let (nodes, slices) =
        (context.informers.informer::<Node>(), context.informers.informer::<EndpointSlice>());
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    let expectations = Arc::new(Expectations::new());
    index_by_service(&slices);
    {
        let queue = Arc::clone(&queue);
        services.subscribe(move |change| queue.add(ObjectKey::of(&**change.object()))).forever();
    }
    services::follow_pods(&pods, &services, &queue);
    follow_slices(&slices, &queue, &expectations);
    follow_nodes(&nodes, &services, &queue);
    let sync = Arc::new(Sync {
        services: services.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        slices: slices.clone(),
        expectations,
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
    });
    async move {
        let synced =
            async { tokio::join!(services.synced(), pods.synced(), nodes.synced(), slices.synced()) };
        if context.shutdown.run_until_cancelled(synced).await.is_some() {
            runner::run("endpointslice-controller", WORKERS, queue, sync, context.shutdown).await;
        }
    }
    .boxed()
}

/// The key of the Service a slice says it is of.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.namespace(), name.as_str()))
}

pub(crate) fn manager_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(MANAGED_BY).map(String::as_str)
}

fn index_by_service(slices: &SharedInformer<EndpointSlice>) {
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
}

/// A slice of ours that somebody else changed or removed is put right.
fn follow_slices(
    slices: &SharedInformer<EndpointSlice>,
    queue: &Arc<WorkQueue<ObjectKey>>,
    expectations: &Arc<Expectations>,
) {
    let (queue, expectations) = (Arc::clone(queue), Arc::clone(expectations));
    slices
        .subscribe(move |change| {
            let slice = change.object();
            let relabelled_from = match &change {
                Change::Updated { old, new }
                    if manager_of(old) != manager_of(new) || service_of(old) != service_of(new) =>
                {
                    service_of(old).filter(|_| manager_of(old) == Some(MANAGER))
                }
                _ => None,
            };
            relabelled_from.into_iter().for_each(|key| queue.add(key));
            let Some(key) = service_of(slice).filter(|_| manager_of(slice) == Some(MANAGER)) else { return };
            match change {
                Change::Added(_) => expectations.creation_observed(&key),
                Change::Deleted { last, .. } => expectations.deletion_observed(&key, last.uid()),
                Change::Updated { .. } => {}
            }
            queue.add(key);
        })
        .forever();
}

/// The zone of an endpoint is its node's, and a pod whose node is not known yet is left out.
fn follow_nodes(
    nodes: &SharedInformer<Node>,
    services: &SharedInformer<Service>,
    queue: &Arc<WorkQueue<ObjectKey>>,
) {
    let (services, queue) = (services.clone(), Arc::clone(queue));
    nodes
        .subscribe(move |change| {
            if let Change::Updated { old, new } = &change
                && desired::zone(old) == desired::zone(new)
            {
                return;
            }
            services.list().iter().for_each(|service| queue.add(ObjectKey::of(&**service)));
        })
        .forever();
}

struct Sync {
    services: SharedInformer<Service>,
    pods: SharedInformer<Pod>,
    nodes: SharedInformer<Node>,
    slices: SharedInformer<EndpointSlice>,
    expectations: Arc<Expectations>,
    client: Client,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(service) = self.services.get_key(key) else {
            // Its slices go with it: they are its dependents.
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        if services::is_external_name(&service) || services::selector(&service).is_none() {
            return Ok(Action::Done);
        }
        if !self.expectations.satisfied(key) {
            // What we created has not been seen yet, and would be created twice.
            return Ok(Action::Done);
        }
        let pods: Vec<_> = self
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|pod| services::selects(&service, pod) && services::is_endpoint(pod, true))
            .collect();
        let existing: Vec<_> = self
            .slices
            .by_index(BY_SERVICE, &key.to_string())
            .into_iter()
            .filter(|slice| manager_of(slice) == Some(MANAGER) && slice.metadata.deletion_timestamp.is_none())
            .collect();
        let desired = desired(&service, &pods, |name| self.nodes.get("", name));
        let plan = plan(&service, &desired, &existing, trigger_time(&service, &pods));
        let written = self.write(key, &service, plan).await;
        if let Err(error) = &written {
            let text = format!("Error updating Endpoint Slices for Service {key}: {}", describe(error));
            self.recorder.event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", text);
        }
        written?;
        complain(&desired)
    }
}

fn describe(error: &Error) -> String {
    error.answer().map_or_else(|| error.to_string(), message)
}

/// A pod was left out because its node is not known: looked at again when the node comes.
fn complain(desired: &Desired) -> Result<Action, Error> {
    match desired.without_node.as_slice() {
        [] => Ok(Action::Done),
        [pod, ..] => Err(Error::Unusable(format!("skipping pod {pod}: its node is not known"))),
    }
}

/// The latest time at which a pod or the Service itself became what it is.
pub(crate) fn trigger_time(service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
    let ready = pods.iter().filter_map(|pod| {
        crate::pods::condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0)
    });
    ready.chain(service.metadata.creation_timestamp.as_ref().map(|time| time.0)).max()
}

impl Sync {
    async fn write(&self, key: &ObjectKey, service: &Service, plan: Plan) -> Result<(), Error> {
        if plan.create.is_empty() && plan.update.is_empty() && plan.delete.is_empty() {
            return Ok(());
        }
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        let deleted: Vec<_> = plan.delete.iter().map(|slice| slice.uid()).collect();
        let mut unseen = plan.create.len();
        self.expectations.expect_both(key, unseen, deleted);
        let result = async {
            if service.metadata.deletion_timestamp.is_none() {
                for slice in &plan.create {
                    match api.create(&PostParams::default(), slice).await {
                        Err(error) if is_namespace_terminating(&error) => return Ok(()),
                        other => drop(other.step("create EndpointSlice for service", &key.name)?),
                    }
                    unseen -= 1;
                }
            }
            for slice in &plan.update {
                api.replace(slice.name(), &PostParams::default(), slice)
                    .await
                    .step("update", slice.name())?;
            }
            for slice in &plan.delete {
                match api.delete(slice.name(), &DeleteParams::default()).await {
                    Err(error) if is_not_found(&error) => {}
                    other => drop(other.step("delete", slice.name())?),
                }
            }
            Ok(())
        }
        .await;
        self.expectations.creations_observed(key, unseen);
        if result.is_err() {
            // Which of the deletions will be seen is not known: the cache is asked again on the retry.
            self.expectations.forget(key);
        }
        result
    }
}

/// Labels a slice has from its Service.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let reserved = |key: &str| [SERVICE_NAME, MANAGED_BY, services::HEADLESS_LABEL].contains(&key);
    let own = service.metadata.labels.iter().flatten().filter(|(key, _)| !reserved(key));
    let mut labels: BTreeMap<_, _> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !services::has_ip(service) {
        labels.insert(services::HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}
