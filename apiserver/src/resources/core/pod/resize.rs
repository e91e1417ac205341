//! `pods/resize`: the resources of a running pod's containers, and nothing else.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::registry::{Context, UpdateStrategy};

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

pub struct Resize;

impl UpdateStrategy for Resize {
    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        super::keep_all_but(object, old, |new, pod| {
            for kind in CONTAINERS {
                let given = new.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).cloned();
                let containers = pod.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    let same = |other: &&Value| other["name"] == container["name"];
                    let Some(wanted) = given.iter().flatten().find(same) else { continue };
                    for field in ["resources", "resizePolicy"] {
                        crate::object::copy_field(container, wanted, field);
                    }
                }
            }
        });
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let is_static =
            |pod: &Value| pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
        if is_static(old) {
            errors.push(Error::forbidden(&Path::nil(), "static pods cannot be resized"));
        }
        if super::qos_class(object)
            != old.pointer("/status/qosClass").and_then(Value::as_str).unwrap_or_default()
        {
            let why = "Pod QOS Class may not change as a result of resizing";
            errors.push(Error::invalid(&Path::new("spec"), super::qos_class(object), why));
        }
        errors
    }
}
