//! Answers in protobuf.

use bytes::{BufMut, Bytes, BytesMut};
use knarr_api::protobuf;
use knarr_api::schema::{self, TypeRef};
use knarr_api::status::Status;
use serde_json::Value;

/// An object with its envelope; its kind says what it is.
pub fn encode(object: &Value) -> Result<Bytes, Status> {
    let of =
        type_of(object).ok_or_else(|| Status::internal("an object of unknown kind has no protobuf form"))?;
    protobuf::encode(object, &of).map(Bytes::from).map_err(Status::internal)
}

fn type_of(object: &Value) -> Option<TypeRef> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let meta = || schema::by_name(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    match group {
        "meta.k8s.io" => meta(),
        // `Status` and the documents of discovery say no more than `v1`.
        "" => schema::by_gvk(group, version, kind).or_else(meta),
        _ => schema::by_gvk(group, version, kind),
    }
}

/// One event of a watch.
pub fn event(kind: &str, object: &Value) -> Result<Bytes, Status> {
    Ok(protobuf::watch_event(kind, &encode(object)?).into())
}

/// An event behind its length, as events follow each other in one stream.
pub fn frame(kind: &str, object: &Value) -> Result<Bytes, Status> {
    let event = event(kind, object)?;
    let mut out = BytesMut::with_capacity(event.len() + 4);
    out.put_u32(u32::try_from(event.len()).map_err(Status::internal)?);
    out.extend_from_slice(&event);
    Ok(out.freeze())
}
