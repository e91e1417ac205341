//! What Go code fills into a Service.

use serde_json::{Value, json};

use super::allocate::service_type;
use crate::object;
use crate::resources::fill;

/// The lifetime of client-IP affinity where none is given: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub fn set(object: &mut Value) {
    let spec = object::map_at(object, "spec");
    let mut or = |field: &str, value: Value| {
        if spec.get(field).is_none_or(|known| known.is_null() || known == "") {
            spec[field] = value;
        }
    };
    or("sessionAffinity", json!("None"));
    or("type", json!("ClusterIP"));
    if spec["sessionAffinity"] == "None" {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("sessionAffinityConfig");
        }
    } else if spec["sessionAffinity"] == "ClientIP"
        && spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").is_none()
    {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.get("protocol").is_none_or(|known| known == "") {
            port["protocol"] = json!("TCP");
        }
        if port.get("targetPort").is_none_or(|known| known == 0 || known == "") {
            port["targetPort"] = port.get("port").cloned().unwrap_or_default();
        }
    }
    set_policies(object);
}

fn set_policies(object: &mut Value) {
    let kind = service_type(object).to_owned();
    let spec = object::map_at(object, "spec");
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let has_external_ips =
        spec.get("externalIPs").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if (external || has_external_ips) && spec.get("externalTrafficPolicy").is_none_or(|known| known == "") {
        spec["externalTrafficPolicy"] = json!("Cluster");
    }
    if kind != "ExternalName" && spec.get("internalTrafficPolicy").is_none_or(Value::is_null) {
        spec["internalTrafficPolicy"] = json!("Cluster");
    }
    if kind == "LoadBalancer" {
        fill::nil(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = object.pointer_mut("/status/loadBalancer") {
            for ingress in fill::items(balancer, "ingress") {
                if ingress.get("ip").is_some_and(|ip| !fill::is_zero(ip)) {
                    fill::nil(ingress, "ipMode", "VIP");
                }
            }
        }
    }
}
