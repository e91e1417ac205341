//! `pods/resize`: other amounts of CPU and memory for a pod that runs.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::qos_class;
use super::validate::{self, put_back};
use crate::object;
use crate::registry::{Context, UpdateStrategy};
use crate::resources::at::At;
use crate::resources::pod_spec;

pub struct Resize;

const KINDS: [&str; 2] = ["containers", "initContainers"];

impl UpdateStrategy for Resize {
    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        let count = |of: &Value, kind: &str| {
            of.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).map_or(0, Vec::len)
        };
        // Containers that came or went are for validation to refuse.
        if KINDS.iter().any(|kind| count(object, kind) != count(old, kind)) {
            return;
        }
        let wanted = object.get("spec").cloned().unwrap_or_default();
        keep_all(object, old);
        let Some(spec) = object.get_mut("spec") else { return };
        put_back(spec, &wanted, "resources");
        for kind in KINDS {
            let wanted = wanted.get(kind).and_then(Value::as_array).cloned().unwrap_or_default();
            take_resources(spec, kind, wanted);
        }
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let of_pod = |detail: &str| ErrorList::from(Error::forbidden(&Path::new(""), detail));
        if pod_spec::is_mirror(old) {
            return of_pod("static pods cannot be resized");
        }
        if old.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows") {
            return of_pod("windows pods cannot be resized");
        }
        let mut errors = validate::always(object);
        resize(object, old, &mut errors);
        errors
    }
}

/// All but the metadata that users write becomes the old pod's.
pub fn keep_all(pod: &mut Value, old: &Value) {
    for field in ["spec", "status"] {
        object::copy_field(pod, old, field);
    }
    for field in [
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        object::copy_meta(pod, old, field);
    }
}

fn take_resources(spec: &mut Value, kind: &str, wanted: Vec<Value>) {
    let Some(containers) = spec.get_mut(kind).and_then(Value::as_array_mut) else { return };
    let renamed = containers.iter().zip(&wanted).any(|(old, new)| old.get("name") != new.get("name"));
    if renamed {
        *containers = wanted;
        return;
    }
    for (container, wanted) in containers.iter_mut().zip(&wanted) {
        put_back(container, wanted, "resources");
        put_back(container, wanted, "resizePolicy");
    }
}

fn resize(pod: &Value, old: &Value, errors: &mut ErrorList) {
    let (root, was) = (At::root(pod), At::root(old));
    let (spec, old_spec) = (root.at("spec"), was.at("spec"));
    if qos_class(pod) != was.at("status").text("qosClass") {
        let class = root.at("status").text("qosClass");
        errors.push(spec.invalid_as(class, "Pod QOS Class may not change as a result of resizing"));
    }
    let running =
        was.at("status").items("containerStatuses").find(|status| status.at("state").has("running"));
    if running.is_some_and(|status| !status.has("resources")) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    let mut munged = pod.get("spec").cloned().unwrap_or_default();
    pod_level(&spec, &old_spec, &mut munged, errors);
    if was.at("status").filled("nodeAllocatableResourceClaimStatuses") {
        errors.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if !same_containers(&spec, &old_spec, errors) {
        return;
    }
    for kind in ["initContainers", "containers"] {
        for (new, old) in spec.items(kind).zip(old_spec.items(kind)) {
            removed(
                &new.at("resources"),
                &old.at("resources"),
                ["resource requests", "resource limits"],
                errors,
            );
        }
    }
    for kind in KINDS {
        for (i, old) in old_spec.list(kind).iter().enumerate() {
            let before = munged[kind][i].clone();
            if let Some(resources) = munged[kind][i].get_mut("resources") {
                put_back_compute(resources, old.get("resources"));
            }
            if munged[kind][i].get("resizePolicy") != old.get("resizePolicy") && kind == "containers" {
                put_back(&mut munged[kind][i], old, "resizePolicy");
            }
            check_container(kind, i, &munged[kind][i], &before, old, &spec, errors);
        }
    }
    if errors.is_empty() && old_spec.value() != Some(&munged) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable"));
    }
}

fn check_container(
    kind: &'static str,
    i: usize,
    munged: &Value,
    new: &Value,
    old: &Value,
    spec: &At<'_>,
    errors: &mut ErrorList,
) {
    if kind == "containers" {
        if munged != old {
            errors.push(spec.forbidden("only cpu and memory resources are mutable"));
        }
        return;
    }
    let path = spec.path().child(kind).index(i);
    if munged != old {
        let detail = "only cpu and memory resources for init or sidecar containers are mutable";
        errors.push(Error::forbidden(&path, detail));
    }
    let new = At::root(new);
    let restarts = |policy: &Value| At::root(policy).text("restartPolicy") == "RestartContainer";
    if new.value() != Some(old) && new.text("restartPolicy") != "Always" {
        for _ in new.list("resizePolicy").iter().filter(|policy| restarts(policy)) {
            let detail =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn pod_level(spec: &At<'_>, old: &At<'_>, munged: &mut Value, errors: &mut ErrorList) {
    let (new, was) = (spec.at("resources"), old.at("resources"));
    let set = |of: &At<'_>| of.filled("requests") || of.filled("limits");
    if !set(&new) && !set(&was) {
        return;
    }
    if was.value().is_some() && new.value().is_none() {
        errors.push(new.forbidden("pod-level resources cannot be removed"));
        return;
    }
    removed(&new, &was, ["pod-level resource requests", "pod-level resource limits"], errors);
    if let Some(resources) = munged.get_mut("resources") {
        put_back_compute(resources, was.value());
        let empty =
            resources.as_object().is_some_and(|fields| fields.values().all(crate::resources::fill::is_zero));
        if was.value().is_none() && empty {
            munged.as_object_mut().map(|fields| fields.remove("resources"));
        }
    }
    if munged.get("resources") != was.value() {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

fn removed(new: &At<'_>, old: &At<'_>, what: [&str; 2], errors: &mut ErrorList) {
    for (field, what) in ["requests", "limits"].into_iter().zip(what) {
        let gone =
            old.entries(field).any(|(name, _)| new.get(field).is_none_or(|kept| kept.get(name).is_none()));
        if gone {
            errors.push(new.at(field).forbidden(format!("{what} cannot be removed")));
        }
    }
}

/// CPU and memory become what they were.
fn put_back_compute(resources: &mut Value, old: Option<&Value>) {
    for field in ["requests", "limits"] {
        let was = old.and_then(|old| old.get(field)).and_then(Value::as_object);
        let mut amounts = resources.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            match was.and_then(|was| was.get(name)) {
                Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        store(resources, field, amounts, was.is_some());
    }
}

fn store(resources: &mut Value, field: &str, amounts: Map<String, Value>, was_there: bool) {
    if amounts.is_empty() && !was_there {
        resources.as_object_mut().map(|fields| fields.remove(field));
    } else {
        resources[field] = Value::Object(amounts);
    }
}

fn same_containers(spec: &At<'_>, old: &At<'_>, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    for kind in KINDS {
        if spec.list(kind).len() != old.list(kind).len() {
            errors.push(spec.at(kind).forbidden(format!("{kind} may not be added or removed on resize")));
            continue;
        }
        for (new, old) in spec.items(kind).zip(old.items(kind)) {
            if new.text("name") != old.text("name") {
                let detail = format!("{kind} may not be renamed or reordered on resize");
                errors.push(new.at("name").forbidden(detail));
            }
        }
    }
    errors.len() == before
}
