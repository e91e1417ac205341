//! StatefulSets.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::{Value, json};

use super::deployment::parsed_selector;
use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::core::persistent_volume_claim;
use crate::resources::fill;
use crate::resources::pod_spec::{self, workload};

const UPDATABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const PARTS: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];

pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::zero(spec, "podManagementPolicy", "OrderedReady");
        let strategy = object::map_at(spec, "updateStrategy");
        if strategy.get("type").is_none_or(fill::is_zero) {
            strategy["type"] = json!("RollingUpdate");
            fill::nil(strategy, "rollingUpdate", json!({}));
        }
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate")
        {
            fill::nil(rolling, "partition", 0);
        }
        let retention = object::map_at(spec, "persistentVolumeClaimRetentionPolicy");
        fill::zero(retention, "whenDeleted", "Retain");
        fill::zero(retention, "whenScaled", "Retain");
        fill::nil(spec, "replicas", 1);
        fill::nil(spec, "revisionHistoryLimit", 10);
        pod_spec::defaults::template(spec, "template");
        for claim in fill::items(spec, "volumeClaimTemplates") {
            // Claims in the spec carry their kind, as those that upstream stores do.
            fill::zero(claim, "apiVersion", "v1");
            fill::zero(claim, "kind", "PersistentVolumeClaim");
            persistent_volume_claim::set_defaults(claim);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"replicas": 0, "availableReplicas": 0});
    }
    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        pod_spec::warnings::of_workload(object, old, "Pod names and hostnames")
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (status, was) = (At::root(object).at("status"), At::root(old).at("status"));
        workload::counts(&status, &["replicas"], &mut errors);
        workload::counts(&status, &PARTS, &mut errors);
        workload::counts(&status, &["observedGeneration", "collisionCount"], &mut errors);
        workload::parts(&status, &PARTS, "status.readyReplicas", &mut errors);
        workload::collisions(&status, &was, &mut errors);
        errors
    }
}

pub fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    spec(&At::root(object).at("spec"), true, &mut errors);
    errors
}

pub fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new, was) = (At::root(object).at("spec"), At::root(old).at("spec"));
    spec(&new, false, &mut errors);
    let fixed = |spec: &At<'_>| {
        let mut spec = spec.value().cloned().unwrap_or_default();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|field, _| !UPDATABLE.contains(&field.as_str()));
        }
        spec
    };
    if fixed(&new) != fixed(&was) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(new.forbidden(detail));
    }
    errors
}

/// `is_new`: what cannot change later is looked at only once.
fn spec(spec: &At<'_>, is_new: bool, errors: &mut ErrorList) {
    let policy = spec.at("podManagementPolicy");
    match policy.str() {
        "" => errors.push(policy.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    strategy(&spec.at("updateStrategy"), errors);
    if let Some(retention) = spec.some("persistentVolumeClaimRetentionPolicy") {
        retention.at("whenDeleted").one_of(errors, &["Retain", "Delete"]);
        retention.at("whenScaled").one_of(errors, &["Retain", "Delete"]);
    }
    if is_new {
        for claim in spec.items("volumeClaimTemplates") {
            persistent_volume_claim::validate_spec(&claim.at("spec"), errors);
        }
    }
    spec.at("replicas").nonnegative(errors);
    spec.at("minReadySeconds").nonnegative(errors);
    if let Some(ordinals) = spec.some("ordinals") {
        let start = At::new(ordinals.get("start"), spec.path().child("ordinals.start"));
        start.nonnegative(errors);
    }
    if is_new && spec.filled("serviceName") {
        spec.at("serviceName").check(errors, names::dns_label);
    }
    workload::selector(spec, "statefulset", errors);
    let template = spec.at("template");
    match parsed_selector(spec) {
        None => errors.push(spec.at("selector").invalid("")),
        Some(selector) => {
            if !selector.is_everything() {
                workload::check_fit(&selector, &template, errors);
            }
            let whole = with_claims(spec, template.value());
            pod_spec::validate_template(&At::new(whole.as_ref(), template.path().clone()), errors);
        }
    }
    workload::runs_for_ever(&template, "StatefulSet", errors);
}

/// The template as its pods will be: with a volume for each claim, and names of their own.
fn with_claims(spec: &At<'_>, template: Option<&Value>) -> Option<Value> {
    let mut template = template?.clone();
    let pod = template.get_mut("spec")?.as_object_mut()?;
    pod.remove("subdomain");
    pod.remove("hostname");
    let claims: Vec<&str> = spec.list("volumeClaimTemplates").iter().map(object::name).collect();
    let own = pod.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let own = own.filter(|volume| !claims.contains(&At::root(volume).text("name"))).cloned();
    let made = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let volumes: Vec<Value> = made.chain(own).collect();
    pod.insert("volumes".to_owned(), volumes.into());
    Some(template)
}

fn strategy(strategy: &At<'_>, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.text("type") {
        "" => errors.push(strategy.required("")),
        "OnDelete" => {
            if rolling.value().is_some() {
                errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            rolling.at("partition").nonnegative(errors);
            if let Some(unavailable) = rolling.some("maxUnavailable") {
                workload::int_or_percent(&unavailable, errors);
                if workload::int_or_percent_value(&unavailable) == 0 {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
                workload::at_most_all(&unavailable, errors);
            }
        }
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
}
