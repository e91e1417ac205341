//! Pods on simulated nodes: started, ended and removed by rule.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_api::time::SharedClock;
use knarr_client::{Cached, SharedInformer};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Api, CONCURRENCY, Condition, has_code, number_of, status};
use crate::sim::state::run_time;

/// 100.64.0.0/10, which is set aside for what is not seen from outside.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([100, 64, 0, 1]);
const ADDRESSES: u32 = 1 << 22;

/// Pauses between attempts double, from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: i64,
    annotations: BTreeMap<String, String>,
    deletion_timestamp: Option<Time>,
}

/// The part of a pod that the rules mind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SimPod {
    metadata: Meta,
    pub spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    node_name: Box<str>,
    restart_policy: Box<str>,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: Box<str>,
    pub image: Box<str>,
    restart_policy: Option<Box<str>>,
}

impl Container {
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Box<str>,
    conditions: Vec<Condition>,
}

/// What is read of the answer to a write.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    metadata: Meta,
}

/// resourceVersions are numbers that grow (KEP-5504).
fn version(meta: &Meta) -> Option<u64> {
    meta.resource_version.parse().ok()
}

knarr_client::cached_by_metadata!(SimPod {
    /// Only the rule for its end is read of a pod's annotations, and of its conditions whether it is ready.
    fn shrink(&mut self) {
        self.metadata.annotations.retain(|name, _| name == crate::sim::RUN_SECONDS);
        self.status.conditions.retain(Condition::is_ready);
    }
});

impl SimPod {
    pub fn generation(&self) -> i64 {
        self.metadata.generation
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{}{rest}", self.metadata.namespace, self.metadata.name)
    }

    /// How long its containers run, and with which code they end for good; `None` if they never do.
    fn end(&self) -> Option<(Duration, i32)> {
        let (after, code) = run_time(&self.metadata.annotations)?;
        let stays = match &*self.spec.restart_policy {
            "Never" => false,
            "OnFailure" => code != 0,
            _ => true,
        };
        (!stays).then_some((after, code))
    }

