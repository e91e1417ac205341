//! NodeVolumeLimits: a CSI driver can attach only so many volumes to a node.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::storage::v1::CSINode;

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::Pod;
use crate::plugins::volume_binding::is_own;
use crate::state::NodeInfo;
use crate::volumes::class_of;

pub struct NodeVolumeLimits;

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn events(&self) -> Kinds {
        let csi_nodes = Kinds::CSI_NODE_ADD.or(Kinds::CSI_NODE_UPDATE);
        csi_nodes.or(Kinds::POD_DELETE).or(Kinds::CLAIM_ADD).or(Kinds::ATTACHMENT_DELETE)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        match &event.subject {
            Subject::Claim(claim) => is_own(pod, claim),
            Subject::Pod { old: Some(gone), .. } => gone.claims().next().is_some(),
            Subject::CsiNode { old: Some(old), new } => {
                let before = limits(old);
                limits(new).iter().any(|(driver, count)| before.get(driver).is_none_or(|old| count > old))
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        if pod.claims().next().is_none() {
            return PreFilter::Skip;
        }
        PreFilter::filter(Limits { wanted: attached(pod, cluster).into(), cluster })
    }
}

/// A driver and what it calls the volume.
type Attached<'a> = (&'a str, String);

/// The volumes of a pod that are, or will be, attached by CSI drivers.
fn attached<'a>(pod: &Pod, cluster: &'a Cluster) -> BTreeSet<Attached<'a>> {
    let objects = &cluster.objects;
    let attach = |(name, _): (&str, bool)| {
        let claim = objects.claims.get(&pod.metadata.namespace, name)?;
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        match objects.volumes.get("", volume) {
            Some(volume) => {
                let source = volume.spec.as_ref()?.csi.as_ref()?;
                Some((source.driver.as_str(), source.volume_handle.clone()))
            }
            // It will get one of its class: until then the claim stands for it.
            None => {
                let class = objects.classes.get("", class_of(claim))?;
                Some((class.provisioner.as_str(), format!("claim {}/{name}", pod.metadata.namespace)))
            }
        }
    };
    pod.claims().filter_map(attach).collect()
}

fn limits(node: &CSINode) -> BTreeMap<&str, usize> {
    let drivers = node.spec.drivers.iter();
    let counted = drivers.filter_map(|driver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((driver.name.as_str(), usize::try_from(count).unwrap_or(0)))
    });
    counted.collect()
}

struct Limits<'a> {
    wanted: std::rc::Rc<BTreeSet<Attached<'a>>>,
    cluster: &'a Cluster,
}

impl<'a> Limits<'a> {
    /// What is attached to a node, by its pods or still.
    fn attached_to(&self, node: &NodeInfo) -> BTreeSet<Attached<'a>> {
        let objects = &self.cluster.objects;
        let mut all: BTreeSet<Attached<'a>> =
            node.pods().iter().flat_map(|pod| attached(pod, self.cluster)).collect();
        let here = objects.attachments.all().filter(|attachment| *attachment.spec.node_name == *node.name);
        all.extend(here.filter_map(|attachment| {
            let name = attachment.spec.source.persistent_volume_name.as_deref()?;
            let source = objects.volumes.get("", name)?.spec.as_ref()?.csi.as_ref()?;
            Some((attachment.spec.attacher.as_str(), source.volume_handle.clone()))
        }));
        all
    }
}

impl Filter for Limits<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let Some(csi_node) = self.cluster.objects.csi_nodes.get("", &node.name) else { return Ok(()) };
        let limits = limits(csi_node);
        if self.wanted.is_empty() || limits.is_empty() {
            return Ok(());
        }
        let there = self.attached_to(node);
        for (driver, limit) in limits {
            let count = |of: &BTreeSet<Attached<'_>>| of.iter().filter(|(other, _)| *other == driver).count();
            let new =
                self.wanted.iter().filter(|volume| volume.0 == driver && !there.contains(*volume)).count();
            if new > 0 && count(&there) + new > limit {
                return Err(Rejection::unschedulable("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Limits { wanted: self.wanted.clone(), cluster: self.cluster })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugins::testing::{allowed, cluster, pod};
    use serde_json::json;

    fn user(claims: &[&str]) -> Pod {
        let volumes: Vec<_> = claims
            .iter()
            .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
            .collect();
        pod(json!({"volumes": volumes}))
    }

    #[test]
    fn volumes_count_once_per_node_and_driver() {
        let mut cluster =
            cluster(&[("a", json!({})), ("b", json!({}))], [("a", user(&["1", "2"])), ("a", user(&["1"]))]);
        for name in ["1", "2", "3", "4"] {
            let claim =
                json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"volumeName": name}});
            cluster.objects.claims.set(Arc::new(serde_json::from_value(claim).expect("a claim")));
            let source = json!({"driver": "d", "volumeHandle": name});
            let volume = json!({"metadata": {"name": name}, "spec": {"csi": source}});
            cluster.objects.volumes.set(Arc::new(serde_json::from_value(volume).expect("a volume")));
        }
        let node = json!({
            "metadata": {"name": "a"},
            "spec": {"drivers": [{"name": "d", "nodeID": "a", "allocatable": {"count": 3}}]},
        });
        cluster.objects.csi_nodes.set(Arc::new(serde_json::from_value(node).expect("a node")));
        let of = |claims: &[&str]| allowed(&NodeVolumeLimits, &user(claims), &cluster);
        assert_eq!(of(&["3"]), "a b");
        assert_eq!(of(&["3", "4"]), "b");
        assert_eq!(of(&["1", "2"]), "a b");
    }
}
