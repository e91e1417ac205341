//! DaemonSets.

use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::fill;
use crate::resources::pod_spec;

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
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
