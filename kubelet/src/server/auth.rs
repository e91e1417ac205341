//! Who asks, and whether they may: client certificates and TokenReviews, then SubjectAccessReviews, as upstream's
//! webhook mode. Answers are kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Extract};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use knarr_client::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::agent::Agent;
use crate::config::ServerConfig;

/// Answers kept at most, of each sort.
const MAX_CACHED: usize = 4096;

/// A user as a certificate or a token names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// The verified client certificate's user; put into every request of its connection.
#[derive(Debug, Clone, Default)]
pub struct Peer(Option<User>);

impl Peer {
    /// TLS has verified the chain already.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let user = chain.and_then(|chain| chain.first()).and_then(|leaf| {
            let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
            let subject = certificate.subject();
            let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
            let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(ToOwned::to_owned);
            let groups = groups.chain(["system:authenticated".to_owned()]).collect();
            Some(User { name, uid: String::new(), groups })
        });
        Self(user)
    }
}

/// Answers with an end.
struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self { entries: Mutex::default() }
    }

    fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(_, end)| Instant::now() < *end).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V, life: Duration) {
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_CACHED {
            let now = Instant::now();
            entries.retain(|_, (_, end)| now < *end);
            if entries.len() >= MAX_CACHED {
                entries.clear();
            }
        }
        entries.insert(key, (value, Instant::now() + life));
    }
}

type Question = (User, &'static str, &'static str);

pub struct Authenticator {
    client: kube::Client,
    node: String,
    anonymous: bool,
    token_life: Duration,
    allowed_life: Duration,
    denied_life: Duration,
    tokens: Cache<String, Option<User>>,
    answers: Cache<Question, bool>,
}

impl Authenticator {
    pub fn new(agent: &Agent, config: &ServerConfig) -> Self {
        Self {
            client: agent.client.clone(),
            node: agent.config.node_name.clone(),
            anonymous: config.anonymous,
            token_life: config.authentication_cache_ttl,
            allowed_life: config.cache_authorized_ttl,
            denied_life: config.cache_unauthorized_ttl,
            tokens: Cache::new(),
            answers: Cache::new(),
        }
    }

    async fn user(&self, request: &Parts) -> kube::Result<Option<User>> {
        if let Some(user) = &request.peer.0 {
            return Ok(Some(user.clone()));
        }
        if let Some(token) = &request.token {
            return self.review(token).await;
        }
        Ok(self.anonymous.then(|| User {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
        }))
    }

    async fn review(&self, token: &str) -> kube::Result<Option<User>> {
        if let Some(known) = self.tokens.get(&token.to_owned()) {
            return Ok(known);
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let answer = api.create(&PostParams::default(), &review).await?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        self.tokens.put(token.to_owned(), user.clone(), self.token_life);
        Ok(user)
    }

    /// Any of the subresources suffices.
    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresources: &[&'static str],
    ) -> kube::Result<bool> {
        for subresource in subresources {
            if self.ask((user.clone(), verb, subresource)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn ask(&self, question: Question) -> kube::Result<bool> {
        if let Some(known) = self.answers.get(&question) {
            return Ok(known);
        }
        let (user, verb, subresource) = &question;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some((*subresource).to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let life = if allowed { self.allowed_life } else { self.denied_life };
        self.answers.put(question, allowed, life);
        Ok(allowed)
    }
}

/// What of a request decides.
struct Parts {
    peer: Peer,
    token: Option<String>,
}

impl Parts {
    fn of(request: &Request<Body>) -> Self {
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        Self { peer: request.extensions().get::<Peer>().cloned().unwrap_or_default(), token }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn below(path: &str, root: &str) -> bool {
    path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Subresources of the node that stand for a path, any of which suffices.
fn subresources(path: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (root, subresource) in
        [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")]
    {
        if below(path, root) {
            found.push(subresource);
        }
    }
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    found.push(
        coarse.iter().find(|(root, _)| below(path, root)).map_or("proxy", |(_, subresource)| subresource),
    );
    found
}

/// Lets through what is allowed.
pub async fn middleware(
    Extract(authenticator): Extract<Arc<Authenticator>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let user = match authenticator.user(&Parts::of(&request)).await {
        Ok(Some(user)) => user,
        Ok(None) => return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response(),
        Err(error) => {
            tracing::warn!(%error, "unable to authenticate the request due to an error");
            return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
        }
    };
    let (verb, subresources) = (verb(request.method()), subresources(request.uri().path()));
    match authenticator.allowed(&user, verb, &subresources).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let list = subresources.iter().map(|s| format!("nodes/{s}")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n",
                user.name
            );
            (StatusCode::FORBIDDEN, text).into_response()
        }
        Err(error) => {
            let text = format!("Authorization error (user={}, verb={verb}): {error}\n", user.name);
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/runningpods/"), ["pods", "proxy"]);
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/metrics/cadvisor"), ["metrics"]);
        assert_eq!(subresources("/metricsx"), ["proxy"]);
        assert_eq!(subresources("/containerLogs/a/b/c"), ["proxy"]);
        assert_eq!(subresources("/logs/x"), ["log"]);
    }
}
