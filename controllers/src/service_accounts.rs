//! The default service account of every namespace, and the ConfigMap with the cluster's root certificate.

pub(crate) mod legacy_tokens;

use std::collections::BTreeMap;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_already_exists, is_namespace_terminating, is_not_found},
};
use kube::{Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Context,
    error::{Error, Step},
};

const DEFAULT_ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const WORKERS: usize = 2;

/// Signs the claims of a token with the cluster's key.
pub trait TokenSigner: Send + Sync + 'static {
    /// The signed token in its compact form, or why there is none.
    fn sign(&self, claims: &Value) -> Result<String, String>;
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let make = |namespace: &str| ServiceAccount {
        metadata: named(namespace, DEFAULT_ACCOUNT),
        ..Default::default()
    };
    build_keeper("serviceaccount", context, DEFAULT_ACCOUNT, make, |_, _| false)
}

/// Publishes the configured certificate; does nothing if there is none.
pub(crate) fn build_root_ca(context: Context) -> BoxFuture<'static, ()> {
    let Some(certificate) = context.config.root_ca.clone() else { return futures::future::ready(()).boxed() };
    let wanted = BTreeMap::from([(ROOT_CA_KEY.to_owned(), certificate)]);
    let make = move |namespace: &str| {
        let mut metadata = named(namespace, ROOT_CA);
        let note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                    such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                    distributions of Kubernetes clusters.";
        metadata.annotations = Some([("kubernetes.io/description".to_owned(), note.to_owned())].into());
        ConfigMap { metadata, data: Some(wanted.clone()), ..ConfigMap::default() }
    };
    build_keeper(
        "root_ca_cert_publisher",
        context,
        ROOT_CA,
        make,
        |have: &mut ConfigMap, want: &ConfigMap| {
            let differs = have.data != want.data;
            have.data.clone_from(&want.data);
            differs
        },
    )
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

/// A kind of which every namespace has one object of a fixed name.
trait Kept:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Cached
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}
impl<K> Kept for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Cached
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
{
}

fn build_keeper<K: Kept>(
    component: &'static str,
    context: Context,
    name: &'static str,
    make: impl Fn(&str) -> K + Send + Sync + 'static,
    correct: fn(&mut K, &K) -> bool,
) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire(component);
    let (namespaces, objects) = (wiring.root::<Namespace>(), wiring.cache::<K>());
    wiring.on(&objects, move |change| {
        let object = change.object();
        let concerns = object.name() == name && !matches!(change, Change::Added(_));
        concerns.then(|| ObjectKey::cluster(object.namespace()))
    });
    let keeper = Keeper { namespaces, objects, client: context.client, name, make: Box::new(make), correct };
    wiring.run(WORKERS, keeper)
}

/// Keeps one object in every namespace.
struct Keeper<K: Kept> {
    namespaces: SharedInformer<Namespace>,
    objects: SharedInformer<K>,
    client: Client,
    name: &'static str,
    make: Box<dyn Fn(&str) -> K + Send + Sync>,
    /// Makes the first like the second; whether it was not.
    correct: fn(&mut K, &K) -> bool,
}

impl<K: Kept> Reconcile for Keeper<K> {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let namespace = &*key.name;
        let is_active = self.namespaces.get_key(key).is_some_and(|namespace| {
            namespace.metadata.deletion_timestamp.is_none()
                && namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating")
        });
        if !is_active {
            return Ok(Action::Done);
        }
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let wanted = (self.make)(namespace);
        let Some(known) = self.objects.get(namespace, self.name) else {
            match api.create(&PostParams::default(), &wanted).await {
                Err(error)
                    if is_already_exists(&error)
                        || is_namespace_terminating(&error)
                        || is_not_found(&error) => {}
                other => drop(other.step("create in namespace", namespace)?),
            }
            return Ok(Action::Done);
        };
        let mut corrected = (*known).clone();
        if (self.correct)(&mut corrected, &wanted) {
            api.replace(self.name, &PostParams::default(), &corrected)
                .await
                .step("update in namespace", namespace)?;
        }
        Ok(Action::Done)
    }
}
