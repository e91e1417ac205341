//! The questions that the generic registry asks about one kind. A strategy answers; it never writes.

use async_trait::async_trait;
use jiff::Timestamp;
use knarr_api::field::ErrorList;
use knarr_api::status::Status;
use serde_json::Value;

use super::Registry;
use crate::admission::Remarks;
use crate::user::UserInfo;

/// Who writes, where and when.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub user: &'a UserInfo,
    /// Of the request; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// The group that the request names: events are shown, and judged, in two.
    pub group: &'a str,
    pub now: Timestamp,
    pub dry_run: bool,
    /// For what a strategy must look up: other objects, allocations.
    pub registry: &'a Registry,
    /// What the writer is told beside yes and no.
    pub remarks: &'a Remarks,
}

impl Context<'_> {
    pub fn warn(&self, text: impl Into<String>) {
        self.remarks.warn(text);
    }
}

/// What must be undone when a write does not happen after all.
pub type Undo = Option<futures::future::BoxFuture<'static, ()>>;

/// What happens to the object's dependents when the deleter does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GarbageCollection {
    #[default]
    Background,
    Orphan,
    /// The kind owns nothing.
    Unsupported,
}

/// One kind. Everything has a default that suits a kind without rules of its own; what every kind has in common
/// (metadata, status and spec kept apart, generation) is the registry's business, see [`super::Rules`].
#[async_trait]
pub trait Strategy: Send + Sync + 'static {
    /// Fills in what Go code fills in, after the schema's own defaults. Must be idempotent.
    fn set_defaults(&self, object: &mut Value) {
        let _ = object;
    }

    /// Resets what a creator may not choose.
    fn prepare_for_create(&self, cx: &Context<'_>, object: &mut Value) {
        let _ = (cx, object);
    }

    /// Everything wrong with a new object, metadata excepted.
    fn validate(&self, cx: &Context<'_>, object: &Value) -> ErrorList {
        let _ = (cx, object);
        ErrorList::new()
    }

    /// Resets what an update of the object itself may not change.
    fn prepare_for_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) {
        let _ = (cx, object, old);
    }

    /// Everything wrong with an update of the object itself, metadata excepted.
    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let _ = old;
        self.validate(cx, object)
    }

    /// Resets what an update of the status may not change; all but metadata and status is already the old one's.
    fn prepare_for_status_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) {
        let _ = (cx, object, old);
    }

    fn validate_status_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let _ = (cx, object, old);
        ErrorList::new()
    }

    /// What the writer should know although the write is fine. `old` is absent on create.
    fn warnings(&self, cx: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let _ = (cx, object, old);
        Vec::new()
    }

    /// A subresource that writes the object by rules of its own (`resize`, `approval`, `ephemeralcontainers`).
    fn subresource(&self, name: &str) -> Option<&dyn UpdateStrategy> {
        let _ = name;
        None
    }

    /// Seconds between the delete and the end, for kinds that end gracefully; `None` deletes at once.
    fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let _ = (object, requested);
        None
    }

    /// Takes what a new object needs from a common pool (addresses, ports) and writes it into the object.
    async fn begin_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<Undo, Status> {
        let _ = (cx, object);
        Ok(None)
    }

    /// The same for an update.
    async fn begin_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) -> Result<Undo, Status> {
        let _ = (cx, object, old);
        Ok(None)
    }

    /// Gives back what the object held and no longer holds, after the write: `object` is absent after a delete.
    async fn after_change(&self, cx: &Context<'_>, object: Option<&Value>, old: &Value) {
        let _ = (cx, object, old);
    }

    /// Whether an update that leaves no finalizer on an object being deleted ends it.
    fn deletes_during_update(&self, object: &Value) -> bool {
        let _ = object;
        true
    }

    /// Answers a delete that is not as any other; `None` deletes as usual.
    fn prepare_for_delete(&self, cx: &Context<'_>, object: &mut Value) -> Option<DeleteStep> {
        let _ = (cx, object);
        None
    }
}

/// What a kind that ends in steps of its own wants of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteStep {
    /// The object as changed is written, and stays.
    Mark,
    /// The object stays as it is.
    Wait,
}

/// A subresource that shows the whole object and may write part of it.
pub trait UpdateStrategy: Send + Sync {
    fn prepare_for_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value);

    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList;

    fn warnings(&self, cx: &Context<'_>, object: &Value, old: &Value) -> Vec<String> {
        let _ = (cx, object, old);
        Vec::new()
    }
}

/// A kind without rules of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Strategy for Plain {}
