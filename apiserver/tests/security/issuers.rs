//! Tokens of other issuers: a provider on loopback publishes keys, and signs what the tests need.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use http::{Method, StatusCode};
use knarr_api::time::{Clock, SystemClock};
use knarr_apiserver::authn::TokenAuthenticator;
use knarr_apiserver::authn::jwt::{JwtTokens, Oidc, Setup};
use knarr_apiserver::pki::SigningKey;
use knarr_apiserver::stream::TcpDialer;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::https::Https;

const OWN: &str = "https://kubernetes.default.svc.cluster.local";

/// An issuer of tokens.
struct Provider {
    server: Https,
    key: SigningKey,
    published: Arc<Published>,
}

/// What the provider says to whoever asks.
#[derive(Default)]
struct Published {
    keys: Mutex<Vec<Value>>,
    cache_control: Mutex<&'static str>,
    issuer: Mutex<String>,
    /// How often the keys were asked for.
    asked: AtomicUsize,
    /// How often its configuration was.
    configured: AtomicUsize,
}

fn new_key() -> SigningKey {
    SigningKey::open(tempfile::tempdir().unwrap().path()).unwrap()
}

fn public(key: &SigningKey) -> Value {
    serde_json::to_value(&key.verifying.jwk).unwrap()
}

impl Provider {
    async fn start() -> Self {
        let published = Arc::new(Published::default());
        let (configuration, keys) = (published.clone(), published.clone());
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || {
                    configuration.configured.fetch_add(1, Ordering::SeqCst);
                    let issuer = configuration.issuer.lock().clone();
                    Json(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}))
                }),
            )
            .route(
                "/keys",
                get(async move || {
                    keys.asked.fetch_add(1, Ordering::SeqCst);
                    let cache_control = *keys.cache_control.lock();
                    ([("cache-control", cache_control)], Json(json!({"keys": *keys.keys.lock()})))
                }),
            );
        let server = Https::serve(router).await;
        let key = new_key();
        *published.keys.lock() = vec![public(&key)];
        *published.issuer.lock() = format!("https://localhost:{}", server.port);
        Self { server, key, published }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.server.port)
    }

    fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    /// A token for the audience `knarr` with these claims beside or instead of the usual ones.
    fn token(&self, claims: Value) -> String {
        self.token_of(&self.key, claims)
    }

    fn token_of(&self, key: &SigningKey, claims: Value) -> String {
        let expires = SystemClock.now().as_second() + 3600;
        let mut all = json!({"iss": self.url(), "aud": "knarr", "sub": "jane", "exp": expires});
        all.as_object_mut().unwrap().extend(claims.as_object().cloned().unwrap());
        key.sign(&all).unwrap()
    }

    /// A configuration that believes this issuer.
    fn configuration(&self, issuer: Value, authenticator: Value, rest: Value) -> Value {
        let mut known =
            json!({"url": self.url(), "audiences": ["knarr"], "certificateAuthority": self.server.authority});
        known.as_object_mut().unwrap().extend(issuer.as_object().cloned().unwrap());
        let mut jwt =
            json!({"issuer": known, "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}}});
        jwt.as_object_mut().unwrap().extend(authenticator.as_object().cloned().unwrap());
        let mut all = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [jwt]});
        all.as_object_mut().unwrap().extend(rest.as_object().cloned().unwrap());
        all
    }
}

/// A file in a directory that goes with it.
struct ConfigurationFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl ConfigurationFile {
    fn new(configuration: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authentication.yaml");
        let file = Self { _directory: directory, path };
        file.write(configuration);
        file
    }

    fn write(&self, configuration: &Value) {
        std::fs::write(&self.path, configuration.to_string()).unwrap();
    }
}

fn setup(path: &Path) -> Setup {
    Setup::from_file(path, &[OWN.to_owned()]).unwrap()
}

fn tokens(setup: Setup) -> JwtTokens {
    JwtTokens::new(setup, vec![OWN.to_owned()], Arc::new(TcpDialer), Arc::new(SystemClock))
}

/// Who a token says, or why it is not believed.
async fn user(tokens: &JwtTokens, token: &str) -> Result<String, String> {
    match tokens.authenticate_token(token, &[OWN.to_owned()]).await {
        Ok(Some(found)) => Ok(found.user.name.clone()),
        Ok(None) => Err("not of this kind".into()),
        Err(why) => Err(why.to_string()),
    }
}

