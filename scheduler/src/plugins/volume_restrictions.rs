//! VolumeRestrictions: disks and ReadWriteOncePod claims that only one pod can have.

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::{Disk, Pod, Volume};
use crate::plugins::volume_binding::is_own;
use crate::state::NodeInfo;

pub struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn events(&self) -> Kinds {
        Kinds::POD_DELETE.or(Kinds::NODE_ADD).or(Kinds::CLAIM_ADD)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        match &event.subject {
            Subject::Claim(claim) => is_own(pod, claim),
            Subject::Pod { old: Some(gone), new: None } => {
                gone.metadata.namespace == pod.metadata.namespace
                    && (disks(pod).any(|own| disks(gone).any(|other| own.conflicts(other)))
                        || pod.claims().any(|own| gone.claims().any(|other| own.0 == other.0)))
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        let mut exclusive = Vec::new();
        for (name, _) in pod.claims().filter(|(_, ephemeral)| !ephemeral) {
            let Some(claim) = cluster.objects.claims.get(&pod.metadata.namespace, name) else {
                let reason = format!("persistentvolumeclaim {name:?} not found");
                return PreFilter::Rejected(Rejection::unresolvable(reason));
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            if modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod")) {
                exclusive.push(name);
            }
        }
        let in_use =
            exclusive.iter().filter(|name| cluster.state.is_claim_used(&pod.metadata.namespace, name));
        let users = in_use.count() as i64;
        if users == 0 && disks(pod).next().is_none() {
            return PreFilter::Skip;
        }
        PreFilter::filter(Restrictions { pod, exclusive, users })
    }
}

fn disks(pod: &Pod) -> impl Iterator<Item = &Disk> {
    pod.volumes.iter().filter_map(|volume| match volume {
        Volume::Disk(disk) => Some(disk),
        _ => None,
    })
}

struct Restrictions<'a> {
    pod: &'a Pod,
    /// The pod's ReadWriteOncePod claims.
    exclusive: Vec<&'a str>,
    /// How many other pods use them.
    users: i64,
}

impl Restrictions<'_> {
    fn change(&mut self, other: &Pod, by: i64) {
        let shares = |claim: &&str| other.claims().any(|(name, _)| name == *claim);
        if other.metadata.namespace == self.pod.metadata.namespace {
            self.users += by * self.exclusive.iter().filter(|claim| shares(claim)).count() as i64;
        }
    }
}

impl Filter for Restrictions<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let taken = |own: &Disk| node.pods().iter().any(|pod| disks(pod).any(|other| own.conflicts(other)));
        if disks(self.pod).any(taken) {
            return Err(Rejection::unschedulable("node(s) had no available disk"));
        }
        if self.users > 0 {
            return Err(Rejection::unschedulable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already \
                 in-use by another pod",
            ));
        }
        Ok(())
    }

    fn add_pod(&mut self, other: &Pod, _: &NodeInfo) {
        self.change(other, 1);
    }

    fn remove_pod(&mut self, other: &Pod, _: &NodeInfo) {
        self.change(other, -1);
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Restrictions { pod: self.pod, exclusive: self.exclusive.clone(), users: self.users })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugins::testing::{allowed, cluster, pod};
    use serde_json::{Value, json};

    fn nodes() -> Vec<(&'static str, Value)> {
        vec![("a", json!({})), ("b", json!({}))]
    }

    #[test]
    fn disks_are_shared_only_if_all_read() {
        let gce = |read_only: bool| {
            pod(
                json!({"volumes": [{"name": "v", "gcePersistentDisk": {"pdName": "d", "readOnly": read_only}}]}),
            )
        };
        let of = |there: bool, comes: bool| {
            allowed(&VolumeRestrictions, &gce(comes), &cluster(&nodes(), [("a", gce(there))]))
        };
        assert_eq!(
            (of(true, true), of(true, false), of(false, true)),
            ("a b".into(), "b".into(), "b".into())
        );
        let rbd = |monitors: Value, image: &str| {
            pod(json!({"volumes": [{"name": "v", "rbd": {"monitors": monitors, "image": image}}]}))
        };
        let there = || cluster(&nodes(), [("a", rbd(json!(["x", "y"]), "i"))]);
        assert_eq!(allowed(&VolumeRestrictions, &rbd(json!(["y"]), "i"), &there()), "b");
        assert_eq!(allowed(&VolumeRestrictions, &rbd(json!(["y"]), "j"), &there()), "a b");
        assert_eq!(allowed(&VolumeRestrictions, &rbd(json!(["z"]), "i"), &there()), "a b");
    }

    #[test]
    fn a_claim_for_one_pod_has_one_pod_in_the_whole_cluster() {
        let user = || pod(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
        let of = |mode: &str, pods: Vec<(&'static str, Pod)>| {
            let mut cluster = cluster(&nodes(), pods);
            let claim = json!({
                "metadata": {"name": "c", "namespace": "default"}, "spec": {"accessModes": [mode]},
            });
            cluster.objects.claims.set(Arc::new(serde_json::from_value(claim).expect("a claim")));
            allowed(&VolumeRestrictions, &user(), &cluster)
        };
        assert_eq!(of("ReadWriteOncePod", vec![]), "a b");
        assert_eq!(of("ReadWriteOncePod", vec![("a", user())]), "");
        assert_eq!(of("ReadWriteOnce", vec![("a", user())]), "a b");
    }
}
