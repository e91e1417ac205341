//! An API server and a scheduler in this process, and ways to fill them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use http::{Method, Request};
use knarr_api::time::{SeededRandom, SharedRandom, SystemClock};
use knarr_client::events::EventBroadcaster;
use knarr_client::informer::Subscription;
use knarr_client::{Cached, Change, Client, InformerFactory, Selection};
use knarr_scheduler::{Config, Scheduler};
use knarr_testkit::TestServer;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::pods::{Node, Pod, too_large};
use crate::workloads::Meanwhile;

/// Requests under way at once.
const CONCURRENCY: usize = 64;
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const NODES: &str = "/api/v1/nodes";

/// As much of a pod as tells whether it has a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seen {
    metadata: Meta,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Box<str>,
}

knarr_client::cached_by_metadata!(Seen);

/// How many pods got a node.
#[derive(Debug, Default, Clone, Copy)]
struct Placed {
    all: usize,
    measured: usize,
}

pub struct Cluster {
    // Stops when it is dropped.
    _server: TestServer,
    client: Client,
    informers: InformerFactory,
    running: JoinHandle<()>,
    stop: CancellationToken,
    placed: watch::Receiver<Placed>,
    _watching: Subscription,
    next: AtomicUsize,
}

impl Cluster {
    pub async fn start() -> Self {
        let server = TestServer::start().await;
        server.bootstrap().await;
        let (client, random): (_, SharedRandom) = (server.client(), Arc::new(SeededRandom::new(1)));
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock));
        let informers = InformerFactory::new(client.clone(), random.clone());
        let (events, sending) =
            EventBroadcaster::new(client.clone(), clock.clone(), random.clone(), stop.clone());
        let config = Config::default();
        let scheduler = Scheduler::build(config, client.clone(), &informers, events, clock, random);
        let (count, placed) = watch::channel(Placed::default());
        let pods = informers.select::<Seen>(Selection::of("", "v1", "pods"));
        let watching = pods.subscribe(move |change| {
            let has_node = |pod: &Seen| !pod.spec.node_name.is_empty();
            let placed = match &change {
                Change::Updated { old, new } => has_node(new) && !has_node(old),
                Change::Added(new) => has_node(new),
                Change::Deleted { .. } => false,
            };
            if placed {
                let measured = usize::from(change.object().name().starts_with("measured"));
                count.send_modify(|count| {
                    count.all += 1;
                    count.measured += measured;
                });
            }
        });
        informers.start();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move {
            tokio::join!(scheduler.run(shutdown), sending);
        });
        let next = AtomicUsize::new(0);
        Self { _server: server, client, informers, running, stop, placed, _watching: watching, next }
    }

    pub async fn make_nodes(&self, kinds: impl Iterator<Item = (usize, Node)>) {
        for (count, node) in kinds {
            self.post_all(NODES, (0..count).map(node)).await;
        }
    }

    pub async fn make_pods(&self, prefix: &str, count: usize, pod: Pod) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let named = (first..first + count).map(|number| {
            let mut pod = pod();
            pod["metadata"]["name"] = format!("{prefix}-{number}").into();
            pod
        });
        self.post_all(PODS, named).await;
    }

    async fn post_all(&self, path: &str, objects: impl Iterator<Item = Value>) {
        let posts = objects.map(|object| post(&self.client, path, object));
        stream::iter(posts).buffer_unordered(CONCURRENCY).collect::<()>().await;
    }

    pub async fn wait_for(&mut self, count: usize) {
        self.placed.wait_for(|placed| placed.all >= count).await.expect("the informer runs");
    }

    pub async fn wait_for_measured(&mut self, count: usize) {
        self.placed.wait_for(|placed| placed.measured >= count).await.expect("the informer runs");
    }

    /// Lets something happen until the token is cancelled; `before` pods are there that may be deleted.
    pub fn meanwhile(&self, what: Meanwhile, before: usize) -> CancellationToken {
        let (client, stop) = (self.client.clone(), self.stop.child_token());
        let last = self.next.load(Ordering::Relaxed);
        let happening = async move {
            match what {
                Meanwhile::Nothing => {}
                Meanwhile::MixedChurn => churn(&client).await,
                Meanwhile::Unschedulable => come(&client).await,
                Meanwhile::Deletions => go(&client, last - before..last).await,
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(happening));
        stop
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.informers.stop().await;
        self.running.await.expect("the scheduler ends in peace");
    }
}

fn every(milliseconds: u64) -> tokio::time::Interval {
    let mut interval = interval(Duration::from_millis(milliseconds));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A node, a service and a pod that fits nowhere come, and go a second later for others.
async fn churn(client: &Client) {
    let mut turn = every(1000);
    for number in 0_u64.. {
        let name = format!("churn-{number}");
        let metadata = json!({"name": name});
        let node = json!({"metadata": metadata, "status": {"capacity": {"pods": "0"}}});
        let ports = json!([{"port": 8080}]);
        let service = json!({"metadata": metadata, "spec": {"selector": {"app": "foo"}, "ports": ports}});
        let mut pod = too_large();
        pod["metadata"]["name"] = name.as_str().into();
        pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
        let objects = [(NODES, node), (SERVICES, service), (PODS, pod)];
        for (path, object) in objects.clone() {
            post(client, path, object).await;
        }
        turn.tick().await;
        for (path, _) in objects {
            delete(client, &format!("{path}/{name}")).await;
        }
    }
}

async fn come(client: &Client) {
    let mut turn = every(200);
    for number in 0_u64.. {
        turn.tick().await;
        let mut pod = too_large();
        pod["metadata"]["name"] = format!("large-{number}").into();
        post(client, PODS, pod).await;
    }
}

async fn go(client: &Client, numbers: std::ops::Range<usize>) {
    let mut turn = every(20);
    for number in numbers {
        turn.tick().await;
        delete(client, &format!("{PODS}/before-{number}")).await;
    }
}

async fn post(client: &Client, path: &str, object: Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).expect("well-formed");
    client.request_text(request).await.expect("the API server takes it");
}

async fn delete(client: &Client, path: &str) {
    let request = Request::builder().method(Method::DELETE).uri(path).body(Vec::new()).expect("well-formed");
    client.request_text(request).await.expect("the API server removes it");
}
