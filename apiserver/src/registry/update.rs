//! Updating an object: read, make the new one, ask the strategy and admission, compare and swap; again if another
//! writer was faster.

use std::sync::Arc;

use futures::future::BoxFuture;
use knarr_api::apply::keep_timestamps_of_unchanged;
use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::status::Status;
use knarr_storage::{Expect, KeyValue, Outcome};
use serde_json::Value;

use super::create::ensure_namespace;
use super::{Registry, Written, attributes, invalid, metadata, store_failure};
use crate::admission::Operation;
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::fields;
use crate::object;
use crate::stored::{self, Stored};

/// Which part of the object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    Main,
    Status,
    /// A subresource that the strategy knows.
    Subresource(&'a str),
}

/// An update to be done.
pub struct Update<'a> {
    pub name: &'a str,
    pub part: Part<'a>,
    /// Makes the new object of the stored one (`Null` when there is none). Called again when another writer was
    /// faster. Both are in the storage version.
    pub make: &'a (dyn Fn(Arc<Value>) -> BoxFuture<'a, Result<Value, Status>> + Send + Sync),
    /// The object must have this uid.
    pub uid: Option<&'a str>,
    /// `make` applies, and keeps the managed fields itself.
    pub applies: bool,
    /// Creates what is not there even if the kind does not (server-side apply).
    pub force_create: bool,
    /// UpdateOptions or PatchOptions, for admission.
    pub options: Value,
}

/// What one attempt came to.
enum Attempt {
    Done(Written),
    /// Another writer was faster.
    Again,
}

impl Registry {
    /// Updates an object; true when it was created.
    pub async fn update(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        update: &Update<'_>,
    ) -> Result<(Written, bool), Status> {
        let key = storage.key(cx.namespace(), update.name);
        loop {
            let (found, _) = self.store.get(&key).await.map_err(store_failure)?;
            let Some(kv) = found else {
                return Ok((self.create_on_update(cx, storage, update).await?, true));
            };
            match self.update_once(cx, storage, update, kv).await? {
                Attempt::Done(written) => return Ok((written, false)),
                Attempt::Again => {}
            }
        }
    }

    async fn create_on_update(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        update: &Update<'_>,
    ) -> Result<Written, Status> {
        let may = storage.rules.create_on_update || update.force_create;
        if !may || update.part != Part::Main {
            return Err(cx.not_found(update.name));
        }
        check_uid(cx, storage, update, "")?;
        let mut object = (update.make)(Arc::new(Value::Null)).await?;
        ensure_namespace(&mut object, cx.namespace())?;
        if !update.applies {
            fields::track(cx, storage, None, &mut object);
        }
        let mut attributes = attributes(cx, Operation::Create, update.name, update.options.clone());
        attributes.object = Some(object);
        self.admit(&mut attributes).await?;
        self.create_admitted(cx, storage, attributes).await
    }

    async fn update_once(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        update: &Update<'_>,
        kv: KeyValue,
    ) -> Result<Attempt, Status> {
        let stored = Stored::new(kv.value.clone(), kv.mod_revision.0).map_err(Status::internal)?;
        let old = stored.to_value().map_err(Status::internal)?;
        let old = Arc::new(crate::conversion::up_to_date(storage, old).await?);
        check_uid(cx, storage, update, object::uid(&old))?;
        let mut object = (update.make)(old.clone()).await?;
        if !update.applies {
            fields::track(cx, storage, Some(&old), &mut object);
        }
        let mut attributes = attributes(cx, Operation::Update, update.name, update.options.clone());
        attributes.object = Some(object);
        attributes.old_object = Some(old.clone());
        self.admit(&mut attributes).await?;
        let mut object = attributes.object.take().unwrap_or_default();
        check_version(cx, storage, update.name, &mut object, &stored)?;
        let strategy = cx.strategy();
        let begun = match update.part {
            Part::Main => storage.strategy.begin_update(&strategy, &mut object, &old).await?,
            Part::Status | Part::Subresource(_) => None,
        };
        let done = async {
            prepare(cx, storage, update.part, &mut object, &old)?;
            keep_timestamps_of_unchanged(&mut object, &old);
            attributes.object = Some(object);
            self.check(&attributes).await?;
            let object = attributes.object.take().unwrap_or_default();
            self.put_updated(cx, storage, object, &old, stored, &kv).await
        };
        let done = done.await;
        let undone = !matches!(done, Ok(Attempt::Done(_))) || cx.dry_run;
        if let (true, Some(undo)) = (undone, begun) {
            undo.await;
        }
        done
    }

