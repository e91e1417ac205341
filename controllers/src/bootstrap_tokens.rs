//! Bootstrap tokens: [`cleaner`] removes those that expired, [`signer`] signs the public `cluster-info` with the
//! others, so that a joining node can tell that it is the cluster's own.

pub(crate) mod cleaner;
pub(crate) mod signer;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use knarr_client::Selection;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// The Secrets that are bootstrap tokens.
fn tokens() -> Selection {
    Selection::all::<Secret>().in_namespace(NAMESPACE).fields(format!("type={TYPE}"))
}

/// A value of a token as text; empty if it is not there or no text.
fn value<'a>(token: &'a Secret, key: &str) -> &'a str {
    let bytes = token.data.as_ref().and_then(|data| data.get(key));
    bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
}

/// How long a token is still valid; `None` if it never expires. One whose expiry cannot be read is expired.
fn left(token: &Secret, now: Timestamp) -> Option<Duration> {
    token.data.as_ref()?.get("expiration")?;
    let expires = value(token, "expiration").parse::<Timestamp>().ok();
    let left = expires.map(|expires| Duration::try_from(expires.duration_since(now)).unwrap_or_default());
    Some(left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_token_expires_when_it_says_and_at_once_when_it_says_nonsense() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = |text: &str| Secret {
            data: Some([("expiration".to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(left(&token("2026-01-01T00:01:00Z"), now), Some(Duration::from_secs(60)));
        assert_eq!(left(&token("2025-01-01T00:00:00+02:00"), now), Some(Duration::ZERO));
        assert_eq!(left(&token("soon"), now), Some(Duration::ZERO));
        assert_eq!(left(&Secret::default(), now), None);
    }
}
