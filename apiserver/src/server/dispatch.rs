//! From a request that may be served to who serves it.

use std::sync::Arc;

use axum::body::Body;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::Inner;
use crate::aggregation::{Aggregator, Remote};
use crate::handlers::negotiate::Output;
use crate::handlers::{self, respond};
use crate::request_info::RequestInfo;
use crate::user::User;
use crate::{discovery, openapi, version};

/// Paths that `/` lists beside those of groups.
const PATHS: &[&str] = &[
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

impl Inner {
    /// Serves a request that passed all filters.
    pub async fn dispatch(
        &self,
        info: Arc<RequestInfo>,
        user: User,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        if let Some((aggregator, remote)) = self.remote(&info) {
            return Ok(aggregator.proxy(&remote, &user, request).await);
        }
        if info.is_resource {
            return Ok(handlers::serve(self.registry.clone(), info, user, request).await);
        }
        let query: Vec<(String, String)> =
            form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        if let Some(response) = self.health.serve(&info.path, &query) {
            return Ok(response);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Status::path_not_found());
        }
        let pretty = query.iter().find(|(key, _)| key == "pretty").map(|(_, value)| value.as_str());
        let catalogue = self.registry.catalogue();
        let remotes = self.security.aggregator.as_ref().map(|known| known.remotes().clone());
        let remotes = remotes.unwrap_or_default();
        if let Some(answer) = discovery::serve(&catalogue, &remotes, &info.path, request.headers(), pretty) {
            return answer;
        }
        if let Some(answer) = openapi::serve(&catalogue, &remotes, &info.path, request.headers(), &query) {
            return answer;
        }
        if let Some(document) = self.security.extensions.document_at(&info.path) {
            let mut response =
                respond::response(StatusCode::OK, document.content_type, document.body.clone().into());
            // Keys change rarely, and whoever checks tokens asks often.
            let cached = HeaderValue::from_static("public, max-age=3600");
            response.headers_mut().insert(CACHE_CONTROL, cached);
            return Ok(response);
        }
        match info.path.as_str() {
            "/version" | "/version/" => document(&version::document()),
            "/metrics" => {
                let resources: Vec<_> =
                    catalogue.resources().filter_map(|resource| resource.stored()).collect();
                let counts = resources.iter().map(|storage| (storage.full_name(), storage.cache.len()));
                let counts: std::collections::BTreeMap<String, usize> = counts.collect();
                let counts = counts.iter().map(|(name, count)| (name.as_str(), *count));
                let text = self.metrics.render(counts).map_err(Status::internal)?;
                Ok(respond::response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into()))
            }
            "/" => document(&self.index()),
            _ => Err(Status::path_not_found()),
        }
    }

    /// Who else answers the request: those who serve its group and version, or the description of that.
    fn remote(&self, info: &RequestInfo) -> Option<(&Arc<Aggregator>, Arc<Remote>)> {
        let aggregator = self.security.aggregator.as_ref()?;
        let found = if info.is_resource {
            aggregator.remote(&info.group, &info.version)?
        } else {
            let path = info.path.strip_prefix("/openapi/v3").unwrap_or(&info.path);
            match path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
                ["apis", group, version] => aggregator.remote(group, version)?,
                _ => return None,
            }
        };
        Some((aggregator, found))
    }

    /// The paths that are served.
    fn index(&self) -> Value {
        let catalogue = self.registry.catalogue();
        let documents = self.security.extensions.document_paths();
        let mut paths: Vec<String> = PATHS.iter().copied().chain(documents).map(str::to_owned).collect();
        for group in catalogue.groups.iter().filter(|group| !group.name.is_empty()) {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(
                group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)),
            );
        }
        paths.sort_unstable();
        json!({"paths": paths})
    }
}

/// These few are for people, too, and have no other form than JSON.
fn document(value: &Value) -> Result<Response<Body>, Status> {
    respond::value(StatusCode::OK, &Output::for_people(), value)
}
