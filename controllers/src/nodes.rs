//! Facts about nodes that several controllers go by, and the controllers of nodes themselves.

pub(crate) mod affinity;
pub(crate) mod eviction;
pub(crate) mod ipam;
pub(crate) mod lifecycle;

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Taint};
use knarr_client::events::{EventRecorder, EventType};

pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// `True`, `False` or `Unknown`; `None` if the node has never said.
pub(crate) fn ready_status(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}

pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Records an event about a node. Its uid is the node's name, as every other component reports nodes too, so that
/// `kubectl describe` finds it.
pub(crate) fn event(recorder: &EventRecorder, node: &str, reason: &str, message: String) {
    let involved = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    };
    recorder.event_about(involved, EventType::Normal, reason, message);
}
