//! Giving every node its part of the pods' address ranges.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use knarr_client::{
    Action, Api, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue, error::is_not_found,
    events::EventRecorder,
};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    Context,
    context::{PodRange, follow},
    error::{Error, Step},
};

/// One: what is free is known only after the previous node's part is written.
const WORKERS: usize = 1;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let ranges = context.config.nodes.pod_ranges.clone();
    if ranges.is_empty() {
        return futures::future::ready(()).boxed();
    }
    let nodes = context.informers.informer::<Node>();
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    let used = Arc::new(Mutex::new(BTreeSet::new()));
    {
        let used = Arc::clone(&used);
        nodes
            .subscribe(move |change| {
                let mut used = used.lock();
                match change {
                    Change::Deleted { last, .. } => parts(last).for_each(|part| {
                        used.remove(&part);
                    }),
                    Change::Added(node) | Change::Updated { new: node, .. } => used.extend(parts(node)),
                }
            })
            .forever();
    }
    follow(&nodes, &queue);
    let sync = Arc::new(Sync {
        nodes: nodes.clone(),
        ranges,
        used,
        client: context.client.clone(),
        recorder: context.recorder("cidrAllocator"),
    });
    context.work("node-ipam-controller", WORKERS, queue, sync, async move { nodes.synced().await })
}

/// The parts a node has.
fn parts(node: &Node) -> impl Iterator<Item = IpNet> {
    let parts = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    parts.iter().filter_map(|part| part.parse().ok())
}

struct Sync {
    nodes: SharedInformer<Node>,
    ranges: Vec<PodRange>,
    used: Arc<Mutex<BTreeSet<IpNet>>>,
    client: Client,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let needs =
            |node: &Arc<Node>| node.metadata.deletion_timestamp.is_none() && parts(node).next().is_none();
        let Some(_) = self.nodes.get_key(key).filter(needs) else { return Ok(Action::Done) };
        let chosen: Option<Vec<IpNet>> = {
            let used = self.used.lock();
            self.ranges.iter().map(|range| first_free(range, &used)).collect()
        };
        let Some(chosen) = chosen else {
            let text = format!("Node {key} status is now: CIDRNotAvailable");
            super::event(&self.recorder, &key.name, "CIDRNotAvailable", text);
            return Err(Error::Unusable(format!("no part of the pod address ranges is left for node {key}")));
        };
        let written: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let patch = json!({ "spec": { "podCIDR": written[0], "podCIDRs": written } });
        let api = Api::<Node>::all(self.client.clone());
        match api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if is_not_found(&error) => {}
            other => {
                drop(other.step("give pod addresses to node", &key.name)?);
                self.used.lock().extend(chosen);
            }
        }
        Ok(Action::Done)
    }
}

/// The lowest part of a range that no node has.
fn first_free(range: &PodRange, used: &BTreeSet<IpNet>) -> Option<IpNet> {
    let bits = range.node_prefix.checked_sub(range.range.prefix_len())?;
    let count = 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
    let host_bits = range.range.max_prefix_len().checked_sub(range.node_prefix)?;
    (0..count).map_while(|index| part(range, index, host_bits)).find(|part| {
        // Somebody may have given a node a part of another size.
        !used.iter().any(|other| other.contains(part) || part.contains(other))
    })
}

fn part(range: &PodRange, index: u128, host_bits: u8) -> Option<IpNet> {
    let offset = index.checked_shl(host_bits.into())?;
    let address = match range.range.network() {
        IpAddr::V4(base) => {
            let bits = u128::from(u32::from(base)).checked_add(offset)?;
            IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).ok()?))
        }
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(offset)?)),
    };
    IpNet::new(address, range.node_prefix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(range: &str, node_prefix: u8) -> PodRange {
        PodRange { range: range.parse().unwrap(), node_prefix }
    }

    #[test]
    fn parts_are_handed_out_lowest_first_and_used_again() {
        let range = range("10.42.0.0/22", 24);
        let mut used = BTreeSet::new();
        for third in 0..4 {
            let part = first_free(&range, &used).unwrap();
            assert_eq!(part.to_string(), format!("10.42.{third}.0/24"));
            used.insert(part);
        }
        assert_eq!(first_free(&range, &used), None);
        used.remove(&"10.42.2.0/24".parse().unwrap());
        assert_eq!(first_free(&range, &used).unwrap().to_string(), "10.42.2.0/24");
        used.insert("10.42.2.128/25".parse().unwrap());
        assert_eq!(first_free(&range, &used), None);
    }

    #[test]
    fn both_families_are_cut() {
        assert_eq!(
            first_free(&range("fd00:42::/48", 64), &BTreeSet::new()).unwrap().to_string(),
            "fd00:42::/64"
        );
        assert_eq!(first_free(&range("10.0.0.0/24", 16), &BTreeSet::new()), None);
    }
}
