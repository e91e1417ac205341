//! Everything wrong with a Job's spec.

use std::collections::BTreeSet;

use knarr_api::field::{BadValue, Error, ErrorList, Path};
use knarr_api::names;
use knarr_api::selector::Selector;
use serde_json::{Value, json};

use super::indexes;
use crate::object;
use crate::resources::at::{At, same};
use crate::resources::pod_spec::amounts::quoted;
use crate::resources::pod_spec::{self, scheduling, workload};

const INDEXED_PARALLELISM: i64 = 100_000;
const MANY: i64 = 100_000;
const PARALLELISM_FOR_MANY: i64 = 10_000;
const MANAGED_BY_MAX: usize = 63;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const STATES: [&str; 3] = ["False", "True", "Unknown"];
const INDEXES_MAX: usize = 64 * 1024;

pub fn create(job: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(job);
    let spec = root.at("spec");
    generated_selector(job, &spec, &mut errors);
    whole_spec(&spec, &mut errors);
    let completions = spec.int("completions").unwrap_or_default();
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let name = root.at("metadata").at("name");
        let last = format!("{}-{}", name.str(), completions - 1);
        if !names::dns_label(&last).is_empty() {
            errors.push(name.invalid(format!("will not able to create pod with invalid DNS label: {last}")));
        }
    }
    errors
}

/// Labels that tell whose a pod is.
fn generated_selector(job: &Value, spec: &At<'_>, errors: &mut ErrorList) {
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let (uid, name) = (object::uid(job), object::name(job));
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata").child("uid"), ""));
    }
    let metadata = spec.at("template").at("metadata");
    let labels = metadata.get("labels");
    let expected = super::generated_labels(name, uid);
    for (key, value) in &expected {
        let at = metadata.at("labels").path().key(*key);
        match labels.and_then(|labels| labels.get(*key)) {
            None => errors.push(Error::required(&at, format!("must be '{value}'"))),
            Some(known) if known != value => {
                let shown = labels.cloned().unwrap_or_default();
                errors.push(Error::invalid(&at, shown, format!("must be '{value}'")));
            }
            Some(_) => {}
        }
    }
    let selector = spec.at("selector");
    if let Ok(parsed) = Selector::from_label_selector(selector.value()) {
        let labels: serde_json::Map<String, Value> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        if !parsed.matches(&labels) {
            errors.push(selector.invalid("`selector` not auto-generated"));
        }
    }
}

fn whole_spec(spec: &At<'_>, errors: &mut ErrorList) {
    self::spec(spec, errors);
    let selector = spec.at("selector");
    if selector.value().is_none() {
        errors.push(selector.required(""));
    }
    scheduling::label_selector(&selector, errors);
    if let Ok(parsed) = Selector::from_label_selector(selector.value()) {
        workload::check_fit(&parsed, &spec.at("template"), errors);
    }
}

