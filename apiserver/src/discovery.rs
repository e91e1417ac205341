//! What is served, told to clients: the older one-group-at-a-time documents and the aggregated one.

mod aggregated;
mod groups;
mod legacy;

use axum::body::Body;
use http::header::{ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use knarr_api::status::Status;
use sha2::{Digest, Sha256};

use crate::aggregation::Remotes;
use crate::catalogue::Catalogue;
use crate::handlers::{FORMATS, negotiate, respond};

/// Answers a discovery path, `None` for any other path.
pub fn serve(
    catalogue: &Catalogue,
    remotes: &Remotes,
    path: &str,
    headers: &HeaderMap,
    pretty: Option<&str>,
) -> Option<Result<Response<Body>, Status>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let document = match segments.as_slice() {
        [root @ ("api" | "apis")] => {
            if let Some(version) = wants_aggregated(headers) {
                return Some(aggregated_answer(&groups::all(catalogue, remotes), root, version, headers));
            }
            Some(if *root == "api" {
                legacy::core_versions()
            } else {
                legacy::groups(&groups::all(catalogue, remotes))
            })
        }
        ["api", version] => legacy::resources(catalogue, "", version),
        ["apis", group] => legacy::group(&groups::all(catalogue, remotes), group),
        ["apis", group, version] => legacy::resources(catalogue, group, version),
        _ => return None,
    };
    let document = document.ok_or_else(Status::path_not_found);
    Some(document.and_then(|document| {
        let output = negotiate::output(headers, pretty, FORMATS, |shape| shape == negotiate::Shape::Full)?;
        respond::value(StatusCode::OK, &output, &document)
    }))
}

/// The version of the aggregated document that the client would rather have.
fn wants_aggregated(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(http::header::ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|clause| {
        let has = |wanted: &str| clause.split(';').any(|part| part.trim() == wanted);
        let aggregated =
            has("application/json") && has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList");
        match aggregated {
            true if has("v=v2") => Some("v2"),
            true if has("v=v2beta1") => Some("v2beta1"),
            _ => None,
        }
    })
}

/// The document with an entity tag, or 304 when the client has it already.
fn aggregated_answer(
    groups: &[groups::Group<'_>],
    root: &str,
    version: &'static str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let document = aggregated::document(groups, root == "api", version);
    let mut body = serde_json::to_vec(&document).map_err(Status::internal)?;
    body.push(b'\n');
    let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = format!("\"{digest}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(tag.as_str());
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let mut response = if known {
        respond::response(StatusCode::NOT_MODIFIED, content_type, Body::empty())
    } else {
        respond::response(StatusCode::OK, content_type, body.into())
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(Status::internal)?);
    Ok(response)
}
