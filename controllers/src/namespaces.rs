//! Emptying namespaces that are being deleted, and letting them go.

mod conditions;
mod content;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::{is_conflict, is_not_found},
    queue::QueueConfig,
    runner,
};
use kube::api::PostParams;

use self::content::{Emptied, Emptier};
use crate::{
    Context, discovery,
    error::{Error, Step},
};

const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let namespaces = context.informers.informer::<Namespace>();
    // Emptying is retried for long; upstream slows it down less than other work.
    let config = QueueConfig { max_delay: Duration::from_secs(60), ..QueueConfig::default() };
    let queue = Arc::new(WorkQueue::<ObjectKey>::new(config));
    {
        let queue = Arc::clone(&queue);
        namespaces
            .subscribe(move |change| {
                if change.object().metadata.deletion_timestamp.is_some() {
                    queue.add(ObjectKey::of(&**change.object()));
                }
            })
            .forever();
    }
    let pods = context.informers.informer::<Pod>();
    {
        // Pods go first and take the longest: the rest need not wait for the next look.
        let (queue, namespaces) = (Arc::clone(&queue), namespaces.clone());
        pods.subscribe(move |change| {
            let Change::Deleted { last, .. } = change else { return };
            let namespace = last.metadata.namespace.as_deref().unwrap_or_default();
            if namespaces.get("", namespace).is_some_and(|found| found.metadata.deletion_timestamp.is_some())
            {
                queue.add(ObjectKey::cluster(namespace));
            }
        })
        .forever();
    }
    let sync = Arc::new(Sync {
        namespaces: namespaces.clone(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
    });
    async move {
        if context.shutdown.run_until_cancelled(namespaces.synced()).await.is_some() {
            runner::run("namespace-controller", WORKERS, queue, sync, context.shutdown).await;
        }
    }
    .boxed()
}

struct Sync {
    namespaces: SharedInformer<Namespace>,
    client: Client,
    clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        if self.namespaces.get_key(key).is_none() {
            return Ok(Action::Done);
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let Some(mut namespace) = api.get_opt(&key.name).await.step("get namespace", &key.name)? else {
            return Ok(Action::Done);
        };
        let Some(deleted_at) = namespace.metadata.deletion_timestamp.clone() else { return Ok(Action::Done) };
        if finalizers(&namespace).is_empty() {
            return Ok(Action::Done);
        }
        if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            let written = api.replace_status(&key.name, &PostParams::default(), &namespace).await;
            namespace = written.step("update status of namespace", &key.name)?;
        }
        let found = discovery::fetch(&self.client).await;
        let emptier = Emptier {
            client: &self.client,
            namespace: &key.name,
            now: self.clock.now(),
            deleted_at: deleted_at.0,
        };
        let emptied = emptier.empty(found).await;
        self.report(&api, &mut namespace, &emptied).await?;
        if let Some(error) = emptied.errors.into_iter().next() {
            return Err(error);
        }
        match emptied.estimate {
            None => self.finalize(namespace).await.map(|()| Action::Done),
            // Upstream comes back after half the estimate and a second.
            Some(estimate) => Ok(Action::After(estimate / 2 + Duration::from_secs(1))),
        }
    }
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

impl Sync {
    async fn report(
        &self,
        api: &Api<Namespace>,
        namespace: &mut Namespace,
        emptied: &Emptied,
    ) -> Result<(), Error> {
        let status = namespace.status.get_or_insert_default();
        if !conditions::update(status, emptied, self.clock.now()) {
            return Ok(());
        }
        let name = namespace.metadata.name.clone().unwrap_or_default();
        match api.replace_status(&name, &PostParams::default(), namespace).await {
            Ok(written) => *namespace = written,
            // Only a report: what matters is that the content goes, and the next look reports again.
            Err(error) if is_conflict(&error) || is_not_found(&error) => {}
            Err(error) => return Err(error).step("update status of namespace", &name),
        }
        Ok(())
    }

    /// Takes our finalizer off, on which the server lets the namespace go.
    async fn finalize(&self, mut namespace: Namespace) -> Result<(), Error> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let spec = namespace.spec.get_or_insert_default();
        spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        let body = serde_json::to_vec(&namespace).expect("API types are representable as JSON");
        let request = Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .expect("a namespace's name is a path segment");
        match self.client.request_text(request).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("finalize namespace", &name),
        }
    }
}
