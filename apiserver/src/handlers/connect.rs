//! Subresources with a protocol of their own: after admission the request is theirs.

use std::sync::Arc;

use axum::body::Body;
use http::Response;
use knarr_api::status::Status;
use serde_json::{Map, Value, json};

use super::Call;
use crate::admission::Operation;
use crate::catalogue::Connect;
use crate::registry::attributes;
use crate::request_info::RequestInfo;

pub async fn connect(call: Call, connect: Arc<dyn Connect>) -> Result<Response<Body>, Status> {
    let Call { cx, request, .. } = call;
    let mut attributes = attributes(&cx, Operation::Connect, cx.name(), Value::Null);
    attributes.options = None;
    attributes.object = Some(options_object(&cx.info, &cx.query));
    cx.registry.admit(&mut attributes).await?;
    cx.registry.check(&attributes).await?;
    connect.connect(&cx, request).await
}

/// The options object (`PodExecOptions` and its like) as the query spells it, for those who admit the request. What
/// its kind does not have is left out.
fn options_object(info: &RequestInfo, query: &[(String, String)]) -> Value {
    let all = |name: &str| -> Vec<&str> {
        query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    let kind = match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "exec") => "PodExecOptions",
        ("pods", "attach") => "PodAttachOptions",
        ("pods", "portforward") => "PodPortForwardOptions",
        ("pods", _) => "PodProxyOptions",
        ("services", _) => "ServiceProxyOptions",
        _ => "NodeProxyOptions",
    };
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "v1".into());
    if matches!(kind, "PodExecOptions" | "PodAttachOptions") {
        for flag in ["stdin", "stdout", "stderr", "tty"] {
            if all(flag).first().is_some_and(|value| is_true(value)) {
                options.insert(flag.to_owned(), true.into());
            }
        }
        if let Some(container) = all("container").first() {
            options.insert("container".to_owned(), (*container).into());
        }
    }
    match kind {
        "PodExecOptions" => {
            options.insert("command".to_owned(), json!(all("command")));
        }
        "PodPortForwardOptions" => {
            let ports = all("ports").into_iter().flat_map(|ports| ports.split(','));
            let ports: Vec<i32> = ports.filter_map(|port| port.parse().ok()).collect();
            if !ports.is_empty() {
                options.insert("ports".to_owned(), json!(ports));
            }
        }
        "PodAttachOptions" => {}
        _ => {
            if let Some(path) = all("path").first() {
                options.insert("path".to_owned(), (*path).into());
            }
        }
    }
    Value::Object(options)
}

/// Flags of a query as upstream reads them: everything but a plain no is a yes.
fn is_true(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_types_of_their_kind() {
        let of = |subresource: &str, query: &[(&str, &str)]| {
            let info = RequestInfo {
                resource: "pods".to_owned(),
                subresource: subresource.to_owned(),
                ..RequestInfo::default()
            };
            let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            options_object(&info, &query)
        };
        let query =
            [("stdin", "true"), ("stderr", "false"), ("tty", ""), ("container", "c"), ("command", "ls")];
        let attach = json!({
            "apiVersion": "v1", "kind": "PodAttachOptions", "stdin": true, "tty": true, "container": "c"
        });
        assert_eq!(of("attach", &query), attach);
        assert_eq!(of("exec", &query)["command"], json!(["ls"]));
        assert_eq!(of("portforward", &[("ports", "80,81"), ("ports", "x")])["ports"], json!([80, 81]));
    }
}
