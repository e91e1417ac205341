//! PodTemplates.

use serde_json::Value;

use crate::registry::Strategy;
use crate::resources::pod_spec;

pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn set_defaults(&self, object: &mut Value) {
        pod_spec::defaults::template(object, "template");
    }
}
