//! Deleting an object: preconditions, grace, finalizers, propagation, and the delete itself.

use std::sync::Arc;

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::status::Status;
use knarr_storage::{Expect, KeyValue, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::strategy::{DeleteStep, GarbageCollection};
use super::update::precondition_failed;
use super::{Registry, Written, attributes, store_failure};
use crate::admission::Operation;
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::object;
use crate::stored::{self, Stored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    pub fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("propagationPolicy");
        if let Some(policy) = &self.propagation_policy {
            if self.orphan_dependents.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(Error::invalid(&path, policy, detail));
            }
            if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(Error::not_supported(&path, policy, &supported));
            }
        }
        if let Some(values) = self.dry_run.as_ref().filter(|values| values.iter().any(|value| value != "All"))
        {
            errors.push(Error::not_supported(&Path::new("dryRun"), values.clone(), &["All"]));
        }
        errors
    }

    /// For admission.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["kind"] = "DeleteOptions".into();
        value["apiVersion"] = "meta.k8s.io/v1".into();
        value
    }

    pub fn is_dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|values| !values.is_empty())
    }
}

/// What a delete came to.
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Value),
    /// The object goes later: it has finalizers or time to end.
    Marked(Written),
}

/// What is to be done with an object that somebody deletes.
enum Verdict {
    /// Remove it now.
    Remove,
    /// Write it in this form; remove it after that if true.
    Mark { object: Value, then_remove: bool },
    /// A graceful end is under way already.
    Pending,
}

/// How one attempt at a delete went.
enum Attempt {
    Done(Deleted),
    /// Another writer was faster; what we had marked to be removed at once, if we got so far.
    Overtaken {
        marked: Option<Value>,
    },
}

impl Registry {
    /// Deletes an object as its kind, its finalizers and the options have it.
    pub async fn delete(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let key = storage.key(cx.namespace(), name);
        let mut marked = None;
        loop {
            let (found, _) = self.store.get(&key).await.map_err(store_failure)?;
            let Some(kv) = found else {
                // Somebody removed what we had marked to be removed at once: that is what was asked for.
                let gone = marked.ok_or_else(|| Status::not_found(&storage.group, &storage.resource, name));
                return gone.map(Deleted::Gone);
            };
            match self.delete_once(cx, storage, name, options, kv).await? {
                Attempt::Done(deleted) => return Ok(deleted),
                Attempt::Overtaken { marked: now } => marked = now.or(marked),
            }
        }
    }

    async fn delete_once(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        name: &str,
        options: &DeleteOptions,
        kv: KeyValue,
    ) -> Result<Attempt, Status> {
        let stored = Stored::new(kv.value.clone(), kv.mod_revision.0).map_err(Status::internal)?;
        let object = Arc::new(stored.to_value().map_err(Status::internal)?);
        check_preconditions(storage, options, &object, &kv.key)?;
        let mut attributes = attributes(cx, Operation::Delete, name, options.to_value());
        attributes.old_object = Some(object.clone());
        self.admit(&mut attributes).await?;
        self.check(&attributes).await?;
        drop(attributes);
        let object = Arc::unwrap_or_clone(object);
        match self.judge(cx, storage, object.clone(), options) {
            Verdict::Pending => Ok(Attempt::Done(Deleted::Marked(Written::new(object, stored)))),
            Verdict::Remove => match self.remove(cx, storage, object, &kv).await? {
                Some(deleted) => Ok(Attempt::Done(deleted)),
                None => Ok(Attempt::Overtaken { marked: None }),
            },
            Verdict::Mark { object, then_remove } => {
                let Some(written) = self.mark(cx, storage, object, stored, &kv).await? else {
                    return Ok(Attempt::Overtaken { marked: None });
                };
                if !then_remove {
                    return Ok(Attempt::Done(Deleted::Marked(written)));
                }
                let Some(stored) = &written.stored else {
                    return Ok(Attempt::Done(Deleted::Gone(written.object)));
                };
                let marked = KeyValue { mod_revision: knarr_storage::Revision(stored.revision()), ..kv };
                match self.remove(cx, storage, written.object.clone(), &marked).await? {
                    Some(deleted) => Ok(Attempt::Done(deleted)),
                    None => Ok(Attempt::Overtaken { marked: Some(written.object) }),
                }
            }
        }
    }

