//! CSIDrivers.

use serde_json::{Value, json};

use crate::object;
use crate::registry::Strategy;
use crate::resources::fill;

pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::nil(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            fill::nil(spec, field, false);
        }
        fill::nil(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        fill::zero(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}
