//! Whether a request concerns a webhook or a policy: rules, and the labels of the object and of its namespace.

use knarr_api::selector::Selector;
use knarr_api::status::Status;
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::objects::{Objects, Resource};

/// Operations and resources.
#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub operations: Vec<String>,
    pub api_groups: Vec<String>,
    pub api_versions: Vec<String>,
    pub resources: Vec<String>,
    pub scope: Option<String>,
    /// Empty for all; only policies have it.
    pub resource_names: Vec<String>,
}

/// The version of the resource that the first matching rule is about. With `equivalent` a rule for another served
/// version of the same resource matches too.
pub fn matched_version(
    rules: &[Rule],
    attributes: &Attributes,
    objects: &dyn Objects,
    equivalent: bool,
) -> Option<String> {
    let own = &*attributes.resource.version;
    if rules.iter().any(|rule| rule_matches(rule, attributes, own)) {
        return Some(own.to_owned());
    }
    if !equivalent {
        return None;
    }
    let resource = Resource::new(&attributes.resource.group, &attributes.resource.resource);
    let others = objects.versions(resource);
    // The order is that of the rules, as upstream takes the first that matches.
    rules.iter().find_map(|rule| others.iter().find(|other| rule_matches(rule, attributes, other)).cloned())
}

fn rule_matches(rule: &Rule, attributes: &Attributes, version: &str) -> bool {
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
        && has(&rule.api_versions, version)
        && (rule.resource_names.is_empty() || rule.resource_names.contains(&attributes.name))
        && rule.resources.iter().any(|pattern| resource_matches(pattern, attributes))
}

fn resource_matches(pattern: &str, attributes: &Attributes) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    let is = |pattern: &str, actual: &str| pattern == "*" || pattern == actual;
    is(resource, &attributes.resource.resource) && is(subresource, &attributes.subresource)
}

/// A label selector; without one everything is selected.
pub fn selector(of: &Value) -> Result<Selector, String> {
    let empty = Value::Object(serde_json::Map::new());
    let of = if of.is_null() { &empty } else { of };
    Selector::from_label_selector(Some(of)).map_err(|error| error.to_string())
}

/// Whether the object, or what it was, has the labels.
pub fn object_selected(selector: &Selector, attributes: &Attributes) -> bool {
    let selected = |object: Option<&Value>| {
        object.is_some_and(|object| {
            object["metadata"].is_object() && selector.matches(&object["metadata"]["labels"])
        })
    };
    selector.is_everything()
        || selected(attributes.object.as_ref())
        || selected(attributes.old_object.as_deref())
}

/// Whether the namespace of the object has the labels.
///
/// Errors: the namespace cannot be found.
pub fn namespace_selected(
    selector: &Selector,
    attributes: &Attributes,
    objects: &dyn Objects,
) -> Result<bool, Status> {
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
    let namespace = namespace(objects, name)?;
    Ok(selector.matches(&namespace["metadata"]["labels"]))
}

/// A Namespace by its name.
pub fn namespace(objects: &dyn Objects, name: &str) -> Result<Value, Status> {
    let stored = objects
        .get(Resource::core("namespaces"), "", name)
        .ok_or_else(|| Status::not_found("", "namespaces", name))?;
    serde_json::from_slice(&stored.json).map_err(Status::internal)
}
