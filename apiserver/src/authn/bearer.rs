//! Finding the bearer token of a request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

use super::Rejected;

/// How a browser, which cannot set headers on a WebSocket, hands over its token.
pub(crate) const WEBSOCKET_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of the `Authorization` header or of the WebSocket subprotocol list.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<String>, Rejected> {
    if let Some(header) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let mut parts = header.trim().splitn(3, ' ');
        if parts.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) {
            return Ok(parts.next().filter(|token| !token.is_empty()).map(str::to_owned));
        }
    }
    if headers.get(UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
    {
        return websocket(headers);
    }
    Ok(None)
}

fn websocket(headers: &HeaderMap) -> Result<Option<String>, Rejected> {
    let mut found = None;
    let mut others = false;
    for protocol in headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok()) {
        for protocol in protocol.split(',').map(str::trim) {
            let Some(encoded) = protocol.strip_prefix(WEBSOCKET_TOKEN_PREFIX) else {
                others = true;
                continue;
            };
            let decoded = URL_SAFE_NO_PAD
                .decode(encoded)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| Rejected("invalid base64url in the websocket's bearer token".into()))?;
            if found.replace(decoded).is_some() {
                return Err(Rejected("multiple base64.bearer.authorization tokens specified".into()));
            }
        }
    }
    // The token's pseudo protocol is never spoken, so a real one must be offered beside it.
    if found.is_some() && !others {
        return Err(Rejected("missing additional subprotocol".into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn tokens_come_from_the_header_or_the_websocket_protocols() {
        let t = |pairs: &[(&'static str, &str)]| token(&headers(pairs));
        assert_eq!(t(&[("authorization", "Bearer abc")]), Ok(Some("abc".into())));
        assert_eq!(t(&[("authorization", "bearer  ")]), Ok(None));
        assert_eq!(t(&[("authorization", "Basic abc")]), Ok(None));
        let offered = format!("{WEBSOCKET_TOKEN_PREFIX}{}, v5.channel.k8s.io", URL_SAFE_NO_PAD.encode("abc"));
        let upgrade = ("upgrade", "websocket");
        assert_eq!(t(&[upgrade, ("sec-websocket-protocol", &offered)]), Ok(Some("abc".into())));
        let alone = format!("{WEBSOCKET_TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode("abc"));
        assert!(t(&[upgrade, ("sec-websocket-protocol", &alone)]).is_err());
    }
}
