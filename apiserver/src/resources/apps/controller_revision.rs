//! ControllerRevisions: what a StatefulSet or DaemonSet was, for ever.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;

pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    root.at("revision").nonnegative(&mut errors);
    let path = Path::new("data");
    match root.get("data") {
        None => errors.push(Error::required(&path, "data is mandatory")),
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(Error::required(&path, "data must be a valid JSON object")),
    }
    errors
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, was) = (At::root(object), At::root(old));
    root.at("revision").nonnegative(&mut errors);
    root.at("data").immutable(&mut errors, &was.at("data"));
    errors
}
