//! Telling the API server: bindings, conditions and events.

mod claims;

use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use knarr_api::time::SharedClock;
use knarr_client::Client;
use knarr_client::events::{EventBroadcaster, EventType};
use serde_json::{Value, json};

use crate::object::{Condition, Pod};

pub use claims::BoundClaims;

/// Events longer than this are cut.
const MAX_NOTE: usize = 1024;

/// How the scheduler writes; its own identity is behind the client.
#[derive(Clone)]
pub struct Binder {
    client: Client,
    events: EventBroadcaster,
    clock: SharedClock,
}

/// A change of a pod's condition, before it is written.
pub struct Saying<'a> {
    pub type_: &'a str,
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

impl Binder {
    pub fn new(client: Client, events: EventBroadcaster, clock: SharedClock) -> Self {
        Self { client, events, clock }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Binds a pod to a node. The uid makes sure that it is still the pod that was decided about.
    pub async fn bind(&self, pod: &Pod, node: &str) -> Result<(), kube::Error> {
        let meta = &pod.metadata;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": &*meta.namespace, "name": &*meta.name, "uid": &*meta.uid},
            "target": {"kind": "Node", "name": node},
        });
        self.send(Method::POST, "application/json", &path(pod, "/binding"), &binding).await?;
        let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
        self.event(pod, EventType::Normal, "Scheduled", &message);
        Ok(())
    }

    /// Says on the pod why it has no node, and for which one it waits. `reason` is `Unschedulable` or
    /// `SchedulerError`; `nominate` is the new nominated node, `None` to leave it.
    pub async fn report(
        &self,
        pod: &Pod,
        reason: &str,
        message: &str,
        nominate: Option<&str>,
    ) -> Result<(), kube::Error> {
        self.event(pod, EventType::Warning, "FailedScheduling", message);
        let saying = Saying { type_: "PodScheduled", status: "False", reason, message };
        let mut status = json!({});
        if let Some(condition) = self.condition(pod, pod.scheduled.as_deref(), &saying) {
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominate.filter(|node| **node != *pod.nominated_node) {
            status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { node.into() };
        }
        self.patch_status(pod, status).await
    }

    pub async fn nominate(&self, pod: &Pod, node: &str) -> Result<(), kube::Error> {
        let node = if node.is_empty() { Value::Null } else { node.into() };
        self.patch_status(pod, json!({"nominatedNodeName": node})).await
    }

    /// Tells a pod to go so that another can have its place.
    pub async fn preempt(&self, victim: &Pod, preemptor: &Pod, node: &str) -> Result<(), kube::Error> {
        let scheduler = &preemptor.scheduler_name;
        let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
        let reason = "PreemptionByScheduler";
        let saying = Saying { type_: "DisruptionTarget", status: "True", reason, message: &message };
        let told = match self.condition(victim, victim.disruption.as_deref(), &saying) {
            Some(condition) => self.patch_status(victim, json!({"conditions": [condition]})).await,
            None => Ok(()),
        };
        let deleted = match told {
            Ok(()) => {
                let uid = &*victim.metadata.uid;
                let options = json!({"preconditions": {"uid": uid}});
                self.send(Method::DELETE, "application/json", &path(victim, ""), &options).await.map(drop)
            }
            Err(error) => Err(error),
        };
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Ok(()) => {
                let uid = &preemptor.metadata.uid;
                let message = format!("Preempted by pod {uid} on node {node}");
                self.events.recorder(scheduler, None).event_about(
                    reference(victim),
                    EventType::Normal,
                    "Preempted",
                    message,
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn event(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        let recorder = self.events.recorder(&pod.scheduler_name, None);
        recorder.event_about(reference(pod), kind, reason, cut(message));
    }

    /// The condition as it is to be written; `None` if the pod says so already.
    fn condition(&self, pod: &Pod, before: Option<&Condition>, saying: &Saying<'_>) -> Option<Value> {
        let Saying { type_, status, reason, message } = *saying;
        if before.is_some_and(|before| before.says(status, reason, message)) {
            return None;
        }
        let same_status = before.filter(|before| &*before.status == status);
        let since: Timestamp =
            same_status.and_then(Condition::changed_at).unwrap_or_else(|| self.clock.now());
        Some(json!({
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since),
            "observedGeneration": pod.metadata.generation,
        }))
    }

    async fn patch_status(&self, pod: &Pod, status: Value) -> Result<(), kube::Error> {
        if status.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": &*pod.metadata.uid}, "status": status});
        let kind = "application/strategic-merge-patch+json";
        self.send(Method::PATCH, kind, &path(pod, "/status"), &patch).await.map(drop)
    }

    async fn send(&self, method: Method, kind: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

fn cut(message: &str) -> String {
    const END: &str = " ...";
    if message.len() <= MAX_NOTE {
        return message.to_owned();
    }
    let mut end = MAX_NOTE - END.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{END}", &message[..end])
}

fn path(pod: &Pod, rest: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}{rest}", pod.metadata.namespace, pod.metadata.name)
}

fn reference(pod: &Pod) -> ObjectReference {
    let meta = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(meta.namespace.to_string()),
        name: Some(meta.name.to_string()),
        uid: Some(meta.uid.to_string()),
        resource_version: Some(meta.resource_version.to_string()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"ä".repeat(600));
        assert!(long.len() <= MAX_NOTE && long.ends_with("ä ..."), "{}", long.len());
    }
}
