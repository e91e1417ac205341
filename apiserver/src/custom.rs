//! Custom resources: definitions are accepted, established, served, and at their end emptied.
//!
//! One task follows the definitions. Whatever it decides about one (names, conditions) it writes into its status;
//! what is established it puts into the catalogue, from which routes, discovery and OpenAPI follow. Custom resources
//! are then served by the same verbs and the same registry as built-in ones, with a strategy made of their schema.

pub(crate) mod approval;
mod cleanup;
mod conversion;
mod definition;
mod names;
mod schema;
mod serve;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Catalogue, Storage};
use crate::objects::{Change, Objects, Resource, Stored};
use crate::registry::Registry;

pub use conversion::Conversion;
pub use definition::{Definition, FINALIZER};
pub use schema::CustomSchema;

pub const GROUP: &str = "apiextensions.k8s.io";
pub const RESOURCE: &str = "customresourcedefinitions";

/// Follows the definitions until stopped.
pub fn start(registry: Arc<Registry>, stop: CancellationToken) {
    let builtin = Catalogue::clone(&registry.catalogue());
    let mut controller = Controller { registry, builtin, known: BTreeMap::new(), stop: stop.clone() };
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = controller.run() => {}
        }
    });
}

struct Controller {
    registry: Arc<Registry>,
    /// What is served without any definition.
    builtin: Catalogue,
    known: BTreeMap<String, Known>,
    stop: CancellationToken,
}

/// A definition as it was seen last.
struct Known {
    definition: Definition,
    /// Present once it is served.
    storage: Option<Arc<Storage>>,
    /// Its instances are being deleted.
    ending: bool,
    /// Not seen again since history was lost.
    stale: bool,
}

impl Controller {
    async fn run(&mut self) {
        let mut changes = Objects::watch(&*self.registry, Resource::new(GROUP, RESOURCE));
        while let Some(change) = changes.next().await {
            match change {
                Change::Restart => self.known.values_mut().for_each(|known| known.stale = true),
                Change::Set(stored) => self.set(&stored).await,
                Change::Removed(stored) => self.remove(&stored.name),
                Change::Synced => self.forget_stale(),
            }
        }
    }

    async fn set(&mut self, stored: &Stored) {
        let definition: Definition = match serde_json::from_slice(&stored.json) {
            Ok(definition) => definition,
            Err(error) => {
                tracing::error!(name = &*stored.name, %error, "a definition of a custom resource cannot be read");
                return;
            }
        };
        if let Err(error) = self.accept(&definition).await {
            tracing::warn!(name = &*stored.name, %error, "the status of a definition could not be written");
        }
        let name = definition.metadata.name.clone();
        let (before, storage, ending) = match self.known.remove(&name) {
            Some(known) => (Some(known.definition), known.storage, known.ending),
            None => (None, None, false),
        };
        // Selectable fields are read from the objects anew, and who watches must see objects by the new schema.
        let anew = before.is_some_and(|before| before.serves_otherwise(&definition));
        let mut known = Known { definition, storage, ending, stale: false };
        let mut replaced = None;
        if known.definition.is_established() {
            match serve::storage(&self.registry, &known.definition, anew).await {
                Ok(storage) => replaced = known.storage.replace(storage).filter(|_| anew),
                Err(error) => tracing::error!(name, %error, "a custom resource cannot be served"),
            }
        }
        if known.definition.is_ending() && !known.ending {
            known.ending = true;
            let (registry, stop) = (self.registry.clone(), self.stop.clone());
            let definition = known.definition.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = cleanup::run(&registry, &definition) => {}
                }
            });
        }
        self.known.insert(name, known);
        self.publish();
        // Only now: who comes back at once must find the new one.
        if let Some(replaced) = replaced {
            replaced.cache.retire();
        }
    }

    /// Writes names and conditions into the status if they are not what they should be.
    async fn accept(&self, definition: &Definition) -> Result<(), knarr_api::status::Status> {
        if definition.is_ending() {
            return Ok(());
        }
        let others = self.known.values().map(|known| &known.definition);
        let taken =
            names::Taken::collect(definition, others.filter(|o| o.metadata.name != definition.metadata.name));
        let now = crate::object::now(&*self.registry.clock);
        let Some(status) = names::status(definition, &taken, &now) else { return Ok(()) };
        let definitions =
            self.registry.catalogue().preferred(GROUP, RESOURCE).and_then(|r| r.stored()).cloned();
        let Some(storage) = definitions else { return Ok(()) };
        let uid = definition.metadata.uid.clone();
        let change = |object: &mut serde_json::Value| {
            // A definition that was replaced meanwhile is looked at when its change arrives.
            if crate::object::uid(object) == uid {
                object["status"] = status.clone();
            }
            Ok(())
        };
        self.registry.modify_at(&storage, "", &definition.metadata.name, change).await.map(drop)
    }

    fn remove(&mut self, name: &str) {
        let removed = self.known.remove(name);
        self.publish();
        if let Some(Known { storage: Some(storage), .. }) = removed {
            self.registry.cache.remove(storage.cache.prefix());
        }
    }

    fn forget_stale(&mut self) {
        let gone: Vec<String> =
            self.known.iter().filter(|(_, known)| known.stale).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.remove(&name);
        }
    }

    fn publish(&self) {
        let served =
            self.known.values().filter_map(|known| Some((&known.definition, known.storage.as_ref()?)));
        self.registry.set_catalogue(serve::catalogue(&self.builtin, served));
    }
}
