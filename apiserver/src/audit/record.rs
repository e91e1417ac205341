//! What is known of one request, on its way through the stages.

use std::sync::Arc;

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use knarr_api::decode::{self, Format};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::time::SharedClock;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Auditor;
use super::event::{AuthenticationMetadata, Event, Level, Stage, micro_time};
use super::policy::Rule;
use crate::authn::impersonation::Impersonated;
use crate::handlers::negotiate::{JSON, PROTOBUF, media_type};
use crate::object;

/// The id of a request, which the client is told, too; a request extension.
#[derive(Debug, Clone)]
pub struct AuditId(pub HeaderValue);

/// The record of one request. It tells the end of a request that was given up when it is dropped.
pub struct Record {
    auditor: Arc<Auditor>,
    rule: Rule,
    clock: SharedClock,
    state: Mutex<State>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Record").field(&self.state.lock().event.audit_id).finish()
    }
}

struct State {
    event: Event,
    ended: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.state.lock().ended {
            self.state.lock().event.response_status.get_or_insert_with(|| {
                json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200})
            });
            self.stage(Stage::ResponseComplete);
        }
    }
}

impl Record {
    pub(super) fn new(auditor: Arc<Auditor>, rule: Rule, event: Event, clock: SharedClock) -> Self {
        Self { auditor, rule, clock, state: Mutex::new(State { event, ended: false }) }
    }

    /// The request has come this far.
    pub fn stage(&self, stage: Stage) {
        let mut state = self.state.lock();
        state.event.stage = stage;
        state.event.stage_timestamp = micro_time(self.clock.now());
        state.ended |= matches!(stage, Stage::ResponseComplete | Stage::Panic);
        if self.rule.omitted.contains(&stage) {
            return;
        }
        match serde_json::to_vec(&state.event) {
            Ok(event) => self.auditor.sinks.iter().for_each(|sink| sink.write(&event)),
            Err(error) => tracing::error!(%error, "an audit event cannot be encoded"),
        }
    }

    /// Adds an annotation; the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.state.lock().event.annotations.entry(key.into()).or_insert_with(|| value.into());
    }

    /// As [`Self::annotate`], for what is told only where the request itself is.
    pub fn annotate_request(&self, key: impl Into<String>, value: impl FnOnce() -> String) {
        if self.rule.level >= Level::Request {
            self.annotate(key, value());
        }
    }

    pub fn impersonated(&self, by: &Impersonated) {
        let mut state = self.state.lock();
        state.event.impersonated_user = Some((*by.user).clone());
        if !by.constraint.is_empty() {
            let metadata = AuthenticationMetadata { impersonation_constraint: by.constraint.clone() };
            state.event.authentication_metadata = Some(metadata);
        }
    }

    /// What was sent: an object, or a patch.
    pub fn sent(&self, sent: &Value) {
        let mut state = self.state.lock();
        if let Some(about) = &mut state.event.object_ref {
            let fill = |field: &mut String, value: &str| {
                if field.is_empty() {
                    value.clone_into(field);
                }
            };
            fill(&mut about.namespace, object::namespace(sent));
            fill(&mut about.name, object::name(sent));
            fill(&mut about.uid, object::uid(sent));
            fill(&mut about.resource_version, object::meta_str(sent, "resourceVersion"));
        }
        if self.rule.level >= Level::Request {
            state.event.request_object = Some(Arc::new(self.shown(sent.clone())));
        }
    }

    /// What was sent to change an object.
    pub fn patched(&self, patch: &[u8]) {
        if self.rule.level < Level::Request {
            return;
        }
        let patch: Option<Value> = serde_json::from_slice(patch).ok().or_else(|| {
            let decoded = decode::untyped(patch, Format::Yaml, false);
            decoded.ok().map(|decoded| decoded.value)
        });
        // What cannot be read is refused, and the refusal is told.
        self.state.lock().event.request_object = patch.map(|patch| Arc::new(self.shown(patch)));
    }

    fn shown(&self, mut object: Value) -> Value {
        if self.rule.omit_managed_fields {
            without_managed_fields(&mut object);
        }
        object
    }

    /// The server broke down over the request.
    pub fn panicked(&self) {
        self.state.lock().event.response_status = Some(json!({"metadata": {}, "status": "Failure",
            "message": "APIServer panic'd", "reason": "InternalError", "code": 500}));
        self.stage(Stage::Panic);
    }

    /// Nobody could tell who asks.
    pub fn unauthenticated(&self, why: &str) {
        let status = json!({"metadata": {}, "status": "Failure", "message": why, "code": 401});
        self.state.lock().event.response_status = Some(status);
        self.stage(Stage::ResponseStarted);
        self.state.lock().ended = true;
    }

    /// The answer is about to be sent. `long` ones are complete when their body has ended.
    pub async fn answered(self: Arc<Self>, response: Response<Body>, long: bool) -> Response<Body> {
        let code = response.status();
        let wanted = self.rule.level >= Level::RequestResponse && !long;
        let response = match code.is_client_error() || code.is_server_error() || wanted {
            true => self.read(response, wanted).await,
            false => {
                self.state.lock().event.response_status =
                    Some(json!({"metadata": {}, "code": code.as_u16()}));
                response
            }
        };
        if !long {
            self.stage(Stage::ResponseComplete);
            return response;
        }
        self.stage(Stage::ResponseStarted);
        crate::filters::guard(response, Finish(self))
    }

    /// Takes what the answer says into the event.
    async fn read(&self, response: Response<Body>, wanted: bool) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Response::from_parts(parts, Body::new(Broken(Some(error)))),
        };
        let header =
            parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let answer = decoded(&bytes, header);
        let mut state = self.state.lock();
        state.event.response_status = Some(status(answer.as_ref(), parts.status));
        if wanted {
            state.event.response_object = answer.map(|answer| Arc::new(self.shown(answer)));
        }
        drop(state);
        Response::from_parts(parts, Body::from(bytes))
    }
}

