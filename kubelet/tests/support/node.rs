//! A node with real containers, as root: everything it makes is below one directory and one cgroup, and goes with it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use knarr_api::time::{SeededRandom, SystemClock};
use knarr_kubelet::config::{ServerConfig, ServerTls};
use knarr_kubelet::{Config, Kubelet, Parts};
use knarr_runtime::embedded::{self, Embedded};
use knarr_testkit::TestServer;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::{Condition, await_condition};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::image;

pub const NODE: &str = "node-1";
/// Longest that anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Node {
    pub server: TestServer,
    pub directory: tempfile::TempDir,
    pub runtime: Embedded,
    runtime_config: embedded::Config,
    address: std::net::SocketAddr,
    client_tls: Arc<rustls::ClientConfig>,
    server_tls: ServerTls,
    agent: Option<(JoinHandle<()>, CancellationToken)>,
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A CA, a serving certificate of the node, and a client certificate of an administrator.
fn certificates() -> (ServerTls, Arc<rustls::ClientConfig>) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("signed").der().clone();
    let issuer = Issuer::new(ca, ca_key);
    let issue = |name: &str, organization: &str, purpose| {
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.distinguished_name.push(DnType::OrganizationName, organization);
        leaf.extended_key_usages = vec![purpose];
        let certificate = leaf.signed_by(&key, &issuer).expect("signed").der().clone();
        (certificate, PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (serving, serving_key) = issue(NODE, "nodes", ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = issue("admin", "system:masters", ExtendedKeyUsagePurpose::ClientAuth);
    let key = provider.key_provider.load_private_key(serving_key).expect("a key");
    let certified = Arc::new(CertifiedKey::new(vec![serving], key));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca_certificate.clone()).expect("a certificate");
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client], client_key)
        .expect("a certificate");
    let ca: CertificateDer<'static> = ca_certificate;
    (ServerTls { certificate: Arc::new(Always(certified)), client_ca: vec![ca] }, Arc::new(config))
}

impl Node {
    pub async fn new() -> Self {
        let server = TestServer::start().await;
        for name in ["default", "kube-node-lease"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // The server may have made its own already.
            server.post("/api/v1/namespaces", &namespace).await;
        }
        let directory = tempfile::Builder::new().prefix("knarr-kubelet-").tempdir().expect("a directory");
        let name = directory.path().file_name().expect("a name").to_string_lossy().into_owned();
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_knarr-kubelet-test-shim"));
        let mut runtime_config =
            embedded::Config::below(&directory.path().join("runtime"), shim, &format!("/{name}"));
        runtime_config.shim_arguments.clear();
        let runtime = Embedded::open(runtime_config.clone()).await.expect("the runtime opens");
        runtime.import_image(std::io::Cursor::new(image::archive())).await.expect("busybox is imported");
        let (server_tls, client_tls) = certificates();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut node =
            Self { server, directory, runtime, runtime_config, address, client_tls, server_tls, agent: None };
        node.start().await;
        node
    }

