//! An APIService for every group and version that this server serves itself, kept by the server: clients that look
//! there see what is served, and by whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use knarr_api::resources;
use knarr_api::status::Status;
use knarr_storage::{Expect, Outcome, Revision};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cache::Selection;
use crate::catalogue::Storage;
use crate::object;
use crate::registry::{Registry, store_failure};
use crate::resources::local_condition;
use crate::stored;

const GROUP: &str = "apiregistration.k8s.io";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Priorities of groups that are defined by custom resources.
const CUSTOM_GROUP_PRIORITY: i32 = 1000;
const CUSTOM_VERSION_PRIORITY: i32 = 100;

/// Follows the catalogue until stopped.
pub async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    let mut changes = registry.catalogue_changes();
    loop {
        changes.borrow_and_update();
        settle(&registry).await;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Brings the APIServices in line with the catalogue. A failure is told; the next change tries again.
pub async fn settle(registry: &Registry) {
    if let Err(status) = reconcile(registry).await {
        tracing::warn!(%status, "the APIServices could not be brought up to date");
    }
}

async fn reconcile(registry: &Registry) -> Result<(), Status> {
    let catalogue = registry.catalogue();
    let Some(storage) = catalogue.preferred(GROUP, "apiservices").and_then(|known| known.stored()).cloned()
    else {
        return Ok(());
    };
    let served = catalogue.groups.iter().flat_map(|group| {
        group
            .versions
            .iter()
            .map(move |version| (format!("{}.{}", version.name, group.name), (group, version)))
    });
    let wanted: BTreeMap<String, Value> = served
        .map(|(name, (group, version))| {
            let object = service(registry, &name, &group.name, &version.name);
            (name, object)
        })
        .collect();
    drop(catalogue);
    let now = registry.catch_up().await?;
    let known = storage.cache.snapshot(&Selection::all(), now).entries;
    let missing = wanted.iter().filter(|(name, _)| !known.iter().any(|entry| entry.name() == name.as_str()));
    let created = join_all(missing.map(|(_, object)| create(registry, &storage, object))).await;
    created.into_iter().collect::<Result<(), Status>>()?;
    for entry in &known {
        let managed = entry.labels.iter().any(|(key, value)| &**key == MANAGED && &**value == "true");
        if managed && !wanted.contains_key(entry.name()) {
            let expect = Expect::At(Revision(entry.revision()));
            registry
                .store
                .delete(entry.key(), expect, storage.rules.durability)
                .await
                .map_err(store_failure)?;
        }
    }
    Ok(())
}

async fn create(registry: &Registry, storage: &Storage, object: &Value) -> Result<(), Status> {
    let key = storage.key("", object::name(object));
    let put = registry.store.put(&key, stored::encode(object), Expect::Absent, storage.rules.durability);
    match put.await.map_err(store_failure)? {
        // Another server on the same store was faster.
        Outcome::Committed(_) | Outcome::Conflict(_) => Ok(()),
    }
}

fn service(registry: &Registry, name: &str, group: &str, version: &str) -> Value {
    let builtin = resources::group(group);
    let (group_priority, version_priority) = match builtin {
        Some(known) => (known.priority(), known.version_priority(version)),
        None => (CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY),
    };
    let managed = if builtin.is_some() { "onstart" } else { "true" };
    let now = object::now(&*registry.clock);
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": group_priority,
        "versionPriority": version_priority,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "kind": "APIService",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": name,
            "uid": object::new_uid(&*registry.random),
            "creationTimestamp": now,
            "labels": {MANAGED: managed},
        },
        "spec": spec,
        "status": {"conditions": [local_condition(&now)]},
    })
}
