//! Any patch is refused or leaves an object of bounded size.
#![no_main]

use knarr_api::patch::json::JsonPatch;
use knarr_api::patch::{merge, strategic};
use knarr_api::schema;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "b"}]}]}});
    if let Ok(patch) = JsonPatch::parse(bytes) {
        let _ = patch.apply(&mut object.clone());
    }
    if let Ok(patch) = merge::parse(bytes) {
        merge::apply(&mut object.clone(), patch);
    }
    if let Ok(patch) = strategic::parse(bytes) {
        let of = schema::by_gvk("", "v1", "Pod").expect("known kind");
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            let _ = strategic::apply(fields, patch, &of);
        }
    }
});
