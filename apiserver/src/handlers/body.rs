//! Reading the body of a request: its size, its format, its kind.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use knarr_api::decode::{self, Format};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::schema::TypeRef;
use knarr_api::status::Status;
use serde_json::Value;

use super::negotiate;
use super::options::FieldValidation;
use crate::admission::Remarks;
use crate::catalogue::Resource;
use crate::custom::CustomSchema;

/// The largest body of a write.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Reads a body whole.
pub async fn read(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::too_large(format!("limit is {MAX_BODY}")))
        }
        Err(error) => Err(Status::bad_request(format!("reading the body failed: {error}"))),
    }
}

/// The kind that an endpoint takes.
pub struct Expected<'a> {
    pub gvk: GroupVersionKind,
    /// `None` for custom resources.
    pub schema: Option<&'a TypeRef>,
    /// Of custom resources.
    pub custom: Option<&'a CustomSchema>,
}

impl<'a> Expected<'a> {
    /// The kind that a resource's own endpoint takes.
    pub fn of(resource: &'a Resource) -> Self {
        let gvk =
            GroupVersionKind::new(resource.group.clone(), resource.version.clone(), resource.kind.clone());
        Self { gvk, schema: resource.schema.as_ref(), custom: resource.custom.as_deref() }
    }
}

/// Decodes a body to an object of the expected kind, and says what is unknown in it as the client wants it said.
pub fn decode(
    headers: &HeaderMap,
    body: &[u8],
    expected: &Expected<'_>,
    validation: FieldValidation,
    remarks: &Remarks,
) -> Result<Value, Status> {
    let format = negotiate::input(headers)?;
    let strict = validation != FieldValidation::Ignore;
    let (gvk, mut decoded) = match expected.schema {
        Some(schema) => decode_typed(body, format, expected, schema, strict)?,
        None => decode_untyped(body, format, expected, strict)?,
    };
    check_kind(&gvk, &expected.gvk)?;
    set_kind(&mut decoded.value, &gvk);
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => decoded.strict_errors.into_iter().for_each(|warning| remarks.warn(warning)),
        FieldValidation::Strict => {
            if let Some(error) = decoded.strict_error() {
                let rejection = decode::Rejection { gvk: Some(gvk), error };
                return Err(Status::bad_request(rejection.message(&expected.gvk.kind, body)));
            }
        }
    }
    Ok(decoded.value)
}

/// Clients may leave the kind out, or empty, since the path says it; what is kept and answered has it.
fn set_kind(value: &mut Value, gvk: &GroupVersionKind) {
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".into(), gvk.api_version().into());
        object.insert("kind".into(), gvk.kind.to_string().into());
    }
}

fn decode_typed(
    body: &[u8],
    format: Format,
    expected: &Expected<'_>,
    schema: &TypeRef,
    strict: bool,
) -> Result<(GroupVersionKind, decode::Decoded), Status> {
    // A known kind that is not the expected one is decoded all the same, to be refused by name.
    let lookup = |gvk: &GroupVersionKind| {
        if *gvk == expected.gvk {
            return Some(schema.clone());
        }
        knarr_api::schema::by_gvk(&gvk.group, &gvk.version, &gvk.kind)
    };
    let object = decode::object(body, format, &expected.gvk, strict, lookup);
    let object =
        object.map_err(|rejection| Status::bad_request(rejection.message(&expected.gvk.kind, body)))?;
    Ok((object.gvk, object.decoded))
}

fn decode_untyped(
    body: &[u8],
    format: Format,
    expected: &Expected<'_>,
    strict: bool,
) -> Result<(GroupVersionKind, decode::Decoded), Status> {
    let refuse = |gvk, error| {
        let rejection = decode::Rejection { gvk, error };
        Status::bad_request(rejection.message(&expected.gvk.kind, body))
    };
    let mut decoded = decode::untyped(body, format, strict).map_err(|error| refuse(None, error))?;
    let text = |field: &str| decoded.value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let meta = decode::TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    let gvk = meta.with_defaults(&expected.gvk).map_err(|error| refuse(None, error))?;
    set_kind(&mut decoded.value, &gvk);
    if let Some(custom) = expected.custom {
        let unknown = custom.clean(&mut decoded.value).map_err(Status::bad_request)?;
        if strict {
            decoded.strict_errors.extend(unknown);
        }
    }
    Ok((gvk, decoded))
}

fn check_kind(given: &GroupVersionKind, expected: &GroupVersionKind) -> Result<(), Status> {
    if given.kind != expected.kind || given.group != expected.group {
        let (kind, version) = (&given.kind, &given.version);
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: converting ({version}.{kind}) to ({}.{}): unknown conversion",
            expected.kind,
            if expected.group.is_empty() {
                "core"
            } else {
                expected.group.split('.').next().unwrap_or_default()
            },
            expected.kind,
        )));
    }
    if given.version != expected.version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            given.api_version(),
            expected.api_version()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_without_kind_gets_the_one_of_its_path() {
        let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
        let schema = knarr_api::schema::by_gvk("", "v1", "ConfigMap").expect("a known kind");
        let expected = Expected { gvk, schema: Some(&schema), custom: None };
        for body in [r#"{"metadata":{"name":"a"}}"#, r#"{"kind":"","apiVersion":"","metadata":{"name":"a"}}"#]
        {
            let (headers, remarks) = (HeaderMap::new(), Remarks::default());
            let decoded =
                decode(&headers, body.as_bytes(), &expected, FieldValidation::Ignore, &remarks).expect(body);
            assert_eq!(decoded["kind"], "ConfigMap", "{body}");
            assert_eq!(decoded["apiVersion"], "v1", "{body}");
        }
    }
}
