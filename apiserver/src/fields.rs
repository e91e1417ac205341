//! Who set which field: `metadata.managedFields`, kept on every write.

use knarr_api::apply::{ApplyError, FieldManager, Filter, OneVersion, ResetFields, Set};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::schema::TypeRef;
use knarr_api::status::Status;
use serde_json::Value;

use crate::catalogue::Storage;
use crate::context::RequestContext;

/// Calls `with` with the field manager of the request's endpoint; nothing for kinds without a schema.
fn manager<T>(cx: &RequestContext, storage: &Storage, with: impl FnOnce(FieldManager<'_>) -> T) -> Option<T> {
    let of: &TypeRef = storage.schema.as_ref()?;
    let gvk = GroupVersionKind::new(storage.group.clone(), storage.version.clone(), storage.kind.clone());
    let api_version = storage.api_version();
    let converter = OneVersion { api_version: api_version.clone(), of: of.clone() };
    let reset = reset_fields(storage, &cx.info.subresource, &api_version);
    let subresource = cx.info.subresource.as_str();
    Some(with(FieldManager { gvk: &gvk, of, converter: &converter, subresource, reset: &reset }))
}

/// What a writer cannot own because the endpoint does not write it.
fn reset_fields(storage: &Storage, subresource: &str, api_version: &str) -> ResetFields {
    match subresource {
        "" if storage.rules.status => {
            ResetFields::none().with(api_version, Filter::Except(Set::of_fields(&[&["status"]])))
        }
        "status" => ResetFields::none().with(api_version, Filter::Except(Set::of_fields(&[&["spec"]]))),
        _ => ResetFields::none(),
    }
}

/// Notes that the request's manager made `new` of `old`.
pub fn track(cx: &RequestContext, storage: &Storage, old: Option<&Value>, new: &mut Value) {
    let now = cx.registry.clock.now();
    let tracked = manager(cx, storage, |fields| fields.update(old, new, &cx.manager, now));
    if let Some(Err(error)) = tracked {
        tracing::warn!(kind = &*storage.kind, name = crate::object::name(new), %error, "managed fields were dropped");
    }
}

/// The object that applying the patch to `old` gives.
pub fn apply(
    cx: &RequestContext,
    storage: &Storage,
    old: Option<&Value>,
    patch: &Value,
    force: bool,
) -> Result<Value, Status> {
    let now = cx.registry.clock.now();
    let applied = manager(cx, storage, |fields| fields.apply(old, patch, &cx.manager, force, now));
    let applied = applied.ok_or_else(|| Status::internal("the kind has no schema to apply by"))?;
    applied.map_err(|error| match error {
        ApplyError::Conflict { message, causes } => Status::apply_conflict(message, causes),
        ApplyError::BadRequest(message) => Status::bad_request(message),
        ApplyError::Internal(message) => Status::internal(message),
    })
}
