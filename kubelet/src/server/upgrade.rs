//! Choosing between WebSocket and SPDY for requests that become streams.

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::spdy;

/// How the client wants to talk.
pub enum Upgrade {
    WebSocket(WebSocketUpgrade),
    Spdy(spdy::Upgrade),
}

fn wants(headers: &HeaderMap, protocol: &str) -> bool {
    let tokens = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(protocol))
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        if wants(&parts.headers, "websocket") {
            let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
            return upgrade.map(Self::WebSocket).map_err(IntoResponse::into_response);
        }
        if wants(&parts.headers, "SPDY/3.1") {
            return spdy::Upgrade::take(parts)
                .map(Self::Spdy)
                .ok_or_else(|| refuse("the connection cannot be upgraded"));
        }
        Err(refuse("you must specify at least 1 of stdin, stdout, stderr over an upgraded connection"))
    }
}

pub fn refuse(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, text.to_owned()).into_response()
}
