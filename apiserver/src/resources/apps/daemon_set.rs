//! DaemonSets.

use knarr_api::field::{Error, ErrorList};
use knarr_api::selector::Selector;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::{self, scheduling, workload};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

pub struct DaemonSet;

impl Strategy for DaemonSet {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        let strategy = object::map_at(spec, "updateStrategy");
        fill::zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object::map_at(strategy, "rollingUpdate");
            fill::nil(rolling, "maxUnavailable", 1);
            fill::nil(rolling, "maxSurge", 0);
        }
        fill::nil(spec, "revisionHistoryLimit", 10);
        pod_spec::defaults::template(spec, "template");
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        });
        // The generation of the template, which apps/v1 keeps in an annotation.
        let annotations = object::metadata_mut(object).entry("annotations").or_insert_with(|| json!({}));
        fill::nil(annotations, TEMPLATE_GENERATION, "1");
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        let generation = |of: &Value| {
            let text = of.pointer("/metadata/annotations")?.get(TEMPLATE_GENERATION)?.as_str()?;
            text.parse::<i64>().ok()
        };
        let template = |of: &Value| of.pointer("/spec/template").cloned();
        let mut next = generation(old).unwrap_or_default();
        if template(object) != template(old) {
            next += 1;
        }
        let annotations = object::metadata_mut(object).entry("annotations").or_insert_with(|| json!({}));
        annotations[TEMPLATE_GENERATION] = next.to_string().into();
    }
    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        pod_spec::warnings::of_workload(object, old, "Pod names and hostnames")
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let of = |object| At::root(object).at("spec").at("selector");
        of(object).immutable(&mut errors, &of(old));
        errors.extend(validate(object));
        errors
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (status, was) = (At::root(object).at("status"), At::root(old).at("status"));
        workload::counts(&status, &COUNTS, &mut errors);
        workload::collisions(&status, &was, &mut errors);
        errors
    }
}

pub fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    scheduling::label_selector(&selector, &mut errors);
    if let Ok(parsed) = Selector::from_label_selector(selector.value()) {
        workload::check_fit(&parsed, &template, &mut errors);
    }
    let restricts = selector.filled("matchLabels") || selector.filled("matchExpressions");
    if selector.value().is_some() && !restricts {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pod_spec::validate_template(&template, &mut errors);
    workload::runs_for_ever(&template, "DaemonSet", &mut errors);
    spec.at("minReadySeconds").nonnegative(&mut errors);
    strategy(&spec.at("updateStrategy"), &mut errors);
    spec.at("revisionHistoryLimit").nonnegative(&mut errors);
    errors
}

fn strategy(strategy: &At<'_>, errors: &mut ErrorList) {
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(&strategy.at("rollingUpdate"), errors),
        _ => {
            let shown = strategy.value().cloned().unwrap_or_default();
            errors.push(Error::not_supported(strategy.path(), shown, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn rolling_update(rolling: &At<'_>, errors: &mut ErrorList) {
    let fields = [rolling.at("maxUnavailable"), rolling.at("maxSurge")];
    fields.iter().for_each(|field| workload::int_or_percent(field, errors));
    fields.iter().for_each(|field| workload::at_most_all(field, errors));
    let [unavailable, surge] = &fields;
    let value = workload::int_or_percent_value;
    match (value(unavailable) != 0, value(surge) != 0) {
        (true, true) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
        (false, false) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}
