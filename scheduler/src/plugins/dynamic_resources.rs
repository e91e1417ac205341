//! DynamicResources: ResourceClaims that must be allocated, and where their devices are.
//!
//! Claims that somebody has allocated are honoured. Devices are not chosen here yet: on no node can a claim be
//! allocated that is not.

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_client::Cached;

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Reason, Rejection, Verdict};
use crate::object::{Pod, ResourceClaimRef};
use crate::plugins::{DYNAMIC_RESOURCES, selector_matches};
use crate::state::NodeInfo;

/// How many pods may use a claim.
const MOST_USERS: usize = 256;

pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        DYNAMIC_RESOURCES
    }

    fn events(&self) -> Kinds {
        Kinds::RESOURCE_CLAIM.or(Kinds::NODE_ADD).or(Kinds::NODE_LABEL)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        match &event.subject {
            Subject::ResourceClaim(claim) => {
                claim.namespace() == &*pod.metadata.namespace
                    && pod
                        .resource_claims
                        .iter()
                        .any(|own| matches!(own, ResourceClaimRef::Named(name) if **name == *claim.name()))
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        if pod.resource_claims.is_empty() {
            return PreFilter::Skip;
        }
        let mut where_to = WhereTo::default();
        for claim in &pod.resource_claims {
            match find(pod, claim, cluster) {
                Ok(claim) => where_to.add(claim),
                Err(reason) => return PreFilter::Rejected(Rejection::unresolvable(reason)),
            }
        }
        PreFilter::filter(where_to)
    }
}

/// The claim as it is; or why the pod cannot have it, in upstream's words.
fn find<'a>(pod: &Pod, claim: &ResourceClaimRef, cluster: &'a Cluster) -> Result<&'a ResourceClaim, Reason> {
    let (namespace, pod_name) = (&pod.metadata.namespace, &pod.metadata.name);
    let ResourceClaimRef::Named(name) = claim else {
        return Err(format!("pod \"{namespace}/{pod_name}\": ResourceClaim not created yet").into());
    };
    let Some(claim) = cluster.objects.resource_claims.get(namespace, name) else {
        return Err(format!("could not find ResourceClaim \"{namespace}/{name}\"").into());
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("resourceclaim {name:?} is being deleted").into());
    }
    let status = claim.status.as_ref();
    let users = status.and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    let is_ours = users.iter().any(|user| user.uid == *pod.metadata.uid);
    let allocated = status.is_some_and(|status| status.allocation.is_some());
    if allocated && !is_ours && users.len() >= MOST_USERS {
        return Err("resourceclaim in use".into());
    }
    Ok(claim)
}

/// Why nothing was done about claims for a pod that fits nowhere.
pub fn post_filter(pod: &Pod) -> &'static str {
    if pod.resource_claims.is_empty() { "no new claims to deallocate" } else { "still not schedulable" }
}

/// The nodes that have the devices of all claims.
#[derive(Default, Clone)]
struct WhereTo<'a> {
    selectors: Vec<&'a NodeSelector>,
    some_not_allocated: bool,
}

impl<'a> WhereTo<'a> {
    fn add(&mut self, claim: &'a ResourceClaim) {
        match claim.status.as_ref().and_then(|status| status.allocation.as_ref()) {
            // Without a selector the devices are everywhere.
            Some(allocation) => self.selectors.extend(allocation.node_selector.as_ref()),
            None => self.some_not_allocated = true,
        }
    }
}

impl Filter for WhereTo<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let here =
            |selector: &&NodeSelector| node.node().is_some_and(|node| selector_matches(selector, node));
        if !self.selectors.iter().all(here) {
            return Err(Rejection::unresolvable("resourceclaim not available on the node"));
        }
        if self.some_not_allocated {
            return Err(Rejection::unresolvable("cannot allocate all claims"));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing;

    /// Why a pod with this claim cannot go to node `a` in zone `x`.
    fn why_not(claim_of_pod: Value, claim: Option<Value>) -> Option<String> {
        let mut cluster = testing::cluster(&[("a", json!({"zone": "x"}))], []);
        if let Some(status) = claim {
            let claim = json!({
                "metadata": {"namespace": "default", "name": "gpu"},
                "spec": {}, "status": status,
            });
            cluster.objects.resource_claims.set(Arc::new(serde_json::from_value(claim).expect("a claim")));
        }
        let pod = testing::pod(json!({"resourceClaims": [claim_of_pod]}));
        match DynamicResources.pre_filter(&pod, &cluster) {
            PreFilter::Rejected(rejection) => Some(rejection.reason.into_owned()),
            PreFilter::Filter(filter) => {
                filter.filter(&cluster.state.nodes()[0]).err().map(|rejection| rejection.reason.into_owned())
            }
            PreFilter::Skip | PreFilter::Only(..) => panic!("neither"),
        }
    }

    fn allocated_in(zone: &str) -> Value {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        json!({"allocation": {"nodeSelector": {"nodeSelectorTerms": [term]}}})
    }

    #[test]
    fn a_pod_goes_where_its_claims_are_allocated() {
        let named = json!({"name": "own", "resourceClaimName": "gpu"});
        let from_template = json!({"name": "own", "resourceClaimTemplateName": "gpus"});
        let says = |text: &str| Some(text.to_owned());
        assert_eq!(why_not(named.clone(), Some(allocated_in("x"))), None);
        assert_eq!(
            why_not(named.clone(), Some(allocated_in("y"))),
            says("resourceclaim not available on the node")
        );
        assert_eq!(why_not(named.clone(), Some(json!({}))), says("cannot allocate all claims"));
        assert_eq!(why_not(named, None), says("could not find ResourceClaim \"default/gpu\""));
        assert_eq!(why_not(from_template, None), says("pod \"default/p\": ResourceClaim not created yet"));
    }
}
