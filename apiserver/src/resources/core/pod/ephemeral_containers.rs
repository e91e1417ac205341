//! `pods/ephemeralcontainers`: containers that come to debug a pod, and stay.

use knarr_api::field::{Error, ErrorList, Path, quote};
use serde_json::Value;

use super::{resize, validate};
use crate::registry::{Context, UpdateStrategy};
use crate::resources::at::At;
use crate::resources::diff::diff;
use crate::resources::pod_spec;

pub struct EphemeralContainers;

impl UpdateStrategy for EphemeralContainers {
    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        let wanted = object.pointer_mut("/spec/ephemeralContainers").map(Value::take);
        resize::keep_all(object, old);
        match wanted {
            Some(wanted) => object["spec"]["ephemeralContainers"] = wanted,
            None => {
                let spec = object.get_mut("spec").and_then(Value::as_object_mut);
                spec.map(|spec| spec.remove("ephemeralContainers"));
            }
        }
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        if pod_spec::is_mirror(old) {
            let detail = "static pods do not support ephemeral containers";
            return Error::forbidden(&Path::new(""), detail).into();
        }
        let mut errors = validate::always(object);
        let (spec, was) = (At::root(object).at("spec"), At::root(old).at("spec"));
        let at = spec.at("ephemeralContainers");
        for old in was.list("ephemeralContainers") {
            let name = At::root(old).text("name");
            let new = spec.list("ephemeralContainers").iter().rfind(|new| At::root(new).text("name") == name);
            match new {
                None => {
                    let detail =
                        format!("existing ephemeral containers {} may not be removed\n", quote(name));
                    errors.push(at.forbidden(detail));
                }
                Some(new) if new != old => {
                    let shown = diff(old, new);
                    let detail =
                        format!("existing ephemeral containers {} may not be changed\n{shown}", quote(name));
                    errors.push(at.forbidden(detail));
                }
                Some(_) => {}
            }
        }
        errors
    }
}
