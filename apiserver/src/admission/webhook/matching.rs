//! Whether a request concerns a hook.

use serde_json::Value;

use super::configuration::{Hook, Rule};
use crate::admission::{Attributes, Operation};
use crate::objects::{Objects, Resource};

/// By rules, the namespace's labels and the object's labels.
///
/// Errors: a selector does not parse, or the namespace cannot be found.
pub fn concerns(hook: &Hook, attributes: &Attributes, objects: &dyn Objects) -> Result<bool, String> {
    Ok(hook.rules.iter().any(|rule| rule_matches(rule, attributes))
        && object_selected(hook, attributes)?
        && namespace_selected(hook, attributes, objects)?)
}

fn rule_matches(rule: &Rule, attributes: &Attributes) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
    // A Namespace is in no namespace, though requests for it name one.
    let namespaced = !attributes.namespace.is_empty() && !attributes.is_resource("", "namespaces");
    let scope = match rule.scope.as_deref() {
        Some("Namespaced") => namespaced,
        Some("Cluster") => !namespaced,
        _ => true,
    };
    scope
        && has(&rule.operations, attributes.operation.as_str())
        && has(&rule.api_groups, &attributes.resource.group)
        && has(&rule.api_versions, &attributes.resource.version)
        && rule.resources.iter().any(|pattern| resource_matches(pattern, attributes))
}

fn resource_matches(pattern: &str, attributes: &Attributes) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    let is = |pattern: &str, actual: &str| pattern == "*" || pattern == actual;
    is(resource, &attributes.resource.resource) && is(subresource, &attributes.subresource)
}

fn object_selected(hook: &Hook, attributes: &Attributes) -> Result<bool, String> {
    let selector = hook.object_selector()?;
    if selector.is_everything() {
        return Ok(true);
    }
    let selected = |object: Option<&Value>| {
        object.is_some_and(|object| {
            object["metadata"].is_object() && selector.matches(&object["metadata"]["labels"])
        })
    };
    Ok(selected(attributes.object.as_ref()) || selected(attributes.old_object.as_deref()))
}

fn namespace_selected(hook: &Hook, attributes: &Attributes, objects: &dyn Objects) -> Result<bool, String> {
    let selector = hook.namespace_selector()?;
    if selector.is_everything() {
        return Ok(true);
    }
    if attributes.is_resource("", "namespaces") {
        // What is being written counts, but for what is being deleted.
        let own = match attributes.operation {
            Operation::Create | Operation::Update => attributes.object.as_ref(),
            _ => attributes.old_object.as_deref(),
        };
        if let Some(own) = own {
            return Ok(selector.matches(&own["metadata"]["labels"]));
        }
    }
    let name = match attributes.is_resource("", "namespaces") {
        true => &attributes.name,
        false => &attributes.namespace,
    };
    if name.is_empty() {
        return Ok(true);
    }
    let stored = objects
        .get(Resource::core("namespaces"), "", name)
        .ok_or_else(|| format!("namespaces {name:?} not found"))?;
    let namespace: Value = serde_json::from_slice(&stored.json).map_err(|error| error.to_string())?;
    Ok(selector.matches(&namespace["metadata"]["labels"]))
}
