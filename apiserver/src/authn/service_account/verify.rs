//! Checking a service-account token: signature, issuer, audience, time, and that everything it is bound to is there.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::SignedDuration;
use jsonwebtoken::Validation;
use knarr_api::time::SharedClock;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::{Claims, NamedUid};
use super::{groups, username};
use crate::authn::{Authenticated, Rejected, TokenAuthenticator};
use crate::authz::quoted;
use crate::objects::{Objects, Resource};
use crate::pki::VerifyingKey;
use crate::user::UserInfo;

/// Clocks of issuer and checker may differ by this, and a deleted object's tokens live on for as long.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
const EXTRA: &str = "authentication.kubernetes.io/";

/// Authenticates the tokens that this cluster issued.
pub struct ServiceAccountTokens {
    /// The keys that may have signed a token; replaced while running when keys rotate.
    pub keys: Arc<ArcSwap<Vec<VerifyingKey>>>,
    /// Accepted issuers; tokens of other issuers are left to other authenticators.
    pub issuers: Vec<String>,
    pub objects: Arc<dyn Objects>,
    pub clock: SharedClock,
}

#[derive(Deserialize)]
struct Existing {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<jiff::Timestamp>,
}

fn rejected(why: impl Into<String>) -> Rejected {
    Rejected(why.into())
}

impl ServiceAccountTokens {
    /// The claims, if one of our keys signed them. Which algorithm to check is the key's to say, never the token's:
    /// `none` and confused algorithms do not reach a check at all.
    pub(super) fn signed<C: DeserializeOwned>(&self, token: &str) -> Result<C, Rejected> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| rejected(e.to_string()))?;
        let keys = self.keys.load();
        let named = header.kid.as_deref();
        for key in keys.iter().filter(|key| named.is_none_or(|id| id == key.id)) {
            let mut validation = Validation::new(key.algorithm);
            // Times are checked against the injected clock, issuer and audience with upstream's messages.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            if let Ok(decoded) = jsonwebtoken::decode::<C>(token, &key.key, &validation) {
                return Ok(decoded.claims);
            }
        }
        Err(rejected("invalid signature"))
    }

    fn check_times(&self, claims: &Claims) -> Result<(), Rejected> {
        let now = self.clock.now().as_second();
        let leeway = LEEWAY.as_secs();
        let past = |at: i64| now > at.saturating_add(leeway);
        let future = |at: i64| now.saturating_add(leeway) < at;
        if claims.nbf.is_some_and(future) {
            return Err(rejected("service account token is not valid yet"));
        }
        // One of our tokens always ends; what says otherwise was signed for something else.
        if claims.exp.is_none_or(past) {
            return Err(rejected("service account token has expired"));
        }
        if claims.iat.is_some_and(future) {
            return Err(rejected("service account token is issued in the future"));
        }
        Ok(())
    }

    /// The object, from the cache, or from the store when it is too new for the cache.
    async fn existing(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Meta>, Rejected> {
        let resource = Resource::core(plural);
        let stored = match self.objects.get(resource, namespace, name) {
            Some(stored) => Some(stored),
            None => {
                self.objects.get_live(resource, namespace, name).await.map_err(|e| rejected(e.to_string()))?
            }
        };
        let parsed = stored.map(|stored| serde_json::from_slice::<Existing>(&stored.json)).transpose();
        Ok(parsed
            .map_err(|e| rejected(format!("{plural} {namespace}/{name} does not parse: {e}")))?
            .map(|e| e.metadata))
    }

    fn gone(&self, meta: &Meta) -> bool {
        let Ok(limit) = self.clock.now().checked_sub(LEEWAY) else { return false };
        meta.deletion_timestamp.is_some_and(|at| at < limit)
    }

    async fn check_account(&self, claims: &Claims) -> Result<(), Rejected> {
        let private = &claims.kubernetes;
        let (namespace, account) = (&private.namespace, &private.serviceaccount);
        let meta = self
            .existing("serviceaccounts", namespace, &account.name)
            .await?
            .ok_or_else(|| rejected(format!("serviceaccounts \"{}\" not found", account.name)))?;
        if meta.uid != account.uid {
            return Err(rejected(format!(
                "service account UID ({}) does not match claim ({})",
                meta.uid, account.uid
            )));
        }
        if self.gone(&meta) {
            return Err(rejected(format!("service account {namespace}/{} has been deleted", account.name)));
        }
        Ok(())
    }

    async fn check_bound(
        &self,
        plural: &'static str,
        what: &str,
        namespace: &str,
        bound: &NamedUid,
    ) -> Result<(), Rejected> {
        let invalidated = || rejected("service account token has been invalidated");
        let meta = self.existing(plural, namespace, &bound.name).await?.ok_or_else(invalidated)?;
        if meta.uid != bound.uid {
            return Err(rejected(format!(
                "{what} UID ({}) does not match service account {} ref claim ({})",
                meta.uid,
                what.to_lowercase(),
                bound.uid
            )));
        }
        if self.gone(&meta) { Err(invalidated()) } else { Ok(()) }
    }

    async fn check_bindings(&self, claims: &Claims) -> Result<(), Rejected> {
        let private = &claims.kubernetes;
        if let Some(secret) = &private.secret {
            self.check_bound("secrets", "secret", &private.namespace, secret).await?;
        }
        if let Some(pod) = &private.pod {
            self.check_bound("pods", "pod", &private.namespace, pod).await?;
        }
        // A pod's token names its node for information; only a token without a pod is bound to the node.
        if let (Some(node), None) = (&private.node, &private.pod) {
            self.check_bound("nodes", "node", "", node).await?;
        }
        Ok(())
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let private = &claims.kubernetes;
    let mut user = UserInfo {
        name: username(&private.namespace, &private.serviceaccount.name),
        uid: private.serviceaccount.uid.clone(),
        groups: groups(&private.namespace),
        ..UserInfo::default()
    };
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("{EXTRA}{key}"), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &private.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    user
}

#[async_trait]
impl TokenAuthenticator for ServiceAccountTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Rejected> {
        let unchecked = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token);
        if !unchecked.is_ok_and(|claims| self.issuers.contains(&claims.iss)) {
            return Ok(None);
        }
        let claims: Claims = self.signed(token)?;
        let private = &claims.kubernetes;
        if claims.sub != username(&private.namespace, &private.serviceaccount.name) {
            return Err(rejected("the token's subject does not match its service account"));
        }
        let common: Vec<String> = claims.aud.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if common.is_empty() && !audiences.is_empty() {
            return Err(rejected(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(&claims.aud),
                quoted(audiences)
            )));
        }
        self.check_times(&claims)?;
        self.check_account(&claims).await?;
        self.check_bindings(&claims).await?;
        Ok(Some(Authenticated { user: Arc::new(user_of(&claims)), audiences: common }))
    }
}
