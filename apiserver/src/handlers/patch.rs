//! PATCH: JSON patch, merge patch and strategic merge patch of an object or a subresource that shows it.

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use knarr_api::decode;
use knarr_api::field::{Error, Path};
use knarr_api::patch::{PatchError, json::JsonPatch, merge, strategic};
use knarr_api::schema::TypeRef;
use knarr_api::status::{Status, reason};
use serde_json::{Map, Value};

use super::negotiate::media_type;
use super::options::{FieldValidation, WriteOptions};
use super::subresource::part;
use super::update::check_name;
use super::{Call, of_object, respond};
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::registry::{Update, invalid};
use crate::{conversion, defaults, object};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// A patch that was read.
pub enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Map<String, Value>),
}

impl Patch {
    /// Reads a patch of the type the header names.
    pub fn read(headers: &HeaderMap, body: &[u8], strategic: bool) -> Result<Self, Status> {
        let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let patch = match media_type(header) {
            JSON_PATCH => JsonPatch::parse(body).map(Self::Json),
            MERGE_PATCH => merge::parse(body).map(Self::Merge),
            STRATEGIC_PATCH if strategic => strategic::parse(body).map(Self::Strategic),
            _ => return Err(Status::unsupported_media_type(Self::accepted(strategic))),
        };
        patch.map_err(patch_failure)
    }

    fn accepted(strategic: bool) -> &'static [&'static str] {
        if strategic { &[JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH] } else { &[JSON_PATCH, MERGE_PATCH] }
    }

    /// Applies the patch to an object of this type; custom resources have none.
    pub fn apply_to(&self, object: &mut Value, schema: Option<&TypeRef>) -> Result<(), Status> {
        let applied = match (self, schema) {
            (Self::Json(patch), _) => patch.apply(object),
            (Self::Merge(patch), _) => {
                merge::apply(object, patch.clone());
                Ok(())
            }
            (Self::Strategic(patch), Some(schema)) => match object.as_object_mut() {
                Some(fields) => strategic::apply(fields, patch.clone(), schema),
                None => Ok(()),
            },
            (Self::Strategic(_), None) => Err(strategic::unsupported()),
        };
        applied.map_err(patch_failure)
    }

    /// Members of the patch that mean nothing.
    fn unknown_fields(&self) -> Vec<String> {
        match self {
            Self::Json(patch) => patch.unknown_fields(),
            Self::Merge(_) | Self::Strategic(_) => Vec::new(),
        }
    }
}

fn patch_failure(error: PatchError) -> Status {
    match error {
        PatchError::Malformed(text) => Status::bad_request(text),
        PatchError::TooLarge(text) => Status::too_large(text),
        PatchError::Unprocessable(text) => Status::failure(422, reason::INVALID, text).with_causes([]),
        PatchError::Internal(text) => Status::internal(text),
    }
}

pub async fn patch(mut call: Call) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let options = WriteOptions::parse(&call.cx, "PatchOptions", false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let patch = Patch::read(&call.headers, &bytes, cx.resource.schema.is_some())?;
    let make = |old: &Value| patched(cx, storage, &patch, &options, old);
    let update = Update {
        name: cx.name(),
        part: part(cx),
        make: &make,
        uid: None,
        force_create: false,
        options: options.to_value("PatchOptions"),
    };
    let (written, created) = cx.registry.update(cx, storage, &update).await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    respond::written(cx, code, &output, written)
}

/// The object with the patch applied, in the storage version, decoded and with defaults.
fn patched(
    cx: &RequestContext,
    storage: &Storage,
    patch: &Patch,
    options: &WriteOptions,
    old: &Value,
) -> Result<Value, Status> {
    if old.is_null() {
        return Err(cx.not_found(cx.name()));
    }
    let mut object = conversion::to_served(&cx.resource, old.clone())?;
    patch.apply_to(&mut object, cx.resource.schema.as_ref())?;
    let strict = options.field_validation != FieldValidation::Ignore;
    let mut faults = if strict { patch.unknown_fields() } else { Vec::new() };
    let mut object = match &cx.resource.schema {
        Some(schema) => {
            let decoded = decode::normalize(&object, schema, strict).map_err(|e| not_decodable(&object, &e))?;
            faults.extend(decoded.strict_errors);
            decoded.value
        }
        None => object,
    };
    if options.field_validation == FieldValidation::Strict && !faults.is_empty() {
        return Err(not_decodable(&object, &decode::DecodeError::Strict(faults)));
    }
    faults.into_iter().for_each(|warning| cx.remarks.warn(warning));
    object["kind"] = cx.resource.kind.to_string().into();
    object["apiVersion"] = cx.resource.api_version().into();
    let mut object = conversion::to_stored(&cx.resource, storage, object)?;
    check_name(&object, cx.name(), cx.namespace())?;
    check_version_kept(&object, old, cx, storage)?;
    defaults::apply(storage, &mut object);
    Ok(object)
}

/// A patch may name the resourceVersion it is meant for; taking it away means "whatever is there".
fn check_version_kept(object: &Value, old: &Value, cx: &RequestContext, storage: &Storage) -> Result<(), Status> {
    let given = object::meta_str(object, "resourceVersion");
    if given.is_empty() || given == object::meta_str(old, "resourceVersion") {
        return Ok(());
    }
    Err(Status::modified(&storage.group, &storage.resource, cx.name()))
}

/// The patched object cannot be read as what it should be.
pub fn not_decodable(object: &Value, error: &decode::DecodeError) -> Status {
    let error = Error::invalid(&Path::new("patch"), object.to_string(), error.to_string());
    invalid("", "", "", error.into()).err().unwrap_or_else(|| Status::internal("a fault without a cause"))
}
