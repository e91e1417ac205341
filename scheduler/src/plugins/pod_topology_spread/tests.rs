use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::{allowed, cluster, labelled, reasons, scores};

fn plugin() -> PodTopologySpread {
    PodTopologySpread::new(Defaults::System)
}

/// Nodes a and b in zone 1, x and y in zone 2.
fn zones() -> Vec<(&'static str, Value)> {
    let labels = |zone: &str, name: &str| json!({"zone": zone, HOSTNAME: name, ZONE: zone});
    [("a", "1"), ("b", "1"), ("x", "2"), ("y", "2")].map(|(name, zone)| (name, labels(zone, name))).into()
}

fn web() -> Pod {
    labelled(json!({"app": "web"}), json!({}))
}

fn constraint(key: &str, more: Value) -> Value {
    let mut constraint = json!({
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    let fields = constraint.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    constraint
}

fn spread(constraints: Value) -> Pod {
    labelled(json!({"app": "web"}), json!({"topologySpreadConstraints": constraints}))
}

#[test]
fn no_domain_gets_more_than_the_skew_above_the_least() {
    let by_zone = spread(json!([constraint("zone", json!({}))]));
    let of = |pods: Vec<(&'static str, Pod)>| allowed(&plugin(), &by_zone, &cluster(&zones(), pods));
    assert_eq!(of(vec![]), "a b x y");
    assert_eq!(of(vec![("a", web())]), "x y");
    assert_eq!(of(vec![("a", web()), ("b", web()), ("x", web())]), "x y");
    assert_eq!(of(vec![("a", web()), ("y", web())]), "a b x y");
}

#[test]
fn every_constraint_must_hold() {
    let both = json!([constraint("zone", json!({})), constraint(HOSTNAME, json!({}))]);
    let pods = vec![("a", web()), ("x", web())];
    assert_eq!(allowed(&plugin(), &spread(both), &cluster(&zones(), pods)), "b y");
}

#[test]
fn only_living_pods_of_the_namespace_with_the_labels_count() {
    let by_zone = spread(json!([constraint("zone", json!({}))]));
    let mut foreign = web();
    foreign.metadata.namespace = "other".into();
    let mut leaving = web();
    leaving.metadata.deletion_timestamp =
        serde_json::from_value(json!("2020-01-01T00:00:00Z")).expect("a time");
    let other = labelled(json!({"app": "other"}), json!({}));
    let cluster = cluster(&zones(), vec![("a", foreign), ("a", leaving), ("a", other)]);
    assert_eq!(allowed(&plugin(), &by_zone, &cluster), "a b x y");
}

#[test]
fn nodes_without_the_label_are_out_and_stay_out() {
    let mut nodes = zones();
    nodes.push(("bare", json!({})));
    let cluster = cluster(&nodes, vec![("bare", web())]);
    let by_zone = spread(json!([constraint("zone", json!({}))]));
    assert_eq!(allowed(&plugin(), &by_zone, &cluster), "a b x y");
    let bare = cluster.state.node("bare").expect("there");
    assert_eq!(
        reasons(&plugin(), &by_zone, &cluster, bare),
        ["node(s) didn't match pod topology spread constraints (missing required label)"]
    );
}

#[test]
fn fewer_domains_than_the_minimum_count_as_having_an_empty_one() {
    let of = |least: i64| {
        let pod = spread(json!([constraint("zone", json!({"minDomains": least}))]));
        allowed(&plugin(), &pod, &cluster(&zones(), vec![("a", web()), ("x", web())]))
    };
    assert_eq!((of(2).as_str(), of(3).as_str()), ("a b x y", ""));
}

#[test]
fn policies_say_which_nodes_count() {
    let of = |policy: &str| {
        let mut pod = spread(json!([constraint("zone", json!({"nodeAffinityPolicy": policy}))]));
        pod.node_selector = [("zone".to_owned(), "1".to_owned())].into();
        allowed(&plugin(), &pod, &cluster(&zones(), vec![("a", web()), ("b", web())]))
    };
    // With only zone 1 counted it is its own minimum.
    assert_eq!((of("Honor").as_str(), of("Ignore").as_str()), ("a b x y", "x y"));
}

#[test]
fn match_label_keys_take_the_pods_own_values() {
    let constraints = json!([constraint("zone", json!({"matchLabelKeys": ["version", "absent"]}))]);
    let spec = json!({"topologySpreadConstraints": constraints});
    let pod = labelled(json!({"app": "web", "version": "2"}), spec);
    let old = labelled(json!({"app": "web", "version": "1"}), json!({}));
    assert_eq!(allowed(&plugin(), &pod, &cluster(&zones(), vec![("a", old)])), "a b x y");
    let new = labelled(json!({"app": "web", "version": "2"}), json!({}));
    assert_eq!(allowed(&plugin(), &pod, &cluster(&zones(), vec![("a", new)])), "x y");
}

#[test]
fn a_pod_that_does_not_match_itself_adds_nothing() {
    let constraints = json!([constraint("zone", json!({}))]);
    let pod = labelled(json!({}), json!({"topologySpreadConstraints": constraints}));
    let cluster = cluster(&zones(), vec![("a", web())]);
    assert_eq!(allowed(&plugin(), &pod, &cluster), "a b x y");
}

#[test]
fn soft_constraints_prefer_emptier_domains() {
    let soft = json!({"whenUnsatisfiable": "ScheduleAnyway"});
    let by_zone = spread(json!([constraint("zone", soft.clone())]));
    let pods = || vec![("a", web()), ("b", web()), ("x", web())];
    let cluster = cluster(&zones(), pods());
    assert_eq!(allowed(&plugin(), &by_zone, &cluster), "a b x y");
    assert_eq!(scores(&plugin(), &by_zone, &cluster), Some(vec![33, 33, 100, 100]));
    let by_node = spread(json!([constraint(HOSTNAME, soft)]));
    assert_eq!(scores(&plugin(), &by_node, &cluster), Some(vec![0, 0, 0, 100]));
}

#[test]
fn pods_of_a_service_are_spread_by_default_and_others_are_not() {
    let mut cluster = cluster(&zones(), vec![("a", web()), ("b", web())]);
    assert_eq!(scores(&plugin(), &web(), &cluster), None);
    let service = json!({
        "metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "web"}},
    });
    let service = serde_json::from_value(service).expect("a service");
    cluster.objects.services.set(std::sync::Arc::new(service));
    let scores = scores(&plugin(), &web(), &cluster).expect("a preference");
    assert!(scores[2] > scores[0] && scores[2] == scores[3], "{scores:?}");
}
