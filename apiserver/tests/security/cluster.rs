//! The server under test, and ways to ask it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use knarr_api::time::{SeededRandom, SystemClock};
use knarr_apiserver::audit::Auditor;
use knarr_apiserver::authn::{Anonymous, Headers};
use knarr_apiserver::bootstrap;
use knarr_apiserver::loopback::Loopback;
use knarr_apiserver::pki::{Names, Pki, Settings as PkiSettings};
use knarr_apiserver::security::{Settings, Standard};
use knarr_apiserver::server::{ApiServer, Config};
use knarr_apiserver::stream::{Dialer, Io, TcpDialer};
use knarr_apiserver::user::UserInfo;
use knarr_storage::{Memory, Store as _};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A server as every cluster runs it, on a store in memory.
pub struct Cluster {
    pub server: ApiServer,
    pub pki: Arc<Pki>,
    /// Keys live as long as the cluster.
    _keys: tempfile::TempDir,
    background: tokio::task::JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.background.abort();
        self.server.stop();
    }
}

/// Takes the addresses for documentation, which objects may name and nobody has, for this machine.
struct Documentation;

#[async_trait::async_trait]
impl Dialer for Documentation {
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<Box<dyn Io>> {
        let host = if host.starts_with("192.0.2.") { "127.0.0.1" } else { host };
        TcpDialer.dial(host, port).await
    }
}

/// What a request was answered.
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
}

async fn send(router: Router, token: Option<&str>, method: Method, path: &str, object: &Value) -> Answer {
    let (status, bytes) = bytes(router, token, method, path, object).await;
    Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

async fn bytes(
    router: Router,
    token: Option<&str>,
    method: Method,
    path: &str,
    object: &Value,
) -> (StatusCode, Bytes) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if object.is_null() { Body::empty() } else { Body::from(object.to_string()) };
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With an audit log.
    pub async fn start_with(audit: Option<Arc<Auditor>>) -> Self {
        Self::launch(audit, |_| {}).await
    }

    /// With other settings.
    pub async fn start_as(change: impl FnOnce(&mut Settings)) -> Self {
        Self::launch(None, change).await
    }

    async fn launch(audit: Option<Arc<Auditor>>, change: impl FnOnce(&mut Settings)) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let service_ip = "10.96.0.1".parse().unwrap();
        let pki = PkiSettings {
            dir: keys.path().join("pki"),
            domain: "cluster.local".into(),
            service_ip,
            hostname: "test".into(),
            extra: Names::default(),
        };
        let pki = Arc::new(Pki::open(pki, clock.clone()).unwrap());
        let bootstrap = bootstrap::Settings {
            advertise_address: "192.0.2.1".parse().unwrap(),
            secure_port: 6443,
            service_ip,
            service_cidrs: vec!["10.96.0.0/16".into()],
            client_ca_pem: pki.ca.pem().into(),
            front_proxy_ca_pem: pki.front_proxy_ca.pem().into(),
            front_proxy_headers: Headers::default(),
        };
        let mut settings = Settings {
            pki: pki.clone(),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            jwks_uri: "https://192.0.2.1:6443/openid/v1/jwks".into(),
            audiences: Vec::new(),
            max_token_expiration: None,
            jwt: None,
            anonymous: Some(Anonymous::health_only()),
            front_proxy_headers: Headers::default(),
            verify_kubelets: true,
            dialer: Arc::new(Documentation),
            bootstrap: bootstrap.clone(),
        };
        change(&mut settings);
        let standard = Standard::new(settings).unwrap();
        let (mut background, mut loopback) = (None, Loopback::default());
        let random = Arc::new(SeededRandom::new(1));
        let store = Arc::new(Memory::new());
        let config = Config { audit, ..Config::default() };
        let server = ApiServer::build(config, store.clone(), clock, random, |foundation| {
            loopback = foundation.loopback.clone();
            let (security, running) = standard.assemble(foundation);
            background = Some(running);
            security
        })
        .await
        .unwrap();
        bootstrap::run(&loopback, &bootstrap).await.unwrap();
        // Who begins to follow when all that is there is known, knows all of it when it is ready.
        let written = store.revision().await.unwrap().0;
        let cache = &server.registry().cache;
        eventually("what bootstrap wrote is known", || async { cache.wait_for(written).await.is_ok() }).await;
        let background = background.unwrap();
        let mut ready = background.ready();
        let background = tokio::spawn(async move { background.run().await });
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { server, pki, _keys: keys, background }
    }

    pub async fn admin(&self, method: Method, path: &str, object: Value) -> Answer {
        self.user("admin", &["system:masters"], method, path, object).await
    }

    /// The events of a watch that ends by itself.
    pub async fn watch(&self, path: &str) -> Vec<Value> {
        let admin = UserInfo::new("admin", ["system:masters"]);
        let (status, bytes) = bytes(self.server.as_user(admin), None, Method::GET, path, &Value::Null).await;
        assert!(status.is_success(), "{status}");
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    pub async fn user(
        &self,
        name: &str,
        groups: &[&str],
        method: Method,
        path: &str,
        object: Value,
    ) -> Answer {
        let user = UserInfo::new(name, groups.iter().copied());
        send(self.server.as_user(user), None, method, path, &object).await
    }

    pub async fn outside(&self, token: Option<&str>, method: Method, path: &str, object: Value) -> Answer {
        send(self.server.router(), token, method, path, &object).await
    }

    pub async fn account(&self, name: &str) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        self.admin(Method::POST, "/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    }

    pub async fn token(&self, account: &str, spec: Value) -> Answer {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        self.admin(Method::POST, &path, request).await
    }
}

/// Decisions follow writes within moments; this is the longest of moments.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}
