//! `pods/ephemeralcontainers`: containers for debugging are added to a running pod, never changed or removed.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, UpdateStrategy};

pub struct EphemeralContainers;

impl UpdateStrategy for EphemeralContainers {
    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        super::keep_all_but(object, old, |new, pod| {
            let given = new.pointer("/spec/ephemeralContainers").cloned().unwrap_or_else(|| json!([]));
            object::map_at(pod, "spec")["ephemeralContainers"] = given;
        });
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let path = Path::new("spec").child("ephemeralContainers");
        let mut errors = ErrorList::new();
        for known in containers(old, "ephemeralContainers") {
            let name = known["name"].as_str().unwrap_or_default();
            match containers(object, "ephemeralContainers").find(|container| container["name"] == name) {
                Some(container) if container == known => {}
                Some(_) => {
                    let why = format!("existing ephemeral containers {name:?} may not be changed");
                    errors.push(Error::forbidden(&path, why));
                }
                None => {
                    let why = format!("existing ephemeral containers {name:?} may not be removed");
                    errors.push(Error::forbidden(&path, why));
                }
            }
        }
        let taken = ["containers", "initContainers"].into_iter().flat_map(|kind| containers(object, kind));
        let mut names: Vec<&Value> = taken.map(|container| &container["name"]).collect();
        for (at, container) in containers(object, "ephemeralContainers").enumerate() {
            let name = &container["name"];
            if names.contains(&name) {
                errors.push(Error::duplicate(&path.index(at).child("name"), name));
            }
            names.push(name);
        }
        errors
    }
}

fn containers<'a>(pod: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    pod.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).into_iter().flatten()
}