    /// Whether the API has it that the pod is ready.
    fn is_believed(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.is_ready() && condition.holds())
    }

    /// What is to be done with the pod as it is.
    fn due(&self) -> Option<Step> {
        match &*self.status.phase {
            "Succeeded" | "Failed" if self.metadata.deletion_timestamp.is_none() => None,
            _ if self.metadata.deletion_timestamp.is_some() => Some(Step::Remove),
            // The nodes' controller takes pods for lost when their node was not heard of for a while.
            "Running" if !self.is_believed() => Some(Step::Contradict),
            "Running" => self.end().map(|(after, code)| Step::End { after, code }),
            _ => Some(Step::Start),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Start,
    Contradict,
    End { after: Duration, code: i32 },
    Remove,
}

pub struct Pods {
    informer: SharedInformer<SimPod>,
    api: Api,
    clock: SharedClock,
    nodes: u32,
    next_address: AtomicU32,
    /// Uids of pods for which a step is being taken, by kind of step.
    busy: Mutex<HashSet<(Box<str>, std::mem::Discriminant<Step>)>>,
    permits: Semaphore,
}

impl Pods {
    pub fn new(informer: SharedInformer<SimPod>, api: Api, clock: SharedClock, nodes: u32) -> Self {
        Self {
            informer,
            api,
            clock,
            nodes,
            next_address: AtomicU32::new(0),
            busy: Mutex::default(),
            permits: Semaphore::new(CONCURRENCY),
        }
    }

    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let (sender, mut due) = mpsc::unbounded_channel::<Arc<SimPod>>();
        let (nodes, again) = (self.nodes, sender.clone());
        let _subscription = self.informer.subscribe(move |change| {
            let pod = change.object();
            let is_gone = matches!(change, knarr_client::Change::Deleted { .. });
            if !is_gone && number_of(&pod.spec.node_name, nodes).is_some() && pod.due().is_some() {
                // Closed only when the fleet has stopped, and then nothing is to be done any more.
                let _stopped = sender.send(pod.clone());
            }
        });
        let steps = TaskTracker::new();
        while let Some(Some(pod)) = shutdown.run_until_cancelled(due.recv()).await {
            let Some(step) = pod.due() else { continue };
            let key = (pod.metadata.uid.clone(), std::mem::discriminant(&step));
            if !self.busy.lock().insert(key.clone()) {
                continue;
            }
            let (pods, shutdown, again) = (self.clone(), shutdown.clone(), again.clone());
            steps.spawn(async move {
                let taken = shutdown.run_until_cancelled(pods.take(&pod, step)).await;
                pods.busy.lock().remove(&key);
                // What came meanwhile was passed over. Older news than the step has its own event still to come.
                if let Some(Some(written)) = taken
                    && let Some(known) = pods.known(&pod)
                    && version(&known.metadata).is_some_and(|version| version > written)
                {
                    let _stopped = again.send(known);
                }
            });
        }
        steps.close();
        steps.wait().await;
    }

    /// Tries until the step is taken, and says which version it made, or there is nothing left to take it.
    async fn take(&self, pod: &SimPod, step: Step) -> Option<u64> {
        if let Step::End { after, .. } = step {
            tokio::time::sleep(after).await;
        }
        let mut pause = FIRST_RETRY;
        loop {
            match self.attempt(pod, step).await {
                Err(error) if has_code(&error, 404) => return None,
                // Another of its name is there.
                Err(error) if has_code(&error, 409) && self.known(pod).is_none() => return None,
                Err(error) => {
                    let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
                    tracing::warn!(%namespace, %name, %error, "simulated pod tries its step again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
                Ok(written) => return version(&written.metadata),
            }
        }
    }

    /// The pod as it is now; `None` if it has been seen to go.
    fn known(&self, pod: &SimPod) -> Option<Arc<SimPod>> {
        let known = self.informer.get(pod.namespace(), pod.name())?;
        (known.metadata.uid == pod.metadata.uid).then_some(known)
    }

    async fn attempt(&self, pod: &SimPod, step: Step) -> Result<Written, kube::Error> {
        let _permit = self.permits.acquire().await;
        let uid = json!({"uid": &*pod.metadata.uid});
        match step {
            Step::Remove => {
                let options = json!({"gracePeriodSeconds": 0, "preconditions": uid});
                self.api.ask(Method::DELETE, &pod.path(""), "application/json", &options).await
            }
            Step::Start => {
                let patch =
                    json!({"metadata": uid, "status": status::running(pod, self.address(), self.now())});
                self.patch(pod, &patch).await
            }
            Step::Contradict => {
                let patch = json!({"metadata": uid, "status": status::ready(pod, self.now())});
                self.patch(pod, &patch).await
            }
            Step::End { code, .. } => {
                let patch = json!({"metadata": uid, "status": status::ended(pod, code, self.now())});
                self.patch(pod, &patch).await
            }
        }
    }

    async fn patch(&self, pod: &SimPod, patch: &serde_json::Value) -> Result<Written, kube::Error> {
        let kind = "application/strategic-merge-patch+json";
        self.api.ask(Method::PATCH, &pod.path("/status"), kind, patch).await
    }

    fn now(&self) -> Time {
        Time(self.clock.now())
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(FIRST_ADDRESS + self.next_address.fetch_add(1, Ordering::Relaxed) % (ADDRESSES - 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn due(phase: &str, policy: &str, more: Value) -> Option<Step> {
        due_if("True", phase, policy, more)
    }

    fn due_if(ready: &str, phase: &str, policy: &str, more: Value) -> Option<Step> {
        let mut meta = json!({"name": "p", "uid": "u"});
        meta.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let pod = json!({
            "metadata": meta, "spec": {"restartPolicy": policy}, "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        });
        serde_json::from_value::<SimPod>(pod).expect("a pod").due()
    }

    #[test]
    fn pods_start_run_as_long_as_they_say_and_go_when_told() {
        let ends = |rule: &str| json!({"annotations": {"sim.knarr.io/run-seconds": rule}});
        let after = |code| Some(Step::End { after: Duration::from_secs(2), code });
        assert_eq!(due("Pending", "Always", json!({})), Some(Step::Start));
        assert_eq!(due("Running", "Always", json!({})), None);
        assert_eq!(due("Running", "Never", ends("2")), after(0));
        assert_eq!(due("Running", "Never", ends("2,1")), after(1));
        assert_eq!(due("Running", "OnFailure", ends("2")), after(0));
        assert_eq!(due("Running", "OnFailure", ends("2,1")), None);
        assert_eq!(due("Running", "Always", ends("2")), None);
        assert_eq!(due_if("False", "Running", "Always", json!({})), Some(Step::Contradict));
        assert_eq!(due_if("False", "Succeeded", "Never", json!({})), None);
        let leaving = json!({"deletionTimestamp": "2024-01-01T00:00:00Z"});
        assert_eq!(due_if("False", "Running", "Always", leaving.clone()), Some(Step::Remove));
        assert_eq!(due("Running", "Always", leaving.clone()), Some(Step::Remove));
        assert_eq!(due("Succeeded", "Never", leaving), Some(Step::Remove));
        assert_eq!(due("Failed", "Never", json!({})), None);
    }
}
