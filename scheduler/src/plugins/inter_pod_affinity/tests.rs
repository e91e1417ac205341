use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::{allowed, cluster, labelled, reasons, scores};

fn plugin() -> InterPodAffinity {
    InterPodAffinity::default()
}

/// Nodes a and b in zone 1, x in zone 2, bare in none.
fn nodes() -> Vec<(&'static str, Value)> {
    let place = |zone: &str, name: &str| json!({"zone": zone, "host": name});
    vec![("a", place("1", "a")), ("b", place("1", "b")), ("x", place("2", "x")), ("bare", json!({}))]
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

/// `kind` is `podAffinity` or `podAntiAffinity`.
fn required(own: &str, kind: &str, terms: Value) -> Pod {
    let terms = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
    labelled(json!({"app": own}), json!({"affinity": {kind: terms}}))
}

fn preferred(own: &str, kind: &str, weight: i64, term: Value) -> Pod {
    let terms = json!([{"weight": weight, "podAffinityTerm": term}]);
    let terms = json!({"preferredDuringSchedulingIgnoredDuringExecution": terms});
    labelled(json!({"app": own}), json!({"affinity": {kind: terms}}))
}

fn plain(app: &str) -> Pod {
    labelled(json!({"app": app}), json!({}))
}

#[test]
fn affinity_allows_the_domains_of_pods_that_are_meant() {
    let pod = required("web", "podAffinity", json!([term("db", "zone")]));
    let of = |pods: Vec<(&'static str, Pod)>| allowed(&plugin(), &pod, &cluster(&nodes(), pods));
    assert_eq!(of(vec![("a", plain("db"))]), "a b");
    assert_eq!(of(vec![("x", plain("db")), ("a", plain("other"))]), "x");
    assert_eq!(of(vec![]), "");
    assert_eq!(of(vec![("bare", plain("db"))]), "");
}

#[test]
fn all_terms_must_mean_the_same_pods() {
    let zone_and_host = json!([term("db", "zone"), term("db", "host")]);
    let pod = required("web", "podAffinity", zone_and_host);
    assert_eq!(allowed(&plugin(), &pod, &cluster(&nodes(), vec![("a", plain("db"))])), "a");
    let two_apps = required("web", "podAffinity", json!([term("db", "zone"), term("cache", "zone")]));
    let pods = vec![("a", plain("db")), ("b", plain("cache"))];
    assert_eq!(allowed(&plugin(), &two_apps, &cluster(&nodes(), pods)), "");
}

#[test]
fn the_first_of_a_group_may_go_anywhere_with_the_label() {
    let pod = required("web", "podAffinity", json!([term("web", "zone")]));
    assert_eq!(allowed(&plugin(), &pod, &cluster(&nodes(), vec![])), "a b x");
    assert_eq!(allowed(&plugin(), &pod, &cluster(&nodes(), vec![("x", plain("web"))])), "x");
}

#[test]
fn anti_affinity_works_in_both_directions() {
    let lonely = || required("web", "podAntiAffinity", json!([term("db", "zone")]));
    let there = cluster(&nodes(), vec![("a", plain("db"))]);
    assert_eq!(allowed(&plugin(), &lonely(), &there), "x bare");
    let a = there.state.node("a").expect("there");
    assert_eq!(reasons(&plugin(), &lonely(), &there, a), ["node(s) didn't match pod anti-affinity rules"]);
    let other_way = cluster(&nodes(), vec![("a", lonely())]);
    assert_eq!(allowed(&plugin(), &plain("db"), &other_way), "x bare");
    assert_eq!(allowed(&plugin(), &plain("cache"), &other_way), "a b x bare");
    let a = other_way.state.node("a").expect("there");
    assert_eq!(
        reasons(&plugin(), &plain("db"), &other_way, a),
        ["node(s) didn't satisfy existing pods anti-affinity rules"]
    );
}

#[test]
fn namespaces_are_named_selected_or_the_pods_own() {
    let mut elsewhere = plain("db");
    elsewhere.metadata.namespace = "shop".into();
    let mut cluster = cluster(&nodes(), vec![("a", elsewhere)]);
    let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "blue"}}});
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    cluster.objects.namespaces.set(Arc::new(namespace));
    let of = |more: Value| {
        let mut term = term("db", "zone");
        term.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let affinity = required("web", "podAffinity", json!([term]));
        let anti = required("web", "podAntiAffinity", json!([term]));
        (allowed(&plugin(), &affinity, &cluster), allowed(&plugin(), &anti, &cluster))
    };
    let nowhere = (String::new(), "a b x bare".to_owned());
    let there = ("a b".to_owned(), "x bare".to_owned());
    assert_eq!(of(json!({})), nowhere);
    assert_eq!(of(json!({"namespaces": ["shop"]})), there);
    assert_eq!(of(json!({"namespaceSelector": {}})), there);
    assert_eq!(of(json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}})), there);
    assert_eq!(of(json!({"namespaceSelector": {"matchLabels": {"team": "red"}}})), nowhere);
}

#[test]
fn trying_out_other_pods_changes_the_verdict_and_only_there() {
    let pod = required("web", "podAntiAffinity", json!([term("db", "zone")]));
    let db = plain("db");
    let cluster = cluster(&nodes(), vec![("a", plain("db"))]);
    let plugin = plugin();
    let PreFilter::Filter(filter) = plugin.pre_filter(&pod, &cluster) else { panic!("a filter") };
    let (a, x) = (cluster.state.node("a").expect("there"), cluster.state.node("x").expect("there"));
    let mut trial = filter.fork();
    trial.remove_pod(&db, a);
    trial.add_pod(&db, x);
    assert_eq!((trial.filter(a).is_ok(), trial.filter(x).is_ok()), (true, false));
    assert_eq!((filter.filter(a).is_ok(), filter.filter(x).is_ok()), (false, true));
}

#[test]
fn preferences_of_both_sides_add_up() {
    let near = preferred("web", "podAffinity", 10, term("db", "zone"));
    let there = cluster(&nodes(), vec![("a", plain("db"))]);
    assert_eq!(scores(&plugin(), &near, &there), Some(vec![100, 100, 0, 0]));
    let far = preferred("web", "podAntiAffinity", 10, term("db", "host"));
    assert_eq!(scores(&plugin(), &far, &there), Some(vec![0, 100, 100, 100]));
    let admirer = preferred("db", "podAffinity", 5, term("web", "host"));
    assert_eq!(
        scores(&plugin(), &plain("web"), &cluster(&nodes(), vec![("x", admirer)])),
        Some(vec![0, 0, 100, 0])
    );
    // Whoever requires such a pod draws it a little.
    let needs = required("db", "podAffinity", json!([term("web", "zone")]));
    assert_eq!(
        scores(&plugin(), &plain("web"), &cluster(&nodes(), vec![("x", needs)])),
        Some(vec![0, 0, 100, 0])
    );
    assert_eq!(scores(&plugin(), &plain("web"), &there), None);
}

#[test]
fn preferences_of_others_can_be_ignored() {
    let args = InterPodAffinityArgs {
        ignore_preferred_terms_of_existing_pods: true,
        ..InterPodAffinityArgs::default()
    };
    let admirer = preferred("db", "podAffinity", 5, term("web", "host"));
    let cluster = cluster(&nodes(), vec![("x", admirer)]);
    assert_eq!(scores(&InterPodAffinity::new(args), &plain("web"), &cluster), None);
}
