//! Tokens that do not end: each is good as long as it is kept in a Secret of its account.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::verify::ServiceAccountTokens;
use super::{groups, username};
use crate::authn::{Authenticated, Rejected, TokenAuthenticator};
use crate::objects::Resource;
use crate::user::UserInfo;

/// Who these tokens say they are from.
const ISSUER: &str = "kubernetes/serviceaccount";

/// Authenticates the tokens of `kubernetes.io/service-account-token` Secrets.
pub struct LegacyTokens(pub Arc<ServiceAccountTokens>);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    uid: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    secret: String,
}

fn rejected(why: impl Into<String>) -> Rejected {
    Rejected(why.into())
}

impl LegacyTokens {
    async fn object(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Rejected> {
        let objects = &self.0.objects;
        let resource = Resource::core(plural);
        let stored = match objects.get(resource, namespace, name) {
            Some(stored) => Some(stored),
            None => objects.get_live(resource, namespace, name).await.map_err(|e| rejected(e.to_string()))?,
        };
        stored
            .map(|stored| serde_json::from_slice(&stored.json))
            .transpose()
            .map_err(|e| rejected(e.to_string()))
    }

    async fn check_secret(&self, claims: &Claims, token: &str) -> Result<(), Rejected> {
        let Claims { namespace, secret, .. } = claims;
        let invalidated = || rejected("token has been invalidated");
        let found = self.object("secrets", namespace, secret).await?.ok_or_else(invalidated)?;
        let kept = STANDARD.decode(found["data"]["token"].as_str().unwrap_or_default()).unwrap_or_default();
        let is_going = !found["metadata"]["deletionTimestamp"].is_null();
        if is_going || kept != token.as_bytes() { Err(invalidated()) } else { Ok(()) }
    }

    async fn check_account(&self, claims: &Claims) -> Result<(), Rejected> {
        let Claims { namespace, account, uid, .. } = claims;
        let found = self
            .object("serviceaccounts", namespace, account)
            .await?
            .ok_or_else(|| rejected(format!("serviceaccounts \"{account}\" not found")))?;
        if !found["metadata"]["deletionTimestamp"].is_null() {
            return Err(rejected(format!("ServiceAccount {namespace}/{account} has been deleted")));
        }
        let present = found["metadata"]["uid"].as_str().unwrap_or_default();
        if present != uid {
            let why = format!("ServiceAccount UID ({present}) does not match claim ({uid})");
            return Err(rejected(why));
        }
        Ok(())
    }
}

#[async_trait]
impl TokenAuthenticator for LegacyTokens {
    async fn authenticate_token(&self, token: &str, _: &[String]) -> Result<Option<Authenticated>, Rejected> {
        let unchecked = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token);
        if !unchecked.is_ok_and(|claims| claims.iss == ISSUER) {
            return Ok(None);
        }
        let claims: Claims = self.0.signed(token)?;
        for (name, value) in [
            ("namespace", &claims.namespace),
            ("secretName", &claims.secret),
            ("serviceAccountName", &claims.account),
            ("serviceAccountUID", &claims.uid),
        ] {
            if value.is_empty() {
                return Err(rejected(format!("{name} claim is missing")));
            }
        }
        let name = username(&claims.namespace, &claims.account);
        if claims.sub != name {
            return Err(rejected("sub claim is invalid"));
        }
        self.check_secret(&claims, token).await?;
        self.check_account(&claims).await?;
        let groups = groups(&claims.namespace);
        let user = UserInfo { name, uid: claims.uid, groups, ..UserInfo::default() };
        Ok(Some(Authenticated { user: Arc::new(user), audiences: Vec::new() }))
    }
}
