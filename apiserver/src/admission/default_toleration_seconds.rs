//! Pods stay five minutes on a node that fails, unless they say otherwise.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::pod::list_at;
use super::{Admission, Attributes, Operation};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub struct DefaultTolerationSeconds;

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is_or_empty = |field: &str, wanted: &str| {
        matches!(toleration[field].as_str(), None | Some("")) || toleration[field] == wanted
    };
    is_or_empty("key", taint) && is_or_empty("effect", "NoExecute")
}

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = attributes.object.as_mut().and_then(|pod| pod.get_mut("spec")) else {
            return Ok(());
        };
        let missing: Vec<&str> = {
            let present = spec["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
            TAINTS.into_iter().filter(|taint| !present.iter().any(|t| tolerates(t, taint))).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let Some(tolerations) = list_at(spec, "tolerations") else { return Ok(()) };
        tolerations.extend(missing.into_iter().map(|taint| {
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS})
        }));
        Ok(())
    }
}
