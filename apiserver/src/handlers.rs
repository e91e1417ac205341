//! From a request for a resource to its answer: one file per verb, generic over the resource.

pub mod body;
mod computed;
mod connect;
mod create;
mod delete;
mod delete_collection;
mod get;
mod list;
pub mod negotiate;
pub mod options;
mod patch;
mod protobuf;
pub mod respond;
mod scale;
mod served_fields;
mod subresource;
mod table;
mod update;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use http::header::{HeaderValue, USER_AGENT, WARNING};
use http::{HeaderMap, Method, Request, Response};
use knarr_api::decode::Format;
use knarr_api::status::Status;

use crate::admission::Remarks;
use crate::audit::Record;
use crate::catalogue::{Resource, Serving, SubresourceServing};
use crate::context::RequestContext;
use crate::registry::Registry;
use crate::request_info::RequestInfo;
use crate::user::User;
use negotiate::{Allowed, Output, Shape};

/// The formats answers are written in, the default first.
pub const FORMATS: &[Format] = &[Format::Json, Format::Yaml, Format::Protobuf];

/// A request with what the verbs need of it.
pub struct Call {
    pub cx: RequestContext,
    pub headers: HeaderMap,
    pub request: Request<Body>,
}

impl Call {
    /// The form of the answer.
    pub fn output(&self, allowed: Allowed) -> Result<Output, Status> {
        negotiate::output(&self.headers, self.cx.param("pretty"), self.formats(), allowed)
    }

    /// The form of the events of a watch.
    pub fn watch_output(&self) -> Result<Output, Status> {
        negotiate::watch_output(&self.headers, self.formats(), of_object)
    }

    fn formats(&self) -> &'static [Format] {
        // Custom resources have no protobuf form.
        if self.cx.resource.bare_items { FORMATS } else { &FORMATS[..2] }
    }

    /// The body, whole.
    pub async fn body(&mut self) -> Result<bytes::Bytes, Status> {
        body::read(std::mem::take(self.request.body_mut())).await
    }
}

/// What a single object may be shown as.
pub fn of_object(shape: Shape) -> bool {
    matches!(shape, Shape::Full | Shape::Partial | Shape::Table)
}

/// What a list may be shown as.
pub fn of_list(shape: Shape) -> bool {
    matches!(shape, Shape::Full | Shape::PartialList | Shape::Table)
}

/// Answers a request for a resource. Authentication and authorization have been passed.
pub async fn serve(
    registry: Arc<Registry>,
    info: Arc<RequestInfo>,
    user: User,
    request: Request<Body>,
) -> Response<Body> {
    let found = registry.catalogue().resource(&info.group, &info.version, &info.resource).cloned();
    let Some(resource) = found.filter(|resource| placed(resource, &info)) else {
        return respond::status(&Status::path_not_found());
    };
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let remarks = Arc::new(Remarks::on(request.extensions().get::<Arc<Record>>().cloned()));
    let query: Vec<(String, String)> = query;
    let manager = manager(&query, request.headers());
    let query = Arc::new(query);
    let cx = RequestContext { registry, resource, info, user, remarks, query, dry_run: false, manager };
    let remarks = cx.remarks.clone();
    let call = Call { headers: request.headers().clone(), cx, request };
    if let Some(warning) = &call.cx.resource.warning {
        remarks.warn(warning.clone());
    }
    let mut response = dispatch(call).await.unwrap_or_else(|status| respond::status(&status));
    for warning in remarks.take_warnings() {
        if let Ok(value) = HeaderValue::from_str(&warning_header(&warning)) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

/// The field manager that the query names, or the client's name up to its version.
fn manager(query: &[(String, String)], headers: &HeaderMap) -> Arc<str> {
    const MAX: usize = 128;
    if let Some((_, name)) = query.iter().find(|(key, name)| key == "fieldManager" && !name.is_empty()) {
        return name.as_str().into();
    }
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(MAX).collect::<String>().into()
}

/// Whether the path is one the resource has: a namespaced one needs a namespace but for lists across all.
fn placed(resource: &Resource, info: &RequestInfo) -> bool {
    let in_namespace = !info.namespace.is_empty() && info.resource != "namespaces";
    if resource.namespaced { in_namespace || !info.names_object() } else { !in_namespace }
}

/// `299 - "text"`, with quotes and backslashes escaped and what no header may hold left out.
fn warning_header(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

async fn dispatch(call: Call) -> Result<Response<Body>, Status> {
    if !call.cx.info.subresource.is_empty() {
        return dispatch_subresource(call).await;
    }
    let resource = call.cx.resource.clone();
    let verb = call.cx.info.verb.clone();
    if !resource.has_verb(&verb) {
        return Err(Status::method_not_allowed());
    }
    let named = call.cx.info.names_object();
    let across = resource.namespaced && call.cx.info.namespace.is_empty();
    if across && !matches!(verb.as_str(), "list" | "watch") {
        // Only reads go across namespaces.
        return Err(Status::method_not_allowed());
    }
    if let Serving::Answered(answer) = &resource.serving {
        return create::answered(call, answer.clone()).await;
    }
    if let Serving::Computed(by) = &resource.serving {
        return computed::computed(call, by.clone()).await;
    }
    match (verb.as_str(), named) {
        ("create", false) => create::create(call).await,
        ("get", true) => get::get(call).await,
        ("list", false) => list::list(call).await,
        ("watch", _) => watch::watch(call).await,
        ("update", true) => update::update(call).await,
        ("patch", true) => patch::patch(call).await,
        ("delete", true) => delete::delete(call).await,
        ("deletecollection", false) => delete_collection::delete_collection(call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn dispatch_subresource(call: Call) -> Result<Response<Body>, Status> {
    let resource = call.cx.resource.clone();
    let Some(subresource) = resource.subresources.get(&*call.cx.info.subresource) else {
        return Err(Status::path_not_found());
    };
    let verb = match call.cx.info.verb.as_str() {
        // A connection by DELETE or GET is what it is, whatever the path's length.
        "deletecollection" => "delete",
        "list" | "watch" => "get",
        // No verb of the API, but a method that a proxy passes on.
        "" if call.request.method() == Method::OPTIONS && call.cx.info.subresource == "proxy" => "get",
        other => other,
    };
    if !subresource.verbs.iter().any(|known| known == verb) {
        return Err(Status::method_not_allowed());
    }
    match &subresource.serving {
        SubresourceServing::Connect(connect) => connect::connect(call, connect.clone()).await,
        SubresourceServing::Create(create) => create::subresource(call, create.clone()).await,
        SubresourceServing::Scale(paths) => scale::scale(call, paths.clone()).await,
        SubresourceServing::Status | SubresourceServing::Object => match verb {
            "get" => get::get(call).await,
            "update" => update::update(call).await,
            "patch" => patch::patch(call).await,
            _ => Err(Status::method_not_allowed()),
        },
    }
}
