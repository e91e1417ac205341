//! PATCH: JSON patch, merge patch and strategic merge patch of an object or a subresource that shows it.

use std::sync::Arc;

use axum::body::Body;
use futures::FutureExt;
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
use crate::{conversion, defaults, fields, object};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// A patch that was read.
pub enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Map<String, Value>),
    /// Server-side apply, as read from YAML or JSON, and what a strict reader says about the text.
    Apply(Value, Vec<String>),
}

impl Patch {
    /// Reads a patch of the type the header names.
    pub fn read(headers: &HeaderMap, body: &[u8], strategic: bool) -> Result<Self, Status> {
        let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let patch = match media_type(header) {
            JSON_PATCH => JsonPatch::parse(body).map(Self::Json),
            MERGE_PATCH => merge::parse(body).map(Self::Merge),
            STRATEGIC_PATCH if strategic => strategic::parse(body).map(Self::Strategic),
            APPLY_PATCH => return read_applied(body),
            _ => return Err(Status::unsupported_media_type(Self::accepted(strategic))),
        };
        patch.map_err(patch_failure)
    }

    fn accepted(strategic: bool) -> &'static [&'static str] {
        if strategic {
            &[JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]
        } else {
            &[JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
        }
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
            // Applying needs to know who owns what, see `patched`.
            (Self::Apply(..), _) => Err(PatchError::Malformed("apply is not supported here".to_owned())),
        };
        applied.map_err(patch_failure)
    }

    /// Members of the patch that mean nothing.
    fn unknown_fields(&self) -> Vec<String> {
        match self {
            Self::Json(patch) => patch.unknown_fields(),
            Self::Merge(_) | Self::Strategic(_) | Self::Apply(..) => Vec::new(),
        }
    }
}

fn is_apply(headers: &HeaderMap) -> bool {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    media_type(header) == APPLY_PATCH
}

fn read_applied(body: &[u8]) -> Result<Patch, Status> {
    let decoded = decode::untyped(body, decode::Format::Yaml, true);
    let decoded = decoded.map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    Ok(Patch::Apply(decoded.value, decoded.strict_errors))
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
    let applies = is_apply(&call.headers);
    let options = WriteOptions::parse(&call.cx, "PatchOptions", applies)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    cx.remarks.patched(&bytes);
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let patch = Patch::read(&call.headers, &bytes, cx.resource.schema.is_some())?;
    let (reading, wanted) = (&patch, &options);
    let make = |old: Arc<Value>| async move { patched(cx, storage, reading, wanted, &old).await }.boxed();
    let update = Update {
        name: cx.name(),
        part: part(cx),
        make: &make,
        uid: None,
        applies,
        force_create: applies,
        options: options.to_value("PatchOptions"),
    };
    let (written, created) = cx.registry.update(cx, storage, &update).await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    respond::written(cx, code, &output, written).await
}

/// The object with the patch applied, in the storage version, decoded and with defaults.
async fn patched(
    cx: &RequestContext,
    storage: &Storage,
    patch: &Patch,
    options: &WriteOptions,
    old: &Value,
) -> Result<Value, Status> {
    let mut object = match patch {
        Patch::Apply(patch, notes) => {
            check_applied(notes, options.field_validation, cx)?;
            let live = (!old.is_null()).then_some(old);
            let patch = conversion::to_stored(&cx.resource, storage, patch.clone()).await?;
            let applied = fields::apply(cx, storage, live, &patch, options.force.unwrap_or_default())?;
            conversion::to_served(&cx.resource, applied).await?
        }
        _ if old.is_null() => return Err(cx.not_found(cx.name())),
        _ => {
            let mut object = conversion::to_served(&cx.resource, old.clone()).await?;
            patch.apply_to(&mut object, cx.resource.schema.as_ref())?;
            object
        }
    };
    if old.is_null() && object::name(&object).is_empty() {
        object::set_meta(&mut object, "name", cx.name());
    }
    if !object.is_object() {
        // A patch may replace the whole document, but only by another object.
        let error =
            Error::invalid(&Path::new("patch"), object.to_string(), "json: cannot unmarshal into an object");
        return Err(refused(error));
    }
    let strict = options.field_validation != FieldValidation::Ignore;
    let mut faults = if strict { patch.unknown_fields() } else { Vec::new() };
    let mut object = match &cx.resource.schema {
        Some(schema) => {
            let decoded =
                decode::normalize(&object, schema, strict).map_err(|e| not_decodable(&object, &e))?;
            faults.extend(decoded.strict_errors);
            decoded.value
        }
        None => {
            if let Some(custom) = &cx.resource.custom {
                let unknown = custom.clean(&mut object).map_err(Status::bad_request)?;
                if strict {
                    faults.extend(unknown);
                }
            }
            object
        }
    };
    if options.field_validation == FieldValidation::Strict && !faults.is_empty() {
        return Err(not_decodable(&object, &decode::DecodeError::Strict(faults)));
    }
    faults.into_iter().for_each(|warning| cx.remarks.warn(warning));
    object["kind"] = cx.resource.kind.to_string().into();
    object["apiVersion"] = cx.resource.api_version().into();
    let mut object = conversion::to_stored(&cx.resource, storage, object).await?;
    check_name(&object, cx.name(), cx.namespace())?;
    check_version_kept(&object, old, cx, storage)?;
    defaults::apply(storage, &mut object);
    Ok(object)
}

/// Keys given twice are refused or warned of, as the client asked.
fn check_applied(notes: &[String], validation: FieldValidation, cx: &RequestContext) -> Result<(), Status> {
    let Some(note) = notes.first() else { return Ok(()) };
    let text = format!("error converting YAML to JSON: {note}");
    match validation {
        FieldValidation::Strict => Err(Status::bad_request(format!("error strict decoding YAML: {text}"))),
        FieldValidation::Warn => {
            cx.remarks.warn(text);
            Ok(())
        }
        FieldValidation::Ignore => Ok(()),
    }
}

/// A patch may name the resourceVersion it is meant for; taking it away means "whatever is there".
fn check_version_kept(
    object: &Value,
    old: &Value,
    cx: &RequestContext,
    storage: &Storage,
) -> Result<(), Status> {
    let given = object::meta_str(object, "resourceVersion");
    if given.is_empty() || given == object::meta_str(old, "resourceVersion") {
        return Ok(());
    }
    Err(Status::modified(&storage.group, &storage.resource, cx.name()))
}

/// The patched object cannot be read as what it should be.
pub fn not_decodable(object: &Value, error: &decode::DecodeError) -> Status {
    refused(Error::invalid(&Path::new("patch"), object.to_string(), error.to_string()))
}

fn refused(error: Error) -> Status {
    invalid("", "", "", error.into()).err().unwrap_or_else(|| Status::internal("a fault without a cause"))
}
