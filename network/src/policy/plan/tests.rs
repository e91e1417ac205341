use serde_json::json;

use super::*;

fn pod(namespace: &str, name: &str, node: &str, ip: &str, labels: Value) -> Arc<Pod> {
    let ports = json!([{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn namespace(name: &str, labels: Value) -> Arc<Namespace> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a namespace"),
    )
}

fn plan_of(spec: Value) -> Plan {
    let policy = json!({"metadata": {"namespace": "default", "name": "p"}, "spec": spec});
    let policies = [Arc::new(serde_json::from_value(policy).expect("a policy"))];
    let pods = [
        pod("default", "web", "here", "10.244.1.2", json!({"app": "web"})),
        pod("default", "api", "there", "10.244.2.2", json!({"app": "api"})),
        pod("other", "web", "there", "10.244.2.3", json!({"app": "web"})),
    ];
    let namespaces = [namespace("default", json!({"team": "a"})), namespace("other", json!({"team": "b"}))];
    World { policies: &policies, pods: &pods, namespaces: &namespaces, node: "here" }.plan()
}

fn only(plan: &Plan) -> &Group {
    assert_eq!(plan.len(), 1, "{plan:?}");
    plan.values().next().expect("one group")
}

fn peer_pods(plan: &Plan) -> Vec<String> {
    match &only(plan).allowed[0].peers {
        Peers::Anyone => vec!["anyone".into()],
        Peers::Some { pods, .. } => pods.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn an_empty_policy_isolates_the_selected_pods_of_this_node_only() {
    let plan = plan_of(json!({"podSelector": {}}));
    let group = only(&plan);
    assert_eq!(group.pods, BTreeSet::from(["10.244.1.2".parse().expect("an address")]));
    assert!(group.allowed.is_empty());
    assert!(plan_of(json!({"podSelector": {"matchLabels": {"app": "api"}}})).is_empty());
}

#[test]
fn policy_types_decide_which_way_is_isolated() {
    let ways = |spec: Value| plan_of(spec).keys().map(|(_, direction, _)| *direction).collect::<Vec<_>>();
    assert_eq!(ways(json!({"podSelector": {}, "policyTypes": ["Egress"]})), [Direction::Egress]);
    assert_eq!(ways(json!({"podSelector": {}, "egress": [{}]})), [Direction::Ingress, Direction::Egress]);
    assert_eq!(ways(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})).len(), 2);
}

#[test]
fn peers_are_chosen_by_pod_and_namespace_labels() {
    let from = |peer: Value| peer_pods(&plan_of(json!({"podSelector": {}, "ingress": [{"from": [peer]}]})));
    assert_eq!(from(json!({"podSelector": {}})), ["10.244.1.2", "10.244.2.2"]);
    assert_eq!(from(json!({"podSelector": {"matchLabels": {"app": "api"}}})), ["10.244.2.2"]);
    assert_eq!(from(json!({"namespaceSelector": {"matchLabels": {"team": "b"}}})), ["10.244.2.3"]);
    assert_eq!(
        from(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}})),
        ["10.244.1.2", "10.244.2.3"]
    );
    assert!(from(json!({})).is_empty());
    assert_eq!(peer_pods(&plan_of(json!({"podSelector": {}, "ingress": [{}]}))), ["anyone"]);
}

#[test]
fn ports_are_numbers_ranges_names_or_whole_protocols() {
    let ports = json!([
        {"port": 80}, {"protocol": "UDP", "port": 1000, "endPort": 2000}, {"protocol": "SCTP"}, {"port": "http"},
    ]);
    let plan = plan_of(json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let allowed = &only(&plan).allowed[0];
    let expected = BTreeSet::from([
        Ports::All(Protocol::Sctp),
        Ports::Range(Protocol::Tcp, 80, 80),
        Ports::Range(Protocol::Udp, 1000, 2000),
    ]);
    assert_eq!(allowed.ports.as_ref(), Some(&expected));
    assert_eq!(
        allowed.named,
        BTreeSet::from([("10.244.1.2".parse().expect("an address"), Protocol::Tcp, 8080)])
    );
}

#[test]
fn a_named_port_to_send_to_is_that_of_the_peer() {
    let rule = json!({"to": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}], "ports": [{"port": "dns", "protocol": "UDP"}]});
    let plan = plan_of(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}));
    let allowed = &only(&plan).allowed[0];
    assert_eq!(allowed.ports, Some(BTreeSet::new()), "no port by number");
    assert_eq!(
        allowed.named,
        BTreeSet::from([("10.244.2.3".parse().expect("an address"), Protocol::Udp, 53)])
    );
}

#[test]
fn finished_and_host_network_pods_have_no_part() {
    let mut done = (*pod("default", "done", "here", "10.244.1.9", json!({}))).clone();
    done.status.phase = "Succeeded".into();
    let mut host = (*pod("default", "host", "here", "192.0.2.1", json!({}))).clone();
    host.spec.host_network = true;
    let policy = json!({"metadata": {"namespace": "default", "name": "p"}, "spec": {"podSelector": {}}});
    let policies = [Arc::new(serde_json::from_value(policy).expect("a policy"))];
    let pods = [Arc::new(done), Arc::new(host)];
    assert!(World { policies: &policies, pods: &pods, namespaces: &[], node: "here" }.plan().is_empty());
}
