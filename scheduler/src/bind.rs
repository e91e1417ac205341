//! Telling the API server: bindings, conditions and events.

use http::{Method, Request};
use k8s_openapi::api::core::v1::ObjectReference;
use knarr_client::Client;
use knarr_client::events::{EventRecorder, EventType};
use serde_json::{Value, json};

use crate::object::Pod;

/// How the scheduler writes; its own identity is behind the client.
#[derive(Clone)]
pub struct Binder {
    client: Client,
    recorder: EventRecorder,
}

impl Binder {
    pub fn new(client: Client, recorder: EventRecorder) -> Self {
        Self { client, recorder }
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
        self.send(Method::POST, "application/json", &path(pod, "binding"), &binding).await?;
        let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
        self.recorder.event_about(reference(pod), EventType::Normal, "Scheduled", message);
        Ok(())
    }

    /// Says on the pod why it has no node. `reason` is `Unschedulable` or `SchedulerError`.
    pub async fn report(&self, pod: &Pod, reason: &str, message: &str) -> Result<(), kube::Error> {
        self.recorder.event_about(reference(pod), EventType::Warning, "FailedScheduling", message);
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
        });
        let patch = json!({
            "metadata": {"uid": &*pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let kind = "application/strategic-merge-patch+json";
        self.send(Method::PATCH, kind, &path(pod, "status"), &patch).await.map(drop)
    }

    async fn send(&self, method: Method, kind: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

fn path(pod: &Pod, subresource: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}/{subresource}", pod.metadata.namespace, pod.metadata.name)
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
