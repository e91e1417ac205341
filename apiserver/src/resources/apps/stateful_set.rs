//! StatefulSets.

use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::core::persistent_volume_claim;
use crate::resources::fill;
use crate::resources::pod_spec;

pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::zero(spec, "podManagementPolicy", "OrderedReady");
        let strategy = object::map_at(spec, "updateStrategy");
        if strategy.get("type").is_none_or(fill::is_zero) {
            strategy["type"] = json!("RollingUpdate");
            fill::nil(strategy, "rollingUpdate", json!({}));
        }
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate")
        {
            fill::nil(rolling, "partition", 0);
        }
        let retention = object::map_at(spec, "persistentVolumeClaimRetentionPolicy");
        fill::zero(retention, "whenDeleted", "Retain");
        fill::zero(retention, "whenScaled", "Retain");
        fill::nil(spec, "replicas", 1);
        fill::nil(spec, "revisionHistoryLimit", 10);
        pod_spec::defaults::template(spec, "template");
        for claim in fill::items(spec, "volumeClaimTemplates") {
            // Claims in the spec carry their kind, as those that upstream stores do.
            fill::zero(claim, "apiVersion", "v1");
            fill::zero(claim, "kind", "PersistentVolumeClaim");
            persistent_volume_claim::set_defaults(claim);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"replicas": 0, "availableReplicas": 0});
    }
}
