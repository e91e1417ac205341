//! PUT of an object, its status or another subresource that shows the whole object.

use std::sync::Arc;

use axum::body::Body;
use futures::FutureExt;
use futures::future::ready;
use http::{Response, StatusCode};
use knarr_api::status::Status;
use serde_json::Value;

use super::body::Expected;
use super::options::WriteOptions;
use super::subresource::part;
use super::{Call, body, of_object, respond};
use crate::registry::Update;
use crate::{conversion, defaults, object};

pub async fn update(mut call: Call) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let options = WriteOptions::parse(&call.cx, "UpdateOptions", false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    let resource = &cx.resource;
    let storage = resource.stored().ok_or_else(Status::method_not_allowed)?;
    let expected = Expected::of(resource);
    let object = body::decode(&call.headers, &bytes, &expected, options.field_validation, &cx.remarks)?;
    cx.remarks.sent(&object);
    let mut object = conversion::to_stored(resource, storage, object).await?;
    check_name(&object, cx.name(), cx.namespace())?;
    defaults::apply(storage, &mut object);
    let uid = object::uid(&object).to_owned();
    let make = |_: Arc<Value>| ready(Ok(object.clone())).boxed();
    let update = Update {
        name: cx.name(),
        part: part(cx),
        make: &make,
        uid: (!uid.is_empty()).then_some(uid.as_str()),
        applies: false,
        force_create: false,
        options: options.to_value("UpdateOptions"),
    };
    let (written, created) = cx.registry.update(cx, storage, &update).await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    respond::written(cx, code, &output, written).await
}

/// The object must be the one the path names.
pub fn check_name(object: &Value, name: &str, namespace: &str) -> Result<(), Status> {
    match object::name(object) {
        "" => return Err(Status::bad_request("name must be provided")),
        given if given != name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    let given = object::namespace(object);
    if !given.is_empty() && !namespace.is_empty() && given != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({given}) does not match the namespace on the request ({namespace})"
        )));
    }
    Ok(())
}
