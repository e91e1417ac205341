//! Links in a proxied answer, made to lead through the proxy again.

use std::io::Read;

use axum::body::Body;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderValue, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use knarr_api::status::Status;

use super::{headers, html};

/// A longer page is passed through with its links as they are refused: it would have to be held in memory.
const MAX_PAGE: usize = 16 << 20;

/// What it takes to tell which links lead to the backend, and where they must lead instead.
pub(super) struct Rewriter<'a> {
    /// The path of the proxy, up to and with `/proxy`.
    pub prefix: &'a str,
    /// The backend's host and port.
    pub source_host: &'a str,
    /// The host the client asked.
    pub request_host: &'a str,
    /// The backend's scheme.
    pub scheme: &'static str,
}

impl Rewriter<'_> {
    /// The answer as it goes to the client: redirections and links in pages lead through the proxy.
    pub async fn answer(&self, mut parts: Parts, body: Incoming) -> Result<Response<Body>, Status> {
        if let Some(location) = parts.headers.get(LOCATION) {
            let location = location.to_str().map_err(|error| {
                Status::internal(format!("error trying to parse Location header: {error}"))
            })?;
            let rewritten = HeaderValue::from_str(&self.link(location)).map_err(Status::internal)?;
            parts.headers.insert(LOCATION, rewritten);
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
        let gzip = match text(CONTENT_ENCODING) {
            "" => false,
            "gzip" => true,
            // Not understood, so its links stay.
            _ => return Ok(Response::from_parts(parts, Body::new(body))),
        };
        if kind != "text/html" {
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let page = Limited::new(body, MAX_PAGE)
            .collect()
            .await
            .map_err(|error| Status::service_unavailable(format!("error trying to reach service: {error}")))?
            .to_bytes();
        let page = self.page(&page, gzip).map_err(Status::internal)?;
        headers::changed_body(&mut parts.headers);
        Ok(Response::from_parts(parts, Body::from(page)))
    }

    fn page(&self, page: &[u8], gzip: bool) -> std::io::Result<Vec<u8>> {
        if !gzip {
            return Ok(html::rewrite(page, |link| self.link(link)));
        }
        let mut plain = Vec::new();
        GzDecoder::new(page).take(MAX_PAGE as u64).read_to_end(&mut plain)?;
        let plain = html::rewrite(&plain, |link| self.link(link));
        let mut packed = Vec::new();
        GzEncoder::new(plain.as_slice(), Compression::default()).read_to_end(&mut packed)?;
        Ok(packed)
    }

    /// A link: unchanged if it is relative or leads elsewhere, else through the proxy.
    fn link(&self, link: &str) -> String {
        let (host, rest) = match split(link) {
            Some(split) => split,
            None => return link.to_owned(),
        };
        let elsewhere = host.is_some_and(|host| {
            host != self.source_host && host != self.request_host && !self.is_default_port(host)
        });
        if elsewhere || !rest.starts_with('/') {
            return link.to_owned();
        }
        // The client's own host stays in the link.
        let front = match host {
            Some(host) if host == self.request_host => &link[..link.len() - rest.len()],
            _ => "",
        };
        if rest.starts_with(self.prefix) {
            return format!("{front}{rest}");
        }
        format!("{front}{}{rest}", self.prefix)
    }

    /// Whether a host without port is the backend at its scheme's own port.
    fn is_default_port(&self, host: &str) -> bool {
        let port = if self.scheme == "https" { 443 } else { 80 };
        format!("{host}:{port}") == self.source_host
    }
}

/// The host and what comes behind it. `None`: not a link that could lead to the backend.
fn split(link: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = link.strip_prefix("//") {
        let at = rest.find('/').unwrap_or(rest.len());
        return Some((Some(&rest[..at]), &rest[at..]));
    }
    if link.starts_with('/') {
        return Some((None, link));
    }
    let uri: Uri = link.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let rest = link.get(scheme.len()..)?.strip_prefix("://")?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((Some(&rest[..at]), &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_links_to_the_backend_lead_through_the_proxy() {
        let rewriter = Rewriter {
            prefix: "/api/v1/nodes/n/proxy",
            source_host: "10.0.0.1:80",
            request_host: "localhost:8001",
            scheme: "http",
        };
        let table = [
            ("/a?b=c#d", "/api/v1/nodes/n/proxy/a?b=c#d"),
            ("a/b", "a/b"),
            ("http://10.0.0.1:80/a", "/api/v1/nodes/n/proxy/a"),
            ("http://10.0.0.1/a/", "/api/v1/nodes/n/proxy/a/"),
            ("http://localhost:8001/a", "http://localhost:8001/api/v1/nodes/n/proxy/a"),
            ("http://example.com/a", "http://example.com/a"),
            ("//example.com/a", "//example.com/a"),
            ("/api/v1/nodes/n/proxy/a", "/api/v1/nodes/n/proxy/a"),
            ("mailto:a@b", "mailto:a@b"),
        ];
        for (link, expected) in table {
            assert_eq!(rewriter.link(link), expected, "{link}");
        }
    }
}
