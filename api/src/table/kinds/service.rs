//! Services and their endpoints.

use std::collections::BTreeSet;

use super::super::Cell;
use super::super::view::{clipped, join, or_none, some_of};
use super::View;

pub(super) fn cells(object: View<'_>) -> Vec<Cell<'_>> {
    let cluster_ip = object.items("spec.clusterIPs").next().map_or("<none>", View::text);
    vec![
        object.name(),
        object.str("spec.type").into(),
        cluster_ip.into(),
        external_ip(object).into(),
        ports(object).into(),
        object.age(),
        object.labels("spec.selector").into(),
    ]
}

fn external_ip(service: View<'_>) -> String {
    let external = service.joined("spec.externalIPs");
    match service.str("spec.type") {
        "ClusterIP" | "NodePort" => or_none(external),
        "LoadBalancer" => {
            let both = [ingress_addresses(service), external];
            match join(both.into_iter().filter(|part| !part.is_empty()), ",") {
                shown if shown.is_empty() => "<pending>".to_owned(),
                shown => shown,
            }
        }
        "ExternalName" => service.str("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names of the load balancer, sorted.
pub(super) fn ingress_addresses(object: View<'_>) -> String {
    let address = |ingress: View<'_>| match (ingress.str("ip"), ingress.str("hostname")) {
        ("", "") => None,
        ("", hostname) => Some(hostname.to_owned()),
        (ip, _) => Some(ip.to_owned()),
    };
    let addresses: BTreeSet<String> =
        object.items("status.loadBalancer.ingress").filter_map(address).collect();
    join(addresses, ",")
}

fn ports(service: View<'_>) -> String {
    let port = |port: View<'_>| match port.int("nodePort") {
        0 => format!("{}/{}", port.int("port"), port.str("protocol")),
        node => format!("{}:{node}/{}", port.int("port"), port.str("protocol")),
    };
    or_none(join(service.items("spec.ports").map(port), ","))
}

pub(super) fn endpoints(object: View<'_>) -> Vec<Cell<'_>> {
    let mut all = Vec::new();
    for subset in object.items("subsets") {
        let addresses = || subset.items("addresses").map(|address| address.str("ip"));
        if subset.count("ports") == 0 {
            all.extend(addresses().map(str::to_owned));
        }
        for port in subset.items("ports") {
            all.extend(addresses().map(|ip| host_port(ip, port.int("port"))));
        }
    }
    let shown = if object.count("subsets") == 0 { "<none>".to_owned() } else { clipped(all, 3, ",") };
    vec![object.name(), shown.into(), object.age()]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub(super) fn endpoint_slice(object: View<'_>) -> Vec<Cell<'_>> {
    let port = |port: View<'_>| match (port.at("port").value().as_i64(), port.at("name").is_null()) {
        (Some(number), _) => number.to_string(),
        (None, false) => port.str("name").to_owned(),
        (None, true) => "*".to_owned(),
    };
    let ports = object.items("ports").map(port).collect();
    let mut addresses = Vec::new();
    for endpoint in object.items("endpoints") {
        addresses.extend(endpoint.items("addresses").map(|address| address.text().to_owned()));
    }
    vec![
        object.name(),
        object.str("addressType").into(),
        some_of(ports, 3).into(),
        some_of(addresses, 3).into(),
        object.age(),
    ]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_shows_addresses_and_ports() {
        let service = json!({
            "metadata": {"name": "s"},
            "spec": {
                "type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "externalIPs": ["1.1.1.1"],
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
                "selector": {"app": "web"},
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "z"}, {"ip": "2.2.2.2"}]}},
        });
        let cells =
            serde_json::to_value(cells(View::new(&service, Timestamp::UNIX_EPOCH))).expect("plain data");
        assert_eq!(
            cells,
            json!([
                "s",
                "LoadBalancer",
                "10.0.0.1",
                "2.2.2.2,z,1.1.1.1",
                "80:30080/TCP,53/UDP",
                "<unknown>",
                "app=web"
            ])
        );
    }

    #[test]
    fn endpoints_are_clipped() {
        let object = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "fd::1"}], "ports": [{"port": 1}, {"port": 2}]}]});
        let cells =
            serde_json::to_value(endpoints(View::new(&object, Timestamp::UNIX_EPOCH))).expect("plain data");
        assert_eq!(cells[1], "1.1.1.1:1,[fd::1]:1,1.1.1.1:2 + 1 more...");
    }
}
