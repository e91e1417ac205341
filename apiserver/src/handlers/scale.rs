//! The scale subresource: `autoscaling/v1 Scale`, read from and written to the paths that the kind keeps it at.

use std::sync::Arc;

use axum::body::Body;
use futures::FutureExt;
use futures::future::ready;
use http::{Response, StatusCode};
use knarr_api::decode;
use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::schema;
use knarr_api::selector::Selector;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::body::{self, Expected};
use super::options::WriteOptions;
use super::patch::Patch;
use super::update::check_name;
use super::{Call, of_object, respond};
use crate::catalogue::{ScalePaths, Storage};
use crate::context::RequestContext;
use crate::object;
use crate::registry::{Part, Update, invalid};

pub async fn scale(mut call: Call, paths: Arc<ScalePaths>) -> Result<Response<Body>, Status> {
    let output = call.output(of_object)?;
    let resource = call.cx.resource.clone();
    let storage = resource.stored().ok_or_else(Status::method_not_allowed)?;
    if matches!(call.cx.info.verb.as_str(), "get" | "list" | "watch") {
        let cx = &call.cx;
        let found = cx.registry.get(storage, cx.namespace(), cx.name()).await?;
        let object = found.ok_or_else(|| cx.not_found(cx.name()))?.to_value().map_err(Status::internal)?;
        return respond::value(StatusCode::OK, &output, &of(&object, &paths)?);
    }
    let is_patch = call.cx.info.verb == "patch";
    let kind = if is_patch { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(&call.cx, kind, false)?;
    call.cx.dry_run = options.dry_run;
    let bytes = call.body().await?;
    let change = if is_patch {
        Change::Patch(Patch::read(&call.headers, &bytes, true)?)
    } else {
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        let schema = schema::by_gvk("autoscaling", "v1", "Scale");
        let expected = Expected { gvk, schema: schema.as_ref(), custom: None };
        let remarks = &call.cx.remarks;
        let scale = body::decode(&call.headers, &bytes, &expected, options.field_validation, remarks)?;
        remarks.sent(&scale);
        check_name(&scale, call.cx.name(), call.cx.namespace())?;
        Change::Put(scale)
    };
    let scaled = update(&call.cx, storage, &paths, &change, options.to_value(kind)).await?;
    respond::value(StatusCode::OK, &output, &of(&scaled, &paths)?)
}

enum Change {
    Put(Value),
    Patch(Patch),
}

async fn update(
    cx: &RequestContext,
    storage: &Storage,
    paths: &ScalePaths,
    change: &Change,
    options: Value,
) -> Result<Value, Status> {
    let made = |old: &Value| {
        if old.is_null() {
            return Err(cx.not_found(cx.name()));
        }
        let scale = match change {
            Change::Put(scale) => scale.clone(),
            Change::Patch(patch) => patched(patch, of(old, paths)?)?,
        };
        check(cx, &scale)?;
        let mut object = old.clone();
        let version = object::meta_str(&scale, "resourceVersion").to_owned();
        object::set_meta(&mut object, "resourceVersion", version);
        let replicas = scale.pointer("/spec/replicas").cloned().unwrap_or_else(|| json!(0));
        set(&mut object, &paths.spec_replicas, replicas);
        Ok(object)
    };
    let make = |old: Arc<Value>| ready(made(&old)).boxed();
    let uid = match change {
        Change::Put(scale) => object::uid(scale),
        Change::Patch(_) => "",
    };
    let update = Update {
        name: cx.name(),
        part: Part::Main,
        make: &make,
        uid: (!uid.is_empty()).then_some(uid),
        applies: false,
        force_create: false,
        options,
    };
    Ok(cx.registry.update(cx, storage, &update).await?.0.object)
}

fn patched(patch: &Patch, mut scale: Value) -> Result<Value, Status> {
    let of = schema::by_gvk("autoscaling", "v1", "Scale").ok_or_else(|| Status::internal("no type Scale"))?;
    patch.apply_to(&mut scale, Some(&of))?;
    let decoded = decode::normalize(&scale, &of, false);
    Ok(decoded.map_err(|error| super::patch::not_decodable(&scale, &error))?.value)
}

fn check(cx: &RequestContext, scale: &Value) -> Result<(), Status> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or_default();
    let mut errors = ErrorList::new();
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        errors.push(Error::invalid(&path, replicas, "must be greater than or equal to 0"));
    }
    invalid("autoscaling", "Scale", cx.name(), errors)
}

/// The Scale of an object in the storage version.
fn of(object: &Value, paths: &ScalePaths) -> Result<Value, Status> {
    let number = |path: &str| get(object, path).cloned().unwrap_or_else(|| json!(0));
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if !paths.selector.is_empty() {
        let selector = selector_text(get(object, &paths.selector))?;
        if !selector.is_empty() {
            status["selector"] = selector.into();
        }
    }
    let replicas = number(&paths.spec_replicas);
    let spec = if replicas == json!(0) { json!({}) } else { json!({"replicas": replicas}) };
    Ok(
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}),
    )
}

/// A selector as text: from a LabelSelector, from a map of labels, or from text.
fn selector_text(selector: Option<&Value>) -> Result<String, Status> {
    match selector {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) if value.get("matchLabels").is_some() || value.get("matchExpressions").is_some() => {
            Ok(Selector::from_label_selector(Some(value)).map_err(Status::internal)?.to_string())
        }
        Some(Value::Object(labels)) => {
            let labels = labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
            Ok(Selector::from_set(labels).to_string())
        }
        Some(_) => Ok(String::new()),
    }
}

fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(object, |at, step| at.get(step))
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    let Some(last) = steps.pop() else { return };
    let parent = steps.into_iter().fold(object, object::map_at);
    parent[last] = value;
}
