//! `pods/binding` and `bindings`: the scheduler's word on where a pod runs.

use async_trait::async_trait;
use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::status::Status;
use serde_json::{Value, json};

use crate::catalogue::{Answer, CreateSubresource, Storage};
use crate::context::RequestContext;
use crate::object;
use crate::registry::invalid;

/// Serves both.
pub struct Binding;

#[async_trait]
impl CreateSubresource for Binding {
    async fn create(&self, cx: &RequestContext, name: &str, binding: Value) -> Result<Value, Status> {
        let storage = cx.resource.stored().ok_or_else(Status::path_not_found)?.clone();
        bind(cx, &storage, name, &binding).await
    }
}

#[async_trait]
impl Answer for Binding {
    async fn answer(&self, cx: &RequestContext, binding: Value) -> Result<Value, Status> {
        let pods = cx.registry.catalogue().preferred("", "pods").and_then(|pods| pods.stored()).cloned();
        let storage = pods.ok_or_else(Status::path_not_found)?;
        let name = object::name(&binding).to_owned();
        bind(cx, &storage, &name, &binding).await
    }
}

async fn bind(cx: &RequestContext, storage: &Storage, name: &str, binding: &Value) -> Result<Value, Status> {
    invalid("", "Binding", name, validate(binding))?;
    let now = object::now(&*cx.registry.clock);
    let change = |pod: &mut Value| assign(pod, binding, &now);
    cx.registry.modify(cx, storage, name, change).await?;
    serde_json::to_value(Status::success(201)).map_err(Status::internal)
}

fn validate(binding: &Value) -> ErrorList {
    let text = |field: &str| {
        binding.pointer(&format!("/target/{field}")).and_then(Value::as_str).unwrap_or_default()
    };
    let path = Path::new("target");
    let mut errors = ErrorList::new();
    if !matches!(text("kind"), "" | "Node") {
        errors.push(Error::not_supported(&path.child("kind"), text("kind"), &["Node", "<empty>"]));
    }
    if text("name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    errors
}

/// Puts the pod on the node, once.
fn assign(pod: &mut Value, binding: &Value, now: &str) -> Result<(), Status> {
    let name = object::name(pod).to_owned();
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", &name, why));
    let uid = object::uid(binding);
    if !uid.is_empty() && uid != object::uid(pod) {
        let found = object::uid(pod);
        return refuse(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        ));
    }
    if object::is_deleting(pod) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let target = binding.pointer("/target/name").cloned().unwrap_or_default();
    object::map_at(pod, "spec")["nodeName"] = target;
    // A nomination that has come true says nothing any more (KEP-5278).
    if let Some(status) = object::map_at(pod, "status").as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for field in ["annotations", "labels"] {
        let given = object::metadata(binding).and_then(|m| m.get(field)).and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            let known = object::metadata_mut(pod).entry(field).or_insert_with(|| json!({}));
            known[key] = value.clone();
        }
    }
    set_scheduled(pod, now);
    Ok(())
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let generation = object::meta_i64(pod, "generation");
    let conditions = object::map_at(pod, "status")
        .as_object_mut()
        .map(|status| status.entry("conditions").or_insert_with(|| json!([])));
    let Some(Value::Array(conditions)) = conditions else { return };
    let mut condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation.into();
    }
    match conditions.iter_mut().find(|known| known["type"] == "PodScheduled") {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
