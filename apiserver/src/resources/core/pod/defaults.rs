//! What Go code fills into a Pod beyond its spec's own defaults.

use serde_json::Value;

use super::level_resources;
use crate::resources::fill;
use crate::resources::pod_spec;

pub fn set(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    for field in ["containers", "initContainers"] {
        for container in fill::items(spec, field) {
            if let Some(resources) = container.get_mut("resources") {
                fill::entries(resources, "requests", "limits");
            }
        }
    }
    level_resources::set(spec);
    fill::nil(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default() {
        for field in ["containers", "initContainers"] {
            fill::items(spec, field).for_each(host_ports);
        }
    }
    pod_spec::defaults::spec(spec);
}

/// On the host's network a container's port is the host's.
fn host_ports(container: &mut Value) {
    for port in fill::items(container, "ports") {
        let number = port.get("containerPort").cloned().unwrap_or_default();
        fill::zero(port, "hostPort", number);
    }
}
