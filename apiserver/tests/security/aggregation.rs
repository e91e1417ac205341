//! Aggregation: a server on loopback serves a group, and is asked in the name of whoever asks.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use knarr_api::time::{Clock, SystemClock};
use knarr_apiserver::pki::{Authority, Names, Profile, Usage, server_config};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";

/// Another API server, behind the service `default/sample`.
struct Remote {
    port: u16,
    bundle: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(path: &str, headers: &http::HeaderMap) -> Value {
    let all =
        |name: &str| -> Vec<&str> { headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect() };
    match path {
        "/apis/wardle.example.com/v1alpha1" => json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": "wardle.example.com/v1alpha1", "resources": [{"name": "flunders", "singularName": "flunder",
            "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]}]}),
        "/openapi/v3" => json!({"paths": {"apis/wardle.example.com/v1alpha1": {
            "serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=AB"}}}),
        "/openapi/v2" => json!({"swagger": "2.0", "paths": {"/apis/wardle.example.com/v1alpha1/flunders": {},
            "/apis/other/v1/x": {}}, "definitions": {"com.example.Flunder": {"type": "object"}}}),
        _ => {
            json!({"kind": "Echo", "path": path, "user": all("x-remote-user"), "groups": all("x-remote-group"),
            "authorization": all("authorization")})
        }
    }
}

impl Remote {
    async fn start() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::open(keys.path(), "ca", "remote", now).unwrap();
        let names = Names { dns: vec!["sample.default.svc".into()], ips: Vec::new() };
        let profile = Profile {
            common_name: "sample".into(),
            organization: None,
            usage: Usage::Server(names),
            lifetime: jiff::SignedDuration::from_hours(1),
        };
        let issued = authority.issue(&profile, now).unwrap();
        let resolver = rustls::sign::SingleCertAndKey::from((*issued.certified).clone());
        let acceptor = tokio_rustls::TlsAcceptor::from(server_config(Arc::new(resolver)).unwrap().config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let vouched = stream.get_ref().1.peer_certificates().is_some();
                    let service = move |request: Request<hyper::body::Incoming>| async move {
                        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
                        let body = answer(path, request.headers());
                        let mut response = http::Response::new(Body::from(body.to_string()));
                        if !vouched || path == "/apis" {
                            *response.status_mut() = StatusCode::NOT_FOUND;
                        }
                        Ok::<_, hyper::Error>(response)
                    };
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let connection = hyper::server::conn::http1::Builder::new();
                    // A client that hangs up has what it wanted.
                    drop(connection.serve_connection(io, hyper::service::service_fn(service)).await);
                });
            }
        });
        Self { port, bundle: STANDARD.encode(authority.pem()), task }
    }

    fn api_service(&self) -> Value {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": self.bundle, "service": {"namespace": "default", "name": "sample", "port": 7443}}})
    }

    async fn behind_a_service(&self, cluster: &Cluster) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
            "spec": {"ports": [{"port": 7443, "name": "api"}]}});
        cluster.admin(Method::POST, "/api/v1/namespaces/default/services", service).await.ok();
        // An address for documentation, which the cluster's dialer takes for loopback.
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}},
            "endpoints": [{"addresses": ["192.0.2.10"]}], "ports": [{"name": "api", "port": self.port, "protocol": "TCP"}]});
        cluster
            .admin(Method::POST, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice)
            .await
            .ok();
    }
}

async fn condition(cluster: &Cluster) -> Value {
    let object = cluster.admin(Method::GET, &format!("{SERVICES}/{NAME}"), Value::Null).await.ok();
    object["status"]["conditions"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_served_by_another_server_in_the_users_name() {
    let cluster = Cluster::start().await;
    let remote = Remote::start().await;
    cluster.admin(Method::POST, SERVICES, remote.api_service()).await.ok();
    let path = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
    eventually("the missing service is told", async || {
        condition(&cluster).await["reason"] == "ServiceNotFound"
    })
    .await;
    assert_eq!(condition(&cluster).await["message"], "service/sample in \"default\" is not present");
    assert_eq!(cluster.admin(Method::GET, path, Value::Null).await.status, StatusCode::SERVICE_UNAVAILABLE);

    remote.behind_a_service(&cluster).await;
    eventually("the service is found", async || condition(&cluster).await["reason"] == "Passed").await;
    assert_eq!(condition(&cluster).await["message"], "all checks passed");
    let echo = cluster.admin(Method::GET, &format!("{path}?limit=5"), Value::Null).await.ok();
    assert_eq!(echo["path"], format!("{path}?limit=5"));
    assert_eq!((&echo["user"], &echo["authorization"]), (&json!(["admin"]), &json!([])));
    assert!(
        echo["groups"].as_array().is_some_and(|groups| groups.contains(&json!("system:masters"))),
        "{echo}"
    );
    // Authorization stays here.
    let nobody = cluster.user("nobody", &[], Method::GET, path, Value::Null).await;
    assert_eq!(nobody.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_openapi_show_what_others_serve() {
    let cluster = Cluster::start().await;
    let remote = Remote::start().await;
    remote.behind_a_service(&cluster).await;
    cluster.admin(Method::POST, SERVICES, remote.api_service()).await.ok();
    eventually("openapi knows the group", async || {
        let index = cluster.admin(Method::GET, "/openapi/v3", Value::Null).await.ok();
        index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"]
            == "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=AB"
    })
    .await;
    let groups = cluster.admin(Method::GET, "/apis", Value::Null).await.ok();
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
    let at = |name: &str| names.iter().position(|known| *known == name).unwrap();
    assert!(at("apps") < at("wardle.example.com"), "{names:?}");
    let group = cluster.admin(Method::GET, "/apis/wardle.example.com", Value::Null).await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1alpha1");
    let document = cluster.admin(Method::GET, "/openapi/v2", Value::Null).await.ok();
    assert_eq!(document["definitions"]["com.example.Flunder"], json!({"type": "object"}));
    assert!(document["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(document["paths"]["/apis/other/v1/x"].is_null(), "only what is its own");
    let own =
        cluster.admin(Method::GET, "/openapi/v3/apis/wardle.example.com/v1alpha1", Value::Null).await.ok();
    assert_eq!(own["kind"], "Echo", "the document itself is the remote's");

    cluster.admin(Method::DELETE, &format!("{SERVICES}/{NAME}"), Value::Null).await.ok();
    eventually("the group is gone", async || {
        cluster.admin(Method::GET, "/apis/wardle.example.com", Value::Null).await.status
            == StatusCode::NOT_FOUND
    })
    .await;
}
