use std::sync::Arc;

use knarr_client::ObjectKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::objects::{EndpointSlice, Service};

fn zone() -> Zone {
    let mut zone = Zone::default();
    zone.add_namespace("default");
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]);
    let service: Service =
        serde_json::from_value(json!({"spec": {"clusterIP": "10.96.0.20", "ports": ports}}))
            .expect("a service");
    zone.set(&ObjectKey::new("default", "web"), Some(&service), &[]);
    let headless: Service =
        serde_json::from_value(json!({"spec": {"clusterIP": "None"}})).expect("a service");
    zone.set(&ObjectKey::new("default", "empty"), Some(&headless), &[]);
    let slice: EndpointSlice = serde_json::from_value(json!({
        "endpoints": [{"addresses": ["10.244.1.7"], "hostname": "db-0"}],
        "ports": [{"name": "sql", "port": 5432}],
    }))
    .expect("a slice");
    zone.set(&ObjectKey::new("default", "db"), Some(&headless), &[Arc::new(slice)]);
    zone
}

fn authority() -> Authority {
    Authority {
        domain: Name::from_ascii("cluster.local.").expect("a name"),
        ranges: vec!["10.96.0.0/16".parse().expect("a range")],
        server: vec![IpAddr::from([10, 96, 0, 10])],
    }
}

fn ask(name: &str, kind: RecordType) -> Option<Reply> {
    authority().answer(&zone(), &Name::from_ascii(name).expect("a name"), kind)
}

fn exists(name: &str, kind: RecordType) -> (bool, usize) {
    let reply = ask(name, kind).expect("it is ours");
    (reply.exists, reply.answers.len())
}

#[test]
fn names_with_and_without_records() {
    use RecordType::{A, AAAA, NS, PTR, SOA, SRV, TXT};
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local.", A, (true, 1)),
        ("web.default.svc.cluster.local.", AAAA, (true, 0)),
        ("web.default.svc.cluster.local.", TXT, (true, 0)),
        ("web.default.svc.cluster.local.", SRV, (true, 2)),
        ("_http._tcp.web.default.svc.cluster.local.", SRV, (true, 1)),
        ("_http._udp.web.default.svc.cluster.local.", SRV, (false, 0)),
        ("http._tcp.web.default.svc.cluster.local.", SRV, (false, 0)),
        ("x.web.default.svc.cluster.local.", A, (false, 0)),
        ("empty.default.svc.cluster.local.", A, (false, 0)),
        ("db-0.db.default.svc.cluster.local.", A, (true, 1)),
        ("db-0.db.default.svc.cluster.local.", SRV, (true, 1)),
        ("db-1.db.default.svc.cluster.local.", A, (false, 0)),
        ("10-244-1-7.default.pod.cluster.local.", A, (true, 1)),
        ("10-244-1-7.default.pod.cluster.local.", AAAA, (true, 0)),
        ("10-244-1-7.nope.pod.cluster.local.", A, (false, 0)),
        ("web.default.pod.cluster.local.", A, (false, 0)),
        ("default.svc.cluster.local.", A, (true, 0)),
        ("nope.svc.cluster.local.", A, (false, 0)),
        ("svc.cluster.local.", A, (true, 0)),
        ("cluster.local.", SOA, (true, 1)),
        ("cluster.local.", NS, (true, 1)),
        ("ns.dns.cluster.local.", A, (true, 1)),
        ("dns-version.cluster.local.", TXT, (true, 1)),
        ("20.0.96.10.in-addr.arpa.", PTR, (true, 1)),
        ("21.0.96.10.in-addr.arpa.", PTR, (false, 0)),
        ("7.1.244.10.in-addr.arpa.", PTR, (true, 1)),
    ] {
        assert_eq!(exists(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn other_names_are_for_others() {
    for name in
        ["example.org.", "local.", ".", "xcluster.local.", "1.2.0.192.in-addr.arpa.", "2.0.192.in-addr.arpa."]
    {
        assert_eq!(ask(name, RecordType::A), None, "{name}");
    }
}

#[test]
fn endpoints_are_remembered_shortly_and_services_longer() {
    let ttl = |name| ask(name, RecordType::A).expect("ours").answers[0].ttl;
    assert_eq!(ttl("web.default.svc.cluster.local."), TTL);
    assert_eq!(ttl("db.default.svc.cluster.local."), SHORT_TTL);
}

#[test]
fn what_is_gone_leaves_no_name_behind() {
    let mut zone = zone();
    for name in ["web", "db", "empty"] {
        zone.set(&ObjectKey::new("default", name), None, &[]);
    }
    assert_eq!(zone.names_of(IpAddr::from([10, 96, 0, 20])).count(), 0);
    assert_eq!(zone.names_of(IpAddr::from([10, 244, 1, 7])).count(), 0);
}

proptest! {
    #[test]
    fn any_name_is_answered_without_panic(labels in proptest::collection::vec("[a-z0-9_-]{1,12}", 0..8), ours: bool) {
        let suffix = if ours { "cluster.local." } else { "in-addr.arpa." };
        let text = labels.iter().fold(String::new(), |text, label| text + label + ".") + suffix;
        if let Ok(name) = Name::from_ascii(&text) {
            for kind in [RecordType::A, RecordType::SRV, RecordType::PTR, RecordType::ANY] {
                authority().answer(&zone(), &name, kind);
            }
        }
    }
}
