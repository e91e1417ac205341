//! Nodes and what they run containers with.

use std::collections::BTreeSet;

use super::super::Cell;
use super::super::view::{join, or_none};
use super::View;

pub(super) fn cells(object: View<'_>) -> Vec<Cell<'_>> {
    let mut status = match object.condition("status.conditions", "Ready") {
        Some(ready) if ready.str("status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.bool("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let info = object.at("status.nodeInfo");
    let mut kernel = info.str_or("kernelVersion", "<unknown>").to_owned();
    if !info.str("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info.str("architecture"));
    }
    vec![
        object.name(),
        status.into(),
        roles(object).into(),
        object.age(),
        info.str("kubeletVersion").into(),
        address(object, "InternalIP").into(),
        address(object, "ExternalIP").into(),
        info.str_or("osImage", "<unknown>").into(),
        kernel.into(),
        info.str_or("containerRuntimeVersion", "<unknown>").into(),
    ]
}

fn roles(node: View<'_>) -> String {
    let labels = node.fields("metadata.labels").into_iter().flatten();
    let role = |(key, value): (&'_ String, &'_ serde_json::Value)| match key
        .strip_prefix("node-role.kubernetes.io/")
    {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    or_none(join(roles, ","))
}

fn address<'a>(node: View<'a>, kind: &str) -> &'a str {
    let found = node.items("status.addresses").find(|address| address.str("type") == kind);
    found.map_or("<none>", |address| address.str("address"))
}

pub(super) fn runtime_class(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("handler").into(), object.age()]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_shows_status_and_roles() {
        let node = json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kernelVersion": "6.1", "architecture": "amd64"},
            },
        });
        let cells = serde_json::to_value(cells(View::new(&node, Timestamp::UNIX_EPOCH))).expect("plain data");
        assert_eq!(
            cells,
            json!([
                "n",
                "NotReady,SchedulingDisabled",
                "edge,worker",
                "<unknown>",
                "",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "6.1 (amd64)",
                "<unknown>"
            ])
        );
    }
}