    async fn put_updated(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        object: Value,
        old: &Value,
        stored: Stored,
        kv: &KeyValue,
    ) -> Result<Attempt, Status> {
        if ends_with_update(storage, &object, old) {
            return self.delete_updated(cx, storage, object, kv).await;
        }
        if cx.dry_run {
            return Ok(Attempt::Done(Written { object, stored: None }));
        }
        let bytes = stored::encode(&object);
        if bytes == stored.raw() && self.store.is_current(&kv.key).await.map_err(store_failure)? {
            // Nothing changed: no write, no event, the same resourceVersion.
            return Ok(Attempt::Done(Written::new(object, stored)));
        }
        let put = self.store.put(&kv.key, bytes, Expect::At(kv.mod_revision), storage.rules.durability);
        match put.await.map_err(store_failure)? {
            Outcome::Conflict(_) => Ok(Attempt::Again),
            Outcome::Committed(kv) => {
                storage.strategy.after_change(&cx.strategy(), Some(&object), old).await;
                let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
                Ok(Attempt::Done(Written::new(object, stored)))
            }
        }
    }

    /// The update took the last finalizer off an object that was waiting to go.
    async fn delete_updated(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        object: Value,
        kv: &KeyValue,
    ) -> Result<Attempt, Status> {
        if !cx.dry_run {
            let delete = self.store.delete(&kv.key, Expect::At(kv.mod_revision), storage.rules.durability);
            match delete.await.map_err(store_failure)? {
                Outcome::Committed(_) => storage.strategy.after_change(&cx.strategy(), None, &object).await,
                Outcome::Conflict(Some(_)) => return Ok(Attempt::Again),
                Outcome::Conflict(None) => {}
            }
        }
        Ok(Attempt::Done(Written { object, stored: None }))
    }
}

/// Whether the update leaves nothing that keeps an object being deleted.
fn ends_with_update(storage: &Storage, object: &Value, old: &Value) -> bool {
    object::finalizers(object).is_empty()
        && object::is_deleting(old)
        && object::meta_i64(old, "deletionGracePeriodSeconds").unwrap_or_default() == 0
        && storage.strategy.deletes_during_update(object)
}

/// The text that upstream's storage layer gives for a failed precondition.
pub(super) fn precondition_failed(key: &str, field: &str, wanted: &str, found: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
    )
}

fn check_uid(cx: &RequestContext, storage: &Storage, update: &Update<'_>, found: &str) -> Result<(), Status> {
    match update.uid {
        Some(wanted) if wanted != found => {
            let key = storage.key(cx.namespace(), update.name);
            let why = precondition_failed(&key, "UID", wanted, found);
            Err(Status::conflict(&storage.group, &storage.resource, update.name, why))
        }
        _ => Ok(()),
    }
}

/// Compares the writer's resourceVersion with the stored one; a writer without one gets the stored one if the kind
/// allows that.
fn check_version(
    cx: &RequestContext,
    storage: &Storage,
    name: &str,
    object: &mut Value,
    stored: &Stored,
) -> Result<(), Status> {
    let given = object::resource_version(object).map_err(|text| {
        let path = Path::new("metadata").child("resourceVersion");
        let error = Error::invalid(
            &path,
            text.as_str(),
            format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        );
        invalid(&storage.group, &storage.kind, name, error.into())
            .err()
            .unwrap_or_else(|| Status::bad_request(text))
    })?;
    if given == 0 && !storage.rules.unconditional_update {
        let path = Path::new("metadata").child("resourceVersion");
        let error = Error::invalid(&path, 0, "must be specified for an update");
        return invalid(&cx.info.group, &cx.info.resource, name, error.into());
    }
    if given == 0 {
        object::set_meta(object, "resourceVersion", stored.revision().to_string());
    } else if given != stored.revision() {
        return Err(Status::modified(&storage.group, &storage.resource, name));
    }
    Ok(())
}

