//! New nodes are not ready until somebody has seen that they are.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::json;

use super::pod::list_at;
use super::{Admission, Attributes, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is("", "nodes") {
            return Ok(());
        }
        let spec = attributes.object.as_mut().map(|node| &mut node["spec"]);
        let Some(spec) = spec else { return Ok(()) };
        if spec.is_null() {
            *spec = json!({});
        }
        let Some(taints) = list_at(spec, "taints") else { return Ok(()) };
        if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
