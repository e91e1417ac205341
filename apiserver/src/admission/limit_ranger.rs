//! Defaults and bounds for what pods and claims ask for, per namespace.

use async_trait::async_trait;
use knarr_api::quantity::Quantity;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::lookup::Lookup;
use super::pod::{items, object_at, text};
use super::pod_resources::{Resources, Side, of_pod, resources};
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const LIMIT_RANGES: Resource<'static> = Resource::core("limitranges");
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    pub lookup: Lookup,
}

impl LimitRanger {
    fn limits(&self, attributes: &Attributes) -> Result<Vec<Value>, Status> {
        let deleted = |old: &Value| !old["metadata"]["deletionTimestamp"].is_null();
        if attributes.old_object.as_deref().is_some_and(deleted) {
            return Ok(Vec::new());
        }
        let ranges: Vec<Value> = self.lookup.list(LIMIT_RANGES, Some(&attributes.namespace))?;
        Ok(ranges.iter().flat_map(|range| items(&range["spec"]["limits"]).cloned()).collect())
    }
}

/// Whether limits apply to this write. Containers of a pod change only through `resize`.
fn applies(attributes: &Attributes) -> bool {
    match attributes.operation {
        Operation::Create => attributes.is("", "pods") || attributes.is("", "persistentvolumeclaims"),
        Operation::Update => {
            attributes.is("", "persistentvolumeclaims")
                || (attributes.is_resource("", "pods") && attributes.subresource == "resize")
        }
        _ => false,
    }
}

/// Sets what containers leave open, and returns what was set in the words of the annotation.
fn set_defaults(pod: &mut Value, defaults: &Resources, default_requests: &Resources) -> Vec<String> {
    let mut set = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers =
            pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(&container["name"]).to_owned();
            for (field, word, wanted) in
                [("requests", "request", default_requests), ("limits", "limit", defaults)]
            {
                let added = fill(container, field, wanted);
                if !added.is_empty() {
                    set.push(format!("{} {word} for {what} {name}", added.join(", ")));
                }
            }
        }
    }
    set
}

fn fill(container: &mut Value, field: &str, wanted: &Resources) -> Vec<String> {
    if wanted.is_empty() || object_at(container, "resources").is_none() {
        return Vec::new();
    }
    let Some(present) = object_at(&mut container["resources"], field) else { return Vec::new() };
    let mut added = Vec::new();
    for (name, amount) in wanted {
        if !present.contains_key(name) {
            present.insert(name.clone(), amount.to_string().into());
            added.push(name.clone());
        }
    }
    added
}

/// One kind's bounds and what is measured against them.
struct Bounds<'a> {
    kind: &'a str,
    requests: &'a Resources,
    limits: &'a Resources,
    /// Claims have no limits: their maximum is for what is requested.
    has_limits: bool,
}

