//! The Service `kubernetes`, by which pods find this server. It is put back when somebody deletes or empties it.

use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::Settings;
use super::reconcile::{Item, Verdict, apply, leave, merge_missing};
use crate::loopback::Loopback;
use crate::objects::{Change, Objects, Resource};

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT: u16 = 443;
/// How long until a failed repair is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) fn items(settings: &Settings) -> Vec<Item> {
    let mut items = vec![service(settings)];
    // A machine without a network has no address that pods could reach, and endpoints take no loopback address.
    if !settings.advertise_address.is_loopback() {
        items.extend([endpoints(settings), endpoint_slice(settings)]);
    }
    items
}

fn service(settings: &Settings) -> Item {
    Item {
        collection: "/api/v1/namespaces/default/services".into(),
        object: json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"provider": "kubernetes", "component": "apiserver"},
            },
            "spec": {
                "ports": [{"name": "https", "protocol": "TCP", "port": PORT, "targetPort": settings.secure_port}],
                "clusterIP": settings.service_ip.to_string(),
                "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
        }),
        exists: leave,
    }
}

fn endpoints(settings: &Settings) -> Item {
    Item {
        collection: "/api/v1/namespaces/default/endpoints".into(),
        object: json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": [{"ip": settings.advertise_address.to_string()}],
                "ports": [{"name": "https", "port": settings.secure_port, "protocol": "TCP"}],
            }],
        }),
        exists: |existing, wanted| put_back(existing, wanted, &["subsets"]),
    }
}

fn endpoint_slice(settings: &Settings) -> Item {
    let family = match settings.advertise_address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    Item {
        collection: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".into(),
        object: json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": NAME},
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [settings.advertise_address.to_string()],
                "conditions": {"ready": true},
            }],
            "ports": [{"name": "https", "port": settings.secure_port, "protocol": "TCP"}],
        }),
        exists: |existing, wanted| match existing["addressType"] == wanted["addressType"] {
            true => put_back(existing, wanted, &["endpoints", "ports"]),
            // An address type cannot change.
            false => Verdict::Recreate,
        },
    }
}

/// Puts fields and labels back to what they should be.
fn put_back(existing: &Value, wanted: &Value, fields: &[&str]) -> Verdict {
    let mut object = existing.clone();
    for field in fields {
        object[*field] = wanted[*field].clone();
    }
    merge_missing(&mut object, wanted, "labels");
    if object == *existing { Verdict::Leave } else { Verdict::Update(object) }
}

/// Watches over the three objects.
pub struct KubernetesService {
    pub loopback: Loopback,
    pub objects: Arc<dyn Objects>,
    pub settings: Settings,
}

impl KubernetesService {
    /// Repairs the objects whenever one of them changes, until dropped.
    pub async fn run(&self) {
        let items = items(&self.settings);
        let resources = [
            Resource::core("services"),
            Resource::core("endpoints"),
            Resource::new("discovery.k8s.io", "endpointslices"),
        ];
        let watched = resources.into_iter().enumerate().map(|(index, resource)| {
            let changes = self.objects.watch(resource);
            changes.filter_map(move |change| async move { concerns(&change).then_some(index) }).boxed()
        });
        let mut changes = stream::select_all(watched);
        while let Some(index) = changes.next().await {
            let Some(item) = items.get(index) else { continue };
            while let Err(status) = apply(&self.loopback, item).await {
                tracing::warn!(path = item.path(), %status, "the kubernetes service could not be repaired");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn concerns(change: &Change) -> bool {
    match change {
        Change::Set(stored) | Change::Removed(stored) => {
            &*stored.name == NAME && &*stored.namespace == NAMESPACE
        }
        Change::Restart | Change::Synced => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptied_endpoints_are_put_back_and_the_rest_is_left() {
        let wanted =
            json!({"metadata": {"labels": {"l": "1"}}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]});
        let mut stored = wanted.clone();
        stored["metadata"]["uid"] = "u".into();
        assert!(matches!(put_back(&stored, &wanted, &["subsets"]), Verdict::Leave));
        stored["subsets"] = json!([]);
        let Verdict::Update(updated) = put_back(&stored, &wanted, &["subsets"]) else {
            panic!("not put back")
        };
        assert_eq!(updated["subsets"], wanted["subsets"]);
        assert_eq!(updated["metadata"]["uid"], "u");
    }
}
