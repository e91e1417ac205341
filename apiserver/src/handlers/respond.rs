//! Writing answers: objects in the form the client asked for, and failures as `Status`.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use knarr_api::decode::Format;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::negotiate::{JSON, Output, Shape};
use super::{protobuf, table};
use crate::catalogue::Resource;
use crate::context::RequestContext;
use crate::registry::Written;
use crate::stored::Stored;

/// An answer with the headers that every API answer has.
pub fn response(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A failure, or a bare success, as JSON.
pub fn status(status: &Status) -> Response<Body> {
    let fallback = if status.success { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let code = StatusCode::from_u16(status.code).unwrap_or(fallback);
    let mut body = serde_json::to_vec(status).expect("a status of strings and numbers encodes");
    body.push(b'\n');
    let mut response = response(code, JSON, body.into());
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// A value in the form asked for, shape aside.
pub fn value(code: StatusCode, output: &Output, value: &Value) -> Result<Response<Body>, Status> {
    Ok(response(code, output.content_type(), encode(output, value)?.into()))
}

/// The bytes of a value in the form asked for.
pub fn encode(output: &Output, value: &Value) -> Result<Bytes, Status> {
    match output.format {
        Format::Json if output.pretty => {
            let mut text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
            text.push(b'\n');
            Ok(text.into())
        }
        Format::Json => {
            let mut text = serde_json::to_vec(value).map_err(Status::internal)?;
            text.push(b'\n');
            Ok(text.into())
        }
        Format::Yaml => Ok(serde_yaml::to_string(value).map_err(Status::internal)?.into()),
        Format::Protobuf => protobuf::encode(value),
    }
}

/// An object as it is stored, in the form asked for.
pub async fn stored(
    cx: &RequestContext,
    code: StatusCode,
    output: &Output,
    stored: &Stored,
) -> Result<Response<Body>, Status> {
    let as_stored = output.is_stored_form() && is_storage_version(&cx.resource);
    if as_stored {
        let mut body = BytesMut::with_capacity(stored.size() + 1);
        stored.write(&mut body);
        body.put_u8(b'\n');
        return Ok(response(code, JSON, body.freeze().into()));
    }
    object(cx, code, output, stored.to_value().map_err(Status::internal)?).await
}

/// An object in the storage version, in the form asked for.
pub async fn object(
    cx: &RequestContext,
    code: StatusCode,
    output: &Output,
    object: Value,
) -> Result<Response<Body>, Status> {
    let object = crate::conversion::to_served(&cx.resource, object).await?;
    let shown = match output.shape {
        Shape::Full => object,
        Shape::Partial | Shape::PartialList => partial(object, output.meta_version),
        Shape::Table => table::of_object(cx, output, &object, true)?,
    };
    value(code, output, &shown)
}

/// What a write answers.
pub async fn written(
    cx: &RequestContext,
    code: StatusCode,
    output: &Output,
    written: Written,
) -> Result<Response<Body>, Status> {
    match &written.stored {
        Some(bytes) if output.is_stored_form() => stored(cx, code, output, bytes).await,
        _ => object(cx, code, output, written.object).await,
    }
}

/// Whether objects are served as they are stored.
pub fn is_storage_version(resource: &Resource) -> bool {
    if resource.custom.as_ref().is_some_and(|custom| custom.has_defaults) {
        return false;
    }
    resource.stored().is_some_and(|storage| {
        !storage.mixed && storage.version == resource.version && storage.group == resource.group
    })
}

/// `PartialObjectMetadata` of an object.
pub fn partial(mut object: Value, version: &str) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}
