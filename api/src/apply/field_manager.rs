//! The steps around one write: decode the entries, change them, write them back.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::gvk::GroupVersionKind;
use crate::schema::TypeRef;
use crate::status::Cause;

use super::compare::Comparison;
use super::conflict::Conflicts;
use super::entries::{Managed, Manager, Owned};
use super::schema::Schema;
use super::set::Set;
use super::updater::Updater;
use super::validate::{Duplicates, validate};
use super::zero::zero;
use super::{LAST_APPLIED, last_applied};

/// Most managers with updates an object remembers apart.
const MAX_UPDATE_MANAGERS: usize = 10;

/// Objects of one kind in its versions.
pub trait Converter {
    /// The kind's type in `api_version`; none if that version is not served any more.
    fn type_of(&self, api_version: &str) -> Option<TypeRef>;

    /// `object` in `api_version`; none if that version is not served any more.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// The converter of a kind that has one version.
#[derive(Clone, Debug)]
pub struct OneVersion {
    pub api_version: String,
    pub of: TypeRef,
}

impl Converter for OneVersion {
    fn type_of(&self, api_version: &str) -> Option<TypeRef> {
        (api_version == self.api_version).then(|| self.of.clone())
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        (api_version == self.api_version).then(|| object.clone())
    }
}

/// Which fields a write through an endpoint cannot own because the strategy resets them.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All but these and what is below them: a main resource resets `status`.
    Except(Set),
    /// None but these fields of the object: a status endpoint keeps `status` and some metadata.
    Only(Vec<Box<str>>),
}

/// The filters of an endpoint, by `apiVersion`.
#[derive(Clone, Debug, Default)]
pub struct ResetFields(Vec<(String, Filter)>);

impl ResetFields {
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds the filter of a version.
    pub fn with(mut self, api_version: impl Into<String>, filter: Filter) -> Self {
        self.0.push((api_version.into(), filter));
        self
    }

    pub(super) fn filter(&self, api_version: &str, set: Set) -> Set {
        match self.0.iter().find(|(version, _)| version == api_version) {
            None => set,
            Some((_, Filter::Except(reset))) => set.recursive_difference(reset),
            Some((_, Filter::Only(fields))) => set.below(fields),
        }
    }

    pub(super) fn filter_all(&self, api_version: &str, comparison: Comparison) -> Comparison {
        Comparison {
            removed: self.filter(api_version, comparison.removed),
            modified: self.filter(api_version, comparison.modified),
            added: self.filter(api_version, comparison.added),
        }
    }
}

/// Why an apply failed. Texts are upstream's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what would change: 409, with a cause for every field.
    #[error("{message}")]
    Conflict { message: String, causes: Vec<Cause> },
    /// The patch may not be applied here: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The patch does not fit the type, which upstream answers with 500.
    #[error("{0}")]
    Internal(String),
}

/// Keeps `metadata.managedFields` for one endpoint of one version of a kind.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    /// The version objects are given in.
    pub gvk: &'a GroupVersionKind,
    pub of: &'a TypeRef,
    pub converter: &'a dyn Converter,
    /// Empty for the main endpoint.
    pub subresource: &'a str,
    pub reset: &'a ResetFields,
}

