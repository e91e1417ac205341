//! Logs, exec and proxies, through the listener to a kubelet and a pod on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use knarr_apiserver::pki::{Names, Profile, Usage, component, provider, server_config};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, eventually, pod};

const HOUR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

type Socket = tokio_tungstenite::WebSocketStream<client::TlsStream<TcpStream>>;

/// A cluster that listens, with a node whose kubelet is on loopback.
struct Streaming {
    cluster: Cluster,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

/// A kubelet: logs what it was asked, refuses the log of `waiting`, and echoes what an exec session sends.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path_and_query().map_or(String::new(), ToString::to_string);
    if path.contains("/waiting/") {
        let why = r#"container "c" in pod "waiting" is waiting to start: ContainerCreating"#;
        let mut refused = Response::new(Body::from(why));
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    }
    if !request.headers().contains_key("upgrade") {
        return Ok(Response::new(Body::from(format!("asked for {path}\n"))));
    }
    let protocol = request.headers().get("sec-websocket-protocol").cloned();
    assert!(!request.headers().contains_key("authorization"), "credentials stay at the API server");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        stream.write_all(b"echo ").await.unwrap();
        stream.write_all(&said).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    if let Some(protocol) = protocol {
        response.headers_mut().insert("sec-websocket-protocol", protocol);
    }
    Ok(response)
}

impl Streaming {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let mut tasks = JoinSet::new();
        let names = Names { dns: vec!["localhost".into()], ips: Vec::new() };
        let profile = Profile {
            common_name: "system:node:n1".into(),
            organization: Some("system:nodes".into()),
            usage: Usage::Server(names),
            lifetime: HOUR,
        };
        let serving = cluster.pki.issue(&profile).unwrap();
        let resolver = rustls::sign::SingleCertAndKey::from((*serving.certified).clone());
        let acceptor = TlsAcceptor::from(server_config(Arc::new(resolver)).unwrap().config);
        let kubelets = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = kubelets.local_addr().unwrap().port();
        tasks.spawn(async move {
            while let Ok((stream, _)) = kubelets.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let presented = stream.get_ref().1.peer_certificates().is_some();
                    assert!(presented, "the API server shows its client certificate");
                    let server = hyper::server::conn::http1::Builder::new();
                    // A client that hangs up has what it wanted.
                    drop(
                        server
                            .serve_connection(TokioIo::new(stream), service_fn(kubelet))
                            .with_upgrades()
                            .await,
                    );
                });
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, tls) = (cluster.server.clone(), server_config(cluster.pki.serving.clone()).unwrap());
        tasks.spawn(async move { server.serve(listener, tls, CancellationToken::new()).await });
        let streaming = Self { cluster, address, tasks };
        streaming.node(port).await;
        streaming
    }

    async fn node(&self, port: u16) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        self.cluster.admin(Method::POST, "/api/v1/nodes", node.clone()).await.ok();
        let mut status = node;
        status["status"] = json!({
            "addresses": [{"type": "Hostname", "address": "localhost"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        });
        self.cluster.admin(Method::PUT, "/api/v1/nodes/n1/status", status).await.ok();
        self.cluster.account("default").await;
        for name in ["web", "waiting"] {
            let mut pod = pod(name);
            pod["spec"]["nodeName"] = "n1".into();
            self.cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", pod).await.ok();
        }
    }

    /// A connection to the API server with the administrator's certificate.
    async fn connect(&self) -> client::TlsStream<TcpStream> {
        let issued = self.cluster.pki.issue(&component("admin", Some("system:masters"), HOUR)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.cluster.pki.ca.der().clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                (*issued.certified).clone(),
            )));
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Opens a WebSocket that offers the protocol; the status it was refused with, if it was.
    async fn socket(&self, path: &str, protocol: &str) -> Result<Socket, StatusCode> {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, self.connect().await).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(refused)) => Err(refused.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a request as it is and returns all that comes back.
    async fn raw(&self, request: &str, then: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(then).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The server may close without saying so at the TLS level; what was read counts.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
    )
}

