//! Service-account tokens for pods: asked for once, kept, and renewed at four fifths of their life.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use knarr_api::time::{SharedClock, SharedRandom};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use super::VolumeError;
use crate::pod::spec;

const DEFAULT_EXPIRATION: i64 = 3600;
/// Tokens are renewed at least this often.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Renewals are spread over this many seconds.
const JITTER_SECONDS: u64 = 10;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    pod_uid: String,
    service_account: String,
    audience: String,
    expiration: i64,
}

/// A token and its times.
#[derive(Clone)]
pub struct Token {
    pub token: String,
    renew_at: Timestamp,
    pub expires_at: Timestamp,
}

pub struct Tokens {
    client: kube::Client,
    clock: SharedClock,
    random: SharedRandom,
    cache: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    pub fn new(client: kube::Client, clock: SharedClock, random: SharedRandom) -> Self {
        Self { client, clock, random, cache: Mutex::default() }
    }

    /// A token that is good for a while yet. When renewing fails, an old one that has not expired serves on.
    pub async fn get(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, VolumeError> {
        self.issue(pod, source).await.map(|issued| issued.token)
    }

    /// As [`Self::get`], with what is known of the token.
    pub async fn issue(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<Token, VolumeError> {
        let key = Key {
            pod_uid: spec::uid(pod).to_owned(),
            service_account: spec::spec(pod)
                .service_account_name
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            audience: source.audience.clone().unwrap_or_default(),
            expiration: source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION),
        };
        let now = self.clock.now();
        if let Some(token) = self.cache.lock().get(&key).filter(|token| now < token.renew_at) {
            return Ok(token.clone());
        }
        match self.request(pod, &key, now).await {
            Ok(token) => {
                self.cache.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(error) => match self.cache.lock().get(&key).filter(|token| now < token.expires_at) {
                Some(token) => {
                    tracing::warn!(pod = spec::name(pod), %error, "couldn't update token, keeping the old one");
                    Ok(token.clone())
                }
                None => Err(error),
            },
        }
    }

    /// When the first of the pod's tokens is to be renewed.
    pub fn next_renewal(&self, pod_uid: &str) -> Option<Timestamp> {
        let cache = self.cache.lock();
        cache.iter().filter(|(key, _)| key.pod_uid == pod_uid).map(|(_, token)| token.renew_at).min()
    }

    pub fn forget(&self, pod_uid: &str) {
        self.cache.lock().retain(|key, _| key.pod_uid != pod_uid);
    }

    async fn request(&self, pod: &Pod, key: &Key, now: Timestamp) -> Result<Token, VolumeError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![key.audience.clone()]).filter(|_| !key.audience.is_empty()),
                expiration_seconds: Some(key.expiration),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let answer = api
            .create_token_request(&key.service_account, &PostParams::default(), &request)
            .await
            .map_err(|error| VolumeError::Token(error.to_string()))?;
        let no_token = || VolumeError::Token("the answer has no token".to_owned());
        let status = answer.status.ok_or_else(no_token)?;
        let token = status.token.ok_or_else(no_token)?;
        let expires_at = status.expiration_timestamp.ok_or_else(no_token)?.0;
        let life = expires_at.duration_since(now);
        let age = (life * 4 / 5).min(MAX_AGE);
        let jitter = i64::try_from(self.random.below(JITTER_SECONDS)).unwrap_or(0);
        let renew_at = now
            .checked_add(age - SignedDuration::from_secs(jitter.min(age.as_secs() / 2)))
            .unwrap_or(expires_at);
        Ok(Token { token, renew_at, expires_at })
    }
}
