//! Bootstrap tokens: Secrets in kube-system with which nodes join.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use knarr_api::time::SharedClock;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Authenticated, Rejected, TokenAuthenticator};
use crate::objects::{Objects, Resource};
use crate::user::UserInfo;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const DEFAULT_GROUP: &str = "system:bootstrappers";

/// Authenticates `<id>.<secret>` against the Secret `bootstrap-token-<id>`.
pub struct BootstrapTokens {
    pub objects: Arc<dyn Objects>,
    pub clock: SharedClock,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

impl Secret {
    fn text(&self, key: &str) -> String {
        let decoded = self.data.get(key).and_then(|value| STANDARD.decode(value).ok());
        decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Whether the token's time is over. A time that cannot be read is over, as upstream has it.
    fn expired(&self, now: Timestamp) -> bool {
        let expiration = self.text("expiration");
        !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |at| now >= at)
    }

    fn groups(&self) -> Option<Vec<String>> {
        let mut groups = vec![DEFAULT_GROUP.to_owned()];
        for group in self.text("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
            let tail = group.strip_prefix("system:bootstrappers:")?;
            let well_formed = tail.len() < 256
                && tail
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b':' | b'-'))
                && tail.bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric());
            if !well_formed {
                return None;
            }
            groups.push(group.to_owned());
        }
        groups.sort();
        groups.dedup();
        Some(groups)
    }
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let plain = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    token.split_once('.').filter(|(id, secret)| plain(id, 6) && plain(secret, 16))
}

/// Compares without telling by its duration where the difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate_token(&self, token: &str, _: &[String]) -> Result<Option<Authenticated>, Rejected> {
        let Some((id, secret)) = parse(token) else { return Ok(None) };
        let name = format!("bootstrap-token-{id}");
        let Some(stored) = self.objects.get(Resource::core("secrets"), "kube-system", &name) else {
            return Ok(None);
        };
        let stored: Secret = serde_json::from_slice(&stored.json)
            .map_err(|error| Rejected(format!("secret kube-system/{name} does not parse: {error}")))?;
        let good = stored.metadata.deletion_timestamp.is_none()
            && stored.kind == SECRET_TYPE
            && same(&stored.text("token-secret"), secret)
            && stored.text("token-id") == id
            && !stored.expired(self.clock.now())
            && stored.text("usage-bootstrap-authentication") == "true";
        let Some(groups) = stored.groups().filter(|_| good) else { return Ok(None) };
        let user = UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
        Ok(Some(Authenticated { user: Arc::new(user), audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_tokens_are_looked_up() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for bad in
            ["abcdef0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123", "abcdef.0123456789abcdef."]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn extra_groups_stay_below_the_bootstrappers() {
        let secret = |groups: &str| Secret {
            metadata: Metadata { deletion_timestamp: None },
            kind: SECRET_TYPE.into(),
            data: [("auth-extra-groups".to_owned(), STANDARD.encode(groups))].into(),
        };
        assert_eq!(
            secret("system:bootstrappers:workers").groups().unwrap(),
            ["system:bootstrappers", "system:bootstrappers:workers"]
        );
        assert_eq!(secret("system:masters").groups(), None);
    }
}
