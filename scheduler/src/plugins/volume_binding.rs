//! VolumeBinding: a pod goes where its volumes are, or can be.

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::Pod;
use crate::state::NodeInfo;
use crate::volumes::{self, Plan};

pub struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn events(&self) -> Kinds {
        [
            Kinds::CLASS_ADD,
            Kinds::CLASS_UPDATE,
            Kinds::CLAIM_ADD,
            Kinds::CLAIM_UPDATE,
            Kinds::VOLUME_ADD,
            Kinds::VOLUME_UPDATE,
            Kinds::NODE_ADD,
            Kinds::NODE_LABEL,
            Kinds::CSI_NODE_ADD,
            Kinds::CSI_DRIVER_UPDATE,
            Kinds::CAPACITY_ADD,
            Kinds::CAPACITY_UPDATE,
        ]
        .into_iter()
        .fold(Kinds::default(), Kinds::or)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        match &event.subject {
            Subject::Claim(claim) => is_own(pod, claim),
            Subject::Class { old: Some(old), new } => old.allowed_topologies != new.allowed_topologies,
            Subject::CsiNode { old, .. } => old.is_none(),
            Subject::Capacity { old: Some(old), new } => volumes::offers_more(old, new),
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        if pod.claims().next().is_none() {
            return PreFilter::Skip;
        }
        match volumes::sort_out(pod, &cluster.objects) {
            Ok(claims) => PreFilter::filter(Claims { claims: claims.into(), cluster }),
            Err(rejection) => PreFilter::Rejected(rejection),
        }
    }
}

/// Whether a claim is one of the pod's.
pub fn is_own(pod: &Pod, claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim) -> bool {
    let meta = &claim.metadata;
    meta.namespace.as_deref() == Some(&*pod.metadata.namespace)
        && pod.claims().any(|(name, _)| meta.name.as_deref() == Some(name))
}

struct Claims<'a> {
    claims: std::rc::Rc<volumes::Sorted>,
    cluster: &'a Cluster,
}

impl Filter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let Some(node) = node.node() else { return Ok(()) };
        match Plan::of(&self.claims, node, &self.cluster.objects, &self.cluster.assumed) {
            Ok(_) => Ok(()),
            Err(misfit) => Err(Rejection::unresolvable(misfit.reason())),
        }
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Claims { claims: self.claims.clone(), cluster: self.cluster })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugins::testing::{allowed, cluster, pod, reasons};
    use serde_json::{Value, json};

    fn with_claim() -> Pod {
        pod(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}))
    }

    fn nodes() -> Vec<(&'static str, Value)> {
        vec![("a", json!({"host": "a"})), ("b", json!({"host": "b"}))]
    }

    fn decode<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("an object"))
    }

    fn claim(volume: Option<&str>) -> Value {
        let annotations = volume.map(|_| json!({"pv.kubernetes.io/bind-completed": "yes"}));
        json!({
            "metadata": {"name": "c", "namespace": "default", "uid": "c", "annotations": annotations},
            "spec": {
                "storageClassName": "s", "volumeName": volume, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        })
    }

    fn class(provisioner: &str) -> Value {
        json!({"metadata": {"name": "s"}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"})
    }

    fn local(name: &str, node: &str, size: &str) -> Value {
        let expression = json!({"key": "host", "operator": "In", "values": [node]});
        json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            },
            "status": {"phase": "Available"},
        })
    }

    #[test]
    fn a_claim_must_be_there_and_bound_unless_it_waits_for_its_consumer() {
        let mut cluster = cluster(&nodes(), []);
        let because = |cluster: &Cluster| {
            let a = cluster.state.node("a").expect("there");
            reasons(&VolumeBinding, &with_claim(), cluster, a)
        };
        assert_eq!(because(&cluster), ["persistentvolumeclaim \"c\" not found"]);
        cluster.objects.claims.set(decode(claim(None)));
        assert_eq!(because(&cluster), ["pod has unbound immediate PersistentVolumeClaims"]);
        cluster.objects.classes.set(decode(class("example.com/p")));
        assert!(because(&cluster).is_empty());
    }

    #[test]
    fn a_bound_volume_keeps_the_pod_on_its_node() {
        let mut cluster = cluster(&nodes(), []);
        cluster.objects.claims.set(decode(claim(Some("v"))));
        let a = cluster.state.node("a").expect("there");
        assert_eq!(
            reasons(&VolumeBinding, &with_claim(), &cluster, a),
            ["node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"]
        );
        cluster.objects.volumes.set(decode(local("v", "b", "1Gi")));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "b");
    }

    #[test]
    fn local_volumes_are_matched_by_size_and_not_given_twice() {
        let mut cluster = cluster(&nodes(), []);
        cluster.objects.claims.set(decode(claim(None)));
        cluster.objects.classes.set(decode(class("kubernetes.io/no-provisioner")));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "");
        cluster.objects.volumes.set(decode(local("large", "a", "9Gi")));
        cluster.objects.volumes.set(decode(local("right", "a", "2Gi")));
        cluster.objects.volumes.set(decode(local("small", "b", "100Mi")));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "a");
        let plan = |cluster: &Cluster| {
            let claims = volumes::sort_out(&with_claim(), &cluster.objects).expect("usable");
            let a = cluster.state.node("a").and_then(NodeInfo::node).expect("there").clone();
            Plan::of(&claims, &a, &cluster.objects, &cluster.assumed).expect("fits")
        };
        let first = plan(&cluster);
        assert_eq!(first.bindings[0].0.metadata.name.as_deref(), Some("right"));
        // Another claim's decision has taken it.
        let mut other = claim(None);
        other["metadata"]["name"] = "other".into();
        let taken = Plan { bindings: vec![(first.bindings[0].0.clone(), decode(other))], ..Plan::default() };
        cluster.assumed.take(&taken, "a");
        assert_eq!(plan(&cluster).bindings[0].0.metadata.name.as_deref(), Some("large"));
        cluster.assumed.give_back(&taken);
        assert_eq!(plan(&cluster).bindings[0].0.metadata.name.as_deref(), Some("right"));
    }

    #[test]
    fn provisioning_minds_topology_capacity_and_the_node_that_was_selected() {
        let mut cluster = cluster(&nodes(), []);
        cluster.objects.claims.set(decode(claim(None)));
        let mut restricted = class("example.com/p");
        restricted["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": "host", "values": ["b"]}]}]);
        cluster.objects.classes.set(decode(restricted));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "b");

        cluster.objects.classes.set(decode(class("example.com/p")));
        let driver = json!({"metadata": {"name": "example.com/p"}, "spec": {"storageCapacity": true}});
        cluster.objects.csi_drivers.set(decode(driver));
        let a = cluster.state.node("a").expect("there");
        assert_eq!(
            reasons(&VolumeBinding, &with_claim(), &cluster, a),
            ["node(s) did not have enough free storage"]
        );
        let capacity = json!({
            "metadata": {"name": "x", "namespace": "default"}, "storageClassName": "s", "capacity": "5Gi",
            "nodeTopology": {"matchLabels": {"host": "a"}},
        });
        cluster.objects.capacities.set(decode(capacity));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "a");

        let mut selected = claim(None);
        selected["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "b"});
        cluster.objects.claims.set(decode(selected));
        assert_eq!(allowed(&VolumeBinding, &with_claim(), &cluster), "");
    }
}
