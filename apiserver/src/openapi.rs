//! `/openapi/v2` and `/openapi/v3`: built when asked for, named by what they are made of.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::openapi::{self, Definition};
use knarr_api::schema;
use knarr_api::status::Status;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregation::Remotes;
use crate::catalogue::{Catalogue, Resource, Version, api_version};
use crate::custom::CustomSchema;
use crate::handlers::respond;
use crate::version;

const JSON: &str = "application/json";
/// What client-go's discovery asks for; the name with an `@` is the old one, and still the one asked for.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Answers an OpenAPI path, `None` for any other path.
pub fn serve(
    catalogue: &Catalogue,
    remotes: &Remotes,
    path: &str,
    headers: &HeaderMap,
    query: &[(String, String)],
) -> Option<Result<Response<Body>, Status>> {
    if path == "/openapi/v2" {
        return Some(v2(catalogue, remotes, headers));
    }
    let rest = path.strip_prefix("/openapi/v3")?;
    match rest.trim_matches('/') {
        "" => Some(Ok(index(catalogue, remotes))),
        name => Some(v3(catalogue, name, headers, query)),
    }
}

fn described(version: &Version) -> Vec<openapi::Resource> {
    version.resources.values().filter_map(|resource| describe(resource)).collect()
}

fn describe(resource: &Resource) -> Option<openapi::Resource> {
    if let Some(custom) = &resource.custom {
        return Some(describe_custom(resource, custom));
    }
    let of = resource.schema.clone()?;
    let list = schema::by_name(&format!("{}List", of.name)).unwrap_or_else(|| of.clone());
    let subresources = resource.subresources.iter().filter_map(|(name, sub)| {
        let definition = Definition::Builtin(schema::by_gvk(&sub.group, &sub.version, &sub.kind)?);
        let kind = GroupVersionKind::new(sub.group.clone(), sub.version.clone(), sub.kind.clone());
        Some(openapi::Subresource { name: name.clone(), kind, verbs: sub.verbs.clone(), definition })
    });
    Some(openapi::Resource {
        kind: GroupVersionKind::new(resource.group.clone(), resource.version.clone(), resource.kind.clone()),
        name: resource.name.clone(),
        namespaced: resource.namespaced,
        verbs: resource.verbs.clone(),
        subresources: subresources.collect(),
        definition: Definition::Builtin(of),
        list: Definition::Builtin(list),
    })
}

fn describe_custom(resource: &Resource, custom: &CustomSchema) -> openapi::Resource {
    let kind = GroupVersionKind::new(resource.group.clone(), resource.version.clone(), resource.kind.clone());
    let (plural, list, schema) =
        (resource.name.clone(), resource.list_kind.clone(), custom.published.clone());
    let mut described = openapi::Resource::custom(kind, plural, list, resource.namespaced, schema);
    if resource.subresources.contains_key("status") {
        described = described.with_status();
    }
    if resource.subresources.contains_key("scale") {
        described = described.with_scale();
    }
    described
}

fn path_of(group: &str, version: &str) -> String {
    let prefix = if group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", api_version(group, version))
}

/// `/openapi/v3`: where each group version's document is.
fn index(catalogue: &Catalogue, remotes: &Remotes) -> Response<Body> {
    let mut paths = BTreeMap::new();
    for group in &catalogue.groups {
        for served in &group.versions {
            let path = path_of(&group.name, &served.name);
            let hash = openapi::fingerprint(&described(served), &version::git_version());
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            );
        }
    }
    for remote in remotes.values() {
        let path = path_of(&remote.group, &remote.version);
        match remote.documents().and_then(|documents| documents.openapi_v3.clone()) {
            Some(url) => paths.insert(path, json!({"serverRelativeURL": url})),
            // Its local namesake, if there is one, is not what is served.
            None => paths.remove(&path),
        };
    }
    let body: Value = json!({"paths": paths});
    respond::response(StatusCode::OK, JSON, body.to_string().into())
}

