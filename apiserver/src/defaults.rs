//! Defaults: those the schema declares, then those a kind's strategy fills in.

use serde_json::Value;

use crate::catalogue::Storage;

/// Completes an object in the storage version.
pub fn apply(storage: &Storage, object: &mut Value) {
    if let Some(schema) = &storage.schema {
        knarr_api::defaults::apply(object, schema);
    }
    storage.strategy.set_defaults(object);
}
