//! Server-side apply: who set which field, and merging what is applied with what others set.
//!
//! Ownership is kept in `metadata.managedFields`, one entry per manager, operation, version and subresource; each
//! holds a [`Set`] of field paths. [`FieldManager`] keeps them right on every write: [`FieldManager::update`] for
//! create, update and the other patches, [`FieldManager::apply`] for apply patches.
//!
//! Below that: [`PathElement`] and [`Set`] are paths and sets of them, `schema` says which values merge and which
//! are replaced as a whole, and one file each walks values by that schema (validate, merge, compare, remove,
//! collect).

mod compare;
mod configuration;
mod conflict;
mod element;
mod entries;
mod field_manager;
mod last_applied;
mod merge;
mod reconcile;
mod remove;
mod schema;
mod set;
mod timestamps;
mod to_set;
mod updater;
mod validate;
mod value;
mod zero;

pub use configuration::merge_configuration;
pub use element::{PathElement, PathElementError};
pub use field_manager::{ApplyError, Converter, FieldManager, Filter, OneVersion, ResetFields};
pub use set::Set;
pub use timestamps::keep_timestamps_of_unchanged;

/// The annotation client-side apply keeps its last configuration in.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
