use k8s_openapi::api::resource::v1::ResourceSlice;
use knarr_api::time::SeededRandom;
use serde_json::{Value, json};

use super::*;

fn decoded<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("well-formed")
}

/// A slice that is the whole of its pool.
fn slice(name: &str, spec: Value) -> ResourceSlice {
    let pool = json!({"name": name, "generation": 1, "resourceSliceCount": 1});
    let mut whole = json!({"driver": "gpu.example.com", "pool": pool, "nodeName": "a"});
    merge(&mut whole, spec);
    decoded(json!({"metadata": {"name": name}, "spec": whole}))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn gpu(name: &str, model: &str, memory: &str) -> Value {
    json!({
        "name": name,
        "attributes": {
            "model": {"string": model},
            "numa.example.com/node": {"int": i64::from(name.ends_with(['2', '3']))},
            "driverVersion": {"version": "1.10.0"},
        },
        "capacity": {"memory": {"value": memory}},
    })
}

fn devices_of(slices: impl IntoIterator<Item = ResourceSlice>) -> Devices {
    let mut devices = Devices::default();
    for slice in slices {
        devices.slices.set(Arc::new(slice));
    }
    let is_gpu = json!({"cel": {"expression": "device.driver == 'gpu.example.com'"}});
    for (name, selectors) in [("gpu", json!([is_gpu])), ("any", json!([]))] {
        let class = json!({"metadata": {"name": name}, "spec": {"selectors": selectors}});
        devices.classes.set(Arc::new(decoded(class)));
    }
    devices
}

/// Four of them on node `a`: `gpu-0` to `gpu-3`, the last two larger and on another NUMA node.
fn four() -> Devices {
    let list = json!([
        gpu("gpu-0", "small", "8Gi"),
        gpu("gpu-1", "small", "8Gi"),
        gpu("gpu-2", "large", "80Gi"),
        gpu("gpu-3", "large", "80Gi"),
    ]);
    devices_of([slice("pool", json!({"devices": list}))])
}

fn claim(devices: Value) -> ResourceClaim {
    let meta = json!({"namespace": "default", "name": "claim", "uid": "claim"});
    decoded(json!({"metadata": meta, "spec": {"devices": devices}}))
}

fn exactly(name: &str, more: Value) -> Value {
    let mut request = json!({"deviceClassName": "gpu"});
    merge(&mut request, more);
    json!({"name": name, "exactly": request})
}

fn one(more: Value) -> ResourceClaim {
    claim(json!({"requests": [exactly("r", more)]}))
}

fn selecting(expression: &str) -> ResourceClaim {
    one(json!({"selectors": [{"cel": {"expression": expression}}]}))
}

fn node(name: &str) -> Node {
    decoded(json!({"metadata": {"name": name, "labels": {"zone": "x"}}}))
}

fn allocate_on(
    devices: &Devices,
    claims: &[&ResourceClaim],
    on: &str,
) -> Result<Vec<AllocationResult>, String> {
    let node = node(on);
    let found = devices.find(claims, &node)?;
    found.map(|found| found.allocations(&SeededRandom::new(1))).ok_or("none".to_owned())
}

/// The devices that a claim gets on node `a`, by request; or why it gets none.
fn found(devices: &Devices, claim: &ResourceClaim) -> String {
    match allocate_on(devices, &[claim], "a") {
        Ok(allocations) => names(&allocations[0]),
        Err(error) => error,
    }
}

fn names(allocation: &AllocationResult) -> String {
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    results.map(|result| format!("{}={}", result.request, result.device)).collect::<Vec<_>>().join(" ")
}

fn hold(devices: &mut Devices, uid: &str, allocation: AllocationResult) {
    let mut other = claim(json!({}));
    other.metadata.uid = Some(uid.to_owned());
    other.status.get_or_insert_default().allocation = Some(allocation);
    devices.claim_changed(None, Some(&other));
}

#[test]
fn selectors_see_attributes_and_capacity_of_a_device() {
    let devices = four();
    let large = "device.attributes['gpu.example.com'].model == 'large'";
    assert_eq!(found(&devices, &selecting(large)), "r=gpu-2");
    let memory = "device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) > 0";
    assert_eq!(found(&devices, &selecting(memory)), "r=gpu-2");
    let version = "device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.9.0'))";
    assert_eq!(found(&devices, &selecting(version)), "r=gpu-0");
    assert_eq!(found(&devices, &selecting("device.driver == 'other'")), "none");
    assert_eq!(found(&devices, &selecting("!device.allowMultipleAllocations")), "r=gpu-0");
    let numa = "device.attributes['numa.example.com'].node == 1";
    assert_eq!(found(&devices, &selecting(numa)), "r=gpu-2");
}

#[test]
fn domains_that_a_device_does_not_have_are_empty() {
    let devices = four();
    assert_eq!(found(&devices, &selecting("'x' in device.attributes['no.example.com']")), "none");
    assert_eq!(found(&devices, &selecting("'no.example.com' in device.attributes")), "none");
    let missing = found(&devices, &selecting("device.attributes['no.example.com'].x == 1"));
    assert_eq!(missing, "claim default/claim: selector #0: CEL runtime error: no such key: x");
    let broken = found(&devices, &selecting("device.nonsense"));
    assert!(broken.starts_with("claim default/claim: selector #0: CEL compile error: "), "{broken}");
}

#[test]
fn devices_are_counted_and_never_given_twice() {
    let mut devices = four();
    assert_eq!(found(&devices, &one(json!({"count": 3}))), "r=gpu-0 r=gpu-1 r=gpu-2");
    assert_eq!(found(&devices, &one(json!({"count": 5}))), "none");
    assert_eq!(found(&devices, &one(json!({"allocationMode": "All"}))), "r=gpu-0 r=gpu-1 r=gpu-2 r=gpu-3");
    let allocations =
        allocate_on(&devices, &[&one(json!({"count": 2})), &one(json!({}))], "a").expect("room");
    assert_eq!(names(&allocations[1]), "r=gpu-2");
    hold(&mut devices, "other", allocations[0].clone());
    assert_eq!(found(&devices, &one(json!({"count": 2}))), "r=gpu-2 r=gpu-3");
    assert_eq!(found(&devices, &one(json!({"count": 3}))), "none");
    assert_eq!(found(&devices, &one(json!({"allocationMode": "All"}))), "none");
    assert_eq!(found(&devices, &one(json!({"count": 3, "adminAccess": true}))), "r=gpu-0 r=gpu-1 r=gpu-2");
}

#[test]
fn what_was_decided_is_held_until_it_is_seen_or_void() {
    let mut devices = four();
    let mut ours = claim(json!({}));
    ours.metadata.uid = Some("ours".to_owned());
    let all = allocate_on(&devices, &[&one(json!({"count": 4}))], "a").expect("room").remove(0);
    devices.take(&[(Arc::new(ours.clone()), Arc::new(all.clone()))]);
    assert!(devices.is_decided(&ours));
    assert_eq!(found(&devices, &one(json!({}))), "none");
    assert!(devices.settle("ours"));
    assert_eq!(found(&devices, &one(json!({}))), "r=gpu-0");
    devices.take(&[(Arc::new(ours.clone()), Arc::new(all.clone()))]);
    let before = ours.clone();
    ours.status.get_or_insert_default().allocation = Some(all);
    devices.claim_changed(Some(&before), Some(&ours));
    assert!(!devices.settle("ours"), "it is seen");
    assert_eq!(found(&devices, &one(json!({}))), "none");
    devices.claim_changed(Some(&ours), None);
    assert_eq!(found(&devices, &one(json!({}))), "r=gpu-0");
}

#[test]
fn constraints_hold_among_the_devices_of_a_claim() {
    let devices = four();
    let with = |constraint: Value| {
        let requests = json!([exactly("r", json!({"count": 2})), exactly("s", json!({}))]);
        claim(json!({"requests": requests, "constraints": [constraint]}))
    };
    let numa = "numa.example.com/node";
    assert_eq!(found(&devices, &with(json!({"matchAttribute": numa}))), "none");
    let of_r = json!({"requests": ["r"], "matchAttribute": numa});
    assert_eq!(found(&devices, &with(of_r)), "r=gpu-0 r=gpu-1 s=gpu-2");
    let distinct = claim(json!({
        "requests": [exactly("r", json!({})), exactly("s", json!({}))],
        "constraints": [{"distinctAttribute": "gpu.example.com/model"}],
    }));
    assert_eq!(found(&devices, &distinct), "r=gpu-0 s=gpu-2");
    assert_eq!(found(&devices, &with(json!({"matchAttribute": "no.example.com/such"}))), "none");
}

#[test]
fn of_several_alternatives_the_first_that_can_be_had_is_taken() {
    let devices = four();
    let alternative =
        |name: &str, count: i64| json!({"name": name, "deviceClassName": "gpu", "count": count});
    let list = json!([alternative("many", 9), alternative("two", 2), alternative("one", 1)]);
    let claim = claim(json!({
        "requests": [{"name": "r", "firstAvailable": list}],
        "config": [
            {"requests": ["r/two"], "opaque": {"driver": "gpu.example.com", "parameters": {"for": "two"}}},
            {"requests": ["r/one"], "opaque": {"driver": "gpu.example.com", "parameters": {"for": "one"}}},
        ],
    }));
    assert_eq!(found(&devices, &claim), "r/two=gpu-0 r/two=gpu-1");
    let place = node("a");
    let solution = devices.find(&[&claim], &place).expect("no fault").expect("found");
    assert_eq!(solution.score(), 7);
    let config =
        solution.allocations(&SeededRandom::new(1)).remove(0).devices.and_then(|devices| devices.config);
    let config = serde_json::to_value(config).expect("encodes");
    assert_eq!(config.as_array().map(Vec::len), Some(1));
    assert_eq!(config[0]["source"], "FromClaim");
    assert_eq!(config[0]["opaque"]["parameters"]["for"], "two");
}

#[test]
fn tainted_devices_go_to_those_that_tolerate_it() {
    let mut device = gpu("gpu-0", "small", "8Gi");
    device["taints"] = json!([{"key": "broken", "effect": "NoSchedule", "value": "yes"}]);
    let devices = devices_of([slice("pool", json!({"devices": [device]}))]);
    assert_eq!(found(&devices, &one(json!({}))), "none");
    let tolerating = |toleration: Value| one(json!({"tolerations": [toleration]}));
    assert_eq!(found(&devices, &tolerating(json!({"key": "broken", "operator": "Exists"}))), "r=gpu-0");
    assert_eq!(found(&devices, &tolerating(json!({"key": "broken", "value": "no"}))), "none");
    assert_eq!(found(&devices, &tolerating(json!({"operator": "Exists", "effect": "NoExecute"}))), "none");
}

#[test]
fn only_whole_pools_of_the_newest_generation_are_used() {
    let of = |name: &str, generation: i64, count: i64, device: &str| {
        let pool = json!({"name": "pool", "generation": generation, "resourceSliceCount": count});
        slice(name, json!({"pool": pool, "devices": [{"name": device}]}))
    };
    let two = devices_of([of("s1", 1, 1, "old"), of("s2", 2, 1, "new")]);
    assert_eq!(found(&two, &one(json!({}))), "r=new");
    let mut incomplete = devices_of([of("s1", 1, 2, "here")]);
    assert_eq!(found(&incomplete, &one(json!({}))), "none");
    assert_eq!(
        found(&incomplete, &one(json!({"allocationMode": "All"}))),
        "claim default/claim, request r: asks for all devices, but resource pool gpu.example.com/pool is \
         currently being updated"
    );
    let elsewhere = slice(
        "s2",
        json!({
            "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 2}, "nodeName": "b",
        }),
    );
    incomplete.slices.set(Arc::new(elsewhere));
    assert_eq!(found(&incomplete, &one(json!({}))), "r=here");
    let twice = devices_of([of("s1", 1, 2, "same"), of("s2", 1, 2, "same")]);
    assert_eq!(found(&twice, &one(json!({}))), "invalid resource pools were encountered");
}

#[test]
fn allocations_say_where_the_devices_can_be_used() {
    let local = four();
    let allocation = allocate_on(&local, &[&one(json!({}))], "a").expect("room").remove(0);
    let selector = serde_json::to_value(allocation.node_selector).expect("encodes");
    let name = json!({"key": "metadata.name", "operator": "In", "values": ["a"]});
    assert_eq!(selector, json!({"nodeSelectorTerms": [{"matchFields": [name]}]}));
    assert_eq!(allocate_on(&local, &[&one(json!({}))], "b"), Err("none".to_owned()));

    let shared = |place: Value| {
        let mut spec = json!({"nodeName": null, "devices": [{"name": "nic"}]});
        merge(&mut spec, place);
        devices_of([slice("net", spec)])
    };
    let everywhere = shared(json!({"allNodes": true}));
    let allocation = allocate_on(&everywhere, &[&one(json!({}))], "b").expect("room").remove(0);
    assert_eq!(allocation.node_selector, None);
    let zone = |zone: &str| {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        shared(json!({"nodeSelector": {"nodeSelectorTerms": [term]}}))
    };
    let allocation = allocate_on(&zone("x"), &[&one(json!({}))], "b").expect("room").remove(0);
    assert!(allocation.node_selector.is_some());
    assert_eq!(found(&zone("y"), &one(json!({}))), "none");
}

#[test]
fn shares_of_a_device_together_take_no_more_than_it_has() {
    let policy = json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi", "max": "6Gi"}});
    let device = json!({
        "name": "gpu", "allowMultipleAllocations": true,
        "capacity": {"memory": {"value": "8Gi", "requestPolicy": policy}},
    });
    let mut devices = devices_of([slice("pool", json!({"devices": [device]}))]);
    let asking = |memory: &str| one(json!({"capacity": {"requests": {"memory": memory}}}));
    assert_eq!(found(&devices, &asking("7Gi")), "none", "more than the policy lets one have");
    let first = allocate_on(&devices, &[&asking("4500Mi")], "a").expect("room").remove(0);
    let result =
        first.devices.as_ref().and_then(|devices| devices.results.as_ref()).expect("results")[0].clone();
    assert_eq!(result.consumed_capacity.expect("consumed")["memory"].0, "5Gi");
    assert_eq!(result.share_id.map(|id| id.len()), Some(36));
    hold(&mut devices, "first", first);
    assert_eq!(found(&devices, &asking("4Gi")), "none");
    assert_eq!(found(&devices, &asking("3Gi")), "r=gpu");
    assert_eq!(found(&devices, &one(json!({}))), "r=gpu");
}

#[test]
fn partitions_share_what_the_hardware_has() {
    let counters = json!([{"name": "gpu", "counters": {"memory": {"value": "40Gi"}}}]);
    let pool = json!({"name": "pool", "generation": 1, "resourceSliceCount": 2});
    let partition = |name: &str, memory: &str| {
        let consumes = json!([{"counterSet": "gpu", "counters": {"memory": {"value": memory}}}]);
        json!({"name": name, "consumesCounters": consumes})
    };
    let list = json!([partition("half-0", "20Gi"), partition("half-1", "20Gi"), partition("whole", "40Gi")]);
    let mut devices = devices_of([
        slice("counters", json!({"pool": pool, "sharedCounters": counters})),
        slice("devices", json!({"pool": pool, "devices": list})),
    ]);
    assert_eq!(found(&devices, &one(json!({"count": 2}))), "r=half-0 r=half-1");
    assert_eq!(found(&devices, &one(json!({"count": 3}))), "none");
    let half = allocate_on(&devices, &[&one(json!({}))], "a").expect("room").remove(0);
    hold(&mut devices, "other", half);
    assert_eq!(found(&devices, &one(json!({"count": 2}))), "none");
    assert_eq!(found(&devices, &one(json!({}))), "r=half-1");
}

#[test]
fn searches_end_however_many_ways_there_are() {
    let list: Vec<Value> = (0..64).map(|number| gpu(&format!("gpu-{number}"), "small", "8Gi")).collect();
    let devices = devices_of([slice("pool", json!({"devices": list}))]);
    let requests = json!([
        exactly("r", json!({"count": 31})),
        exactly("never", json!({"selectors": [{"cel": {"expression": "device.driver == 'other'"}}]})),
    ]);
    let why = found(&devices, &claim(json!({"requests": requests})));
    assert_eq!(why, "node a: timed out trying to allocate devices");
    let many = one(json!({"count": 33}));
    let why = "claim default/claim: number of requested devices 33 exceeds the claim limit of 32";
    assert_eq!(found(&devices, &many), why);
    let all: Vec<&ResourceClaim> = std::iter::repeat_n(&many, 1).collect();
    assert!(allocate_on(&devices, &all, "a").is_err());
}
