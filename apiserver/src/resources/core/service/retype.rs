//! What a Service of another type no longer needs, and its writer left as it was.

use serde_json::{Value, json};

use super::allocate::{needs_address, needs_health_port, needs_node_ports, service_type};

/// Drops it. What the writer changed stays, for validation to refuse.
pub fn drop_unneeded(service: &mut Value, old: &Value) {
    let is_balancer = |service: &Value| service_type(service) == "LoadBalancer";
    if needs_address(old) && !needs_address(service) {
        if same(service, old, "clusterIPs") && same(service, old, "clusterIP") {
            remove(service, "clusterIP");
            remove(service, "clusterIPs");
        }
        drop_if_same(service, old, "ipFamilies");
        drop_if_same(service, old, "ipFamilyPolicy");
    }
    if needs_node_ports(old) && !needs_node_ports(service) && keeps_node_ports(service, old) {
        for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    if needs_health_port(old) && !needs_health_port(service) {
        drop_if_same(service, old, "healthCheckNodePort");
    }
    if is_balancer(old) && !is_balancer(service) {
        drop_if_same(service, old, "allocateLoadBalancerNodePorts");
        drop_if_same(service, old, "loadBalancerClass");
    }
    if is_external(old) && !is_external(service) {
        drop_if_same(service, old, "externalTrafficPolicy");
    }
    if !is_balancer(service) {
        service["status"]["loadBalancer"] = json!({});
    }
}

/// A writer that knows of one address only means both fields.
pub fn follow_single_address(service: &mut Value, old: &Value) {
    let single =
        |service: &Value| service.pointer("/spec/clusterIP").and_then(Value::as_str).map(str::to_owned);
    let (new, was) = (single(service), single(old));
    if new != was && same(service, old, "clusterIPs") && old.pointer("/spec/clusterIPs").is_some() {
        match new.filter(|ip| !ip.is_empty()) {
            Some(ip) => service["spec"]["clusterIPs"] = json!([ip]),
            None => remove(service, "clusterIPs"),
        }
    }
}

fn is_external(service: &Value) -> bool {
    let ips = service.pointer("/spec/externalIPs").and_then(Value::as_array);
    match service_type(service) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => ips.is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

/// The node ports that are set, in order.
fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let mut ports: Vec<u64> = ports.filter_map(|port| port.get("nodePort")?.as_u64()).collect();
    ports.sort_unstable();
    ports
}

/// Whether no node port is another than before; those left out count as kept.
fn keeps_node_ports(service: &Value, old: &Value) -> bool {
    let known = node_ports(old);
    node_ports(service).iter().all(|port| known.contains(port))
}

fn same(service: &Value, old: &Value, field: &str) -> bool {
    let at = |of: &Value| of.get("spec").and_then(|spec| spec.get(field)).cloned();
    at(service) == at(old)
}

fn remove(service: &mut Value, field: &str) {
    service.get_mut("spec").and_then(Value::as_object_mut).map(|spec| spec.remove(field));
}

fn drop_if_same(service: &mut Value, old: &Value, field: &str) {
    if same(service, old, field) {
        remove(service, field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_leaves_the_nodes_loses_its_ports_there() {
        let old = json!({"spec": {"type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30000}]}});
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        let mut changed = new.clone();
        changed["spec"]["ports"][0]["nodePort"] = json!(30001);
        drop_unneeded(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
        drop_unneeded(&mut changed, &old);
        assert_eq!(changed["spec"]["ports"][0]["nodePort"], 30001);
    }
}
