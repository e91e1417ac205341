//! GET of objects that are made when asked for.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::negotiate::Shape;
use super::options::ListOptions;
use super::{Call, of_list, of_object, respond, table};
use crate::catalogue::Computed;
use crate::object;

pub async fn computed(call: Call, by: Arc<dyn Computed>) -> Result<Response<Body>, Status> {
    match call.cx.info.names_object() {
        true => get(call, by).await,
        false => list(call, by).await,
    }
}

fn named(call: &Call, mut object: Value) -> Value {
    object["kind"] = json!(call.cx.resource.kind);
    object["apiVersion"] = call.cx.resource.api_version().into();
    object
}

async fn get(call: Call, by: Arc<dyn Computed>) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let (cx, name) = (&call.cx, call.cx.name());
    let found = by.compute(cx, Some(name)).await?.into_iter().find(|found| object::name(found) == name);
    let found = found.ok_or_else(|| cx.not_found(name))?;
    respond::object(cx, StatusCode::OK, &output, named(&call, found)).await
}

async fn list(call: Call, by: Arc<dyn Computed>) -> Result<Response<Body>, Status> {
    let output = call.output(of_list)?;
    let cx = &call.cx;
    let selection = ListOptions::parse(cx, false)?.selection;
    let wanted = |found: &Value| {
        (selection.name.is_empty() || *selection.name == *object::name(found))
            && selection.labels.matches(&found.pointer("/metadata/labels").unwrap_or(&Value::Null))
    };
    let name = Some(&*selection.name).filter(|name| !name.is_empty());
    let items: Vec<Value> = by.compute(cx, name).await?.into_iter().filter(wanted).collect();
    let shown = match output.shape {
        Shape::Full => json!({"kind": cx.resource.list_kind, "apiVersion": cx.resource.api_version(),
            "metadata": {}, "items": items}),
        Shape::Partial | Shape::PartialList => {
            let items: Vec<Value> =
                items.into_iter().map(|item| respond::partial(item, output.meta_version)).collect();
            json!({"kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{}", output.meta_version), "metadata": {}, "items": items})
        }
        Shape::Table => {
            let objects: Vec<&Value> = items.iter().collect();
            table::of(cx, &output, &json!({}), &objects, true)?
        }
    };
    respond::value(StatusCode::OK, &output, &shown)
}
