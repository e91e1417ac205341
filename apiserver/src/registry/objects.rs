//! What authentication, authorization and admission read of other objects, answered from the watch cache.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use knarr_api::gvk::GroupVersionKind;
use knarr_api::status::Status;
use serde_json::Value;

use super::Registry;
use crate::cache::{Delivery, Entry, EventType, Selection, Subscription};
use crate::catalogue::{self, Storage};
use crate::objects::{Change, Described, Error, Objects, Resource, Stored};

/// A pause before a watch that was cut off begins anew.
const RESTART: Duration = Duration::from_millis(100);

fn show(entry: &Entry) -> Stored {
    Stored { namespace: entry.namespace().into(), name: entry.name().into(), json: entry.stored.to_bytes() }
}

fn describe(served: &catalogue::Resource) -> Described {
    let schema = match (&served.schema, &served.custom) {
        (Some(schema), _) => Some(schema.clone()),
        (None, Some(custom)) => Some(custom.structural.to_type(&GroupVersionKind::new(
            served.group.clone(),
            served.version.clone(),
            served.kind.clone(),
        ))),
        (None, None) => None,
    };
    Described {
        plural: served.name.to_string(),
        kind: served.kind.to_string(),
        namespaced: served.namespaced,
        schema,
    }
}

impl Registry {
    fn storage_of(&self, resource: Resource<'_>) -> Option<Arc<Storage>> {
        self.catalogue().preferred(resource.group, resource.plural)?.stored().cloned()
    }
}

#[async_trait]
impl Objects for Registry {
    fn get(&self, resource: Resource<'_>, namespace: &str, name: &str) -> Option<Stored> {
        let storage = self.storage_of(resource)?;
        storage.cache.get(&storage.key(namespace, name)).map(|entry| show(&entry))
    }

    fn list(&self, resource: Resource<'_>, namespace: Option<&str>) -> Vec<Stored> {
        let Some(storage) = self.storage_of(resource) else { return Vec::new() };
        let selection = Selection {
            namespace: namespace.unwrap_or_default().into(),
            cluster_scoped: !storage.namespaced,
            ..Selection::all()
        };
        storage.cache.snapshot(&selection, 0).entries.iter().map(|entry| show(entry)).collect()
    }

    async fn get_live(
        &self,
        resource: Resource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Stored>, Error> {
        let Some(storage) = self.storage_of(resource) else { return Ok(None) };
        let found =
            Registry::get(self, &storage, namespace, name).await.map_err(|status| Error::Unavailable {
                resource: resource.plural.to_owned(),
                name: name.to_owned(),
                cause: status.message,
            })?;
        Ok(found.map(|stored| Stored {
            namespace: namespace.into(),
            name: name.into(),
            json: stored.to_bytes(),
        }))
    }

    fn complete(&self, resource: Resource<'_>, object: &mut Value) -> Result<(), String> {
        let Some(storage) = self.storage_of(resource) else { return Ok(()) };
        let catalogue = self.catalogue();
        let stored = catalogue.resource(&storage.group, &storage.version, &storage.resource);
        if let Some(custom) = stored.and_then(|stored| stored.custom.as_ref()) {
            custom.clean(object)?;
        }
        crate::defaults::apply(&storage, object);
        Ok(())
    }

    fn versions(&self, resource: Resource<'_>) -> Vec<String> {
        let catalogue = self.catalogue();
        let versions =
            catalogue.group(resource.group).map(|group| group.versions.as_slice()).unwrap_or_default();
        let serving = versions.iter().filter(|version| version.resources.contains_key(resource.plural));
        serving.map(|version| version.name.to_string()).collect()
    }

    fn described(&self, resource: Resource<'_>, version: &str) -> Option<Described> {
        self.catalogue().resource(resource.group, version, resource.plural).map(|served| describe(served))
    }

    fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Described> {
        let catalogue = self.catalogue();
        let mut resources = catalogue.version(group, version)?.resources.values();
        resources
            .find(|served| served.kind == kind && served.stored().is_some())
            .map(|served| describe(served))
    }

    async fn convert(&self, resource: Resource<'_>, version: &str, object: Value) -> Result<Value, Status> {
        let catalogue = Arc::clone(&self.catalogue());
        let own = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let served = |version: &str| catalogue.resource(resource.group, version, resource.plural).cloned();
        let Some(wanted) = served(version) else { return Ok(object) };
        let Some(storage) = wanted.stored().filter(|_| own != wanted.api_version()) else {
            return Ok(object);
        };
        let stored = match served(own.rsplit('/').next().unwrap_or_default()) {
            Some(from) if own != storage.api_version() => {
                crate::conversion::to_stored(&from, storage, object).await?
            }
            _ => object,
        };
        crate::conversion::to_served(&wanted, stored).await
    }

    fn watch(&self, resource: Resource<'_>) -> BoxStream<'static, Change> {
        let (catalogue, mut changes) = (self.catalogue.clone(), self.catalogue_changes());
        let (group, plural) = (resource.group.to_owned(), resource.plural.to_owned());
        let served = async move {
            loop {
                changes.borrow_and_update();
                let known = catalogue.load();
                if let Some(storage) = known.preferred(&group, &plural).and_then(|resource| resource.stored())
                {
                    return Some(storage.clone());
                }
                drop(known);
                // The sender goes with the server.
                changes.changed().await.ok()?;
            }
        };
        stream::once(served).flat_map(|storage| stream::iter(storage).flat_map(follow)).boxed()
    }
}

/// Each turn is one watch of the cache; it ends when the cache lost history, and the next begins anew.
fn follow(storage: Arc<Storage>) -> impl stream::Stream<Item = Change> + Send {
    stream::unfold(None::<Subscription>, move |running| {
        let storage = storage.clone();
        async move {
            let Some(mut subscription) = running else { return Some(begin(&storage)) };
            Some(match subscription.events.recv().await {
                Some(delivery) => (changes(delivery), Some(subscription)),
                None => {
                    // The server stops, or the cache reads everything again: not to be spun on.
                    tokio::time::sleep(RESTART).await;
                    begin(&storage)
                }
            })
        }
    })
    .flat_map(stream::iter)
}

fn begin(storage: &Storage) -> (Vec<Change>, Option<Subscription>) {
    let (snapshot, subscription) = storage.cache.watch_from_now(Selection::all().into(), 0, false);
    let objects = snapshot.entries.iter().map(|entry| Change::Set(show(entry)));
    let changes = std::iter::once(Change::Restart).chain(objects).chain([Change::Synced]).collect();
    (changes, Some(subscription))
}

fn changes(delivery: Delivery) -> Vec<Change> {
    let Delivery::Event(kind, event) = delivery else { return Vec::new() };
    let Some(entry) = event.subject() else { return Vec::new() };
    let shown = show(entry);
    vec![if kind == EventType::Deleted { Change::Removed(shown) } else { Change::Set(shown) }]
}
