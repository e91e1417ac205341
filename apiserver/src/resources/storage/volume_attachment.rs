//! VolumeAttachments.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::pod_spec::volumes;

const METADATA_BYTES: usize = 256 * 1024;
const MESSAGE_BYTES: usize = 1024;

pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            object::copy_meta(object, old, field);
        }
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    volumes::csi_driver_name(&spec.at("attacher"), &mut errors);
    source(&spec.at("source"), &mut errors);
    spec.at("nodeName").check(&mut errors, names::dns_subdomain);
    status(&At::root(object).at("status"), &mut errors);
    errors
}

fn source(source: &At<'_>, errors: &mut ErrorList) {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.has("inlineVolumeSpec"), source.has("persistentVolumeName")) {
        (false, false) => errors.push(source.required(detail)),
        (true, true) => errors.push(source.forbidden(detail)),
        (false, true) => {
            let name = source.at("persistentVolumeName");
            if name.str().is_empty() {
                errors.push(name.required("must specify non empty persistentVolumeName"));
            }
            // Upstream names the field in one piece here.
            let path = Path::new("spec.source.persistentVolumeName");
            let wrong = names::dns_subdomain(name.str()).into_iter();
            errors.extend(wrong.map(|wrong| Error::invalid(&path, name.str(), wrong)));
        }
        (true, false) => {}
    }
}

fn status(status: &At<'_>, errors: &mut ErrorList) {
    let metadata = status.at("attachmentMetadata");
    let size: usize =
        status.entries("attachmentMetadata").map(|(key, value)| key.len() + value.str().len()).sum();
    if size > METADATA_BYTES {
        errors.push(Error::too_long(metadata.path(), METADATA_BYTES));
    }
    for failure in [status.at("attachError"), status.at("detachError")] {
        let message = failure.at("message");
        if message.str().len() > MESSAGE_BYTES {
            errors.push(Error::too_long(message.path(), METADATA_BYTES));
        }
        let code = failure.at("errorCode");
        if code.i64().is_some_and(|code| code < 0) {
            errors.push(code.invalid(names::inclusive_range(0, i64::from(i32::MAX))));
        }
    }
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(object);
    At::root(object).at("spec").immutable(&mut errors, &At::root(old).at("spec"));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn attachments_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "a"},
            "spec": {"attacher": "csi.example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": false}});
        check(
            &VolumeAttachment,
            validate,
            &valid,
            &[
                ("/spec/attacher", json!(""), "spec.attacher: Required value"),
                (
                    "/spec/source",
                    json!({}),
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ),
                (
                    "/status/attachError",
                    json!({"errorCode": -1}),
                    "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ),
            ],
        );
        let fixed = "spec: Invalid value: {";
        check_updates(&VolumeAttachment, update, &valid, &[("/spec/nodeName", json!("m"), fixed)]);
    }
}
