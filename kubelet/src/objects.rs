//! ConfigMaps and Secrets that pods here refer to: one watch per object, for as long as a pod needs it. Immutable
//! objects are fetched once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use knarr_client::Api;
use knarr_client::informer::{Change, InformerFactory, Selection, SharedInformer};
use knarr_client::object::Cached;
use kube::Resource;
use parking_lot::Mutex;

use crate::pod::{references, spec};

/// How long a pod waits for the first answer before it says that the object is unknown.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// In upstream's words.
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, namespace: String, name: String },
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    NotSynced { kind: &'static str },
    #[error("{0}")]
    Api(String),
}

type Key = (String, String);

struct Watched<K: Cached> {
    informer: SharedInformer<K>,
    selection: Selection,
    /// Uids of pods that refer to it.
    users: HashSet<String>,
}

/// Called with a pod's uid when an object it refers to changed.
type OnChange = Arc<dyn Fn(&str) + Send + Sync>;

pub struct Objects {
    client: kube::Client,
    factory: InformerFactory,
    config_maps: Arc<Mutex<HashMap<Key, Watched<ConfigMap>>>>,
    secrets: Arc<Mutex<HashMap<Key, Watched<Secret>>>>,
    on_change: std::sync::OnceLock<OnChange>,
}

impl Objects {
    pub fn new(client: kube::Client, factory: InformerFactory) -> Self {
        Self {
            client,
            factory,
            config_maps: Arc::default(),
            secrets: Arc::default(),
            on_change: std::sync::OnceLock::new(),
        }
    }

    /// Whom to tell of changed objects; said once, before the first pod.
    pub fn tell(&self, on_change: OnChange) {
        if self.on_change.set(on_change).is_err() {
            tracing::error!("object changes already have a listener");
        }
    }

    /// Starts watching what the pod refers to, and stops what it no longer does.
    pub fn register(&self, pod: &Pod) {
        let namespace = spec::namespace(pod);
        let of = |names: HashSet<String>| names.into_iter().map(|n| (namespace.to_owned(), n)).collect();
        let (config_maps, secrets) = references::of(pod);
        self.update(&self.config_maps, spec::uid(pod), of(config_maps));
        self.update(&self.secrets, spec::uid(pod), of(secrets));
    }

    pub fn unregister(&self, uid: &str) {
        self.update(&self.config_maps, uid, HashSet::new());
        self.update(&self.secrets, uid, HashSet::new());
    }

    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let informer = self.config_maps.lock().get(&key(namespace, name)).map(|w| w.informer.clone());
        self.get(informer, namespace, name, "configmap").await
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let informer = self.secrets.lock().get(&key(namespace, name)).map(|w| w.informer.clone());
        self.get(informer, namespace, name, "secret").await
    }

    async fn get<K>(
        &self,
        informer: Option<SharedInformer<K>>,
        namespace: &str,
        name: &str,
        kind: &'static str,
    ) -> Result<Arc<K>, ObjectError>
    where
        K: Cached
            + Clone
            + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + std::fmt::Debug,
    {
        let not_found =
            || ObjectError::NotFound { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let Some(informer) = informer else {
            // Not (or no longer) watched for anyone: ask.
            let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
            let found = api.get_opt(name).await.map_err(|error| ObjectError::Api(error.to_string()))?;
            return found.map(Arc::new).ok_or_else(not_found);
        };
        if !informer.has_synced() && tokio::time::timeout(FIRST_ANSWER, informer.synced()).await.is_err() {
            return Err(ObjectError::NotSynced { kind });
        }
        informer.get(namespace, name).ok_or_else(not_found)
    }

    fn update<K>(&self, watched: &Arc<Mutex<HashMap<Key, Watched<K>>>>, uid: &str, wanted: HashSet<Key>)
    where
        K: Cached + Resource<DynamicType = ()>,
    {
        let mut map = watched.lock();
        map.retain(|key, entry| {
            if !wanted.contains(key) {
                entry.users.remove(uid);
            }
            let keep = !entry.users.is_empty() || wanted.contains(key);
            if !keep {
                self.factory.release::<K>(&entry.selection);
            }
            keep
        });
        let mut fresh = Vec::new();
        for key in wanted {
            if let Some(entry) = map.get_mut(&key) {
                entry.users.insert(uid.to_owned());
                continue;
            }
            let selection =
                Selection::all::<K>().in_namespace(key.0.clone()).fields(format!("metadata.name={}", key.1));
            let informer: SharedInformer<K> = self.factory.select(selection.clone());
            fresh.push((key.clone(), informer.clone()));
            map.insert(key, Watched { informer, selection, users: HashSet::from([uid.to_owned()]) });
        }
        // Handlers take the map's lock while the informer's is held: never subscribe under the map's.
        drop(map);
        let Some(on_change) = self.on_change.get() else { return };
        for (key, informer) in fresh {
            subscribe(watched, key, &informer, Arc::clone(on_change));
        }
    }
}

fn subscribe<K: Cached>(
    watched: &Arc<Mutex<HashMap<Key, Watched<K>>>>,
    key: Key,
    informer: &SharedInformer<K>,
    on_change: OnChange,
) {
    let (watched, synced) = (Arc::downgrade(watched), informer.clone());
    let handler = move |_: Change<'_, K>| {
        // The first delivery is what `get` waits for anyway.
        if !synced.has_synced() {
            return;
        }
        let Some(watched) = watched.upgrade() else { return };
        let users = watched.lock().get(&key).map(|entry| entry.users.clone());
        users.iter().flatten().for_each(|uid| on_change(uid));
    };
    informer.subscribe(handler).forever();
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}
