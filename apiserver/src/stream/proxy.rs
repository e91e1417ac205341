//! The `proxy` subresource of pods, services and nodes.

use axum::body::Body;
use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use knarr_api::status::Status;

use super::rewrite::Rewriter;
use super::{Proxied, Streams, Target, headers, relay};

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// Answers about other origins are for browsers that talk to the pod directly, not through here.
const CORS: [HeaderName; 6] = [
    HeaderName::from_static("access-control-allow-origin"),
    HeaderName::from_static("access-control-allow-credentials"),
    HeaderName::from_static("access-control-allow-methods"),
    HeaderName::from_static("access-control-allow-headers"),
    HeaderName::from_static("access-control-expose-headers"),
    HeaderName::from_static("access-control-max-age"),
];

/// A request's path, cut behind `/proxy`: the prefix that leads here, and what is asked of the backend.
fn cut(path: &str) -> Option<(&str, &str)> {
    let namespaced = path.trim_start_matches('/').split('/').nth(2) == Some("namespaces");
    let segments = if namespaced { 7 } else { 5 };
    let begin = path.len() - path.trim_start_matches('/').len();
    let ends: Vec<usize> =
        path[begin..].match_indices('/').map(|(at, _)| begin + at).chain([path.len()]).collect();
    let end = *ends.get(segments - 1)?;
    Some(path.split_at(end))
}

impl Streams {
    pub(super) async fn forward(
        &self,
        proxied: Proxied,
        target: Target<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let location = self.resolve(proxied, target.namespace, target.name).await?;
        let path = request.uri().path().to_owned();
        let (prefix, rest) = cut(&path).ok_or_else(Status::path_not_found)?;
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let onward = format!("{}{query}", if rest.is_empty() { "/" } else { rest });
        if let Some(protocol) = headers::upgrade(request.headers()) {
            return relay::relay(self, &location, &onward, protocol, request).await;
        }
        // A page's relative links need the slash.
        if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return moved(&format!("{prefix}/{query}"));
        }
        let (parts, body) = request.into_parts();
        let host = host(&parts);
        let onward = onward_request(&parts, &onward, &format!("{prefix}{rest}"), body)?;
        let answer = self.backend.send(&location, onward).await.map_err(|error| {
            Status::service_unavailable(format!("error trying to reach service: {error}"))
        })?;
        let rewriter = Rewriter {
            prefix,
            source_host: &location.authority(),
            request_host: &host,
            scheme: location.scheme(),
        };
        let (mut parts, body) = answer.into_parts();
        headers::response(&mut parts.headers);
        for name in &CORS {
            parts.headers.remove(name);
        }
        rewriter.answer(parts, body).await
    }
}

fn host(parts: &Parts) -> String {
    let header = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| parts.uri.authority().map(|host| host.as_str())).unwrap_or_default().to_owned()
}

fn onward_request(parts: &Parts, path: &str, forwarded: &str, body: Body) -> Result<Request<Body>, Status> {
    let mut onward =
        Request::builder().method(&parts.method).uri(path).body(body).map_err(Status::internal)?;
    *onward.headers_mut() = headers::request(parts);
    if let Ok(forwarded) = HeaderValue::from_str(forwarded) {
        onward.headers_mut().insert(FORWARDED_URI, forwarded);
    }
    Ok(onward)
}

fn moved(to: &str) -> Result<Response<Body>, Status> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(to).map_err(Status::internal)?);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_behind_proxy_and_kept_as_they_are() {
        let table = [
            ("/api/v1/namespaces/a/pods/web/proxy", Some(("/api/v1/namespaces/a/pods/web/proxy", ""))),
            (
                "/api/v1/namespaces/a/services/proxy/proxy/x%2Fy//z/",
                Some(("/api/v1/namespaces/a/services/proxy/proxy", "/x%2Fy//z/")),
            ),
            ("/api/v1/nodes/n/proxy/metrics", Some(("/api/v1/nodes/n/proxy", "/metrics"))),
            ("/api/v1/nodes", None),
        ];
        for (path, expected) in table {
            assert_eq!(cut(path), expected, "{path}");
        }
    }
}
