//! Subresources with a protocol of their own: after admission the request is theirs.

use std::sync::Arc;

use axum::body::Body;
use http::Response;
use knarr_api::status::Status;
use serde_json::{Map, Value};

use super::Call;
use crate::admission::Operation;
use crate::catalogue::Connect;
use crate::registry::attributes;

pub async fn connect(call: Call, connect: Arc<dyn Connect>) -> Result<Response<Body>, Status> {
    let Call { cx, request, .. } = call;
    let mut attributes = attributes(&cx, Operation::Connect, cx.name(), Value::Null);
    attributes.options = None;
    attributes.object = Some(options_object(&cx.query));
    cx.registry.admit(&mut attributes).await?;
    cx.registry.check(&attributes).await?;
    connect.connect(&cx, request).await
}

/// The options object (`PodExecOptions` and its like) as the query spells it; repeated names become lists.
fn options_object(query: &[(String, String)]) -> Value {
    let mut options: Map<String, Value> = Map::new();
    for (name, value) in query {
        match options.get_mut(name) {
            None => {
                options.insert(name.clone(), value.as_str().into());
            }
            Some(Value::Array(list)) => list.push(value.as_str().into()),
            Some(one) => *one = Value::Array(vec![one.take(), value.as_str().into()]),
        }
    }
    Value::Object(options)
}
