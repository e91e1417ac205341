//! Writes into the status of validating policies what checking their types found.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::{Value, json};

use super::definition::Policy;
use super::index::GROUP;
use super::typing;
use crate::loopback::Loopback;
use crate::objects::{Change, Objects, Resource, Stored};

const PLURAL: &str = "validatingadmissionpolicies";

/// Follows the policies until dropped.
pub async fn report(objects: Arc<dyn Objects>, loopback: Loopback) {
    let mut changes = objects.watch(Resource::new(GROUP, PLURAL));
    while let Some(change) = changes.next().await {
        if let Change::Set(stored) = change {
            check(&*objects, &loopback, &stored).await;
        }
    }
}

async fn check(objects: &dyn Objects, loopback: &Loopback, stored: &Stored) {
    let Ok(mut policy) = serde_json::from_slice::<Value>(&stored.json) else { return };
    let generation = policy.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let observed = policy.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if observed == Some(generation) {
        return;
    }
    let Ok(parsed) = serde_json::from_value::<Policy>(policy.clone()) else { return };
    let warnings = typing::warnings(&parsed.spec, objects);
    let mut checking = json!({});
    if !warnings.is_empty() {
        checking["expressionWarnings"] = warnings.into();
    }
    if !policy["status"].is_object() {
        policy["status"] = json!({});
    }
    policy["status"]["observedGeneration"] = generation.into();
    policy["status"]["typeChecking"] = checking;
    let path = format!("/apis/{GROUP}/v1/{PLURAL}/{}/status", stored.name);
    match loopback.update(&path, &policy).await {
        Ok(_) => {}
        // It changed meanwhile and comes again, or it is gone.
        Err(status) if matches!(status.code, 404 | 409) => {}
        Err(status) => {
            tracing::warn!(policy = %stored.name, %status, "the status of a policy could not be written")
        }
    }
}
