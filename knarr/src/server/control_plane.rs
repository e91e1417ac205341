//! Store, API server, controllers and scheduler.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::header::USER_AGENT;
use jiff::SignedDuration;
use knarr_api::time::{SeededRandom, SharedClock, SharedRandom, SystemClock};
use knarr_apiserver::authn::Headers;
use knarr_apiserver::bootstrap;
use knarr_apiserver::encryption::EncryptionFile;
use knarr_apiserver::pki::{self, Kubeconfig, Names, Pki, component};
use knarr_apiserver::registry::Pools;
use knarr_apiserver::security::{self, Standard};
use knarr_apiserver::server::{ApiServer, Config};
use knarr_apiserver::stream::TcpDialer;
use knarr_apiserver::user::UserInfo;
use knarr_client::connect::user_agent;
use knarr_client::{Client, ClientFactory, Identity};
use knarr_controllers::{Controllers, NodesConfig, PodRange, SigningAuthority, TokenSigner};
use knarr_storage::{Embedded, Store, compact_periodically};
use tokio::net::TcpListener;

use super::settings::{DOMAIN, ENCRYPTION, Settings};
use super::tasks::Tasks;
use super::{audit, authentication, hello, manifests, scheduler, store};

/// Upstream's `--etcd-compaction-interval`.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);

/// Upstream's `--node-cidr-mask-size`: 254 pods a node.
const NODE_PREFIX: u8 = 24;

/// Upstream's `--cluster-signing-duration`.
const SIGNING_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The administrator's certificate is written anew at every start.
const ADMIN_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365);

/// What the rest of the process needs of a running control plane.
pub struct ControlPlane {
    pub server: ApiServer,
    pub pki: Arc<Pki>,
    pub clock: SharedClock,
    pub random: SharedRandom,
    /// The store as it is on disk, under the encryption, where it is the embedded one.
    pub embedded: Option<Arc<Embedded>>,
    /// Where other machines reach the API server.
    pub advertised: String,
}

impl ControlPlane {
    pub fn admin(&self) -> Client {
        self.client(&Identity::user("knarr", "kubernetes-admin", &["system:masters"]))
    }
}

impl ClientFactory for ControlPlane {
    /// Straight onto the server's router: every filter, no socket.
    fn client(&self, identity: &Identity) -> Client {
        client_of(&self.server, identity)
    }
}

fn client_of(server: &ApiServer, identity: &Identity) -> Client {
    let router = server.as_user(UserInfo::new(identity.user.clone(), identity.groups.clone()));
    let agent = user_agent(identity.program);
    let service =
        tower::ServiceExt::map_request(router, move |request: http::Request<kube::client::Body>| {
            let mut request = request.map(axum::body::Body::new);
            request.headers_mut().insert(USER_AGENT, agent.clone());
            request
        });
    knarr_client::connect::in_process(service)
}

pub async fn start(
    settings: &Arc<Settings>,
    scheduling: knarr_scheduler::Config,
    tasks: &mut Tasks,
) -> anyhow::Result<ControlPlane> {
    let cluster = &settings.cluster;
    let clock: SharedClock = Arc::new(SystemClock);
    let random: SharedRandom = Arc::new(SeededRandom::from_process());
    // Sockets early: a port that is taken must not cost a start.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, cluster.api_port)).await;
    let listener = listener.with_context(|| format!("port {}: pass --api-port", cluster.api_port))?;
    let pki = Arc::new(open_pki(settings, clock.clone())?);
    write_kubeconfig(settings, &pki)?;

    let opened = store::open(&cluster.data_dir, &settings.api_server.store).await?;
    let encryption =
        EncryptionFile::open_or_create(&settings.dir(ENCRYPTION)).context("how Secrets are encrypted")?;
    let store: Arc<dyn Store> = Arc::new(encryption.encrypt(opened.store));
    tasks.spawn("encryption keys", |stop| async move {
        stop.run_until_cancelled(encryption.follow()).await;
        Ok(())
    });
    let closing = store.clone();
    tasks.spawn("store", |stop| async move {
        stop.cancelled().await;
        closing.close().await.context("closing the store")
    });
    let compacted = store.clone();
    tasks.spawn("compactor", |stop| async move {
        stop.run_until_cancelled(compact_periodically(compacted, COMPACTION_INTERVAL))
            .await
            .unwrap_or(Ok(()))?;
        Ok(())
    });

    let audit = audit::open(&settings.api_server.audit, &clock, &random).await?;
    let config = Config {
        pools: Pools {
            service_ranges: vec![cluster.service_cidr().parse().context("service range")?],
            node_ports: cluster.node_ports(),
        },
        audit: audit.clone(),
        ..Config::default()
    };
    let standard =
        Standard::new(security_settings(settings, &pki)?).context("trusting the cluster's own authority")?;
    let mut assembled = None;
    let server = ApiServer::build(config, store, clock.clone(), random.clone(), |foundation| {
        let (security, background) = standard.assemble(foundation);
        assembled = Some(background);
        security
    })
    .await
    .context("starting the API server")?;
    let background = assembled.context("the API server was built")?;
    let mut knows_everything = background.ready();
    tasks.spawn("api server's decisions", |stop| async move {
        stop.run_until_cancelled(background.run()).await;
        Ok(())
    });
    let tls = pki::server_config(pki.serving.clone()).context("the API server's certificate")?;
    let serving = server.clone();
    tasks.spawn("api server", |stop| async move {
        serving.serve(listener, tls, stop).await;
        if let Some(audit) = audit {
            tokio::task::spawn_blocking(move || audit.flush()).await.context("flushing the audit log")?;
        }
        Ok(())
    });
    bootstrap::run(server.loopback(), &bootstrap_settings(settings, &pki))
        .await
        .context("writing the objects that every cluster has")?;
    knows_everything.wait_for(|ready| *ready).await.context("the authorizers ended")?;

    let advertised =
        format!("https://{}", std::net::SocketAddr::from((settings.advertise_address(), cluster.api_port)));
    let control_plane = ControlPlane { server, pki, clock, random, embedded: opened.embedded, advertised };
    manifests::apply(&control_plane.admin()).await?;
    start_controllers(settings, &control_plane, tasks)?;
    scheduler::start(scheduling, &control_plane, tasks);
    Ok(control_plane)
}