/// Lets the authenticator ask its issuers, until a token is believed.
async fn initialized(tokens: &JwtTokens, token: &str) {
    tokio::select! {
        () = tokens.run() => assert!(user(tokens, token).await.is_ok()),
        () = eventually("the issuer's tokens are believed", async || user(tokens, token).await.is_ok()) => {}
    }
}

async fn believing(provider: &Provider) -> JwtTokens {
    let oidc = Oidc {
        issuer_url: provider.url(),
        client_id: "knarr".into(),
        certificate_authority: provider.server.authority.clone(),
        username_claim: "sub".into(),
        username_prefix: "-".into(),
        signing_algorithms: vec!["ES256".into()],
        ..Oidc::default()
    };
    let tokens = tokens(Setup::from_oidc(&oidc, &[OWN.to_owned()]).unwrap());
    initialized(&tokens, &provider.token(json!({}))).await;
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_configured_issuer_is_its_user() {
    let provider = Provider::start().await;
    let authenticator = json!({
        "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}],
        "claimMappings": {
            "username": {"claim": "sub", "prefix": "oidc:"},
            "groups": {"expression": "claims.?roles.orValue([]).map(r, 'role:' + r)"},
            "uid": {"claim": "id"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
        },
        "userValidationRules": [{"expression": "!user.username.endsWith('root')", "message": "not root"}],
    });
    let anonymous = json!({"anonymous": {"enabled": true, "conditions": [{"path": "/version"}]}});
    let file = ConfigurationFile::new(&provider.configuration(json!({}), authenticator, anonymous));
    let cluster = Cluster::start_as(|settings| {
        let setup = setup(&file.path);
        settings.anonymous = setup.anonymous().unwrap();
        settings.jwt = Some(setup);
    })
    .await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let claims = json!({"hd": "example.com", "id": "42", "tenant": "blue", "roles": ["dev"], "jti": "t1"});
    let token = provider.token(claims.clone());
    eventually("the issuer's tokens are believed", async || {
        cluster.outside(Some(&token), Method::POST, path, review.clone()).await.status == StatusCode::CREATED
    })
    .await;
    let myself = cluster.outside(Some(&token), Method::POST, path, review.clone()).await.ok();
    let wanted = json!({
        "username": "oidc:jane", "uid": "42", "groups": ["role:dev", "system:authenticated"],
        "extra": {"example.com/tenant": ["blue"], "authentication.kubernetes.io/credential-id": ["JTI=t1"]},
    });
    assert_eq!(myself["status"]["userInfo"], wanted);

    // What the server answers for itself is not touched by it.
    cluster.account("robot").await;
    let own = cluster.token("robot", json!({})).await.ok()["status"]["token"].as_str().unwrap().to_owned();
    let myself = cluster.outside(Some(&own), Method::POST, path, review.clone()).await.ok();
    assert_eq!(myself["status"]["userInfo"]["username"], "system:serviceaccount:default:robot");

    let mut root = claims;
    root["sub"] = "root".into();
    let root = provider.token(root);
    let refused = cluster.outside(Some(&root), Method::POST, path, review).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let ask =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": root}});
    let answer = cluster.admin(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", ask).await.ok();
    assert_eq!(
        answer["status"]["error"],
        "[invalid bearer token, oidc: error evaluating user info validation rule: validation expression \
         '!user.username.endsWith('root')' failed: not root]"
    );
    let status = async |path: &str| cluster.outside(None, Method::GET, path, Value::Null).await.status;
    assert_eq!(status("/livez").await, StatusCode::UNAUTHORIZED);
    assert_ne!(status("/version").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_issuer_did_not_sign_for_us_now_is_refused() {
    let provider = Provider::start().await;
    let tokens = believing(&provider).await;
    let good = provider.token(json!({"sub": "john"}));
    assert_eq!(user(&tokens, &good).await.as_deref(), Ok("john"));
    let now = SystemClock.now().as_second();
    let refused = async |token: &str| user(&tokens, token).await.unwrap_err();
    let why = refused(&provider.token(json!({"aud": "other"}))).await;
    assert_eq!(why, "oidc: verify token: oidc: expected audience \"knarr\" got [\"other\"]");
    let why = refused(&provider.token(json!({"exp": now - 1}))).await;
    assert!(why.starts_with("oidc: verify token: oidc: token is expired (Token Expiry: "), "{why}");
    let why = refused(&provider.token(json!({"nbf": now + 600}))).await;
    assert!(why.contains("before the nbf (not before) time"), "{why}");
    let why = refused(&provider.token_of(&new_key(), json!({}))).await;
    assert_eq!(why, "oidc: verify token: failed to verify signature: failed to verify id token signature");
    let (_, signature) = good.rsplit_once('.').unwrap();
    let changed = provider.token(json!({"sub": "root"}));
    let (signed, _) = changed.rsplit_once('.').unwrap();
    assert!(refused(&format!("{signed}.{signature}")).await.contains("failed to verify id token signature"));
    assert_eq!(refused(&provider.token(json!({"iss": "https://other"}))).await, "not of this kind");
    // For whom the review asks is not us.
    let elsewhere = tokens.authenticate_token(&good, &["vault".to_owned()]).await;
    assert!(matches!(elsewhere, Ok(None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_again_for_a_token_that_none_of_them_signed() {
    let provider = Provider::start().await;
    let tokens = believing(&provider).await;
    let first = provider.asked();
    assert!(first > 0);
    for _ in 0..3 {
        assert!(user(&tokens, &provider.token(json!({}))).await.is_ok());
    }
    assert_eq!(provider.asked(), first, "known keys are not asked for");

    let next = new_key();
    *provider.published.keys.lock() = vec![public(&next)];
    *provider.published.cache_control.lock() = "max-age=3600";
    assert!(user(&tokens, &provider.token_of(&next, json!({}))).await.is_ok());
    assert_eq!(provider.asked(), first + 1);
    let why = user(&tokens, &provider.token(json!({}))).await.unwrap_err();
    assert!(why.contains("failed to verify id token signature"), "the old key is gone: {why}");
    assert_eq!(provider.asked(), first + 1, "the issuer said that its keys stay as they are");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_another_than_it_should_be_is_not_believed() {
    let provider = Provider::start().await;
    *provider.published.issuer.lock() = "https://other".into();
    let file = ConfigurationFile::new(&provider.configuration(json!({}), json!({}), json!({})));
    let tokens = tokens(setup(&file.path));
    let token = provider.token(json!({}));
    let asked = async || provider.published.configured.load(Ordering::SeqCst) > 0;
    tokio::select! {
        () = tokens.run() => panic!("it is asked again and again"),
        () = eventually("the issuer is asked for its configuration", asked) => {}
    }
    assert_eq!(user(&tokens, &token).await.unwrap_err(), "oidc: authenticator not initialized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_while_the_server_runs_and_a_broken_one_is_not() {
    let provider = Provider::start().await;
    let file = ConfigurationFile::new(&provider.configuration(json!({}), json!({}), json!({})));
    let tokens = tokens(setup(&file.path));
    let token = provider.token(json!({}));
    initialized(&tokens, &token).await;
    assert!(!tokens.reload().await.unwrap(), "nothing changed");

    let mapped = json!({"claimMappings": {"username": {"claim": "sub", "prefix": "changed:"}}});
    file.write(&provider.configuration(json!({}), mapped.clone(), json!({})));
    assert!(tokens.reload().await.unwrap());
    assert_eq!(user(&tokens, &token).await.as_deref(), Ok("changed:jane"));

    for (broken, why) in [
        (json!({"kind": "Nonsense"}), "Object 'apiVersion' is missing"),
        (
            provider.configuration(json!({"audiences": []}), json!({}), json!({})),
            "invalid authentication configuration: jwt[0].issuer.audiences: Required value",
        ),
        (
            provider.configuration(json!({"url": OWN}), json!({}), json!({})),
            "URL must not overlap with disallowed issuers",
        ),
        (
            provider.configuration(json!({}), mapped, json!({"anonymous": {"enabled": true}})),
            "anonymous: Forbidden: changed from initial configuration file",
        ),
    ] {
        file.write(&broken);
        let told = tokens.reload().await.unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
        assert!(!tokens.reload().await.unwrap(), "it is told once");
        assert_eq!(user(&tokens, &token).await.as_deref(), Ok("changed:jane"));
    }

    let nobody = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"});
    file.write(&nobody);
    assert!(tokens.reload().await.unwrap());
    assert_eq!(user(&tokens, &token).await.unwrap_err(), "not of this kind");
}
