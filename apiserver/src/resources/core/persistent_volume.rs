//! PersistentVolumes.

mod validate;

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::fill;

pub struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill::nil(spec, "volumeMode", "Filesystem");
        fill::round_up(spec, "capacity");
        if let Some(path) = spec.get_mut("hostPath") {
            fill::nil(path, "type", "");
        }
        fill::zero(object::map_at(object, "status"), "phase", "Pending");
    }

    fn prepare_for_create(&self, cx: &Context<'_>, object: &mut Value) {
        object["status"] = json!({
            "phase": "Pending", "lastPhaseTransitionTime": object::timestamp(cx.now),
        });
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate::volume(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::update(object, old)
    }

    fn prepare_for_status_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) {
        let at = |of: &Value, field: &str| of.get("status").and_then(|status| status.get(field)).cloned();
        let (phase, before) = (at(object, "phase"), at(old, "phase"));
        let (time, known) = (at(object, "lastPhaseTransitionTime"), at(old, "lastPhaseTransitionTime"));
        let status = object::map_at(object, "status");
        if phase != before && (time.is_none() || time == known) {
            status["lastPhaseTransitionTime"] = object::timestamp(cx.now).into();
        } else if let (None, Some(known)) = (time, known) {
            status["lastPhaseTransitionTime"] = known;
        }
    }
}