fn open_pki(settings: &Settings, clock: SharedClock) -> anyhow::Result<Pki> {
    let names = pki::Settings {
        dir: settings.dir("pki"),
        domain: DOMAIN.to_owned(),
        service_ip: settings.kubernetes_service(),
        hostname: settings.node_name.clone(),
        extra: Names { dns: Vec::new(), ips: settings.node_ips.clone() },
    };
    Pki::open(names, clock).with_context(|| format!("opening the keys in {}", settings.dir("pki").display()))
}

fn write_kubeconfig(settings: &Settings, pki: &Pki) -> anyhow::Result<()> {
    let admin = pki.issue(&component("kubernetes-admin", Some("system:masters"), ADMIN_LIFETIME))?;
    let (context, server) = (settings.cluster.context(), settings.server_url());
    let kubeconfig = pki::render_kubeconfig(&Kubeconfig {
        context: &context,
        user: &context,
        server: &server,
        authority_pem: pki.ca.pem(),
        certificate_pem: &admin.certificate_pem,
        key_pem: &admin.key_pem,
    });
    let path = settings.cluster.kubeconfig();
    let write = || -> anyhow::Result<()> {
        use std::io::Write;
        // Born 0600, and never half written.
        let mut file = tempfile::NamedTempFile::new_in(&settings.cluster.data_dir)?;
        file.write_all(serde_yaml::to_string(&kubeconfig)?.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn security_settings(settings: &Settings, pki: &Arc<Pki>) -> anyhow::Result<security::Settings> {
    let issuer = format!("https://kubernetes.default.svc.{DOMAIN}");
    let advertised = std::net::SocketAddr::from((settings.advertise_address(), settings.cluster.api_port));
    let authentication = authentication::open(&settings.api_server.authentication, &issuer)?;
    Ok(security::Settings {
        pki: pki.clone(),
        issuer,
        jwks_uri: format!("https://{advertised}/openid/v1/jwks"),
        audiences: Vec::new(),
        max_token_expiration: None,
        jwt: authentication.jwt,
        anonymous: authentication.anonymous,
        front_proxy_headers: Headers::default(),
        verify_kubelets: true,
        dialer: Arc::new(TcpDialer),
        bootstrap: bootstrap_settings(settings, pki),
    })
}

fn bootstrap_settings(settings: &Settings, pki: &Pki) -> bootstrap::Settings {
    bootstrap::Settings {
        advertise_address: settings.advertise_address(),
        secure_port: settings.cluster.api_port,
        service_ip: settings.kubernetes_service(),
        service_cidrs: vec![settings.cluster.service_cidr()],
        client_ca_pem: pki.ca.pem().to_owned(),
        front_proxy_ca_pem: pki.front_proxy_ca.pem().to_owned(),
        front_proxy_headers: Headers::default(),
    }
}

/// The cluster's own key, as controllers may use it.
struct Tokens(Arc<Pki>);

impl TokenSigner for Tokens {
    fn sign(&self, claims: &serde_json::Value) -> Result<String, String> {
        self.0.service_accounts.sign(claims).map_err(|error| error.to_string())
    }
}

fn start_controllers(
    settings: &Settings,
    control_plane: &ControlPlane,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let range = settings.cluster.pod_cidr().parse().context("pod range")?;
    let pod_ranges = vec![PodRange { range, node_prefix: NODE_PREFIX }];
    let authority = settings.dir("pki").join("ca.key");
    let authority =
        std::fs::read_to_string(&authority).with_context(|| format!("reading {}", authority.display()))?;
    let config = knarr_controllers::Config {
        root_ca: Some(control_plane.pki.ca.pem().to_owned()),
        signing: Some(SigningAuthority {
            certificate_pem: control_plane.pki.ca.pem().to_owned(),
            key_pem: authority,
            lifetime: SIGNING_LIFETIME,
        }),
        token_signer: Some(Arc::new(Tokens(control_plane.pki.clone()))),
        nodes: NodesConfig { pod_ranges, ..NodesConfig::default() },
        local_storage: Some(hello::local_storage()),
        load_balancer_range: Some(
            settings.cluster.load_balancer_cidr().parse().context("load balancer range")?,
        ),
        ..knarr_controllers::Config::default()
    };
    let (clock, random) = (control_plane.clock.clone(), control_plane.random.clone());
    let controllers = Controllers::build(config, control_plane, clock, random);
    tasks.spawn("controllers", |stop| async move {
        controllers.run(stop).await;
        Ok(())
    });
    Ok(())
}