/// Keeps what the writer may not change, and validates the rest.
fn prepare(
    cx: &RequestContext,
    storage: &Storage,
    part: Part<'_>,
    object: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    ensure_namespace(object, cx.namespace())?;
    object::copy_meta(object, old, "generation");
    let strategy = cx.strategy();
    match part {
        Part::Main => {
            if storage.rules.status {
                object::copy_field(object, old, "status");
            }
            storage.strategy.prepare_for_update(&strategy, object, old);
        }
        Part::Status => {
            keep_all_but_status(object, old);
            storage.strategy.prepare_for_status_update(&strategy, object, old);
        }
        Part::Subresource(name) => {
            if let Some(rules) = storage.strategy.subresource(name) {
                rules.prepare_for_update(&strategy, object, old);
            }
        }
    }
    if storage.rules.generation && part != Part::Status {
        count_generation(object, old);
    }
    keep_system_metadata(object, old);
    let mut errors = metadata::validate(object, storage.namespaced, knarr_api::names::name_is_path_segment);
    errors.extend(metadata::validate_update(object, old));
    errors.extend(validate(cx, storage, part, object, old));
    invalid(&storage.group, &storage.kind, object::name(object), dedup(errors))?;
    let warnings = match part {
        Part::Main => storage.strategy.warnings(&strategy, object, Some(old)),
        Part::Status => Vec::new(),
        Part::Subresource(name) => storage
            .strategy
            .subresource(name)
            .map(|rules| rules.warnings(&strategy, object, old))
            .unwrap_or_default(),
    };
    warnings.into_iter().for_each(|warning| cx.remarks.warn(warning));
    Ok(())
}

/// Labels, annotations and owners are looked at both as new metadata and as an update; each fault is told once.
fn dedup(errors: ErrorList) -> ErrorList {
    let mut kept: Vec<Error> = Vec::with_capacity(errors.len());
    for error in errors {
        if !kept.contains(&error) {
            kept.push(error);
        }
    }
    kept.into()
}

fn validate(
    cx: &RequestContext,
    storage: &Storage,
    part: Part<'_>,
    object: &Value,
    old: &Value,
) -> ErrorList {
    let strategy = cx.strategy();
    match part {
        Part::Main => storage.strategy.validate_update(&strategy, object, old),
        Part::Status => storage.strategy.validate_status_update(&strategy, object, old),
        Part::Subresource(name) => storage
            .strategy
            .subresource(name)
            .map(|rules| rules.validate_update(&strategy, object, old))
            .unwrap_or_default(),
    }
}

fn keep_all_but_status(object: &mut Value, old: &Value) {
    let kept = |key: &String| matches!(key.as_str(), "kind" | "apiVersion" | "metadata" | "status");
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|key, _| kept(key));
    }
    let fields = old.as_object().into_iter().flatten();
    for (key, _) in fields.filter(|(key, _)| !kept(key)) {
        object::copy_field(object, old, key);
    }
}

fn count_generation(object: &mut Value, old: &Value) {
    let known = object::meta_i64(old, "generation").unwrap_or_default();
    if object::meta_i64(object, "generation").unwrap_or_default() != known {
        return;
    }
    let counted = |key: &str| !matches!(key, "kind" | "apiVersion" | "metadata" | "status");
    let fields = |value: &Value, other: &Value| {
        let map = value.as_object().into_iter().flatten();
        map.filter(|(key, _)| counted(key)).any(|(key, value)| other.get(key) != Some(value))
    };
    if fields(object, old) || fields(old, object) {
        object::set_meta(object, "generation", known + 1);
    }
}

/// What no update changes: identity, age, and a deletion under way.
fn keep_system_metadata(object: &mut Value, old: &Value) {
    if object::uid(object).is_empty() {
        object::copy_meta(object, old, "uid");
    }
    object::copy_meta(object, old, "creationTimestamp");
    object::remove_meta(object, "selfLink");
    if object::is_deleting(old) {
        object::copy_meta(object, old, "deletionTimestamp");
    }
    if object::meta_i64(object, "deletionGracePeriodSeconds").is_none() {
        object::copy_meta(object, old, "deletionGracePeriodSeconds");
    }
}
