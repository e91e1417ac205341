//! A simulated node on the real API server, on paused time.

#![allow(dead_code, reason = "every test binary uses a part")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use knarr_api::time::SeededRandom;
use knarr_kubelet::config::Machine;
use knarr_kubelet::sim::SimRuntime;
use knarr_kubelet::{Config, Kubelet, Parts};
use knarr_testkit::{TestServer, TokioClock};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const NODE: &str = "node-1";
/// Virtual time: patience costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(3600);

pub struct World {
    pub server: TestServer,
    pub clock: Arc<TokioClock>,
    pub runtime: SimRuntime,
    change: Box<dyn Fn(&mut Config) + Send + Sync>,
    agent: Option<(JoinHandle<()>, CancellationToken)>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Box::new(|_| {})).await
    }

    /// A node whose configuration is changed first.
    pub async fn with(change: Box<dyn Fn(&mut Config) + Send + Sync>) -> Self {
        let server = TestServer::start().await;
        let clock = Arc::new(TokioClock::new());
        for name in ["default", "kube-node-lease"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // The server may have made its own already.
            server.post("/api/v1/namespaces", &namespace).await;
        }
        let runtime = SimRuntime::new(clock.clone(), Ipv4Addr::new(10, 9, 0, 1));
        let mut world = Self { server, clock, runtime, change, agent: None };
        world.start().await;
        world
    }

    /// Starts the agent, or another one after [`Self::stop`].
    pub async fn start(&mut self) {
        let mut config = Config::new(NODE, "/nonexistent");
        config.host = false;
        config.machine = Some(Machine { milli_cpu: 2000, ..Machine::simulated(NODE) });
        config.node_ips = vec![Ipv4Addr::new(192, 0, 2, 1).into()];
        (self.change)(&mut config);
        let parts = Parts {
            client: self.server.client(),
            runtime: Arc::new(self.runtime.clone()),
            network: None,
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(7)),
        };
        let kubelet = Kubelet::build(config, parts).await.expect("a simulated node needs nothing");
        let stop = CancellationToken::new();
        self.agent = Some((tokio::spawn(kubelet.run(stop.clone())), stop));
    }

    /// Stops the agent; its containers go on.
    pub async fn stop(&mut self) {
        if let Some((task, stop)) = self.agent.take() {
            stop.cancel();
            task.await.expect("the agent does not panic");
        }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.server.client(), "default")
    }

    /// Creates a pod on the node; `spec` is laid over a spec of one container.
    pub async fn create(&self, name: &str, spec: Value) -> Pod {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE,
                "enableServiceLinks": false,
                "containers": [{"name": "main", "image": "app:1"}],
            },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            if key == "annotations" {
                pod["metadata"]["annotations"] = value.clone();
            } else {
                pod["spec"][key] = value.clone();
            }
        }
        let pod: Pod = serde_json::from_value(pod).expect("the test's pod is one");
        self.pods().create(&PostParams::default(), &pod).await.expect("the server takes the pod")
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.expect("the server deletes the pod");
    }

    /// Waits until the pod is as wanted, and shows it.
    pub async fn until(&self, name: &str, wanted: impl Condition<Pod>) -> Option<Pod> {
        let seen = tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, wanted)).await;
        match seen {
            Ok(seen) => seen.expect("the server can be watched"),
            Err(_) => {
                let pod = self.pods().get_opt(name).await;
                panic!("pod {name} never became as wanted: {pod:#?}")
            }
        }
    }
}

/// The pod satisfies a test of its own.
pub fn is(test: impl Fn(&Pod) -> bool) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| pod.is_some_and(&test)
}

pub fn gone() -> impl Condition<Pod> {
    |pod: Option<&Pod>| pod.is_none()
}

pub fn phase(wanted: &'static str) -> impl Condition<Pod> {
    is(move |pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some(wanted)))
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|c| c.type_ == kind).map_or("", |c| c.status.as_str())
}

pub fn ready() -> impl Condition<Pod> {
    is(|pod| condition(pod, "Ready") == "True")
}

/// The status of a container of any list.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|c| c.name == name)
}

/// The reason a container waits.
pub fn waiting(pod: &Pod, name: &str) -> String {
    let state = container(pod, name).and_then(|c| c.state.as_ref());
    state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.clone()).unwrap_or_default()
}

pub fn id(pod: &Pod, name: &str) -> String {
    let id = container(pod, name).and_then(|c| c.container_id.clone()).unwrap_or_default();
    id.split_once("://").map(|(_, id)| id.to_owned()).unwrap_or_default()
}
