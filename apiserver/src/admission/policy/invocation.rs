//! Which policies a request has to pass, with which binding and which parameter.

use std::sync::Arc;

use serde_json::Value;

use super::Policies;
use super::compile::{Compiled, CompiledBinding, Constraints};
use super::definition::{ParamKind, ParamRef};
use super::index::Bound;
use crate::admission::Attributes;
use crate::admission::matching::{matched_version, namespace_selected, object_selected, selector};
use crate::objects::{Objects, Resource};

/// One evaluation of a policy.
pub struct Invocation {
    pub policy: Arc<Compiled>,
    pub binding: Arc<CompiledBinding>,
    /// The version of the resource that the policy's rules name.
    pub version: String,
    /// Null without parameters.
    pub param: Value,
}

/// A policy or binding that cannot be used.
pub struct Misconfigured {
    pub policy: Arc<Compiled>,
    pub binding: Option<Arc<CompiledBinding>>,
    pub message: String,
}

/// Everything that concerns a request, in the order of the names.
pub fn collect(
    policies: &Policies,
    all: &[Bound],
    attributes: &Attributes,
) -> (Vec<Invocation>, Vec<Misconfigured>) {
    let objects = &*policies.objects;
    let (mut invocations, mut failures) = (Vec::new(), Vec::new());
    for bound in all {
        let policy = &bound.policy;
        let mut fail = |binding: Option<&Arc<CompiledBinding>>, why: String| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            failures.push(Misconfigured {
                policy: policy.clone(),
                binding: binding.cloned(),
                message: format!("failed to configure {what}: {why}"),
            });
        };
        let version = match &policy.constraints {
            Err(why) => {
                fail(None, why.clone());
                continue;
            }
            Ok(constraints) => match matches(constraints, attributes, objects) {
                Err(why) => {
                    fail(None, why);
                    continue;
                }
                Ok(None) => continue,
                Ok(Some(version)) => version,
            },
        };
        for binding in &bound.bindings {
            let matched = match &binding.resources {
                None => Ok(true),
                Some(Err(why)) => Err(why.clone()),
                Some(Ok(resources)) => narrows(resources, attributes, objects),
            };
            let params = matched.and_then(|matched| match matched {
                true => {
                    params(policy.param_kind.as_ref(), binding.source.param_ref.as_ref(), attributes, objects)
                }
                false => Ok(Vec::new()),
            });
            match params {
                Err(why) => fail(Some(binding), why),
                Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
                    policy: policy.clone(),
                    binding: binding.clone(),
                    version: version.clone(),
                    param,
                })),
            }
        }
    }
    (invocations, failures)
}

/// The version that the rules match, if they do.
fn matches(
    constraints: &Constraints,
    attributes: &Attributes,
    objects: &dyn Objects,
) -> Result<Option<String>, String> {
    let (source, equivalent) = (&constraints.source, constraints.matches_equivalent());
    if matched_version(&source.exclude_resource_rules, attributes, objects, equivalent).is_some() {
        return Ok(None);
    }
    let Some(version) = matched_version(&source.resource_rules, attributes, objects, equivalent) else {
        return Ok(None);
    };
    let selected = object_selected(&constraints.objects, attributes)
        && namespace_selected(&constraints.namespaces, attributes, objects)
            .map_err(|status| status.message)?;
    Ok(selected.then_some(version))
}

/// A binding without rules takes everything that its policy takes.
fn narrows(resources: &Constraints, attributes: &Attributes, objects: &dyn Objects) -> Result<bool, String> {
    if !resources.source.resource_rules.is_empty() {
        return Ok(matches(resources, attributes, objects)?.is_some());
    }
    let equivalent = resources.matches_equivalent();
    let excluded =
        matched_version(&resources.source.exclude_resource_rules, attributes, objects, equivalent).is_some();
    Ok(!excluded
        && object_selected(&resources.objects, attributes)
        && namespace_selected(&resources.namespaces, attributes, objects).map_err(|status| status.message)?)
}

/// The parameters of a binding: a single null if there are none to have, an empty list if there is nothing to do.
fn params(
    kind: Option<&ParamKind>,
    param_ref: Option<&ParamRef>,
    attributes: &Attributes,
    objects: &dyn Objects,
) -> Result<Vec<Value>, String> {
    let (Some(kind), Some(param_ref)) = (kind, param_ref) else { return Ok(vec![Value::Null]) };
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    let served = objects.of_kind(group, version, &kind.kind);
    let served = served.ok_or_else(|| {
        format!(
            "paramKind kind `&ParamKind{{APIVersion:{},Kind:{},}}` not known",
            kind.api_version, kind.kind
        )
    })?;
    let namespace = match (served.namespaced, param_ref.namespace.as_str(), attributes.namespace.as_str()) {
        (false, "", _) => "",
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .into(),
            );
        }
        (true, "", own) => own,
        (true, named, _) => named,
    };
    let resource = Resource::new(group, &served.plural);
    let read = |json: &[u8]| -> Result<Value, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    };
    let mut found = Vec::new();
    if !param_ref.name.is_empty() {
        if let Some(stored) = objects.get(resource, namespace, &param_ref.name) {
            found.push(read(&stored.json)?);
        }
    } else if let Some(of) = &param_ref.selector {
        let selector = selector(of)?;
        for stored in objects.list(resource, Some(namespace).filter(|namespace| !namespace.is_empty())) {
            let param = read(&stored.json)?;
            if selector.matches(&param["metadata"]["labels"]) {
                found.push(param);
            }
        }
    } else {
        return Err("one of name or selector must be provided".into());
    }
    if found.is_empty() && param_ref.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    for param in &mut found {
        param["apiVersion"] = kind.api_version.clone().into();
        param["kind"] = kind.kind.clone().into();
    }
    Ok(found)
}
