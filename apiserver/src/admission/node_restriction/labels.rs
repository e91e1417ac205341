//! The labels a node may give itself: those that cannot draw other people's pods to it.

use std::collections::BTreeSet;

use serde_json::Value;

const ALLOWED: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const ALLOWED_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// The labels that differ and are not the node's to change, sorted.
pub fn forbidden<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let keys = |labels: &'a Value| labels.as_object().into_iter().flat_map(|labels| labels.keys());
    let changed: BTreeSet<&str> =
        keys(new).chain(keys(old)).filter(|key| new.get(*key) != old.get(*key)).map(String::as_str).collect();
    changed.into_iter().filter(|key| !is_allowed(key)).collect()
}

fn within(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
}

fn is_allowed(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    if within(domain, RESTRICTED_DOMAIN) {
        return false;
    }
    let kubernetes = within(domain, "kubernetes.io") || within(domain, "k8s.io");
    !kubernetes || ALLOWED.contains(&key) || ALLOWED_DOMAINS.iter().any(|allowed| within(domain, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_changed_labels_of_foreign_domains_are_forbidden() {
        let new = json!({
            "example.com/x": "1",
            "kubernetes.io/hostname": "n",
            "a.node.kubernetes.io/x": "1",
            "node-role.kubernetes.io/control-plane": "",
            "x.node-restriction.kubernetes.io/team": "a",
            "k8s.io/same": "1",
        });
        assert_eq!(
            forbidden(&new, &json!({"k8s.io/same": "1", "k8s.io/gone": "1"})),
            ["k8s.io/gone", "node-role.kubernetes.io/control-plane", "x.node-restriction.kubernetes.io/team"]
        );
    }
}
