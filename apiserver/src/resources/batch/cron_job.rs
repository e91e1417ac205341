//! CronJobs.

use serde_json::{Value, json};

use super::job;
use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::fill;

pub struct CronJob;

impl Strategy for CronJob {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::zero(spec, "concurrencyPolicy", "Allow");
        fill::nil(spec, "suspend", false);
        fill::nil(spec, "successfulJobsHistoryLimit", 3);
        fill::nil(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = spec.pointer_mut("/jobTemplate/spec") {
            job::default_spec(job, false);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }
}
