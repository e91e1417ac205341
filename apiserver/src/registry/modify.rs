//! Changing an object for the server's own purposes: no admission, no strategy, only compare and swap.

use knarr_api::status::Status;
use knarr_storage::{Expect, Outcome};
use serde_json::Value;

use super::{Registry, Written, store_failure};
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::stored::{self, Stored};

impl Registry {
    /// Reads the object, lets `change` change it, and writes it; again if another writer was faster. What the
    /// request is for has been admitted and checked before.
    pub async fn modify(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        name: &str,
        change: impl Fn(&mut Value) -> Result<(), Status>,
    ) -> Result<Written, Status> {
        if cx.dry_run {
            let found = self.get(storage, cx.namespace(), name).await?;
            let stored = found.ok_or_else(|| Status::not_found(&storage.group, &storage.resource, name))?;
            let mut object = stored.to_value().map_err(Status::internal)?;
            change(&mut object)?;
            return Ok(Written { object, stored: None });
        }
        self.modify_at(storage, cx.namespace(), name, change).await
    }

    /// The same for what no request asked for.
    pub async fn modify_at(
        &self,
        storage: &Storage,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value) -> Result<(), Status>,
    ) -> Result<Written, Status> {
        let key = storage.key(namespace, name);
        loop {
            let (found, _) = self.store.get(&key).await.map_err(store_failure)?;
            let kv = found.ok_or_else(|| Status::not_found(&storage.group, &storage.resource, name))?;
            let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
            let mut object = stored.to_value().map_err(Status::internal)?;
            change(&mut object)?;
            let expect = Expect::At(kv.mod_revision);
            let put = self.store.put(&key, stored::encode(&object), expect, storage.rules.durability);
            if let Outcome::Committed(kv) = put.await.map_err(store_failure)? {
                let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
                return Ok(Written::new(object, stored));
            }
        }
    }
}
