//! Which headers go through, and which are between two neighbours only.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_PROTOCOL, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authn::{Peer, WEBSOCKET_TOKEN_PREFIX};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The protocols a request wants its connection upgraded to; `None` for ordinary requests.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wants).cloned()
}

/// The headers that a request is sent on with. Credentials for this server stay here.
pub(super) fn request(parts: &Parts) -> HeaderMap {
    let mut headers = parts.headers.clone();
    remove_hop_by_hop(&mut headers);
    headers.remove(AUTHORIZATION);
    without_token(&mut headers);
    if !headers.contains_key(HOST)
        && let Some(host) = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    {
        headers.insert(HOST, host);
    }
    if let Some(peer) = parts.extensions.get::<Peer>() {
        add_forwarded_for(&mut headers, peer.address.ip());
    }
    headers
}

/// The headers that an answer is sent back with.
pub(super) fn response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Drops the length of a body that was changed.
pub(super) fn changed_body(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// A token may travel as a pseudo subprotocol; the rest of the list goes on.
fn without_token(headers: &mut HeaderMap) {
    let offered: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .collect();
    if !offered.iter().any(|protocol| protocol.starts_with(WEBSOCKET_TOKEN_PREFIX)) {
        return;
    }
    let kept: Vec<String> =
        offered.into_iter().filter(|protocol| !protocol.starts_with(WEBSOCKET_TOKEN_PREFIX)).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = HeaderValue::from_str(&kept.join(", ")) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn add_forwarded_for(headers: &mut HeaderMap, from: IpAddr) {
    let earlier: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let all = match earlier.is_empty() {
        true => from.to_string(),
        false => format!("{}, {from}", earlier.join(", ")),
    };
    if let Ok(all) = HeaderValue::from_str(&all) {
        headers.insert(FORWARDED_FOR, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    #[test]
    fn credentials_and_hop_by_hop_headers_stay_here() {
        let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode("secret");
        let request = http::Request::builder()
            .header("connection", "Upgrade, X-Private")
            .header("upgrade", "websocket")
            .header("x-private", "1")
            .header("authorization", "Bearer secret")
            .header("sec-websocket-protocol", format!("{WEBSOCKET_TOKEN_PREFIX}{token}, v5.channel.k8s.io"))
            .header("x-kept", "1")
            .body(())
            .unwrap();
        assert_eq!(upgrade(request.headers()).unwrap(), "websocket");
        let (mut parts, ()) = request.into_parts();
        parts.extensions.insert(Peer::new("10.1.2.3:4".parse().unwrap(), Vec::new()));
        let sent = super::request(&parts);
        assert_eq!(sent["sec-websocket-protocol"], "v5.channel.k8s.io");
        assert_eq!(sent["x-forwarded-for"], "10.1.2.3");
        assert_eq!(sent["x-kept"], "1");
        for gone in ["connection", "upgrade", "x-private", "authorization"] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
    }
}
