//! PodTemplates.

use knarr_api::field::ErrorList;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::pod_spec;

pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn set_defaults(&self, object: &mut Value) {
        pod_spec::defaults::template(object, "template");
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        pod_spec::validate_template(&At::root(object).at("template"), &mut errors);
        errors
    }
}
