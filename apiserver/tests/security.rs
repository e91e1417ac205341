//! The server as every cluster runs it: who may come in, what they may do, and what becomes of what they write.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use knarr_api::time::{SeededRandom, SystemClock};
use knarr_apiserver::authn::{Anonymous, Headers};
use knarr_apiserver::loopback::Loopback;
use knarr_apiserver::pki::{Authority, Names, Pki, Profile, Settings as PkiSettings, Usage, server_config};
use knarr_apiserver::security::{Settings, Standard};
use knarr_apiserver::server::{ApiServer, Config};
use knarr_apiserver::stream::TcpDialer;
use knarr_apiserver::user::UserInfo;
use knarr_apiserver::bootstrap;
use knarr_storage::Memory;
use serde_json::{Value, json};
use tower::ServiceExt;

struct Cluster {
    server: ApiServer,
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

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
}

async fn send(router: Router, token: Option<&str>, method: Method, path: &str, object: &Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if object.is_null() { Body::empty() } else { Body::from(object.to_string()) };
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

impl Cluster {
    async fn start() -> Self {
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
        let standard = Standard::new(Settings {
            pki,
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            jwks_uri: "https://192.0.2.1:6443/openid/v1/jwks".into(),
            audiences: Vec::new(),
            max_token_expiration: None,
            anonymous: Some(Anonymous::health_only()),
            front_proxy_headers: Headers::default(),
            verify_kubelets: true,
            dialer: Arc::new(TcpDialer),
            bootstrap: bootstrap.clone(),
        })
        .unwrap();
        let (mut background, mut loopback) = (None, Loopback::default());
        let random = Arc::new(SeededRandom::new(1));
        let store = Arc::new(Memory::new());
        let server = ApiServer::build(Config::default(), store, clock, random, |foundation| {
            loopback = foundation.loopback.clone();
            let (security, running) = standard.assemble(foundation);
            background = Some(running);
            security
        })
        .await
        .unwrap();
        let background = background.unwrap();
        let mut ready = background.ready();
        let background = tokio::spawn(async move { background.run().await });
        bootstrap::run(&loopback, &bootstrap).await.unwrap();
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { server, _keys: keys, background }
    }

    async fn admin(&self, method: Method, path: &str, object: Value) -> Answer {
        self.user("admin", &["system:masters"], method, path, object).await
    }

    async fn user(&self, name: &str, groups: &[&str], method: Method, path: &str, object: Value) -> Answer {
        let user = UserInfo::new(name, groups.iter().copied());
        send(self.server.as_user(user), None, method, path, &object).await
    }

    async fn outside(&self, token: Option<&str>, method: Method, path: &str, object: Value) -> Answer {
        send(self.server.router(), token, method, path, &object).await
    }

    async fn account(&self, name: &str) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        self.admin(Method::POST, "/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    }

    async fn token(&self, account: &str, spec: Value) -> Answer {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        self.admin(Method::POST, &path, request).await
    }
}

/// Decisions follow writes within moments; this is the longest of moments.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "never: {what}");
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_has_what_every_cluster_has() {
    let cluster = Cluster::start().await;
    let paths = [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:controller:deployment-controller",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/roles/system:controller:bootstrap-signer",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
    ];
    for path in paths {
        let answer = cluster.admin(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
    let service = cluster.admin(Method::GET, paths[1], Value::Null).await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_the_servers_health_and_nothing_else() {
    let cluster = Cluster::start().await;
    let status = async |path: &str, token: Option<&str>| {
        cluster.outside(token, Method::GET, path, Value::Null).await.status
    };
    assert_eq!(status("/livez", None).await, StatusCode::OK);
    assert_eq!(status("/api/v1/namespaces", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/api/v1/namespaces", Some("nonsense")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/livez", Some("nonsense")).await, StatusCode::UNAUTHORIZED);
    // A header of an unsigned token, `{"alg":"none"}`, with claims in our issuer's name.
    let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCJ9.";
    assert_eq!(status("/api/v1/namespaces", Some(unsigned)).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_known_by_its_token_until_it_is_gone() {
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    let issued = cluster.token("robot", json!({"expirationSeconds": 600})).await.ok();
    let token = issued["status"]["token"].as_str().unwrap();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let myself = cluster.outside(Some(token), Method::POST, path, review).await.ok();
    let user = &myself["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );

    let refused = cluster.outside(Some(token), Method::GET, "/api/v1/namespaces/default/pods", Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        r#"pods is forbidden: User "system:serviceaccount:default:robot" cannot list resource "pods" in API group "" in the namespace "default""#
    );

    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let ask = |audience: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]}})
    };
    let ours = ask("https://kubernetes.default.svc.cluster.local");
    let answer = cluster.admin(Method::POST, path, ours.clone()).await.ok();
    assert_eq!(answer["status"]["authenticated"], true, "{answer}");
    let answer = cluster.admin(Method::POST, path, ask("vault")).await.ok();
    assert_ne!(answer["status"]["authenticated"], true, "{answer}");

    let short = cluster.token("robot", json!({"expirationSeconds": 10})).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(short.message().contains("may not specify a duration less than 10 minutes"), "{}", short.message());

    cluster.admin(Method::DELETE, "/api/v1/namespaces/default/serviceaccounts/robot", Value::Null).await.ok();
    let other = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["https://kubernetes.default.svc.cluster.local", "x"]}});
    let answer = cluster.admin(Method::POST, path, other).await.ok();
    assert_ne!(answer["status"]["authenticated"], true, "not remembered for these audiences: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_completed_on_their_way_in() {
    let cluster = Cluster::start().await;
    cluster.account("default").await;
    let made = cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", pod("web")).await.ok();
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = &spec["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], volume["name"]);

    let missing = cluster.admin(Method::POST, "/api/v1/namespaces/nowhere/pods", pod("web")).await;
    assert_eq!((missing.status, missing.message()), (StatusCode::NOT_FOUND, r#"namespaces "nowhere" not found"#));
    let kept = cluster.admin(Method::DELETE, "/api/v1/namespaces/kube-system", Value::Null).await;
    assert_eq!(kept.message(), r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let role = |name: &str, resource: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
            "rules": [{"verbs": ["create"], "apiGroups": ["", "rbac.authorization.k8s.io"], "resources": [resource]}]})
    };
    cluster.admin(Method::POST, roles, role("roles", "roles")).await.ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "roles"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    cluster.admin(Method::POST, bindings, binding).await.ok();
    eventually("bob may create roles", async || {
        cluster.user("bob", &[], Method::POST, roles, role("same", "roles")).await.status != StatusCode::FORBIDDEN
    })
    .await;
    let refused = cluster.user("bob", &[], Method::POST, roles, role("more", "secrets")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let expected = "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"create\"]}";
    assert!(refused.message().contains(expected), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reaches_its_own_objects_only() {
    let cluster = Cluster::start().await;
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let as_node = async |name: &str, method, path: &str, object| {
        cluster.user(&format!("system:node:{name}"), &["system:nodes"], method, path, object).await
    };
    let made = as_node("n1", Method::POST, "/api/v1/nodes", node("n1")).await.ok();
    assert_eq!(made["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
    let other = as_node("n1", Method::POST, "/api/v1/nodes", node("n2")).await;
    assert_eq!(
        other.message(),
        r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#
    );
    assert_eq!(as_node("n1", Method::GET, "/api/v1/nodes/n1", Value::Null).await.status, StatusCode::OK);

    cluster.account("default").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/secrets", secret).await.ok();
    let mut user = pod("user");
    user["spec"]["nodeName"] = "n1".into();
    user["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", user).await.ok();
    eventually("n1 may read its pod's secret", async || {
        as_node("n1", Method::GET, "/api/v1/namespaces/default/secrets/s", Value::Null).await.status == StatusCode::OK
    })
    .await;
    let refused = as_node("n2", Method::GET, "/api/v1/namespaces/default/secrets/s", Value::Null).await;
    assert!(
        refused.message().ends_with("no relationship found between node 'n2' and this object"),
        "{}",
        refused.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn access_reviews_answer_as_requests_would_be_decided() {
    let cluster = Cluster::start().await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let ask = async |user: &str, groups: Value| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": user, "groups": groups,
            "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
        cluster.admin(Method::POST, path, review).await.ok()["status"]["allowed"] == true
    };
    assert!(ask("x", json!(["system:masters"])).await);
    assert!(!ask("x", json!([])).await);
    eventually("the scheduler's bootstrap role counts", async || ask("system:kube-scheduler", json!([])).await).await;

    let invalid = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "x"}});
    let refused = cluster.admin(Method::POST, path, invalid).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
}

/// A webhook on loopback that answers every review with what a function makes of its request.
struct WebhookServer {
    port: u16,
    bundle: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WebhookServer {
    async fn start(answer: fn(&Value) -> Value) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let authority = Authority::open(keys.path(), "ca", "webhooks", now).unwrap();
        let names = Names { dns: vec!["localhost".into()], ips: Vec::new() };
        let profile = Profile {
            common_name: "webhook".into(),
            organization: None,
            usage: Usage::Server(names),
            lifetime: jiff::SignedDuration::from_hours(1),
        };
        let issued = authority.issue(&profile, now).unwrap();
        let resolver = rustls::sign::SingleCertAndKey::from((*issued.certified).clone());
        let tls = server_config(Arc::new(resolver)).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = move |request: Request<hyper::body::Incoming>| async move {
            let bytes = request.into_body().collect().await?.to_bytes();
            let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let mut response = answer(&review["request"]);
            response["uid"] = review["request"]["uid"].clone();
            let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            Ok::<_, hyper::Error>(http::Response::new(Body::from(body.to_string())))
        };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let io = hyper_util::rt::TokioIo::new(stream);
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that hangs up has what it wanted.
                drop(connection.serve_connection(io, hyper::service::service_fn(service)).await);
            }
        });
        Self { port, bundle: STANDARD.encode(authority.pem()), task }
    }

    fn configuration(&self, kind: &str, extra: Value) -> Value {
        let mut hook = json!({
            "name": "hook.example.com",
            "clientConfig": {"url": format!("https://localhost:{}/", self.port), "caBundle": self.bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        hook.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "hooks"}, "webhooks": [hook]})
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_webhook_changes_what_is_stored() {
    let cluster = Cluster::start().await;
    let patch = |_: &Value| {
        let patch = json!([{"op": "add", "path": "/data/added", "value": "yes"}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
            "warnings": ["changed"]})
    };
    let webhook = WebhookServer::start(patch).await;
    let configuration = webhook.configuration("MutatingWebhookConfiguration", json!({}));
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster.admin(Method::POST, path, configuration).await.ok();
    let counter = std::sync::atomic::AtomicUsize::new(0);
    eventually("new config maps are changed", async || {
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let made = cluster.admin(Method::POST, CONFIG_MAPS, config_map(&format!("m{number}"))).await.ok();
        made["data"] == json!({"a": "b", "added": "yes"})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_webhook_refuses_in_its_own_words_what_its_conditions_select() {
    let cluster = Cluster::start().await;
    let refuse = |_: &Value| json!({"allowed": false, "status": {"message": "not today", "code": 403}});
    let webhook = WebhookServer::start(refuse).await;
    let conditions = json!({"matchConditions": [{"name": "not-skipped", "expression": "object.metadata.name != 'skip-me'"}]});
    let configuration = webhook.configuration("ValidatingWebhookConfiguration", conditions);
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("config maps are refused", async || {
        let answer = cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await;
        answer.message() == r#"admission webhook "hook.example.com" denied the request: not today"#
            && answer.status == StatusCode::FORBIDDEN
    })
    .await;
    cluster.admin(Method::POST, CONFIG_MAPS, config_map("skip-me")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_reached_refuses_unless_it_may_be_ignored() {
    let cluster = Cluster::start().await;
    let webhook = WebhookServer::start(|_| json!({"allowed": true})).await;
    let mut configuration = webhook.configuration("ValidatingWebhookConfiguration", json!({}));
    // Nobody trusts the server's certificate without its authority.
    configuration["webhooks"][0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let made = cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("config maps are refused", async || {
        let answer = cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await;
        let failed = r#"Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: Post "#;
        answer.message().starts_with(failed) && answer.status == StatusCode::INTERNAL_SERVER_ERROR
    })
    .await;
    let mut ignored = made;
    ignored["webhooks"][0]["failurePolicy"] = "Ignore".into();
    cluster.admin(Method::PUT, &format!("{path}/hooks"), ignored).await.ok();
    eventually("config maps are let in", async || {
        cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await.status.is_success()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_labels_decide_what_its_pods_may_ask() {
    let cluster = Cluster::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict",
        "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    cluster.admin(Method::POST, "/api/v1/namespaces", namespace).await.ok();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster.admin(Method::POST, "/api/v1/namespaces/strict/serviceaccounts", account).await.ok();
    let mut privileged = pod("p");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let refused = cluster.admin(Method::POST, "/api/v1/namespaces/strict/pods", privileged).await;
    assert_eq!(
        refused.message(),
        r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)"#
    );
    cluster.admin(Method::POST, "/api/v1/namespaces/strict/pods", pod("plain")).await.ok();
}
