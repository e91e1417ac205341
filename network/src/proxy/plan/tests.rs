use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}))
        .expect("a service")
}

fn slice(endpoints: Value) -> Arc<EndpointSlice> {
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
    let slice =
        json!({"metadata": {"name": "web-1"}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
    Arc::new(serde_json::from_value(slice).expect("a slice"))
}

fn basic(extra: Value) -> Service {
    let mut spec = json!({
        "clusterIP": "10.96.0.20",
        "clusterIPs": ["10.96.0.20"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}],
    });
    spec.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    service(spec)
}

fn endpoint(address: &str, node: &str, ready: bool, serving: bool, terminating: bool) -> Value {
    let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
    json!({"addresses": [address], "nodeName": node, "conditions": conditions})
}

fn node() -> Node {
    let own_addresses = vec!["10.96.0.10".parse().expect("an address")];
    Node { name: "here".into(), own_addresses, zone: Some("a".into()) }
}

fn run(service: &Service, slices: &[Arc<EndpointSlice>]) -> Vec<Frontend> {
    plan(service, slices, &node(), &HashSet::new())
}

fn addresses(destination: &Destination) -> Vec<String> {
    destination.endpoints.iter().map(ToString::to_string).collect()
}

fn at_cluster_ip(frontends: &[Frontend]) -> &Frontend {
    frontends.iter().find(|f| matches!(f.front.place, Place::Address(_))).expect("a cluster ip")
}

fn at_node_port(frontends: &[Frontend]) -> &Frontend {
    frontends.iter().find(|f| matches!(f.front.place, Place::Node(_))).expect("a node port")
}

#[test]
fn ready_endpoints_are_used_once_and_in_order() {
    let slices = [
        slice(json!([
            endpoint("10.244.1.3", "here", true, true, false),
            endpoint("10.244.1.2", "there", true, true, false)
        ])),
        slice(json!([
            endpoint("10.244.1.2", "there", true, true, false),
            endpoint("10.244.1.9", "here", false, false, false)
        ])),
    ];
    let frontends = run(&basic(json!({})), &slices);
    assert_eq!(addresses(&at_cluster_ip(&frontends).main), ["10.244.1.2:8080", "10.244.1.3:8080"]);
    assert_eq!(at_cluster_ip(&frontends).main.masquerade, Masquerade::Outsiders);
    assert_eq!(at_node_port(&frontends).main.masquerade, Masquerade::Everyone);
    assert_eq!(at_node_port(&frontends).inside, "10.96.0.20:80".parse().expect("an address"));
}

#[test]
fn serving_endpoints_that_terminate_are_used_only_when_none_is_ready() {
    let leaving = endpoint("10.244.1.2", "here", false, true, true);
    let dead = endpoint("10.244.1.4", "here", false, false, true);
    let ready = endpoint("10.244.1.3", "here", true, true, false);
    let both = run(&basic(json!({})), &[slice(json!([leaving, ready, dead]))]);
    assert_eq!(addresses(&at_cluster_ip(&both).main), ["10.244.1.3:8080"]);
    let alone = run(&basic(json!({})), &[slice(json!([leaving, dead]))]);
    assert_eq!(addresses(&at_cluster_ip(&alone).main), ["10.244.1.2:8080"]);
}

#[test]
fn withdrawn_endpoints_count_as_terminating() {
    let slices = [slice(json!([
        endpoint("10.244.1.2", "here", true, true, false),
        endpoint("10.244.1.3", "here", true, true, false)
    ]))];
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let one = plan(&basic(json!({})), &slices, &node(), &HashSet::from([ip("10.244.1.2")]));
    assert_eq!(addresses(&at_cluster_ip(&one).main), ["10.244.1.3:8080"]);
    let all = plan(&basic(json!({})), &slices, &node(), &HashSet::from([ip("10.244.1.2"), ip("10.244.1.3")]));
    assert_eq!(at_cluster_ip(&all).main.endpoints.len(), 2);
}

#[test]
fn external_policy_local_uses_this_node_and_exempts_the_cluster() {
    let slices = [slice(json!([
        endpoint("10.244.1.2", "here", true, true, false),
        endpoint("10.244.2.2", "there", true, true, false)
    ]))];
    let frontends = run(&basic(json!({"externalTrafficPolicy": "Local"})), &slices);
    let node_port = at_node_port(&frontends);
    assert_eq!(addresses(&node_port.main), ["10.244.1.2:8080"]);
    assert_eq!(node_port.main.masquerade, Masquerade::Nobody);
    assert_eq!(node_port.shortcut.as_ref().map(|d| d.endpoints.len()), Some(2));
    assert_eq!(at_cluster_ip(&frontends).main.endpoints.len(), 2, "the internal policy is its own");
    let elsewhere = [slice(json!([endpoint("10.244.2.2", "there", true, true, false)]))];
    let frontends = run(&basic(json!({"externalTrafficPolicy": "Local"})), &elsewhere);
    assert!(at_node_port(&frontends).main.drop_when_empty, "another node can serve it");
    let frontends = run(&basic(json!({"externalTrafficPolicy": "Local"})), &[]);
    assert!(!at_node_port(&frontends).main.drop_when_empty, "nobody can");
}

#[test]
fn internal_policy_local_drops_rather_than_leave_the_node() {
    let elsewhere = [slice(json!([endpoint("10.244.2.2", "there", true, true, false)]))];
    let frontends = run(&basic(json!({"internalTrafficPolicy": "Local"})), &elsewhere);
    let main = &at_cluster_ip(&frontends).main;
    assert!(main.endpoints.is_empty() && main.drop_when_empty);
}

#[test]
fn affinity_has_the_timeout_of_the_service_or_three_hours() {
    let frontends = run(&basic(json!({"sessionAffinity": "ClientIP"})), &[]);
    assert_eq!(at_cluster_ip(&frontends).main.affinity, Some(10_800));
    let config =
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}});
    assert_eq!(at_cluster_ip(&run(&basic(config), &[])).main.affinity, Some(7));
}

