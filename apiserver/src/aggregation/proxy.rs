//! Handing requests over, in the name of who made them.

use axum::body::Body;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Aggregator, Remote};
use crate::user::UserInfo;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA_PREFIX: &str = "x-remote-extra-";
/// What may not stand in a header's name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Says in headers who the user is, and nothing that somebody else put there.
pub(super) fn vouch(headers: &mut HeaderMap, user: &UserInfo) {
    let stale: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in stale {
        headers.remove(name);
    }
    let value = |text: &str| HeaderValue::from_str(text).ok();
    if let Some(name) = value(&user.name) {
        headers.insert(USER, name);
    }
    if let Some(uid) = value(&user.uid).filter(|uid| !uid.is_empty()) {
        headers.insert(UID, uid);
    }
    for group in user.groups.iter().filter_map(|group| value(group)) {
        headers.append(GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA_PREFIX}{}", utf8_percent_encode(key, ESCAPED)).to_ascii_lowercase();
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for value in values.iter().filter_map(|text| value(text)) {
            headers.append(name.clone(), value);
        }
    }
}

impl Aggregator {
    /// Answers a request as the remote does.
    pub async fn proxy(
        &self,
        remote: &Remote,
        user: &UserInfo,
        mut request: Request<Body>,
    ) -> Response<Body> {
        if !remote.is_available() {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
        }
        if let Err(why) = &remote.tls {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, why);
        }
        let location = match self.resolve(remote) {
            Ok(location) => location,
            Err(why) => {
                tracing::warn!(api_service = remote.name, why, "error resolving the service");
                return failure(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
            }
        };
        vouch(request.headers_mut(), user);
        match self.config.streams.pass_on(&location, request).await {
            Ok(response) => response,
            Err(error) => {
                failure(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {error}"))
            }
        }
    }
}

/// In plain text, as upstream's proxy says it.
fn failure(code: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{why}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_server_says_who_the_user_is() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("admin"));
        headers.insert(HeaderName::from_static("x-remote-extra-scopes"), HeaderValue::from_static("all"));
        let mut user = UserInfo::new("jane", ["dev"]);
        user.extra.insert("example.com/a b".into(), vec!["1".into(), "2".into()]);
        vouch(&mut headers, &user);
        assert_eq!(headers.get_all(USER).iter().collect::<Vec<_>>(), ["jane"]);
        assert_eq!(headers.get_all(GROUP).iter().collect::<Vec<_>>(), ["dev", "system:authenticated"]);
        assert_eq!(headers.get_all("x-remote-extra-example.com%2fa%20b").iter().count(), 2);
        assert!(!headers.contains_key("x-remote-extra-scopes") && !headers.contains_key(UID));
    }
}