    async fn mark(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        object: Value,
        stored: Stored,
        kv: &KeyValue,
    ) -> Result<Option<Written>, Status> {
        if cx.dry_run {
            return Ok(Some(Written { object, stored: None }));
        }
        let bytes = stored::encode(&object);
        if bytes == stored.raw() {
            return Ok(Some(Written::new(object, stored)));
        }
        let put = self.store.put(&kv.key, bytes, Expect::At(kv.mod_revision), storage.rules.durability);
        match put.await.map_err(store_failure)? {
            Outcome::Conflict(_) => Ok(None),
            Outcome::Committed(kv) => {
                let stored = Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)?;
                Ok(Some(Written::new(object, stored)))
            }
        }
    }

    async fn remove(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut object: Value,
        kv: &KeyValue,
    ) -> Result<Option<Deleted>, Status> {
        if cx.dry_run {
            return Ok(Some(Deleted::Gone(object)));
        }
        let delete = self.store.delete(&kv.key, Expect::At(kv.mod_revision), storage.rules.durability);
        match delete.await.map_err(store_failure)? {
            Outcome::Conflict(_) => Ok(None),
            Outcome::Committed(kv) => {
                object::set_meta(&mut object, "resourceVersion", kv.mod_revision.to_string());
                storage.strategy.after_change(&cx.strategy(), None, &object).await;
                Ok(Some(Deleted::Gone(object)))
            }
        }
    }

    fn judge(
        &self,
        cx: &RequestContext,
        storage: &Storage,
        mut object: Value,
        options: &DeleteOptions,
    ) -> Verdict {
        match storage.strategy.prepare_for_delete(&cx.strategy(), &mut object) {
            Some(DeleteStep::Mark) => return Verdict::Mark { object, then_remove: false },
            Some(DeleteStep::Wait) => return Verdict::Pending,
            None => {}
        }
        let requested = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
        let graceful = match self.end_gracefully(storage, &mut object, requested) {
            Grace::Pending => return Verdict::Pending,
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        };
        let finalizers = deletion_finalizers(&object, options, storage.rules.garbage_collection);
        let pending = !finalizers.is_empty();
        object::set_finalizers(&mut object, finalizers);
        match (graceful, pending) {
            (Some(_), true) => Verdict::Mark { object, then_remove: false },
            (Some(seconds), false) => Verdict::Mark { object, then_remove: seconds == 0 },
            (None, true) => {
                self.mark_as_deleting(&mut object);
                Verdict::Mark { object, then_remove: false }
            }
            (None, false) => Verdict::Remove,
        }
    }

    /// Gives an object whose kind ends gracefully its time, or shortens the time it was given before.
    fn end_gracefully(&self, storage: &Storage, object: &mut Value, requested: Option<i64>) -> Grace {
        let Some(period) = storage.strategy.grace_period(object, requested) else { return Grace::None };
        let now = self.clock.now();
        if !object::is_deleting(object) {
            set_deletion(object, now, period);
            let generation = object::meta_i64(object, "generation").unwrap_or_default();
            if generation > 0 {
                object::set_meta(object, "generation", generation + 1);
            }
            return Grace::Seconds(period);
        }
        let given =
            object::meta_i64(object, "deletionGracePeriodSeconds").map_or(0, |s| if s < 0 { 1 } else { s });
        if given == 0 {
            return Grace::None;
        }
        let Some(mut period) = requested.filter(|period| *period < given) else { return Grace::Pending };
        let due: jiff::Timestamp = object::meta_str(object, "deletionTimestamp").parse().unwrap_or(now);
        let mut end = due + jiff::SignedDuration::from_secs(period - given);
        if end < now {
            end = now;
            if period != 0 {
                period = 1;
            }
        }
        object::set_meta(object, "deletionTimestamp", object::timestamp(end));
        object::set_meta(object, "deletionGracePeriodSeconds", period);
        Grace::Seconds(period)
    }

    /// Marks an object that waits for its finalizers.
    fn mark_as_deleting(&self, object: &mut Value) {
        let now = self.clock.now();
        let generation = object::meta_i64(object, "generation").unwrap_or_default();
        if !object::is_deleting(object) && generation > 0 {
            object::set_meta(object, "generation", generation + 1);
        }
        let due: Option<jiff::Timestamp> = object::meta_str(object, "deletionTimestamp").parse().ok();
        if due.is_none_or(|due| due > now) {
            object::set_meta(object, "deletionTimestamp", object::timestamp(now));
        }
        object::set_meta(object, "deletionGracePeriodSeconds", 0);
    }
}