    pub async fn start(&mut self) {
        let mut config = Config::new(NODE, self.directory.path().join("kubelet"));
        config.node_ips = vec![Ipv4Addr::LOCALHOST.into()];
        // The machine that runs the tests may be short of disk.
        config.eviction_hard.clear();
        config.server = Some(ServerConfig::new((Ipv4Addr::LOCALHOST, 0).into(), self.server_tls.clone()));
        let parts = Parts {
            client: trusting(self.server.client()),
            runtime: Arc::new(self.runtime.clone()),
            network: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SeededRandom::new(7)),
        };
        let kubelet = Kubelet::build(config, parts).await.expect("the agent starts");
        self.address = kubelet.server_address().expect("it has a server");
        let stop = CancellationToken::new();
        self.agent = Some((tokio::spawn(kubelet.run(stop.clone())), stop));
    }

    /// Stops the agent; its containers go on.
    pub async fn stop(&mut self) {
        if let Some((task, stop)) = self.agent.take() {
            stop.cancel();
            task.await.expect("the agent does not panic");
        }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.server.client(), "default")
    }

    /// Creates a pod on the node's network with one busybox container running a script; `more` is laid over it.
    pub async fn create(&self, name: &str, script: &str, container: Value, more: Value) -> Pod {
        let mut main = json!({"name": "main", "image": image::IMAGE, "command": ["sh", "-c", script]});
        overlay(&mut main, &container);
        let mut spec = json!({
            "nodeName": NODE, "hostNetwork": true, "enableServiceLinks": false, "containers": [main],
            "terminationGracePeriodSeconds": 1,
        });
        overlay(&mut spec, &more);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "spec": spec,
        });
        let pod: Pod = serde_json::from_value(pod).expect("the test's pod is one");
        self.pods().create(&PostParams::default(), &pod).await.expect("the server takes the pod")
    }

    pub async fn until(&self, name: &str, wanted: impl Condition<Pod>) -> Option<Pod> {
        match tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, wanted)).await {
            Ok(seen) => seen.expect("the server can be watched"),
            Err(_) => {
                let pod = self.pods().get_opt(name).await;
                panic!("pod {name} never became as wanted: {pod:#?}")
            }
        }
    }

    /// Returns when an event of this reason said this.
    pub async fn until_event(&self, reason: &str, message: &str) {
        let events: Api<Event> = Api::namespaced(self.server.client(), "default");
        let wanted = |event: &Event| {
            event.reason.as_deref() == Some(reason) && event.message.as_deref() == Some(message)
        };
        let mut seen = Vec::new();
        let watching = async {
            let changes = kube::runtime::watcher(events, Default::default());
            let mut changes = std::pin::pin!(changes.applied_objects());
            while let Some(event) = changes.next().await {
                let event = event.expect("the server can be watched");
                if wanted(&event) {
                    return;
                }
                seen.push(event.message);
            }
        };
        if tokio::time::timeout(PATIENCE, watching).await.is_err() {
            panic!("no event said {message:?} of {reason}, but {seen:#?}");
        }
    }

    /// A TLS connection to the node's server.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let name = "127.0.0.1".try_into().expect("a name");
        TlsConnector::from(self.client_tls.clone()).connect(name, stream).await.expect("TLS works")
    }

    /// Asks the node's server; status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use http_body_util::BodyExt;
        let io = hyper_util::rt::TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP works");
        let driving = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "node")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        driving.abort();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Removes everything and checks that nothing is left.
    pub async fn end(mut self) {
        self.stop().await;
        self.runtime.clone().destroy().await.expect("everything is removed");
        let here = self.directory.path().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&here), "a mount is left: {mounts}");
    }
}

impl Drop for Node {
    /// After a failure, so that it does not disturb what comes next.
    fn drop(&mut self) {
        let (config, directory) = (self.runtime_config.clone(), self.directory.path().to_owned());
        let agent = self.agent.take();
        let cleaner = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let destroyed = runtime.block_on(async {
                if let Some((task, stop)) = agent {
                    stop.cancel();
                    // It may have panicked; that is the test's failure, told already.
                    drop(task.await);
                }
                Embedded::open(config).await?.destroy().await
            });
            let unmounted = knarr_kubelet::volumes::mounts::unmount_below(&directory);
            (destroyed.map_err(|e| e.to_string()), unmounted.map_err(|e| e.to_string()))
        });
        let (destroyed, unmounted) = cleaner.join().expect("the cleaner does not panic");
        for error in [destroyed.err(), unmounted.err()].into_iter().flatten() {
            eprintln!("clean-up: {error}");
        }
    }
}

/// The server of tests reviews no access: whoever has a certificate may.
fn trusting(client: kube::Client) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let client = client.clone();
        async move {
            if request.uri().path().ends_with("/subjectaccessreviews") {
                let review = json!({
                    "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                    "spec": {}, "status": {"allowed": true},
                });
                return Ok(http::Response::new(kube::client::Body::from(review.to_string().into_bytes())));
            }
            client.send(request).await
        }
    });
    kube::Client::new(service, "default")
}

fn overlay(base: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
}
