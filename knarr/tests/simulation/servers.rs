//! API servers on one store: one at a time, and none for a while after a crash.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use knarr_api::time::{SharedClock, SharedRandom, SystemClock};
use knarr_apiserver::authn::{Anonymous, Headers};
use knarr_apiserver::bootstrap;
use knarr_apiserver::pki::{self, Names, Pki};
use knarr_apiserver::security::{self, Standard};
use knarr_apiserver::server::{ApiServer, Config};
use knarr_apiserver::stream::TcpDialer;
use knarr_apiserver::user::UserInfo;
use knarr_client::{Client, Identity, connect::in_process};
use knarr_storage::{Memory, Store};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tower::{BoxError, ServiceExt, service_fn};

const SERVICE_IP: [u8; 4] = [10, 96, 0, 1];

/// The cluster's keys: the same for all plays, because making them takes longer than a play should.
pub struct Keys {
    pub pki: Arc<Pki>,
    _directory: tempfile::TempDir,
}

impl Keys {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = pki::Settings {
            dir: directory.path().join("pki"),
            domain: "cluster.local".to_owned(),
            service_ip: IpAddr::from(SERVICE_IP),
            hostname: "server".to_owned(),
            extra: Names { dns: Vec::new(), ips: Vec::new() },
        };
        let pki = Pki::open(settings, Arc::new(SystemClock)).expect("keys can be made");
        Self { pki: Arc::new(pki), _directory: directory }
    }
}

struct Running {
    server: ApiServer,
    background: JoinHandle<()>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Servers(Arc<Inner>);

struct Inner {
    pki: Arc<Pki>,
    store: Arc<dyn Store>,
    clock: SharedClock,
    random: SharedRandom,
    current: Mutex<Option<Running>>,
}

impl Servers {
    /// With the first of them running.
    pub async fn start(keys: &Keys, clock: SharedClock, random: SharedRandom) -> Self {
        let pki = keys.pki.clone();
        let current = Mutex::default();
        let servers = Self(Arc::new(Inner { pki, store: Arc::new(Memory::new()), clock, random, current }));
        servers.replace().await;
        servers
    }

    /// Starts a new one in place of one that crashed.
    pub async fn replace(&self) {
        let standard = Standard::new(self.security()).expect("the authority is our own");
        let mut assembled = None;
        let (store, clock, random) = (self.0.store.clone(), self.0.clock.clone(), self.0.random.clone());
        let server = ApiServer::build(Config::default(), store, clock, random, |foundation| {
            let (security, background) = standard.assemble(foundation);
            assembled = Some(background);
            security
        });
        let server = server.await.expect("a store in memory can be read");
        let background = assembled.expect("the server asked for its security");
        let mut ready = background.ready();
        let background = tokio::spawn(async move { background.run().await });
        bootstrap::run(server.loopback(), &self.bootstrap()).await.expect("bootstrap objects are taken");
        ready.wait_for(|ready| *ready).await.expect("the authorizers run");
        *self.0.current.lock() = Some(Running { server, background });
    }

    /// From now on nobody answers; what was under way is finished unseen.
    pub fn crash(&self) {
        if let Some(running) = self.0.current.lock().take() {
            running.server.stop();
            running.background.abort();
        }
    }

    /// A client that speaks to whichever server there is.
    pub fn client(&self, identity: &Identity) -> Client {
        let (servers, identity) = (self.clone(), identity.clone());
        in_process(service_fn(move |request: http::Request<kube::client::Body>| {
            let router = servers.0.current.lock().as_ref().map(|running| {
                running.server.as_user(UserInfo::new(identity.user.clone(), identity.groups.clone()))
            });
            async move {
                let refused = || BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
                let answer = router.ok_or_else(refused)?.oneshot(request.map(Body::new)).await?;
                Ok::<_, BoxError>(answer)
            }
        }))
    }

    pub fn admin(&self) -> Client {
        self.client(&Identity::user("kubectl", "kubernetes-admin", &["system:masters"]))
    }

    fn bootstrap(&self) -> bootstrap::Settings {
        bootstrap::Settings {
            // Set aside for documentation and routed nowhere.
            advertise_address: IpAddr::from([192, 0, 2, 1]),
            secure_port: 6443,
            service_ip: IpAddr::from(SERVICE_IP),
            service_cidrs: vec!["10.96.0.0/16".to_owned()],
            client_ca_pem: self.0.pki.ca.pem().to_owned(),
            front_proxy_ca_pem: self.0.pki.front_proxy_ca.pem().to_owned(),
            front_proxy_headers: Headers::default(),
        }
    }

    fn security(&self) -> security::Settings {
        security::Settings {
            pki: self.0.pki.clone(),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            jwks_uri: "https://192.0.2.1:6443/openid/v1/jwks".to_owned(),
            audiences: Vec::new(),
            max_token_expiration: None,
            jwt: None,
            anonymous: Some(Anonymous::health_only()),
            front_proxy_headers: Headers::default(),
            verify_kubelets: true,
            dialer: Arc::new(TcpDialer),
            bootstrap: self.bootstrap(),
        }
    }
}