/// The spec of a job or of a template of jobs.
pub fn spec(spec: &At<'_>, errors: &mut ErrorList) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    workload::counts(spec, &counts, errors);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.push(spec.at("backoffLimitPerIndex").required("when maxFailedIndexes is specified"));
    }
    if let Some(manager) = spec.some("managedBy") {
        errors.extend(names::domain_prefixed_path(manager.path(), manager.str()));
        if manager.str().len() > MANAGED_BY_MAX {
            errors.push(Error::too_long(manager.path(), MANAGED_BY_MAX));
        }
    }
    if let Some(mode) = spec.some("completionMode") {
        mode.one_of(errors, &["NonIndexed", "Indexed"]);
    }
    match spec.text("completionMode") {
        "Indexed" => indexed(spec, errors),
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(at) = spec.some(field) {
                    errors.push(at.invalid("requires indexed completion mode"));
                }
            }
        }
        _ => {}
    }
    failure_policy(spec, errors);
    success_policy(spec, errors);
    if let Some(policy) = spec.some("podReplacementPolicy") {
        let supported: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        policy.one_of(errors, supported);
    }
    let template = spec.at("template");
    pod_spec::validate_template(&template, errors);
    let restart = template.at("spec").at("restartPolicy");
    match restart.str() {
        "Always" | "" => errors.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.has("podFailurePolicy") => {
            errors.push(restart.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(restart.unsupported(&["OnFailure", "Never"])),
    }
}

fn indexed(spec: &At<'_>, errors: &mut ErrorList) {
    let (completions, parallelism) = (spec.int("completions"), spec.int("parallelism").unwrap_or_default());
    let failed = spec.at("maxFailedIndexes");
    if completions.is_none() {
        errors.push(spec.at("completions").required("when completion mode is Indexed"));
    }
    let mut at_most = |field: &At<'_>, max: i64, when: &str| {
        if field.i64().is_some_and(|value| value > max) {
            errors.push(field.invalid(format!("must be less than or equal to {max}{when}")));
        }
    };
    let parallel = spec.at("parallelism");
    at_most(&parallel, INDEXED_PARALLELISM, " when completion mode is Indexed");
    if let Some(completions) = completions
        && failed.i64().is_some_and(|failed| failed > completions)
    {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    if failed.i64().is_some_and(|failed| failed > MANY) {
        errors.push(failed.invalid(format!("must be less than or equal to {MANY}")));
    }
    if completions.is_some_and(|completions| completions > MANY) && spec.has("backoffLimitPerIndex") {
        if failed.value().is_none() {
            errors.push(failed.required(format!("must be specified when completions is above {MANY}")));
        }
        let detail = format!(
            "must be less than or equal to {PARALLELISM_FOR_MANY} when completions are above {MANY} and used with backoff limit per index"
        );
        if parallelism > PARALLELISM_FOR_MANY {
            errors.push(parallel.invalid(detail.as_str()));
        }
        if failed.i64().is_some_and(|failed| failed > PARALLELISM_FOR_MANY) {
            errors.push(failed.invalid(detail));
        }
    }
}

fn failure_policy(spec: &At<'_>, errors: &mut ErrorList) {
    let Some(policy) = spec.some("podFailurePolicy") else { return };
    let count = policy.list("rules").len();
    if count > 20 {
        errors.push(Error::too_many(policy.at("rules").path(), count, 20));
    }
    let pod = spec.at("template").at("spec");
    let containers = pod.list("containers").iter().chain(pod.list("initContainers"));
    let containers: BTreeSet<&str> = containers.map(|container| At::root(container).text("name")).collect();
    for rule in policy.items("rules") {
        failure_rule(spec, &rule, &containers, errors);
    }
}

fn failure_rule(spec: &At<'_>, rule: &At<'_>, containers: &BTreeSet<&str>, errors: &mut ErrorList) {
    let action = rule.at("action");
    match action.str() {
        "" => errors.push(action.required(format!("valid values: {}", quoted(&ACTIONS)))),
        "FailIndex" => {
            if !spec.has("backoffLimitPerIndex") {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
        }
        _ => action.one_of(errors, &ACTIONS),
    }
    if let Some(codes) = rule.some("onExitCodes") {
        exit_codes(&codes, containers, errors);
    }
    let conditions = rule.list("onPodConditions").len();
    if conditions > 20 {
        errors.push(Error::too_many(rule.at("onPodConditions").path(), conditions, 20));
    }
    for pattern in rule.items("onPodConditions") {
        pattern.at("type").check(errors, names::qualified_name);
        let status = pattern.at("status");
        match status.str() {
            "" => errors.push(status.required(format!("valid values: {}", quoted(&STATES)))),
            _ => status.one_of(errors, &STATES),
        }
    }
    let detail = match (rule.has("onExitCodes"), conditions > 0) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(rule.invalid_as(BadValue::Omitted, detail));
}

fn exit_codes(codes: &At<'_>, containers: &BTreeSet<&str>, errors: &mut ErrorList) {
    let operator = codes.at("operator");
    match operator.str() {
        "" => errors.push(operator.required(format!("valid values: {}", quoted(&["In", "NotIn"])))),
        _ => operator.one_of(errors, &["In", "NotIn"]),
    }
    if let Some(name) = codes.some("containerName").filter(|name| !containers.contains(name.str())) {
        errors.push(name.invalid("must be one of the container or initContainer names in the pod template"));
    }
    let values: Vec<i64> = codes.list("values").iter().filter_map(Value::as_i64).collect();
    let at = codes.at("values");
    match values.len() {
        0 => errors.push(at.invalid("at least one value is required")),
        count if count > 255 => errors.push(Error::too_many(at.path(), count, 255)),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (value, at) in values.iter().zip(codes.items("values")) {
        if operator.str() == "In" && *value == 0 {
            errors.push(at.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            errors.push(at.duplicate());
        }
    }
    if !values.is_sorted() {
        errors.push(at.invalid("must be ordered"));
    }
}

fn success_policy(spec: &At<'_>, errors: &mut ErrorList) {
    let Some(policy) = spec.some("successPolicy") else { return };
    if spec.text("completionMode") != "Indexed" {
        errors.push(policy.invalid("requires indexed completion mode"));
        return;
    }
    let (rules, count) = (policy.at("rules"), policy.list("rules").len());
    if count == 0 {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(rules.required(detail));
    }
    if count > 20 {
        errors.push(Error::too_many(rules.path(), count, 20));
    }
    let completions = spec.int("completions").unwrap_or_default();
    policy.items("rules").for_each(|rule| success_rule(&rule, completions, errors));
}

fn success_rule(rule: &At<'_>, completions: i64, errors: &mut ErrorList) {
    let (listed, count) = (rule.some("succeededIndexes"), rule.some("succeededCount"));
    if listed.is_none() && count.is_none() {
        errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
    }
    let mut total = 0;
    if let Some(listed) = &listed {
        if listed.str().len() > INDEXES_MAX {
            errors.push(Error::too_long(listed.path(), INDEXES_MAX));
        }
        match indexes::count(listed.str(), completions) {
            Ok(count) => total = count,
            Err(wrong) => errors.push(listed.invalid(format!("error parsing succeededIndexes: {wrong}"))),
        }
    }
    let Some(count) = count else { return };
    count.nonnegative(errors);
    let value = count.i64().unwrap_or_default();
    if value > completions {
        let detail =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(count.invalid(detail));
    }
    if listed.is_some() && value > total {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(count.invalid(detail));
    }
}

pub fn update(job: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, was) = (At::root(job).at("spec"), At::root(old).at("spec"));
    whole_spec(&spec, &mut errors);
    completions(&spec, &was, &mut errors);
    spec.at("selector").immutable(&mut errors, &was.at("selector"));
    template(&spec, &was, old, &mut errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        spec.at(field).immutable(&mut errors, &was.at(field));
    }
    errors
}

fn completions(spec: &At<'_>, old: &At<'_>, errors: &mut ErrorList) {
    let at = spec.at("completions");
    if spec.text("completionMode") != "Indexed" {
        at.immutable(errors, &old.at("completions"));
    } else if at.value().is_some()
        && at.value() != old.get("completions")
        && at.i64() != spec.int("parallelism")
    {
        errors.push(at.invalid("can only be modified in tandem with spec.parallelism"));
    }
}

/// The template of a job that rests may be fitted to other nodes and amounts.
fn template(spec: &At<'_>, old_spec: &At<'_>, old: &Value, errors: &mut ErrorList) {
    let (at, mut was) = (spec.at("template"), old_spec.get("template").cloned().unwrap_or_default());
    let new = at.value().cloned().unwrap_or_default();
    let rests = super::is_suspended(old);
    if rests {
        for field in ["annotations", "labels"] {
            copy(&mut was, &new, &["metadata", field]);
        }
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            copy(&mut was, &new, &["spec", field]);
        }
        copy(&mut was, &new, &["spec", "affinity", "nodeAffinity"]);
        for kind in ["containers", "initContainers"] {
            resources(&mut was, &new, kind);
        }
    }
    if !same(Some(&new), Some(&was)) {
        let (at, shown) = match old_spec.flag("suspend") && rests {
            true => (spec.path().child("template.spec"), new.get("spec").cloned().unwrap_or_default()),
            false => (at.path().clone(), new),
        };
        errors.push(Error::invalid(&at, shown, knarr_api::field::IMMUTABLE));
    }
}

/// Copies what is at a path; what is absent there becomes absent.
fn copy(to: &mut Value, from: &Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let value = path.iter().try_fold(from, |at, step| at.get(*step)).cloned();
    let mut at = to;
    for parent in parents {
        if value.is_none() && at.get(*parent).is_none() {
            return;
        }
        at = object::map_at(at, parent);
    }
    let Some(fields) = at.as_object_mut() else { return };
    match value {
        Some(value) => fields.insert((*last).to_owned(), value),
        None => fields.remove(*last),
    };
}

fn resources(to: &mut Value, from: &Value, kind: &str) {
    let list = |of: &Value| of.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).cloned();
    let Some(new) = list(from) else { return };
    let Some(olds) = to.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut) else { return };
    if new.len() != olds.len() {
        return;
    }
    for (old, new) in olds.iter_mut().zip(&new).filter(|(old, new)| old.get("name") == new.get("name")) {
        copy(old, new, &["resources"]);
    }
}
