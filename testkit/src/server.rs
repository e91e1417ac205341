//! A server to test against, and ways to ask it.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use knarr_api::time::SeededRandom;
use knarr_apiserver::authn::{Authenticators, Config as Authentication};
use knarr_apiserver::authz::{Chain, Rbac};
use knarr_apiserver::bootstrap::{self, Settings};
use knarr_apiserver::catalogue::Extensions;
use knarr_apiserver::server::{ApiServer, Config, Foundation, Security};
use knarr_apiserver::user::{MASTERS_GROUP, UserInfo};
use knarr_storage::{Memory, Store};
use serde_json::Value;
use tower::ServiceExt;

use crate::TokioClock;

/// The API server on a store in memory. It stops when it is dropped.
pub struct TestServer {
    server: ApiServer,
    store: Arc<dyn Store>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// What a raw request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl TestServer {
    /// A server with an empty store.
    pub async fn start() -> Self {
        Self::on(Arc::new(Memory::new())).await
    }

    /// A server on a store that may hold something, for tests of restarts.
    pub async fn on(store: Arc<dyn Store>) -> Self {
        let clock = Arc::new(TokioClock::new());
        let random = Arc::new(SeededRandom::new(1));
        let server = ApiServer::build(Config::default(), store.clone(), clock, random, security).await;
        Self { server: server.expect("a store in memory can be read"), store }
    }

    /// Writes what every cluster has from its first second: namespaces, roles and the rest.
    pub async fn bootstrap(&self) {
        // Endpoints refuse loopback addresses; this one is for documentation and routed nowhere.
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let settings = Settings {
            advertise_address: address,
            secure_port: 6443,
            service_ip: std::net::IpAddr::from([10, 96, 0, 1]),
            service_cidrs: vec!["10.96.0.0/16".to_owned()],
            client_ca_pem: String::new(),
            front_proxy_ca_pem: String::new(),
            front_proxy_headers: knarr_apiserver::authn::Headers::default(),
        };
        bootstrap::run(self.server.loopback(), &settings)
            .await
            .expect("an empty server takes its bootstrap objects");
    }

    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.client_as(administrator())
    }

    /// A client that is the given user.
    pub fn client_as(&self, user: UserInfo) -> kube::Client {
        let router = self.server.as_user(user);
        let service = router.map_request(|request: Request<kube::client::Body>| request.map(Body::new));
        kube::Client::new(service, "default")
    }

    /// Sends a request as the administrator. `body` is JSON unless the headers say otherwise.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("the test's request is well-formed");
        let response =
            self.server.as_user(administrator()).oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the server finishes what it begins").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send(Method::POST, path, &[], object.to_string()).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send(Method::PUT, path, &[], object.to_string()).await
    }

    /// `kind` is `json`, `merge` or `strategic-merge`.
    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Answer {
        let content_type = match kind {
            "json" => "application/json-patch+json".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.send(Method::PATCH, path, &[("content-type", &content_type)], patch.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }
}

fn administrator() -> UserInfo {
    UserInfo::new("admin", [MASTERS_GROUP])
}

/// Who comes from inside the process is who they say; RBAC decides from the objects there are.
fn security(foundation: &Foundation) -> Security {
    let rbac = Arc::new(Rbac::default());
    let (objects, stop) = (foundation.objects.clone(), foundation.stop.clone());
    let running = rbac.clone();
    tokio::spawn(async move {
        let (ready, _) = tokio::sync::watch::channel(false);
        tokio::select! {
            () = stop.cancelled() => {}
            () = running.run(objects, ready) => {}
        }
    });
    let authentication =
        Authentication { front_proxy: None, client_certificates: None, tokens: None, anonymous: None };
    Security {
        authenticator: Arc::new(Authenticators::new(authentication)),
        authorizer: Arc::new(Chain(vec![rbac])),
        admission: None,
        extensions: Extensions::default(),
        webhooks: None,
        aggregator: None,
        fairness: None,
    }
}