impl FieldManager<'_> {
    /// Writes the managed fields of `new`, which `manager` (or the user agent) made of `live` by anything but
    /// apply; `live` is none when the object is created.
    ///
    /// # Errors
    /// The object does not fit its type. It then has no managed fields: the write may go on, but somebody should
    /// hear of it.
    pub fn update(
        &self,
        live: Option<&Value>,
        new: &mut Value,
        manager: &str,
        now: Timestamp,
    ) -> Result<(), ApplyError> {
        let own = managed_fields(new).cloned();
        let old = live.and_then(managed_fields);
        let mut managed = if self.subresource.is_empty() {
            decode_new_or_live(own.as_ref(), old)
        } else {
            // Managed fields cannot be set through a subresource.
            decode_or_empty(old)
        };
        remove_managed_fields(new);
        let is_create = live.is_none_or(|live| live["metadata"]["uid"].as_str().is_none_or(str::is_empty));
        if managed.owned.is_empty() && !is_create {
            // Nobody ever applied this object, and its managed fields were removed: they stay so.
            return Ok(());
        }
        let live = match live {
            Some(live) => Cow::Borrowed(live),
            None => Cow::Owned(self.empty()),
        };
        self.track(&live, new, &mut managed, manager, now)?;
        set_managed_fields(new, &managed);
        Ok(())
    }

    /// The object that applying `patch` to `live` gives; `live` is none when apply creates. Has yet to be decoded
    /// against its type, defaulted and validated.
    ///
    /// # Errors
    /// Conflicts without `force`, or a patch that does not fit.
    pub fn apply(
        &self,
        live: Option<&Value>,
        patch: &Value,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<Value, ApplyError> {
        self.check_patch(patch)?;
        let mut managed = Managed::decode(live.and_then(managed_fields).unwrap_or(&Value::Null))
            .map_err(|error| ApplyError::Internal(format!("failed to decode managed fields: {error}")))?;
        let mut live = live.cloned().unwrap_or_else(|| self.empty());
        remove_managed_fields(&mut live);
        self.check(&live, "live", Duplicates::Allow)?;
        if managed.owned.is_empty() {
            self.track(&self.empty(), &live, &mut managed, "before-first-apply", now)?;
        }
        let attempt = |force| self.merge(&live, patch, managed.clone(), manager, force, now);
        let applied = match attempt(force) {
            // kubectl takes over what it set itself, when it still applied on the client's side.
            Err(conflicts) if manager == "kubectl" => {
                match last_applied::owned(&live, &self.gvk.api_version(), Schema::root(self.of)) {
                    None => Err(conflicts),
                    Some(allowed) => match conflicts.without(&allowed) {
                        rest if rest.is_empty() => attempt(true),
                        rest => Err(rest),
                    },
                }
            }
            other => other,
        };
        let (mut object, managed) = applied.map_err(|conflicts| ApplyError::Conflict {
            message: conflicts.message(),
            causes: conflicts.causes(),
        })?;
        if manager == "kubectl" && has_annotation(&object) {
            last_applied::set(&mut object, patch);
        }
        set_managed_fields(&mut object, &managed);
        Ok(object)
    }

    fn check_patch(&self, patch: &Value) -> Result<(), ApplyError> {
        let text = |field: &str| patch[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version != self.gvk.api_version() || kind != self.gvk.kind {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            return Err(ApplyError::BadRequest(format!(
                "invalid object type: {group}/{version}, Kind={kind}"
            )));
        }
        if managed_fields(patch).is_some() {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        self.check(patch, "patch", Duplicates::Refuse)
    }

    fn check(&self, object: &Value, which: &str, duplicates: Duplicates) -> Result<(), ApplyError> {
        validate(object, Schema::root(self.of), duplicates).map_err(|error| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            ApplyError::Internal(format!(
                "failed to create typed {which} object ({namespace}/{name}; {}): {error}",
                self.gvk
            ))
        })
    }

    /// Notes in `managed` that `manager` made `new` of `live`.
    fn track(
        &self,
        live: &Value,
        new: &Value,
        managed: &mut Managed,
        manager: &str,
        now: Timestamp,
    ) -> Result<(), ApplyError> {
        self.check(new, "new", Duplicates::Allow)?;
        self.check(live, "live", Duplicates::Allow)?;
        let manager = self.manager(manager, false);
        // What this write sets is first counted apart, to see whether it sets anything.
        let current = Manager {
            name: "current-operation".to_owned(),
            subresource: "\0".to_owned(),
            ..Manager::default()
        };
        self.updater(&self.gvk.api_version()).update(live, new, &mut managed.owned, &current);
        strip(managed, &current);
        if let Some(written) = managed.owned.remove(&current) {
            match managed.owned.get_mut(&manager) {
                Some(owned) => owned.set.extend(&written.set),
                None => {
                    managed.owned.insert(manager.clone(), written);
                }
            }
            managed.touch(&manager, now);
        }
        managed.cap(MAX_UPDATE_MANAGERS);
        Ok(())
    }

    fn merge(
        &self,
        live: &Value,
        patch: &Value,
        mut managed: Managed,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<(Value, Managed), Conflicts> {
        let manager = self.manager(manager, true);
        let new =
            self.updater(&self.gvk.api_version()).apply(live, patch, &mut managed.owned, &manager, force)?;
        strip(&mut managed, &manager);
        let object = match new {
            Some(new) => {
                managed.touch(&manager, now);
                new
            }
            None => live.clone(),
        };
        Ok((object, managed))
    }

    fn updater<'s>(&'s self, api_version: &'s str) -> Updater<'s> {
        Updater { converter: self.converter, api_version, of: self.of, reset: self.reset }
    }

    fn manager(&self, name: &str, applies: bool) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            applies,
            api_version: if applies { String::new() } else { self.gvk.api_version() },
            subresource: self.subresource.to_owned(),
        }
    }

    /// What a created object is compared with.
    fn empty(&self) -> Value {
        let mut empty = zero(self.of);
        empty["apiVersion"] = Value::from(self.gvk.api_version());
        empty["kind"] = Value::from(&*self.gvk.kind);
        empty
    }
}

/// Nobody owns what identifies an object or what the server sets.
fn strip(managed: &mut Managed, manager: &Manager) {
    let server = Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ]);
    if let Some(Owned { set, .. }) = managed.owned.get_mut(manager) {
        *set = set.difference(&server);
        if set.is_empty() {
            managed.owned.remove(manager);
        }
    }
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|entries| !entries.is_null())
}

fn decode_or_empty(entries: Option<&Value>) -> Managed {
    // Entries that cannot be read are forgotten, so that a write never fails because of them.
    entries.and_then(|entries| Managed::decode(entries).ok()).unwrap_or_default()
}

/// The entries a client sent, so that it can edit them; the old ones if it sent none, or none that can be read.
fn decode_new_or_live(new: Option<&Value>, live: Option<&Value>) -> Managed {
    let Some(entries) = new else {
        return decode_or_empty(live);
    };
    let is_reset = match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    };
    if is_reset {
        return Managed::default();
    }
    match Managed::decode(entries) {
        Ok(managed) if !managed.owned.is_empty() => managed,
        _ => decode_or_empty(live),
    }
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn set_managed_fields(object: &mut Value, managed: &Managed) {
    let Value::Object(object) = object else {
        return;
    };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        match managed.encode() {
            Some(entries) => metadata.insert("managedFields".to_owned(), entries),
            None => metadata.remove("managedFields"),
        };
    }
}

fn has_annotation(object: &Value) -> bool {
    object["metadata"]["annotations"][LAST_APPLIED].as_str().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
