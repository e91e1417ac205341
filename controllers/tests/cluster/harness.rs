//! A cluster without machines: API server, controllers, and a node that says all its pods run.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use knarr_api::time::SeededRandom;
use knarr_client::{
    Api, Change, Client, Identity, InformerFactory, WorkQueue,
    object::{Cached, ObjectKey},
};
use knarr_controllers::{Config, Controllers};
use knarr_testkit::{TestServer, TokioClock, UserInfo};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub const NODE: &str = "node-1";
pub const NAMESPACE: &str = "shop";

pub struct Cluster {
    pub client: Client,
    stop: CancellationToken,
    tasks: TaskTracker,
    heartbeats: AtomicI64,
    _server: Arc<TestServer>,
}

impl Cluster {
    /// A cluster with one healthy node and one namespace.
    pub async fn start() -> Self {
        Self::with(Config { root_ca: Some("certificate".to_owned()), ..Config::default() }).await
    }

    pub async fn with(config: Config) -> Self {
        Self::through(config, |client| client).await
    }

    /// A cluster whose controllers speak to the server through what `wrap` makes of their clients.
    pub async fn through(config: Config, wrap: impl Fn(Client) -> Client + Send + Sync + 'static) -> Self {
        let server = Arc::new(TestServer::start().await);
        server.bootstrap().await;
        let client = server.client();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let random = Arc::new(SeededRandom::new(7));
        // Every controller acts as itself, with nothing more than its role grants.
        let factory = {
            let server = Arc::clone(&server);
            move |identity: &Identity| wrap(server.client_as(UserInfo::new(&identity.user, &identity.groups)))
        };
        let controllers = Controllers::build(config, &factory, Arc::new(TokioClock::new()), random.clone());
        let cluster = Self { client, stop, tasks, heartbeats: AtomicI64::new(0), _server: server };
        cluster.create::<Namespace>("", json!({ "metadata": { "name": NAMESPACE } })).await;
        cluster.create::<Node>("", json!({ "metadata": { "name": NODE } })).await;
        cluster.node_says("True").await;
        cluster.tasks.spawn(controllers.run(cluster.stop.clone()));
        cluster.tasks.spawn(run_pods(cluster.client.clone(), random, cluster.stop.clone()));
        cluster
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates an object from JSON; an empty namespace is none.
    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: kube::Resource<DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let path = K::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty()));
        let request = http::Request::post(path).header("content-type", "application/json");
        let mut object = object;
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let request = request.body(object.to_string().into_bytes()).unwrap();
        self.client.request(request).await.unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    fn heartbeat(&self) -> String {
        let second = self.heartbeats.fetch_add(1, Ordering::Relaxed);
        jiff::Timestamp::from_second(1_767_225_600 + second).unwrap().to_string()
    }

    /// Sets the node's Ready condition, as its kubelet would.
    pub async fn node_says(&self, ready: &str) {
        let patch = json!({ "status": { "conditions": [{
            "type": "Ready", "status": ready, "reason": "KubeletReady", "message": "test",
            "lastHeartbeatTime": self.heartbeat(), "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } });
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    }
}

/// Waits on virtual time until `check` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    for _ in 0..3000 {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never happened: {what}")
}

/// Says that pods run and are ready, and lets deleted ones go.
async fn run_pods(client: Client, random: Arc<SeededRandom>, stop: CancellationToken) {
    let informers = InformerFactory::new(client.clone(), random);
    let pods = informers.informer::<Pod>();
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    {
        let queue = Arc::clone(&queue);
        pods.subscribe(move |change| {
            if !matches!(change, Change::Deleted { .. }) {
                queue.add(ObjectKey::of(&**change.object()));
            }
        })
        .forever();
    }
    informers.start();
    let work = async {
        let mut address = 0u16;
        while let Some(key) = queue.next().await {
            if let Some(pod) = pods.get_key(&key) {
                address += 1;
                run_pod(&client, &pod, address).await;
            }
            queue.done(&key);
        }
    };
    stop.run_until_cancelled(work).await;
    informers.stop().await;
}

async fn run_pod(client: &Client, pod: &Pod, address: u16) {
    let api = Api::<Pod>::namespaced(client.clone(), pod.namespace());
    if pod.metadata.deletion_timestamp.is_some() {
        tell(pod, api.delete(pod.name(), &DeleteParams::default().grace_period(0)).await);
        return;
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending") {
        let never = pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("never-ready"));
        let ip = format!("10.0.{}.{}", address / 250, address % 250 + 1);
        let patch = json!({ "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": [{
                "type": "Ready", "status": if never { "False" } else { "True" },
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        } });
        tell(pod, api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(patch)).await);
    } else if let Some(end) = pod.metadata.labels.as_ref().and_then(|labels| labels.get("ends-as"))
        && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
    {
        let patch = json!({ "status": { "phase": end } });
        tell(pod, api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(patch)).await);
    }
}

/// Pods go and change while they are looked at; anything else is worth reading when a test fails.
fn tell<T>(pod: &Pod, result: kube::Result<T>) {
    if let Err(error) = result {
        println!("pod {}: {error}", pod.name());
    }
}
