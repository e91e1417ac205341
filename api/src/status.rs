//! `metav1.Status`: what every failed request answers, with upstream's reasons, messages and details.
//!
//! A `Status` is the error type of everything that speaks the API; it carries its own HTTP code.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `metav1.StatusReason`: the machine-readable reason.
pub mod reason {
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const EXPIRED: &str = "Expired";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

/// `metav1.CauseType`s that are not field error types.
pub mod cause {
    pub const UNEXPECTED_SERVER_RESPONSE: &str = "UnexpectedServerResponse";
    pub const RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    pub const FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
}

/// One cause of a failure, usually one wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Cause {
    /// `metav1.CauseType`, for example `FieldValueRequired`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub message: String,
    /// Path of the field, for example `spec.containers[0].name`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub field: String,
}

impl Cause {
    pub fn new(
        reason: impl Into<Cow<'static, str>>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { reason: reason.into(), message: message.into(), field: field.into() }
    }
}

/// `metav1.StatusDetails`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: String,
    /// The resource (plural) or kind the failure is about; upstream uses one field for both.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// `metav1.Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Status {
    /// False: `Failure`.
    pub success: bool,
    pub message: String,
    pub reason: Cow<'static, str>,
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    pub code: u16,
    /// `metadata.continue`: how to go on with a list although its consistent view is lost.
    pub continue_token: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    kind: Cow<'static, str>,
    #[serde(default)]
    api_version: Cow<'static, str>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    status: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    reason: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    #[serde(default, skip_serializing_if = "is_zero_code")]
    code: u16,
}

#[derive(Serialize, Deserialize, Default)]
struct Metadata {
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    continue_token: Option<Box<str>>,
}

fn is_zero_code(n: &u16) -> bool {
    *n == 0
}

impl From<Status> for Wire {
    fn from(s: Status) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Metadata { continue_token: s.continue_token },
            status: if s.success { "Success" } else { "Failure" }.into(),
            message: s.message,
            reason: s.reason,
            details: s.details,
            code: s.code,
        }
    }
}

impl From<Wire> for Status {
    fn from(w: Wire) -> Self {
        Self {
            success: w.status == "Success",
            message: w.message,
            reason: w.reason,
            details: w.details,
            code: w.code,
            continue_token: w.metadata.continue_token,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `resource.group`, or `resource` in the core group: how messages name a resource or kind.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    /// A failure with no details.
    pub fn failure(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            success: false,
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
            continue_token: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = group.to_owned();
        details.kind = kind.to_owned();
        details.name = name.to_owned();
        self
    }

    /// Adds causes to the details.
    pub fn with_causes(mut self, causes: impl IntoIterator<Item = Cause>) -> Self {
        self.details.get_or_insert_default().causes.extend(causes);
        self
    }

    /// Tells the client when to come back; also sent as the `Retry-After` header.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Gives the client a token to go on with.
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token.into());
        self
    }

    /// Whether the reason is this one of [`reason`].
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// What a delete that removed the object answers.
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            uid: uid.into(),
            ..Details::default()
        };
        Self { details: Some(Box::new(details)), ..Self::success(0) }
    }

    /// A bare success, for example of a bind.
    pub fn success(code: u16) -> Self {
        Self { success: true, ..Self::failure(code, "", "") }
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::failure(404, reason::NOT_FOUND, message).about(group, resource, name)
    }

    /// A path or a resource the server does not serve at all.
    pub fn path_not_found() -> Self {
        let message = "the server could not find the requested resource";
        Self::failure(404, reason::NOT_FOUND, message).with_causes([])
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::failure(409, reason::ALREADY_EXISTS, message).about(group, resource, name)
    }

    /// All names that `generateName` tried were taken.
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource)
        );
        Self::failure(409, reason::ALREADY_EXISTS, message).about(group, resource, name).with_retry_after(1)
    }

    pub fn unauthorized(message: &str) -> Self {
        Self::failure(401, reason::UNAUTHORIZED, if message.is_empty() { "not authorized" } else { message })
    }

    /// `name` and `resource` may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} {name:?} is forbidden: {why}", qualified(group, resource)),
        };
        Self::failure(403, reason::FORBIDDEN, message).about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::failure(409, reason::CONFLICT, message).about(group, resource, name)
    }

    /// The resourceVersion the writer gave is not the stored one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// Server-side apply found fields owned by others.
    pub fn apply_conflict(message: impl Into<String>, causes: impl IntoIterator<Item = Cause>) -> Self {
        Self::failure(409, reason::CONFLICT, message).with_causes(causes)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, reason::GONE, message)
    }

    /// The resourceVersion or continue token is older than what is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message)
    }

    /// Field errors; `kind` is the Kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: impl IntoIterator<Item = Cause>) -> Self {
        let causes: Vec<Cause> = causes.into_iter().collect();
        let mut lines: Vec<String> = Vec::with_capacity(causes.len());
        for cause in &causes {
            let line = format!("{}: {}", cause.field, cause.message);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let head = format!("{} {name:?} is invalid", qualified(group, kind));
        let message = match lines.as_slice() {
            [] => head,
            [one] => format!("{head}: {one}"),
            many => format!("{head}: [{}]", many.join(", ")),
        };
        Self::failure(422, reason::INVALID, message).about(group, kind, name).with_causes(causes)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message)
    }

    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).about(group, resource, "")
    }

    /// The method is none the path knows.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).with_causes([])
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub fn too_large(message: impl fmt::Display) -> Self {
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, format!("Request entity too large: {message}"))
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Self {
        Self::failure(429, reason::TOO_MANY_REQUESTS, message).with_retry_after(retry_after)
    }

    /// The operation may be tried again; `operation` is the verb.
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after: u32) -> Self {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, resource)
        );
        Self::failure(500, reason::SERVER_TIMEOUT, message)
            .about(group, resource, operation)
            .with_retry_after(retry_after)
    }

    pub fn timeout(message: impl fmt::Display, retry_after: u32) -> Self {
        Self::failure(504, reason::TIMEOUT, format!("Timeout: {message}")).with_retry_after(retry_after)
    }

    /// A read at a resourceVersion the server has not reached.
    pub fn resource_version_too_large(requested: u64, current: u64, retry_after: u32) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let cause = Cause::new(cause::RESOURCE_VERSION_TOO_LARGE, "", "Too large resource version");
        Self::timeout(message, retry_after).with_causes([cause])
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let error = error.to_string();
        Self::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {error}"))
            .with_causes([Cause::new("", "", error)])
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_as_upstream_writes_it() {
        let text = serde_json::to_string(&Status::not_found("apps", "deployments", "web")).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
        );
        assert_eq!(
            serde_json::from_str::<Status>(&text).unwrap(),
            Status::not_found("apps", "deployments", "web")
        );
    }

    #[test]
    fn field_errors_are_listed_once_each_and_in_order() {
        let causes = ["b", "a", "b"].map(|f| Cause::new("FieldValueRequired", f, "Required value"));
        let status = Status::invalid("", "Pod", "web", causes);
        assert_eq!(status.message, "Pod \"web\" is invalid: [b: Required value, a: Required value]");
        assert_eq!(status.details.unwrap().causes.len(), 3);
        let one = Status::invalid("", "Pod", "web", [Cause::new("FieldValueInvalid", "a", "no")]);
        assert_eq!(one.message, "Pod \"web\" is invalid: a: no");
    }
}
