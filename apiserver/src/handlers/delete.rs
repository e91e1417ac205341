//! DELETE of one object.

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode};
use knarr_api::decode::{self, Format};
use knarr_api::status::Status;
use serde_json::Value;

use super::options::{flag, number};
use super::{Call, negotiate, of_object, respond};
use crate::context::RequestContext;
use crate::object;
use crate::registry::{DeleteOptions, Deleted, Preconditions, invalid};

pub async fn delete(mut call: Call) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let bytes = call.body().await?;
    let options = read_options(&call.cx, &call.headers, &bytes)?;
    if !bytes.is_empty() {
        call.cx.remarks.sent(&options.to_value());
    }
    call.cx.dry_run = options.is_dry_run();
    let cx = &call.cx;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    match cx.registry.delete(cx, storage, cx.name(), &options).await? {
        Deleted::Gone(object) if storage.rules.returns_deleted => {
            respond::object(cx, StatusCode::OK, &output, object).await
        }
        Deleted::Gone(object) => {
            let status = Status::deleted(&storage.group, &storage.resource, cx.name(), object::uid(&object));
            let status = serde_json::to_value(&status).map_err(Status::internal)?;
            respond::value(StatusCode::OK, &output, &status)
        }
        Deleted::Marked(written) => {
            let waits = options.orphan_dependents == Some(false);
            let code = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
            respond::written(cx, code, &output, written).await
        }
    }
}

/// DeleteOptions from the body, or without one from the query.
pub fn read_options(cx: &RequestContext, headers: &HeaderMap, body: &[u8]) -> Result<DeleteOptions, Status> {
    let options = if body.is_empty() { from_query(cx)? } else { from_body(headers, body)? };
    invalid("meta.k8s.io", "DeleteOptions", "", options.validate())?;
    Ok(options)
}

fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<DeleteOptions, Status> {
    let format = negotiate::input(headers)?;
    let refuse = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
    let value: Value = match knarr_api::schema::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
    {
        Some(schema) => decode::typed(body, format, &schema, false).map_err(|e| refuse(&e))?.value,
        None => decode::untyped(body, Format::Json, false).map_err(|e| refuse(&e))?.value,
    };
    match value.get("kind").and_then(Value::as_str) {
        None | Some("" | "DeleteOptions") => serde_json::from_value(value).map_err(|e| refuse(&e)),
        Some(_) => Err(Status::bad_request("decoded object cannot be converted to DeleteOptions")),
    }
}

fn from_query(cx: &RequestContext) -> Result<DeleteOptions, Status> {
    let text = |name: &str| cx.param(name).map(str::to_owned);
    let (uid, resource_version) = (text("preconditions.uid"), text("preconditions.resourceVersion"));
    let preconditions =
        (uid.is_some() || resource_version.is_some()).then_some(Preconditions { uid, resource_version });
    let dry_run: Vec<String> = cx.params("dryRun").map(str::to_owned).collect();
    Ok(DeleteOptions {
        grace_period_seconds: number(cx, "gracePeriodSeconds")?,
        preconditions,
        orphan_dependents: flag(cx, "orphanDependents"),
        propagation_policy: text("propagationPolicy"),
        dry_run: (!dry_run.is_empty()).then_some(dry_run),
    })
}
