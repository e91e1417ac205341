use serde_json::{Value, json};

use super::*;
use crate::plugins::testing;

fn named() -> Value {
    json!({"name": "own", "resourceClaimName": "gpu"})
}

fn claim(status: Value) -> ResourceClaim {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "gpu"}});
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "gpu", "uid": "gpu"},
        "spec": {"devices": {"requests": [request]}},
        "status": status,
    }))
    .expect("a claim")
}

/// Nodes `a` and `b` in the zones `x` and `y`; `a` has a device.
fn cluster(claim: Option<ResourceClaim>) -> Cluster {
    let mut cluster = testing::cluster(&[("a", json!({"zone": "x"})), ("b", json!({"zone": "y"}))], []);
    if let Some(claim) = claim {
        cluster.objects.claim_seen(&Arc::new(claim));
    }
    let class = json!({"metadata": {"name": "gpu"}, "spec": {}});
    cluster.objects.devices.classes.set(Arc::new(serde_json::from_value(class).expect("a class")));
    let pool = json!({"name": "a", "generation": 1, "resourceSliceCount": 1});
    let slice = json!({
        "metadata": {"name": "a"},
        "spec": {"driver": "gpu", "pool": pool, "nodeName": "a", "devices": [{"name": "gpu-0"}]},
    });
    cluster.objects.devices.slices.set(Arc::new(serde_json::from_value(slice).expect("a slice")));
    cluster
}

fn pod(claim: Value) -> Pod {
    testing::pod(json!({"resourceClaims": [claim]}))
}

/// Why the pod cannot go to a node.
fn why_not(pod: &Pod, cluster: &Cluster, node: &str) -> String {
    let node = cluster.state.node(node).expect("a node");
    testing::reasons(&DynamicResources, pod, cluster, node).join(", ")
}

fn allocated_in(zone: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    json!({"allocation": {"nodeSelector": {"nodeSelectorTerms": [term]}}})
}

#[test]
fn a_pod_goes_where_its_claims_are_allocated() {
    let cluster = cluster(Some(claim(allocated_in("x"))));
    assert_eq!(testing::allowed(&DynamicResources, &pod(named()), &cluster), "a");
    assert_eq!(why_not(&pod(named()), &cluster, "b"), "resourceclaim not available on the node");
}

#[test]
fn a_pod_goes_where_its_claims_can_be_allocated() {
    let mut cluster = cluster(Some(claim(json!({}))));
    assert_eq!(testing::allowed(&DynamicResources, &pod(named()), &cluster), "a");
    assert_eq!(why_not(&pod(named()), &cluster, "b"), "cannot allocate all claims");
    cluster.objects.devices.classes = Default::default();
    assert_eq!(why_not(&pod(named()), &cluster, "a"), "request r: device class gpu does not exist");
}

#[test]
fn claims_that_are_not_there_keep_a_pod_from_everywhere() {
    let cluster = cluster(None);
    let from_template = json!({"name": "own", "resourceClaimTemplateName": "gpus"});
    assert_eq!(why_not(&pod(named()), &cluster, "a"), "could not find ResourceClaim \"default/gpu\"");
    assert_eq!(
        why_not(&pod(from_template), &cluster, "a"),
        "pod \"default/p\": ResourceClaim not created yet"
    );
}

#[test]
fn a_claim_that_is_being_allocated_is_waited_for() {
    let mut cluster = cluster(Some(claim(json!({}))));
    let open = cluster.objects.resource_claims.get("default", "gpu").expect("there").clone();
    cluster.objects.devices.take(&[(open, Arc::default())]);
    assert_eq!(
        why_not(&pod(named()), &cluster, "a"),
        "resource claim default/gpu is in the process of being allocated"
    );
}

#[test]
fn a_claim_that_nobody_uses_may_give_up_devices_that_are_elsewhere() {
    let gives_up = |status: Value| deallocatable(&pod(named()), &cluster(Some(claim(status)))).is_some();
    assert!(gives_up(allocated_in("z")));
    let mut used = allocated_in("z");
    used["reservedFor"] = json!([{"resource": "pods", "name": "other", "uid": "other"}]);
    assert!(!gives_up(used.clone()));
    used["reservedFor"] = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    assert!(gives_up(used));
    assert!(!gives_up(json!({"allocation": {}})));
}

#[test]
fn only_news_of_its_claims_or_freed_devices_help_a_pod() {
    let cluster = cluster(Some(claim(json!({}))));
    let helps = |pod: &Pod, old: Option<Value>, new: Value, name: &str| {
        let named = |status: Value| {
            let mut claim = claim(status);
            claim.metadata.name = Some(name.to_owned());
            Arc::new(claim)
        };
        let subject = Subject::ResourceClaim { old: old.map(named), new: named(new) };
        DynamicResources.helps(pod, &Event { kinds: Kinds::RESOURCE_CLAIM, subject }, &cluster)
    };
    let (pod, open, held) = (pod(named()), json!({}), json!({"allocation": {}}));
    assert!(helps(&pod, None, open.clone(), "gpu"));
    assert!(helps(&pod, Some(open.clone()), held.clone(), "gpu"));
    assert!(!helps(&pod, Some(open.clone()), open.clone(), "gpu"));
    assert!(!helps(&pod, Some(open.clone()), held.clone(), "other"));
    assert!(helps(&pod, Some(held), open.clone(), "other"));
    let waiting = self::pod(json!({"name": "own", "resourceClaimName": "missing"}));
    assert!(!helps(&waiting, None, open, "gpu"));
}