const EXEC: &str = "/api/v1/namespaces/default/pods/web/exec?command=ls&stdout=true";

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_session_is_relayed_to_the_kubelet_until_both_sides_are_done() {
    let streaming = Streaming::start().await;
    let answer = streaming.raw(&upgrade(EXEC), b"bytes of any kind").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_lowercase().contains("sec-websocket-protocol: v5.channel.k8s.io"), "{answer}");
    assert!(answer.ends_with("echo bytes of any kind"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_get_may_not_open_a_session() {
    let streaming = Streaming::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec", "pods/log"]}]});
    streaming.cluster.admin(Method::POST, &format!("{rbac}/clusterroles"), role).await.ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    streaming.cluster.admin(Method::POST, &format!("{rbac}/clusterrolebindings"), binding).await.ok();
    let log = "/api/v1/namespaces/default/pods/web/log";
    eventually("bob may read logs", async || {
        streaming.cluster.user("bob", &[], Method::GET, log, Value::Null).await.status == StatusCode::OK
    })
    .await;
    let refused = streaming.cluster.user("bob", &[], Method::GET, EXEC, Value::Null).await;
    assert_eq!((refused.status, refused.message()), (StatusCode::FORBIDDEN, r#"pods "web" is forbidden: "#));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_kubelet_with_its_refusals() {
    let streaming = Streaming::start().await;
    let server = streaming.cluster.server.as_user(knarr_apiserver::user::UserInfo::loopback());
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(server.clone(), request).await.unwrap();
        let kind = response.headers().get("content-type").cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (kind, String::from_utf8_lossy(&body).into_owned())
    };
    let (kind, log) = ask("/api/v1/namespaces/default/pods/web/log?follow=true&tailLines=3").await;
    assert_eq!(kind.unwrap(), "text/plain");
    assert_eq!(log, "asked for /containerLogs/default/web/c?follow=true&tailLines=3\n");
    let (_, refused) = ask("/api/v1/namespaces/default/pods/waiting/log").await;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(
        refused["message"],
        r#"container "c" in pod "waiting" is waiting to start: ContainerCreating"#
    );
    assert_eq!(refused["code"], 400);
    let (_, refused) = ask("/api/v1/namespaces/default/pods/web/log?container=x").await;
    assert!(refused.contains("container x is not valid for pod web"), "{refused}");
    let (_, proxied) = ask("/api/v1/nodes/n1/proxy/metrics?x=1").await;
    assert_eq!(proxied, "asked for /metrics?x=1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_over_a_web_socket_in_the_protocols_of_readers() {
    let streaming = Streaming::start().await;
    let path = "/api/v1/namespaces/default/pods/web/log?tailLines=3";
    let said = "asked for /containerLogs/default/web/c?tailLines=3\n";
    for protocol in ["", "binary.k8s.io", "base64.binary.k8s.io"] {
        let mut socket = streaming.socket(path, protocol).await.unwrap();
        let (mut pieces, mut log) = (0, Vec::new());
        let end = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(piece) if !protocol.starts_with("base64") => log.extend_from_slice(&piece),
                Message::Text(piece) if protocol.starts_with("base64") => {
                    let piece = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &*piece);
                    log.extend(piece.unwrap());
                }
                Message::Close(end) => break end.unwrap(),
                other => panic!("{protocol}: {other:?}"),
            }
            pieces += 1;
        };
        assert_eq!(String::from_utf8(log).unwrap(), said, "{protocol}");
        assert!(pieces > 1, "an empty message comes first");
        assert_eq!(u16::from(end.code), 1000);
    }
    let refused = streaming.socket(path, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!(refused, StatusCode::FORBIDDEN);
    let missing = "/api/v1/namespaces/default/pods/waiting/log";
    assert_eq!(streaming.socket(missing, "").await.unwrap_err(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_watch_is_a_message_of_a_web_socket() {
    let streaming = Streaming::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    streaming.cluster.admin(Method::POST, maps, map("a")).await.ok();
    let path = format!("{maps}?watch=true&labelSelector=!none");
    let mut socket = streaming.socket(&path, "").await.unwrap();
    let mut next = async || match socket.next().await.unwrap().unwrap() {
        Message::Text(event) => serde_json::from_str::<Value>(&event).unwrap(),
        other => panic!("{other:?}"),
    };
    let first = next().await;
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    streaming.cluster.admin(Method::POST, maps, map("b")).await.ok();
    streaming.cluster.admin(Method::DELETE, &format!("{maps}/b"), Value::Null).await.ok();
    assert_eq!(next().await["type"], "ADDED");
    assert_eq!(next().await["type"], "DELETED");
    socket.send(Message::text("nobody reads this")).await.unwrap();
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|message| message.is_ok()) {}

    let path = format!("{maps}?watch=true&timeoutSeconds=1");
    let mut timed = streaming.socket(&path, "").await.unwrap();
    let mut kinds = Vec::new();
    while let Some(Ok(message)) = timed.next().await {
        kinds.push(message.is_close());
    }
    assert_eq!(kinds, [false, true], "what is there, and the end when the time is over");
}

/// A web server whose certificate it signed itself; gives its port.
async fn self_signed(tasks: &mut JoinSet<()>) -> u16 {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await.unwrap();
            let answer = async |request: Request<Incoming>| {
                let path = request.uri().path().to_owned();
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(format!("tls {path}"))))
            };
            let server = hyper::server::conn::http1::Builder::new();
            drop(server.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxied_pod_may_have_signed_its_certificate_itself() {
    let mut streaming = Streaming::start().await;
    let port = self_signed(&mut streaming.tasks).await;
    let cluster = &streaming.cluster;
    let pod = "/api/v1/namespaces/default/pods/web";
    let mut status = cluster.admin(Method::GET, pod, Value::Null).await.ok();
    status["status"]["podIP"] = "192.0.2.9".into();
    status["status"]["podIPs"] = json!([{"ip": "192.0.2.9"}]);
    cluster.admin(Method::PUT, &format!("{pod}/status"), status).await.ok();
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": [{
        "addresses": [{"ip": "192.0.2.9", "targetRef": {"kind": "Pod", "namespace": "default", "name": "web"}}],
        "ports": [{"name": "tls", "port": port}]}]});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/endpoints", endpoints).await.ok();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "tls", "port": 443, "targetPort": port}]}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/services", service).await.ok();
    let server = cluster.server.as_user(knarr_apiserver::user::UserInfo::loopback());
    for path in [
        format!("/api/v1/namespaces/default/pods/https:web:{port}/proxy/x"),
        "/api/v1/namespaces/default/services/https:web:tls/proxy/x".to_owned(),
        "/api/v1/namespaces/default/services/https:web:443/proxy/x".to_owned(),
    ] {
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(server.clone(), request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&body), "tls /x", "{path}");
    }
    for (method, path, status) in [
        (Method::DELETE, format!("{pod}/proxy/x"), StatusCode::OK),
        (Method::OPTIONS, format!("{pod}/proxy/x"), StatusCode::OK),
        (Method::PATCH, format!("{pod}/proxy/x"), StatusCode::OK),
        (Method::OPTIONS, format!("{pod}/exec"), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let path = path.replace("pods/web/proxy", &format!("pods/https:web:{port}/proxy"));
        let request = Request::builder().method(&method).uri(&path).body(Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(server.clone(), request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
    }
}
