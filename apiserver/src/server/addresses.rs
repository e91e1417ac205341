//! Repair of cluster addresses: every Service has its IPAddress objects, and no address outlives its Service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use knarr_storage::{Durability, Error, Expect, Range, Revision};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cache::Selection;
use crate::object;
use crate::objects::{Objects, Resource};
use crate::registry::Registry;
use crate::resources::addresses::{MANAGER, MANAGER_LABEL, claim_object, key};
use crate::stored;

/// As often as upstream's repair loop.
const INTERVAL: Duration = Duration::from_secs(180);
/// Where addresses were claimed before they were objects.
const FORMER_CLAIMS: &str = "/registry/ranges/serviceips/";

/// Runs until stopped.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    if let Err(error) = drop_former_claims(&registry).await {
        tracing::warn!(%error, "claims of an older version could not be deleted");
    }
    loop {
        if let Err(error) = repair(&registry).await {
            tracing::warn!(%error, "cluster addresses could not be checked");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn drop_former_claims(registry: &Registry) -> Result<(), Error> {
    let range = Range { prefix: FORMER_CLAIMS.to_owned(), ..Range::default() };
    for kv in registry.store.range(range).await?.items {
        registry.store.delete(&kv.key, Expect::At(kv.mod_revision), Durability::Batched).await?;
    }
    Ok(())
}

/// One round over all Services and addresses.
pub async fn repair(registry: &Registry) -> Result<(), Error> {
    let catalogue = registry.catalogue();
    let storage =
        catalogue.preferred("networking.k8s.io", "ipaddresses").and_then(|known| known.stored()).cloned();
    drop(catalogue);
    let Some(storage) = storage else { return Ok(()) };
    // Addresses first: a Service that is deleted after they were read is looked for again below.
    let known = storage.cache.snapshot(&Selection::all(), 0).entries;
    let objects: &dyn Objects = registry;
    let mut held: HashMap<String, (String, String)> = HashMap::new();
    for stored in objects.list(Resource::core("services"), None) {
        let Ok(service) = serde_json::from_slice::<Value>(&stored.json) else { continue };
        let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for ip in ips.filter(|ip| !matches!(*ip, "" | "None")) {
            held.insert(ip.to_owned(), (stored.namespace.to_string(), stored.name.to_string()));
        }
    }
    for (ip, (namespace, name)) in &held {
        if !known.iter().any(|entry| entry.name() == ip) {
            let (key, object) = (key(ip), claim_object(registry, ip, namespace, name));
            // A conflict means that it came into being meanwhile.
            let put = registry.store.put(&key, stored::encode(&object), Expect::Absent, Durability::Durable);
            put.await?;
        }
    }
    for entry in known {
        let managed =
            entry.labels.iter().any(|(label, value)| &**label == MANAGER_LABEL && &**value == MANAGER);
        if managed && !held.contains_key(entry.name()) && is_orphan(registry, &entry.stored).await {
            tracing::info!(ip = entry.name(), "the address of a Service that is gone is given back");
            let expect = Expect::At(Revision(entry.revision()));
            registry.store.delete(entry.key(), expect, Durability::Durable).await?;
        }
    }
    Ok(())
}

/// Whether the address's Service does not exist, or has other addresses. A new claim's Service may be on its way, so
/// claims of the last minute are left alone.
async fn is_orphan(registry: &Registry, stored: &stored::Stored) -> bool {
    const GRACE_SECONDS: i64 = 60;
    let Ok(object) = stored.to_value() else { return false };
    let created =
        object["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let is_new = created.is_none_or(|t| registry.clock.now().as_second() - t.as_second() < GRACE_SECONDS);
    if is_new {
        return false;
    }
    let parent = &object["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default();
    let objects: &dyn Objects = registry;
    let found = objects.get_live(Resource::core("services"), text("namespace"), text("name")).await;
    match found {
        Ok(None) => true,
        Ok(Some(service)) => serde_json::from_slice::<Value>(&service.json).is_ok_and(|service| {
            let ips = service["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
            !ips.iter().any(|ip| *ip == object::name(&object))
        }),
        Err(_) => false,
    }
}
