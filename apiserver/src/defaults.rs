//! Defaults: those the schema declares, then those a kind's strategy fills in.

use serde_json::Value;

use crate::catalogue::Storage;

/// Completes an object in the storage version.
pub fn apply(storage: &Storage, object: &mut Value) {
    storage.strategy.set_defaults(object);
}
