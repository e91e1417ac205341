//! Reading other objects while admitting one.

use std::sync::Arc;

use knarr_api::status::Status;
use serde::de::DeserializeOwned;

use crate::objects::{Objects, Resource};

/// Reads objects as the type a plugin wants to see of them.
#[derive(Clone)]
pub struct Lookup(pub Arc<dyn Objects>);

impl Lookup {
    /// The object as the watch cache has it.
    pub fn cached<T: DeserializeOwned>(
        &self,
        resource: Resource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Status> {
        self.0.get(resource, namespace, name).map(|stored| parse(resource, name, &stored.json)).transpose()
    }

    /// The object as the cache has it, or as the store has it when the cache has not: it may be brand-new.
    pub async fn get<T: DeserializeOwned>(
        &self,
        resource: Resource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Status> {
        match self.cached(resource, namespace, name)? {
            Some(found) => Ok(Some(found)),
            None => self.live(resource, namespace, name).await,
        }
    }

    /// The object as the store has it now.
    pub async fn live<T: DeserializeOwned>(
        &self,
        resource: Resource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Status> {
        let stored = self.0.get_live(resource, namespace, name).await.map_err(Status::internal)?;
        stored.map(|stored| parse(resource, name, &stored.json)).transpose()
    }

    /// Every object of a namespace, or of all.
    pub fn list<T: DeserializeOwned>(
        &self,
        resource: Resource<'_>,
        namespace: Option<&str>,
    ) -> Result<Vec<T>, Status> {
        let stored = self.0.list(resource, namespace);
        stored.iter().map(|stored| parse(resource, &stored.name, &stored.json)).collect()
    }
}

fn parse<T: DeserializeOwned>(resource: Resource<'_>, name: &str, json: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(json)
        .map_err(|error| Status::internal(format!("{} {name:?} does not parse: {error}", resource.plural)))
}