fn v3(
    catalogue: &Catalogue,
    name: &str,
    headers: &HeaderMap,
    query: &[(String, String)],
) -> Result<Response<Body>, Status> {
    let segments: Vec<&str> = name.split('/').collect();
    let found = match segments.as_slice() {
        ["api", version] => catalogue.version("", version),
        ["apis", group, version] => catalogue.version(group, version),
        _ => None,
    };
    let resources = described(found.ok_or_else(Status::path_not_found)?);
    let hash = openapi::fingerprint(&resources, &version::git_version());
    let asked = query.iter().find(|(key, _)| key == "hash").map(|(_, value)| value.as_str());
    if asked.is_some_and(|asked| asked != hash) {
        // The client's index is old; the document has moved.
        let mut response = respond::response(StatusCode::MOVED_PERMANENTLY, JSON, Body::empty());
        let to = format!("/openapi/v3/{name}?hash={hash}");
        response.headers_mut().insert(LOCATION, HeaderValue::from_str(&to).map_err(Status::internal)?);
        return Ok(response);
    }
    let mut response = tagged(&hash, JSON, headers, || openapi::v3(&resources, &version::git_version()))?;
    if asked.is_some() {
        // A document under its hash never changes.
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        headers.insert(EXPIRES, HeaderValue::from_static("Thu, 31 Dec 2099 23:59:59 GMT"));
    }
    Ok(response)
}

fn v2(catalogue: &Catalogue, remotes: &Remotes, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let versions = catalogue.groups.iter().flat_map(|group| &group.versions);
    let resources: Vec<openapi::Resource> = versions.flat_map(described).collect();
    let hash = openapi::fingerprint(&resources, &version::git_version());
    if accepts_protobuf(headers) {
        // Each form of a document has a tag of its own.
        let hash = format!("{hash}-protobuf");
        return tagged(&hash, V2_PROTOBUF, headers, || {
            openapi::v2_protobuf(&resources, &version::git_version())
        });
    }
    let others: Vec<Bytes> = remotes
        .values()
        .filter_map(|remote| remote.documents().and_then(|documents| documents.openapi_v2.clone()))
        .collect();
    let hash = others.iter().fold(hash, |hash, other| {
        let digest: String = Sha256::digest(other).iter().map(|byte| format!("{byte:02X}")).collect();
        format!("{hash}-{digest}")
    });
    tagged(&hash, JSON, headers, || {
        let own = openapi::v2(&resources, &version::git_version());
        if others.is_empty() { own } else { merged(&own, remotes).unwrap_or(own) }
    })
}

/// This server's document with the paths of the remotes' groups, and the definitions that those have and we do not.
fn merged(own: &[u8], remotes: &Remotes) -> Option<Vec<u8>> {
    let mut all: Value = serde_json::from_slice(own).ok()?;
    for remote in remotes.values() {
        let Some(document) = remote.documents().and_then(|documents| documents.openapi_v2.clone()) else {
            continue;
        };
        let Ok(document) = serde_json::from_slice::<Value>(&document) else { continue };
        let prefix = format!("/{}/", path_of(&remote.group, &remote.version));
        for (part, wanted) in [("paths", prefix.as_str()), ("definitions", "")] {
            let theirs = document[part].as_object().into_iter().flatten();
            let wanted = theirs.filter(|(name, _)| name.starts_with(wanted));
            if let Some(ours) = all[part].as_object_mut() {
                for (name, value) in wanted {
                    ours.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }
    serde_json::to_vec(&all).ok()
}

/// Whether protobuf is asked for before JSON, and before anything at all.
fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut asked = accept.split(',').map(|media| media.split(';').next().unwrap_or_default().trim());
    let known =
        |media: &&str| matches!(*media, V2_PROTOBUF | V2_PROTOBUF_ASKED | JSON | "application/*" | "*/*");
    asked.find(known).is_some_and(|media| matches!(media, V2_PROTOBUF | V2_PROTOBUF_ASKED))
}

/// The document, or 304 when the client has it. It is built only if it is sent.
fn tagged(
    hash: &str,
    form: &'static str,
    headers: &HeaderMap,
    build: impl FnOnce() -> Vec<u8>,
) -> Result<Response<Body>, Status> {
    let tag = format!("\"{hash}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(tag.as_str());
    let mut response = if known {
        respond::response(StatusCode::NOT_MODIFIED, form, Body::empty())
    } else {
        respond::response(StatusCode::OK, form, build().into())
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(Status::internal)?);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_asked_for_is_served() {
        let asks = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a header"));
            accepts_protobuf(&headers)
        };
        assert!(
            asks(V2_PROTOBUF_ASKED)
                && asks("application/com.github.proto-openapi.spec.v2.v1.0+protobuf;q=1, */*")
        );
        assert!(
            !asks("*/*") && !asks("application/json") && !asks(&format!("application/json, {V2_PROTOBUF}"))
        );
        assert!(!accepts_protobuf(&HeaderMap::new()));
    }
}
