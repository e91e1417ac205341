//! Endpoints, the older form of EndpointSlices, for clients that still read it.

mod subsets;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use knarr_client::{
    Action, Api, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::{is_namespace_terminating, is_not_found, message},
    events::{EventRecorder, EventType},
    runner,
};
use kube::api::{DeleteParams, PostParams};

use crate::{
    Context,
    error::{Error, Step},
    services,
};

const WORKERS: usize = 5;
pub(crate) const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
pub(crate) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (services, pods) = (context.informers.informer::<Service>(), context.informers.informer::<Pod>());
    let endpoints = context.informers.informer::<Endpoints>();
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    {
        let queue = Arc::clone(&queue);
        services.subscribe(move |change| queue.add(ObjectKey::of(&**change.object()))).forever();
    }
    services::follow_pods(&pods, &services, &queue);
    {
        let queue = Arc::clone(&queue);
        endpoints
            .subscribe(move |change| {
                // Somebody removed what we keep, or what was left over from a Service that went while we were away.
                if !matches!(change, Change::Updated { .. }) {
                    queue.add(ObjectKey::of(&**change.object()));
                }
            })
            .forever();
    }
    let sync = Arc::new(Sync {
        services: services.clone(),
        pods: pods.clone(),
        endpoints: endpoints.clone(),
        client: context.client.clone(),
        recorder: context.recorder("endpoint-controller"),
    });
    async move {
        let synced = async { tokio::join!(services.synced(), pods.synced(), endpoints.synced()) };
        if context.shutdown.run_until_cancelled(synced).await.is_some() {
            runner::run("endpoint-controller", WORKERS, queue, sync, context.shutdown).await;
        }
    }
    .boxed()
}

struct Sync {
    services: SharedInformer<Service>,
    pods: SharedInformer<Pod>,
    endpoints: SharedInformer<Endpoints>,
    client: Client,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(service) = self.services.get_key(key) else {
            self.remove(key).await?;
            return Ok(Action::Done);
        };
        if services::is_external_name(&service) || services::selector(&service).is_none() {
            return Ok(Action::Done);
        }
        let selected = |pod: &Arc<Pod>| {
            services::selects(&service, pod)
                && services::is_endpoint(pod, services::publishes_not_ready(&service))
        };
        let pods: Vec<_> = self.pods.in_namespace(&key.namespace).into_iter().filter(selected).collect();
        let known = self.endpoints.get_key(key);
        let wanted = wanted(&service, &pods, known.as_deref());
        if known.as_deref() != Some(&wanted) {
            self.write(key, &service, &wanted, known.is_some()).await?;
        }
        Ok(Action::Done)
    }
}

/// What the Endpoints should be, in place of what is known of them.
fn wanted(service: &Service, pods: &[Arc<Pod>], known: Option<&Endpoints>) -> Endpoints {
    let mut wanted = known.cloned().unwrap_or_default();
    wanted.metadata.name.clone_from(&service.metadata.name);
    wanted.metadata.namespace.clone_from(&service.metadata.namespace);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(services::HEADLESS_LABEL);
    if !services::has_ip(service) {
        labels.insert(services::HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    wanted.metadata.labels = Some(labels);
    let (subsets, truncated) = subsets::build(service, pods);
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    let changed = known.is_none_or(|known| known.subsets != wanted.subsets);
    if changed && let Some(time) = super::endpoint_slices::trigger_time(service, pods) {
        annotations.insert(services::TRIGGER_TIME.to_owned(), time.to_string());
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted
}

impl Sync {
    async fn remove(&self, key: &ObjectKey) -> Result<(), Error> {
        // Endpoints without a Service may be somebody's own: leader election once kept its locks in them.
        let ours = self.endpoints.get_key(key).is_some_and(|endpoints| {
            let labels = endpoints.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|manager| manager == MANAGED_BY.1)
        });
        if !ours {
            return Ok(());
        }
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("delete endpoints", &key.name),
        }
    }

    async fn write(
        &self,
        key: &ObjectKey,
        service: &Service,
        wanted: &Endpoints,
        exists: bool,
    ) -> Result<(), Error> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        let (result, reason, doing) = if exists {
            let result = api.replace(&key.name, &PostParams::default(), wanted).await;
            (result, "FailedToUpdateEndpoint", format!("Failed to update endpoint {key}"))
        } else {
            let result = api.create(&PostParams::default(), wanted).await;
            (result, "FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}"))
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) if !exists && is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let text = format!("{doing}: {}", message(&error));
                self.recorder.event(service, EventType::Warning, reason, text);
                Err(error).step("write endpoints", &key.name)
            }
        }
    }
}
