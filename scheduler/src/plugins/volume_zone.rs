//! VolumeZone: volumes with labels of a zone or region are used there.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::Pod;
use crate::plugins::volume_binding::is_own;
use crate::state::NodeInfo;
use crate::volumes::class_of;

const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const LABELS: [&str; 4] = [BETA_ZONE, BETA_REGION, ZONE, REGION];

/// Several zones in one label are joined by this.
const SEPARATOR: &str = "__";

pub struct VolumeZone;

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn events(&self) -> Kinds {
        let claims = Kinds::CLAIM_ADD.or(Kinds::CLAIM_UPDATE);
        let volumes = Kinds::VOLUME_ADD.or(Kinds::VOLUME_UPDATE);
        claims.or(volumes).or(Kinds::CLASS_ADD).or(Kinds::NODE_ADD).or(Kinds::NODE_LABEL)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        match &event.subject {
            Subject::Claim(claim) => is_own(pod, claim),
            Subject::Class { new, .. } => new.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            Subject::Volume { old: Some(old), new } => {
                let place = |volume: &PersistentVolume| {
                    let labels = volume.metadata.labels.clone().unwrap_or_default();
                    LABELS.map(|label| labels.get(label).cloned())
                };
                place(old) != place(new)
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        match places(pod, cluster) {
            Err(reason) => PreFilter::Rejected(Rejection::unresolvable(reason)),
            Ok(places) if places.is_empty() => PreFilter::Skip,
            Ok(places) => PreFilter::filter(Zones(places.into())),
        }
    }
}

/// A label that nodes must have, and its possible values.
type Place = (&'static str, Vec<String>);

fn places(pod: &Pod, cluster: &Cluster) -> Result<Vec<Place>, String> {
    let objects = &cluster.objects;
    let mut places = Vec::new();
    for (name, _) in pod.claims().filter(|(_, ephemeral)| !ephemeral) {
        let claim = objects.claims.get(&pod.metadata.namespace, name);
        let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        if volume.is_empty() {
            let class = class_of(claim);
            if class.is_empty() {
                return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
            }
            let found = objects.classes.get("", class);
            let found = found.ok_or_else(|| format!("storageclass.storage.k8s.io {class:?} not found"))?;
            if found.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
                continue;
            }
            return Err("PersistentVolume had no name".to_owned());
        }
        let found = objects.volumes.get("", volume);
        let found = found.ok_or_else(|| format!("persistentvolume {volume:?} not found"))?;
        let labels = found.metadata.labels.iter().flatten();
        places.extend(labels.filter_map(|(key, value)| {
            let key = LABELS.into_iter().find(|label| label == key)?;
            Some((key, value.split(SEPARATOR).map(str::to_owned).collect()))
        }));
    }
    Ok(places)
}

struct Zones(std::rc::Rc<[Place]>);

impl Filter for Zones {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        // A node that knows no zones takes everything: there is only one then.
        if LABELS.iter().all(|label| node.label(label).is_none()) {
            return Ok(());
        }
        let is_there = |(key, values): &Place| {
            let today = match *key {
                BETA_ZONE => ZONE,
                BETA_REGION => REGION,
                key => key,
            };
            let value = node.label(key).or_else(|| node.label(today));
            value.is_some_and(|value| values.iter().any(|allowed| allowed == value))
        };
        if self.0.iter().all(is_there) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had no available volume zone"))
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Zones(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugins::testing::{allowed, cluster, pod};
    use serde_json::{Value, json};

    #[test]
    fn a_volumes_labels_name_the_zones_of_its_nodes() {
        let nodes = [
            ("a", json!({ZONE: "1"})),
            ("b", json!({ZONE: "2"})),
            ("old", json!({BETA_ZONE: "1"})),
            ("bare", json!({})),
        ];
        let of = |labels: Value| {
            let mut cluster = cluster(&nodes, []);
            let claim =
                json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeName": "v"}});
            cluster.objects.claims.set(Arc::new(serde_json::from_value(claim).expect("a claim")));
            let volume = json!({"metadata": {"name": "v", "labels": labels}});
            cluster.objects.volumes.set(Arc::new(serde_json::from_value(volume).expect("a volume")));
            let user = pod(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
            allowed(&VolumeZone, &user, &cluster)
        };
        assert_eq!(of(json!({})), "a b old bare");
        assert_eq!(of(json!({ZONE: "1"})), "a bare");
        assert_eq!(of(json!({BETA_ZONE: "1"})), "a old bare");
        assert_eq!(of(json!({ZONE: "1__2"})), "a b bare");
        assert_eq!(of(json!({REGION: "r"})), "bare");
    }
}
