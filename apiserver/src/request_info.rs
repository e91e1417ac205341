//! What a request asks for, read from its method, path and query as upstream's `RequestInfoFactory` does.

use http::Method;
use percent_encoding::percent_decode_str;

/// Filters put it into the request's extensions as an [`std::sync::Arc`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// A request for an object or a collection, as opposed to `/healthz` or discovery.
    pub is_resource: bool,
    /// The path, percent-decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`;
    /// for other requests the method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub prefix: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for cluster-wide requests. For a request about a Namespace object, that namespace's name.
    pub namespace: String,
    /// Empty for collections, but for a list or watch pinned by `metadata.name` in the field selector.
    pub name: String,
    /// The path's segments from the resource on.
    pub parts: Vec<String>,
    /// The selectors of a `list`, `watch` or `deletecollection`, unparsed.
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

/// The path cannot be understood; answered with 400.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("unable to determine kind and namespace from url, {0}")]
    NoKind(String),
    #[error("invalid URL escape in {0:?}")]
    BadEscape(String),
}

impl RequestInfo {
    /// Reads a request line. `path` and `query` are as on the wire, still percent-encoded.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Error> {
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| Error::BadEscape(path.to_owned()))?
            .into_owned();
        let mut info = Self { verb: method.as_str().to_ascii_lowercase(), path, ..Self::default() };
        let segments: Vec<String> = split_path(&info.path);
        let mut rest = segments.as_slice();
        if rest.len() < 3 || !matches!(rest[0].as_str(), "api" | "apis") {
            return Ok(info);
        }
        if rest[0] == "apis" {
            if rest.len() < 4 {
                return Ok(info);
            }
            info.group.clone_from(&rest[1]);
            rest = &rest[1..];
        }
        info.prefix.clone_from(&segments[0]);
        info.is_resource = true;
        info.version.clone_from(&rest[1]);
        rest = &rest[2..];
        let verb_in_path = matches!(rest[0].as_str(), "watch" | "proxy");
        if verb_in_path {
            if rest.len() < 2 {
                return Err(Error::NoKind(info.path));
            }
            info.verb.clone_from(&rest[0]);
            rest = &rest[1..];
        } else {
            verb_of(method).clone_into(&mut info.verb);
        }
        info.place(rest);
        let query = Query::parse(query);
        info.refine_verb(&query);
        if !verb_in_path && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.field_selector = query.fields;
            info.label_selector = query.labels;
        }
        Ok(info)
    }

    /// Whether the path itself names an object (as opposed to a field selector doing so).
    pub fn names_object(&self) -> bool {
        self.parts.len() >= 2
    }

    /// Reads namespace, resource, name and subresource from what follows the version.
    fn place(&mut self, mut rest: &[String]) {
        if rest[0] == "namespaces" && rest.len() > 1 {
            self.namespace.clone_from(&rest[1]);
            if rest.len() > 2 && !matches!(rest[2].as_str(), "status" | "finalize") {
                rest = &rest[2..];
            }
        }
        self.parts = rest.to_vec();
        self.resource.clone_from(&rest[0]);
        if let Some(name) = rest.get(1) {
            self.name.clone_from(name);
        }
        if let Some(subresource) = rest.get(2)
            && self.verb != "proxy"
        {
            self.subresource.clone_from(subresource);
        }
    }

    /// A get without a name is a list or a watch, a delete without a name is of the collection.
    fn refine_verb(&mut self, query: &Query) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb.as_str() {
            "get" => {
                self.verb = if query.watch { "watch" } else { "list" }.to_owned();
                let pinned = query.fields.as_deref().and_then(exact_name).filter(|n| is_path_segment(n));
                if let Some(name) = pinned {
                    name.clone_into(&mut self.name);
                }
            }
            "delete" => "deletecollection".clone_into(&mut self.verb),
            _ => {}
        }
    }
}

fn split_path(path: &str) -> Vec<String> {
    let path = path.trim_matches('/');
    if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[derive(Default)]
struct Query {
    watch: bool,
    fields: Option<String>,
    labels: Option<String>,
}

impl Query {
    /// The first value of each parameter counts.
    fn parse(query: Option<&str>) -> Self {
        let mut parsed = Self::default();
        let mut watch = None;
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "watch" if watch.is_none() => {
                    watch = Some(!matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
                }
                "fieldSelector" if parsed.fields.is_none() => parsed.fields = Some(value.into_owned()),
                "labelSelector" if parsed.labels.is_none() => parsed.labels = Some(value.into_owned()),
                _ => {}
            }
        }
        parsed.watch = watch.unwrap_or_default();
        parsed
    }
}

/// The name a field selector requires, if it does. Names need no escapes, so none are undone here.
fn exact_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value))
    })
}

fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        let uri: http::Uri = uri.parse().unwrap();
        RequestInfo::parse(&method, uri.path(), uri.query()).unwrap()
    }

    #[test]
    fn resource_requests_are_taken_apart_as_upstream_does() {
        // method, path, verb, group, version, namespace, resource, subresource, name
        let table = [
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/other", "get", "", "v1", "other", "namespaces", "", "other"),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            ("GET", "/api/v1/namespaces/other/pods", "list", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods?watch=true", "watch", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods?watch=0", "list", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/watch/pods/foo", "watch", "", "v1", "", "pods", "", "foo"),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "v1",
                "",
                "pods",
                "",
                "foo",
            ),
            (
                "POST",
                "/api/v1/namespaces/other/pods/foo/exec",
                "create",
                "",
                "v1",
                "other",
                "pods",
                "exec",
                "foo",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/other/deployments",
                "deletecollection",
                "apps",
                "v1",
                "other",
                "deployments",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/o/deployments/x/scale",
                "patch",
                "apps",
                "v1",
                "o",
                "deployments",
                "scale",
                "x",
            ),
        ];
        for (method, path, verb, group, version, namespace, resource, subresource, name) in table {
            let info = parse(method.parse().unwrap(), path);
            assert!(info.is_resource, "{path}");
            let seen = [
                &info.verb,
                &info.group,
                &info.version,
                &info.namespace,
                &info.resource,
                &info.subresource,
                &info.name,
            ];
            assert_eq!(seen, [verb, group, version, namespace, resource, subresource, name], "{path}");
        }
    }

    #[test]
    fn discovery_and_health_are_no_resources() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version"] {
            let info = parse(Method::GET, path);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }
}