/// What a client is told of a failure; of a success, the code.
fn status(answer: Option<&Value>, code: StatusCode) -> Value {
    let mut status = json!({"metadata": {}});
    if let Some(answer) = answer.filter(|answer| answer["kind"] == "Status" && answer["apiVersion"] == "v1") {
        for field in ["status", "message", "reason", "details"] {
            if let Some(value) = answer.get(field) {
                status[field] = value.clone();
            }
        }
    }
    status["code"] = code.as_u16().into();
    status
}

fn decoded(bytes: &[u8], content_type: &str) -> Option<Value> {
    match media_type(content_type) {
        JSON => serde_json::from_slice(bytes).ok(),
        PROTOBUF => {
            let lookup =
                |gvk: &GroupVersionKind| knarr_api::schema::by_gvk(&gvk.group, &gvk.version, &gvk.kind);
            let expected = GroupVersionKind::new("", "", "");
            decode::object(bytes, Format::Protobuf, &expected, false, lookup)
                .ok()
                .map(|object| object.decoded.value)
        }
        _ => None,
    }
}

/// Of an object, of a list's items and of a table's rows.
fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for list in ["items", "rows"] {
        for item in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            match item.get_mut("object") {
                Some(row) if list == "rows" => without_managed_fields(row),
                _ => without_managed_fields(item),
            }
        }
    }
}

/// Tells the end of an answer that goes on for long.
struct Finish(Arc<Record>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.stage(Stage::ResponseComplete);
    }
}

/// A body that broke while it was read here, for the client to see.
struct Broken(Option<axum::Error>);

impl http_body::Body for Broken {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_left_out_wherever_they_are() {
        let object = || json!({"metadata": {"name": "a", "managedFields": [1]}});
        let mut all =
            json!({"metadata": {"managedFields": []}, "items": [object()], "rows": [{"object": object()}]});
        without_managed_fields(&mut all);
        let bare = json!({"metadata": {"name": "a"}});
        assert_eq!(all, json!({"metadata": {}, "items": [bare], "rows": [{"object": bare}]}));
    }
}