impl Bounds<'_> {
    fn check(&self, limit: &Value, errors: &mut Vec<String>) {
        for (name, bound) in resources(&limit["min"]) {
            errors.extend(self.min(&name, &bound));
        }
        for (name, bound) in resources(&limit["max"]) {
            errors.extend(self.max(&name, &bound));
        }
        for (name, bound) in resources(&limit["maxLimitRequestRatio"]) {
            if self.has_limits {
                errors.extend(self.ratio(&name, &bound));
            }
        }
    }

    fn min(&self, name: &str, bound: &Quantity) -> Option<String> {
        let head = format!("minimum {name} usage per {} is {bound}", self.kind);
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{head}.  No request is specified"));
        };
        if request < bound {
            return Some(format!("{head}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|limit| *limit < bound)?;
        Some(format!("{head}, but limit is {limit}"))
    }

    fn max(&self, name: &str, bound: &Quantity) -> Option<String> {
        let head = format!("maximum {name} usage per {} is {bound}", self.kind);
        if self.has_limits {
            let Some(limit) = self.limits.get(name) else {
                return Some(format!("{head}.  No limit is specified"));
            };
            if limit > bound {
                return Some(format!("{head}, but limit is {limit}"));
            }
        }
        match self.requests.get(name) {
            None if !self.has_limits => Some(format!("{head}.  No request is specified")),
            Some(request) if request > bound => Some(format!("{head}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, bound: &Quantity) -> Option<String> {
        let head = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
        let positive = |amount: &&Quantity| !amount.is_zero();
        let Some(request) = self.requests.get(name).filter(positive) else {
            return Some(format!("{head}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limits.get(name).filter(positive) else {
            return Some(format!("{head}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.as_f64() / request.as_f64();
        (ratio > bound.as_f64()).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
    }
}

fn check_pod(pod: &Value, limits: &[Value]) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in limits {
        match text(&limit["type"]) {
            "Container" => {
                for container in
                    ["containers", "initContainers"].iter().flat_map(|list| items(&pod["spec"][*list]))
                {
                    let requests = resources(&container["resources"]["requests"]);
                    let own = resources(&container["resources"]["limits"]);
                    let bounds =
                        Bounds { kind: "Container", requests: &requests, limits: &own, has_limits: true };
                    bounds.check(limit, &mut errors);
                }
            }
            "Pod" => {
                let (requests, own) = (of_pod(pod, Side::Requests), of_pod(pod, Side::Limits));
                Bounds { kind: "Pod", requests: &requests, limits: &own, has_limits: true }
                    .check(limit, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check_claim(claim: &Value, limits: &[Value]) -> Vec<String> {
    let mut errors = Vec::new();
    let requests = resources(&claim["spec"]["resources"]["requests"]);
    for limit in limits.iter().filter(|limit| limit["type"] == "PersistentVolumeClaim") {
        let none = Resources::new();
        Bounds { kind: "PersistentVolumeClaim", requests: &requests, limits: &none, has_limits: false }
            .check(limit, &mut errors);
    }
    errors
}

/// Several errors as Go joins them.
fn joined(mut errors: Vec<String>) -> Option<String> {
    let mut seen = Vec::new();
    errors.retain(|error| {
        let new = !seen.contains(error);
        seen.push(error.clone());
        new
    });
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

#[async_trait]
impl Admission for LimitRanger {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !applies(attributes) || !attributes.is_resource("", "pods") {
            return Ok(());
        }
        let limits = self.limits(attributes)?;
        let (mut defaults, mut default_requests) = (Resources::new(), Resources::new());
        for limit in limits.iter().filter(|limit| limit["type"] == "Container") {
            defaults.extend(resources(&limit["default"]));
            default_requests.extend(resources(&limit["defaultRequest"]));
        }
        let Some(pod) = &mut attributes.object else { return Ok(()) };
        let set = set_defaults(pod, &defaults, &default_requests);
        if !set.is_empty()
            && object_at(pod, "metadata").is_some()
            && let Some(annotations) = object_at(&mut pod["metadata"], "annotations")
        {
            annotations
                .insert(ANNOTATION.into(), json!(format!("LimitRanger plugin set: {}", set.join("; "))));
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(object) = attributes.object.as_ref().filter(|_| applies(attributes)) else { return Ok(()) };
        let limits = self.limits(attributes)?;
        let errors = match attributes.is_resource("", "pods") {
            true => check_pod(object, &limits),
            false => check_claim(object, &limits),
        };
        joined(errors).map_or(Ok(()), |why| Err(attributes.forbidden(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn defaults_fill_what_is_open_and_are_named() {
        let mut pod = pod(json!({"requests": {"cpu": "1"}}));
        let amounts = |cpu: &str, memory: &str| resources(&json!({"cpu": cpu, "memory": memory}));
        let set = set_defaults(&mut pod, &amounts("2", "1Gi"), &amounts("500m", "256Mi"));
        assert_eq!(set, ["memory request for container c", "cpu, memory limit for container c"]);
        let filled = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(
            *filled,
            json!({"requests": {"cpu": "1", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
        );
    }

    #[test]
    fn bounds_are_checked_in_upstreams_words() {
        let limit = |fields: Value| {
            let mut limit = json!({"type": "Container"});
            limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            vec![limit]
        };
        let table = [
            (
                json!({}),
                json!({"min": {"cpu": "100m"}}),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                json!({"requests": {"cpu": "50m"}}),
                json!({"min": {"cpu": "100m"}}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"limits": {"cpu": "2"}}),
                json!({"max": {"cpu": "1"}}),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                json!({"limits": {"cpu": "4"}, "requests": {"cpu": "1"}}),
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            ),
        ];
        for (resources, bounds, expected) in table {
            assert_eq!(check_pod(&pod(resources), &limit(bounds)), [expected]);
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let limits = [json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}})];
        assert_eq!(
            check_claim(&claim, &limits),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"]
        );
    }
}
