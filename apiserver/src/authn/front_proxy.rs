//! Requests for users that a trusted proxy vouches for in headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::request::Parts;
use knarr_api::time::SharedClock;
use percent_encoding::percent_decode_str;

use super::x509::Trust;
use super::{Authenticated, Authenticator, Peer, Rejected};
use crate::user::UserInfo;

/// The headers a proxy speaks in; names are case-insensitive. They are published in the ConfigMap
/// `extension-apiserver-authentication`.
#[derive(Debug, Clone)]
pub struct Headers {
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
    /// The CNs a proxy's certificate may have; empty means any.
    pub allowed_names: Vec<String>,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            username: vec!["X-Remote-User".into()],
            uid: vec!["X-Remote-Uid".into()],
            group: vec!["X-Remote-Group".into()],
            extra_prefix: vec!["X-Remote-Extra-".into()],
            allowed_names: vec!["front-proxy-client".into()],
        }
    }
}

/// Believes the headers of connections whose certificate the front-proxy authority issued.
pub struct FrontProxy {
    pub headers: Headers,
    pub trust: Arc<Trust>,
    pub clock: SharedClock,
}

impl FrontProxy {
    fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let first = |names: &[String]| all(headers, names).next().map(str::to_owned);
        Some(UserInfo {
            name: first(&self.headers.username)?,
            uid: first(&self.headers.uid).unwrap_or_default(),
            groups: all(headers, &self.headers.group).map(str::to_owned).collect(),
            extra: extra(headers, &self.headers.extra_prefix),
        })
    }
}

fn all<'a>(headers: &'a HeaderMap, names: &'a [String]) -> impl Iterator<Item = &'a str> {
    names
        .iter()
        .flat_map(|name| headers.get_all(name.as_str()).iter())
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
}

/// The values of every header with one of the prefixes, by the rest of its name: lower-case, percent-decoded.
pub(super) fn extra(headers: &HeaderMap, prefixes: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for prefix in prefixes {
        let prefix = prefix.to_ascii_lowercase();
        for (name, value) in headers {
            let (Some(key), Ok(value)) = (name.as_str().strip_prefix(&prefix), value.to_str()) else {
                continue;
            };
            let key = percent_decode_str(key).decode_utf8().map_or(key.to_owned(), |key| key.into_owned());
            found.entry(key).or_default().push(value.to_owned());
        }
    }
    found
}

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected> {
        let Some(peer) = request.extensions.get::<Peer>().filter(|peer| !peer.certificates.is_empty()) else {
            return Ok(None);
        };
        // The headers first: without them the certificate is somebody's own.
        let Some(user) = self.user(&request.headers) else { return Ok(None) };
        let proxy = self.trust.user(&peer.certificates, &peer.as_proxy, self.clock.now())?;
        let name = proxy.map_or_else(String::new, |proxy| proxy.name.clone());
        let allowed = &self.headers.allowed_names;
        if !allowed.is_empty() && !allowed.contains(&name) {
            return Err(Rejected(format!("x509: subject with cn={name} is not in the allowed list")));
        }
        Ok(Some(Authenticated { user: Arc::new(user), audiences: Vec::new() }))
    }
}