#[test]
fn external_and_balancer_addresses_are_fronts_of_their_own_family() {
    let mut service = basic(json!({"externalIPs": ["192.0.2.7", "fd00::7", "nonsense"]}));
    let ingress =
        json!([{"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "lb.example.org"}]);
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).expect("a status");
    let places: Vec<Place> = run(&service, &[]).iter().map(|frontend| frontend.front.place).collect();
    let at = |text: &str| Place::Address(text.parse().expect("an address"));
    assert_eq!(places, [at("10.96.0.20"), at("192.0.2.7"), at("192.0.2.8"), Place::Node(Ip::V4)]);
}

#[test]
fn source_ranges_restrict_who_may_use_the_balancers_addresses_and_nothing_else() {
    let restricted = |ranges: Value| {
        let mut service =
            basic(json!({"externalIPs": ["192.0.2.7", "192.0.2.8"], "loadBalancerSourceRanges": ranges}));
        let ingress = json!([{"ip": "192.0.2.8"}]);
        service.status =
            serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).expect("a status");
        let frontends = run(&service, &[]);
        let clients = frontends.iter().filter_map(|frontend| {
            let ranges = frontend.clients.as_ref()?.iter(Ip::V4);
            Some((frontend.front.place, ranges.map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>()))
        });
        clients.collect::<Vec<_>>()
    };
    let balancer = Place::Address("192.0.2.8".parse().expect("an address"));
    let wanted = ["10.0.0.0-10.0.1.255", "203.0.113.9-203.0.113.9"].map(str::to_owned).to_vec();
    let ranges = json!(["10.0.0.0/24", " 10.0.1.0/24 ", "203.0.113.9/32", "fd00::/8"]);
    assert_eq!(restricted(ranges), [(balancer, wanted)]);
    assert_eq!(restricted(json!([])), []);
    assert_eq!(restricted(json!(["fd00::/8"])), [], "the other family's say nothing about this one");
}

#[test]
fn headless_external_name_foreign_and_own_services_have_no_fronts() {
    let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}));
    let external = service(json!({"type": "ExternalName", "externalName": "example.org"}));
    let own = service(json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}));
    let mut foreign = basic(json!({}));
    foreign.metadata.labels.insert(SERVICE_PROXY_NAME.into(), "other".into());
    for service in [headless, external, own, foreign] {
        assert!(run(&service, &[]).is_empty());
    }
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let service = service(json!({"clusterIP": "10.96.0.20", "ports": [
        {"name": "http", "port": 80}, {"name": "http-udp", "protocol": "UDP", "port": 80},
    ]}));
    let frontends = run(&service, &[slice(json!([endpoint("10.244.1.2", "here", true, true, false)]))]);
    let counts: Vec<_> = frontends.iter().map(|f| (f.front.protocol, f.main.endpoints.len())).collect();
    assert_eq!(counts, [(Protocol::Tcp, 1), (Protocol::Udp, 0)]);
}

#[test]
fn a_health_check_counts_ready_endpoints_of_this_node_once() {
    let local =
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
    let slices = [slice(json!([
        endpoint("10.244.1.2", "here", true, true, false),
        endpoint("10.244.1.2", "here", true, true, false),
        endpoint("10.244.1.3", "here", false, true, true),
        endpoint("10.244.2.2", "there", true, true, false),
    ]))];
    let check = |service: &Service| health_check(service, &slices, &node(), &HashSet::new());
    assert_eq!(check(&basic(local)), Some(HealthCheck { port: 31000, local_endpoints: 1 }));
    assert_eq!(check(&basic(json!({"type": "LoadBalancer", "healthCheckNodePort": 31000}))), None);
}

/// A ready endpoint with hints, by the last number of its address.
fn hinted(number: u8, zones: &[&str], nodes: &[&str]) -> Value {
    let mut endpoint = endpoint(&format!("10.244.1.{number}"), "there", true, true, false);
    let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    endpoint["hints"] = json!({"forZones": names(zones), "forNodes": names(nodes)});
    endpoint
}

#[test]
fn hints_are_followed_when_every_endpoint_has_them_and_one_is_meant_for_us() {
    let used = |endpoints: Vec<Value>| {
        let frontends = run(&basic(json!({})), &[slice(endpoints.into())]);
        addresses(&at_cluster_ip(&frontends).main)
    };
    let (two, three) = ("10.244.1.2:8080", "10.244.1.3:8080");
    let both = [two, three];
    assert_eq!(used(vec![hinted(2, &["a"], &[]), hinted(3, &["b"], &[])]), [two], "our zone");
    assert_eq!(used(vec![hinted(2, &["b"], &[]), hinted(3, &["b"], &[])]), both, "nobody for us");
    assert_eq!(used(vec![hinted(2, &["a"], &[]), hinted(3, &[], &[])]), both, "one has none");
    let nodes = vec![hinted(2, &["a"], &["there"]), hinted(3, &["a"], &["here"])];
    assert_eq!(used(nodes), [three], "our node before our zone");
    let nodes = vec![hinted(2, &["a"], &["there"]), hinted(3, &["b"], &["elsewhere"])];
    assert_eq!(used(nodes), [two], "the zone when no node is ours");
}
