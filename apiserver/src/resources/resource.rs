//! Dynamic resource allocation: defaults.

use serde_json::{Value, json};

use super::fill;
use crate::object;
use crate::registry::{Context, Strategy};

pub struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            default_spec(spec);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }
}

pub struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = object.pointer_mut("/spec/spec") {
            default_spec(spec);
        }
    }
}

fn default_spec(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in fill::items(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            amount(exactly);
        }
        fill::items(request, "firstAvailable").for_each(amount);
    }
}

fn amount(request: &mut Value) {
    fill::zero(request, "allocationMode", "ExactCount");
    if request.get("allocationMode").and_then(Value::as_str) == Some("ExactCount") {
        fill::zero(request, "count", 1);
    }
}

/// Taints are dated when they are written.
pub struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn prepare_for_create(&self, cx: &Context<'_>, object: &mut Value) {
        date_taints(cx, object);
    }

    fn prepare_for_update(&self, cx: &Context<'_>, object: &mut Value, _: &Value) {
        date_taints(cx, object);
    }
}

fn date_taints(cx: &Context<'_>, slice: &mut Value) {
    let now = object::timestamp(cx.now);
    let Some(spec) = slice.get_mut("spec") else { return };
    for device in fill::items(spec, "devices") {
        for taint in fill::items(device, "taints") {
            fill::nil(taint, "timeAdded", now.as_str());
        }
    }
}
