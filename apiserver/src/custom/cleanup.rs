//! The end of a definition: its instances go first, each with its finalizers.

use std::sync::Arc;

use knarr_api::status::{Status, reason};
use knarr_storage::{Expect, Outcome};

use super::definition::{Definition, FINALIZER};
use super::{GROUP, RESOURCE};
use crate::cache::Selection;
use crate::catalogue::Resource;
use crate::context::RequestContext;
use crate::object;
use crate::registry::{DeleteOptions, Registry, store_failure};
use crate::request_info::RequestInfo;
use crate::stored::{self, Stored};
use crate::user::UserInfo;

/// Deletes all instances, waits for the last to go, and lets the definition go.
pub async fn run(registry: &Arc<Registry>, definition: &Definition) {
    let spec = &definition.spec;
    loop {
        let served = registry.catalogue().preferred(&spec.group, &spec.names.plural).cloned();
        let Some(resource) = served else { break };
        match empty(registry, &resource).await {
            Ok(Left::Nothing) => break,
            Ok(Left::Unknown) => {}
            Err(status) => {
                tracing::warn!(name = definition.metadata.name, %status, "instances could not be deleted");
                return;
            }
        }
    }
    if let Err(status) = release(registry, &definition.metadata.name).await {
        tracing::warn!(name = definition.metadata.name, %status, "a definition could not be let go");
    }
}

/// What there is after the instances were deleted.
enum Left {
    Nothing,
    /// The watch for the last of them ended, because the definition or the connection to the store changed.
    Unknown,
}

async fn empty(registry: &Arc<Registry>, resource: &Arc<Resource>) -> Result<Left, Status> {
    let Some(storage) = resource.stored() else { return Ok(Left::Nothing) };
    let now = registry.catch_up().await?;
    let (snapshot, mut subscription) = storage.cache.watch_from_now(Selection::all().into(), now, false);
    for entry in &snapshot.entries {
        let cx = context(registry, resource, entry.namespace(), entry.name());
        match registry.delete(&cx, storage, entry.name(), &DeleteOptions::default()).await {
            Ok(_) => {}
            Err(status) if status.is(reason::NOT_FOUND) => {}
            Err(status) => return Err(status),
        }
    }
    while !storage.cache.is_empty() {
        if subscription.events.recv().await.is_none() {
            return Ok(Left::Unknown);
        }
    }
    Ok(Left::Nothing)
}

fn context(
    registry: &Arc<Registry>,
    resource: &Arc<Resource>,
    namespace: &str,
    name: &str,
) -> RequestContext {
    let info = RequestInfo {
        is_resource: true,
        verb: "delete".into(),
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        resource: resource.name.to_string(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        parts: vec![resource.name.to_string(), name.to_owned()],
        ..RequestInfo::default()
    };
    RequestContext {
        registry: registry.clone(),
        resource: resource.clone(),
        info: Arc::new(info),
        user: Arc::new(UserInfo::loopback()),
        remarks: Arc::default(),
        query: Arc::default(),
        dry_run: false,
        manager: "kube-apiserver".into(),
    }
}

/// Takes the finalizer off the definition, and with the last one the definition.
async fn release(registry: &Registry, name: &str) -> Result<(), Status> {
    let definitions = registry.catalogue().preferred(GROUP, RESOURCE).and_then(|r| r.stored()).cloned();
    let storage = definitions.ok_or_else(Status::path_not_found)?;
    let key = storage.key("", name);
    loop {
        let (Some(kv), _) = registry.store.get(&key).await.map_err(store_failure)? else { return Ok(()) };
        let expect = Expect::At(kv.mod_revision);
        let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
        let mut definition = stored.to_value().map_err(Status::internal)?;
        let kept: Vec<String> = object::finalizers(&definition)
            .into_iter()
            .filter(|f| *f != FINALIZER)
            .map(str::to_owned)
            .collect();
        let last = kept.is_empty();
        object::set_finalizers(&mut definition, kept);
        let written = if last {
            registry.store.delete(&key, expect, storage.rules.durability).await
        } else {
            registry.store.put(&key, stored::encode(&definition), expect, storage.rules.durability).await
        };
        if matches!(written.map_err(store_failure)?, Outcome::Committed(_)) {
            return Ok(());
        }
    }
}
