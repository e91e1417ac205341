//! POST: creating an object, asking a review, posting a subresource.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::status::Status;

use super::body::Expected;
use super::negotiate::Shape;
use super::options::WriteOptions;
use super::{Call, body, of_object, respond};
use crate::admission::Operation;
use crate::catalogue::{Answer, CreateSubresource};
use crate::registry::attributes;
use crate::{conversion, defaults, object};

pub async fn create(mut call: Call) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let options = WriteOptions::parse(&call.cx, "CreateOptions", false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let resource = &cx.resource;
    let expected = Expected::of(resource);
    let object = body::decode(&call.headers, &bytes, &expected, options.field_validation, &cx.remarks)?;
    cx.remarks.sent(&object);
    if !object::meta_str(&object, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::failure(500, "", message));
    }
    let mut object = conversion::to_stored(resource, storage, object).await?;
    defaults::apply(storage, &mut object);
    let written = cx.registry.create(cx, storage, object, options.to_value("CreateOptions")).await?;
    respond::written(cx, StatusCode::CREATED, &output, written).await
}

/// What is no stored object has neither a table nor metadata to show.
fn whole(shape: Shape) -> bool {
    shape == Shape::Full
}

/// A resource that keeps nothing.
pub async fn answered(mut call: Call, answer: Arc<dyn Answer>) -> Result<Response<Body>, Status> {
    let output = call.output(whole)?;
    let options = WriteOptions::parse(&call.cx, "CreateOptions", false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    let resource = &cx.resource;
    let expected = Expected::of(resource);
    let object = body::decode(&call.headers, &bytes, &expected, options.field_validation, &cx.remarks)?;
    cx.remarks.sent(&object);
    let answer = answer.answer(cx, object).await?;
    respond::value(StatusCode::CREATED, &output, &answer)
}

/// A subresource that is posted: a binding, an eviction, a token request.
pub async fn subresource(
    mut call: Call,
    create: Arc<dyn CreateSubresource>,
) -> Result<Response<Body>, Status> {
    let output = call.output(whole)?;
    let options = WriteOptions::parse(&call.cx, "CreateOptions", false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let cx = &call.cx;
    let resource = &cx.resource;
    let subresource = resource.subresources.get(&*cx.info.subresource).ok_or_else(Status::path_not_found)?;
    let gvk = GroupVersionKind::new(
        subresource.group.clone(),
        subresource.version.clone(),
        subresource.kind.clone(),
    );
    let schema = knarr_api::schema::by_gvk(&gvk.group, &gvk.version, &gvk.kind);
    let expected = Expected { gvk, schema: schema.as_ref(), custom: None };
    let mut object = body::decode(&call.headers, &bytes, &expected, options.field_validation, &cx.remarks)?;
    cx.remarks.sent(&object);
    crate::registry::ensure_namespace(&mut object, cx.namespace())?;
    let given = object::name(&object);
    if !given.is_empty() && given != cx.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            cx.name()
        )));
    }
    let mut attributes = attributes(cx, Operation::Create, cx.name(), options.to_value("CreateOptions"));
    attributes.object = Some(object);
    cx.registry.admit(&mut attributes).await?;
    cx.registry.check(&attributes).await?;
    let object = attributes.object.take().unwrap_or_default();
    let answer = create.create(cx, cx.name(), object).await?;
    respond::value(StatusCode::CREATED, &output, &answer)
}
