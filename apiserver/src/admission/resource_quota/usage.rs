//! What an object counts for.

use knarr_api::quantity::{Format, Quantity};
use serde_json::Value;

use crate::admission::pod::{items, text};
use crate::admission::pod_resources::{Resources, Side, of_pod, resources};
use crate::admission::{Attributes, Operation};

/// The kinds that count for more than their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pod,
    Service,
    Claim,
    Other,
}

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";

impl Kind {
    /// The kind, if this write may change what is used.
    pub fn of(attributes: &Attributes) -> Option<Self> {
        let create = attributes.operation == Operation::Create;
        let whole = attributes.subresource.is_empty();
        let is = |plural| attributes.is_resource("", plural);
        if is("pods") {
            let resize = attributes.subresource == "resize";
            let deadline = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].is_number();
            let changes_scope = attributes
                .object
                .as_ref()
                .zip(attributes.old_object.as_deref())
                .is_some_and(|(new, old)| deadline(new) != deadline(old));
            return ((whole && (create || changes_scope)) || resize).then_some(Self::Pod);
        }
        match () {
            () if !whole || is("resourcequotas") || is("events") => None,
            () if is("services") => Some(Self::Service),
            () if is("persistentvolumeclaims") => Some(Self::Claim),
            () => create.then_some(Self::Other),
        }
    }

    /// Whether a quota on this name is about such objects even when an object uses none of it.
    pub fn counts(self, name: &str) -> bool {
        match self {
            Self::Pod => {
                matches!(
                    name,
                    "pods"
                        | "count/pods"
                        | "cpu"
                        | "memory"
                        | "ephemeral-storage"
                        | "requests.cpu"
                        | "requests.memory"
                        | "requests.ephemeral-storage"
                        | "limits.cpu"
                        | "limits.memory"
                        | "limits.ephemeral-storage"
                ) || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || (name.starts_with("requests.") && name.contains('/'))
            }
            Self::Service => name.starts_with("services") || name == "count/services",
            Self::Claim => {
                matches!(name, "persistentvolumeclaims" | "requests.storage" | "count/persistentvolumeclaims")
                    || name.contains(CLASS_SUFFIX)
            }
            Self::Other => false,
        }
    }
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// What the object uses, by the names that quotas have for it.
pub fn usage(kind: Kind, attributes: &Attributes, object: &Value) -> Resources {
    let (group, plural) = (attributes.resource.group.as_ref(), attributes.resource.resource.as_ref());
    let dot = if group.is_empty() { "" } else { "." };
    let mut used = Resources::from([(format!("count/{plural}{dot}{group}"), number(1))]);
    match kind {
        Kind::Pod => pod(object, &mut used),
        Kind::Service => service(object, &mut used),
        Kind::Claim => claim(object, &mut used),
        Kind::Other
            if matches!((group, plural), ("", "configmaps" | "secrets" | "replicationcontrollers")) =>
        {
            used.insert(plural.to_owned(), number(1));
        }
        Kind::Other => {}
    }
    used
}

fn pod(pod: &Value, used: &mut Resources) {
    // A pod that has ended only exists.
    if matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded") {
        return;
    }
    used.insert("pods".into(), number(1));
    for (name, amount) in of_pod(pod, Side::Requests) {
        let plain =
            matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        used.insert(format!("requests.{name}"), amount.clone());
        if plain {
            used.insert(name, amount);
        }
    }
    for (name, amount) in of_pod(pod, Side::Limits) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), amount);
        }
    }
}

fn service(service: &Value, used: &mut Resources) {
    let spec = &service["spec"];
    let ports = items(&spec["ports"]).count();
    let balanced = spec["type"] == "LoadBalancer";
    let node_ports = match text(&spec["type"]) {
        "NodePort" => ports,
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            items(&spec["ports"]).filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0).count()
        }
        "LoadBalancer" => ports,
        _ => 0,
    };
    used.insert("services".into(), number(1));
    used.insert("services.nodeports".into(), number(node_ports));
    used.insert("services.loadbalancers".into(), number(usize::from(balanced)));
}

fn claim(claim: &Value, used: &mut Resources) {
    let storage = resources(&claim["spec"]["resources"]["requests"]).remove("storage");
    let legacy = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = legacy.unwrap_or(text(&claim["spec"]["storageClassName"]));
    used.insert("persistentvolumeclaims".into(), number(1));
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"), number(1));
    }
    if let Some(storage) = storage {
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), storage.clone());
        }
        used.insert("requests.storage".into(), storage);
    }
}
