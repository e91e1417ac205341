//! Namespaces, priority classes, the service range and what aggregated servers must know.

use serde_json::{Value, json};

use super::Settings;
use super::reconcile::{Item, Verdict, leave};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) fn namespaces() -> Vec<Item> {
    let item = |name: &str| Item {
        collection: "/api/v1/namespaces".into(),
        object: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        exists: leave,
    };
    NAMESPACES.map(item).into()
}

pub(super) fn cluster_wide(settings: &Settings) -> Vec<Item> {
    let mut items: Vec<Item> = priority_classes().into();
    items.push(Item {
        collection: "/apis/networking.k8s.io/v1/servicecidrs".into(),
        object: json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": settings.service_cidrs},
        }),
        exists: leave,
    });
    items.push(Item {
        collection: "/api/v1/namespaces/kube-system/configmaps".into(),
        object: json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": authentication(settings),
        }),
        exists: put_back_data,
    });
    items
}

fn priority_classes() -> [Item; 2] {
    let classes = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    classes.map(|(name, value, description)| Item {
        collection: "/apis/scheduling.k8s.io/v1/priorityclasses".into(),
        object: json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        }),
        exists: leave,
    })
}

/// How aggregated servers recognise users: by our client authority, and by our front proxy's headers.
fn authentication(settings: &Settings) -> Value {
    let list = |names: &[String]| Value::from(json!(names).to_string());
    let headers = &settings.front_proxy_headers;
    json!({
        "client-ca-file": settings.client_ca_pem,
        "requestheader-client-ca-file": settings.front_proxy_ca_pem,
        "requestheader-username-headers": list(&headers.username),
        "requestheader-uid-headers": list(&headers.uid),
        "requestheader-group-headers": list(&headers.group),
        "requestheader-extra-headers-prefix": list(&headers.extra_prefix),
        "requestheader-allowed-names": list(&headers.allowed_names),
    })
}

fn put_back_data(existing: &Value, wanted: &Value) -> Verdict {
    if existing["data"] == wanted["data"] {
        return Verdict::Leave;
    }
    let mut object = existing.clone();
    object["data"] = wanted["data"].clone();
    Verdict::Update(object)
}
