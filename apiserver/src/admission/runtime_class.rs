//! A pod takes over its runtime class's overhead and scheduling.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::{Map, Value};

use super::lookup::Lookup;
use super::pod::{items, list_at, object_at, text};
use super::pod_resources::resources;
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const CLASSES: Resource<'static> = Resource::new("node.k8s.io", "runtimeclasses");

pub struct RuntimeClass {
    pub lookup: Lookup,
}

impl RuntimeClass {
    async fn class(&self, attributes: &Attributes) -> Result<Option<Value>, Status> {
        let name = attributes.object.as_ref().and_then(|pod| pod["spec"]["runtimeClassName"].as_str());
        let Some(name) = name else { return Ok(None) };
        let found = self.lookup.get(CLASSES, "", name).await?;
        let missing = || attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"));
        found.ok_or_else(missing).map(Some)
    }
}

fn schedule(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    let wanted: Map<String, Value> = scheduling["nodeSelector"].as_object().cloned().unwrap_or_default();
    if !wanted.is_empty()
        && let Some(selector) = object_at(spec, "nodeSelector")
    {
        for (key, value) in wanted {
            match selector.get(&key) {
                Some(present) if *present != value => {
                    return Err(format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        text(&value),
                        text(present)
                    ));
                }
                _ => selector.insert(key, value),
            };
        }
    }
    let tolerations: Vec<Value> = items(&scheduling["tolerations"]).cloned().collect();
    if !tolerations.is_empty()
        && let Some(present) = list_at(spec, "tolerations")
    {
        for toleration in tolerations {
            if !present.contains(&toleration) {
                present.push(toleration);
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Admission for RuntimeClass {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let Some(class) = self.class(attributes).await? else { return Ok(()) };
        let Some(spec) = attributes.object.as_mut().and_then(|pod| pod.get_mut("spec")) else {
            return Ok(());
        };
        let fixed = &class["overhead"]["podFixed"];
        let mut refused = None;
        if class["overhead"].is_object() {
            let present = &spec["overhead"];
            let differs = present.as_object().is_some_and(|present| !present.is_empty())
                && resources(present) != resources(fixed);
            if differs {
                refused =
                    Some("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
            } else {
                spec["overhead"] = fixed.clone();
            }
        }
        if refused.is_none() && class["scheduling"].is_object() {
            refused = schedule(spec, &class["scheduling"]).err();
        }
        refused.map_or(Ok(()), |why: String| Err(attributes.forbidden(why)))
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let class = self.class(attributes).await?;
        let Some(pod) = &attributes.object else { return Ok(()) };
        let present = &pod["spec"]["overhead"];
        match class.filter(|class| class["overhead"].is_object()) {
            Some(class) if resources(present) != resources(&class["overhead"]["podFixed"]) => Err(attributes
                .forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")),
            None if !present.is_null() => Err(attributes.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}