enum Grace {
    /// It ends at once.
    None,
    Seconds(i64),
    /// It is ending already, no later than asked.
    Pending,
}

fn set_deletion(object: &mut Value, now: jiff::Timestamp, period: i64) {
    let end = now.checked_add(jiff::SignedDuration::from_secs(period)).unwrap_or(jiff::Timestamp::MAX);
    object::set_meta(object, "deletionTimestamp", object::timestamp(end));
    object::set_meta(object, "deletionGracePeriodSeconds", period);
}

fn check_preconditions(
    storage: &Storage,
    options: &DeleteOptions,
    object: &Value,
    key: &str,
) -> Result<(), Status> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let checks =
        [("UID", &wanted.uid, "uid"), ("ResourceVersion", &wanted.resource_version, "resourceVersion")];
    for (field, wanted, at) in checks {
        let found = object::meta_str(object, at);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            let why = precondition_failed(key, field, wanted, found);
            return Err(Status::conflict(&storage.group, &storage.resource, object::name(object), why));
        }
    }
    Ok(())
}

/// The finalizers an object is left with when it is deleted with these options.
fn deletion_finalizers(object: &Value, options: &DeleteOptions, default: GarbageCollection) -> Vec<String> {
    let known = object::finalizers(object);
    let mut finalizers: Vec<String> = known
        .iter()
        .filter(|name| **name != ORPHAN && **name != FOREGROUND)
        .map(|name| (*name).to_owned())
        .collect();
    let policy = options.propagation_policy.as_deref();
    let explicit = match (options.orphan_dependents, policy) {
        (Some(true), _) | (None, Some("Orphan")) => Some(Some(ORPHAN)),
        (None, Some("Foreground")) => Some(Some(FOREGROUND)),
        (Some(false), _) | (None, Some(_)) => Some(None),
        (None, None) => None,
    };
    let added = match (default, explicit) {
        (GarbageCollection::Unsupported, _) => None,
        (_, Some(explicit)) => explicit,
        (_, None) if known.contains(&ORPHAN) => Some(ORPHAN),
        (_, None) if known.contains(&FOREGROUND) => Some(FOREGROUND),
        (GarbageCollection::Orphan, None) => Some(ORPHAN),
        (GarbageCollection::Background, None) => None,
    };
    finalizers.extend(added.map(str::to_owned));
    finalizers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn propagation_decides_the_finalizers() {
        let with = |names: &[&str]| json!({"metadata": {"finalizers": names}});
        let policy =
            |text: &str| DeleteOptions { propagation_policy: Some(text.into()), ..DeleteOptions::default() };
        let none = DeleteOptions::default();
        let background = GarbageCollection::Background;
        assert_eq!(deletion_finalizers(&with(&["a"]), &none, background), ["a"]);
        assert_eq!(deletion_finalizers(&with(&["a"]), &policy("Orphan"), background), ["a", "orphan"]);
        assert_eq!(
            deletion_finalizers(&with(&[]), &policy("Foreground"), background),
            ["foregroundDeletion"]
        );
        assert_eq!(deletion_finalizers(&with(&["orphan"]), &policy("Background"), background), [""; 0]);
        assert_eq!(deletion_finalizers(&with(&["orphan"]), &none, background), ["orphan"]);
        assert_eq!(deletion_finalizers(&with(&[]), &none, GarbageCollection::Orphan), ["orphan"]);
        assert_eq!(
            deletion_finalizers(&with(&[]), &policy("Orphan"), GarbageCollection::Unsupported),
            [""; 0]
        );
    }
}
