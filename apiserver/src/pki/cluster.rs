//! Everything an API server's key directory holds.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use knarr_api::time::SharedClock;

use super::profile::SHORT;
use super::{Authority, Error, Issued, Names, Profile, Rotating, SigningKey, Usage, component, files};

/// What the certificates must say about this server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where keys and certificates live.
    pub dir: PathBuf,
    /// The cluster's DNS domain (`cluster.local`).
    pub domain: String,
    /// The first address of the service range, where the `kubernetes` Service answers.
    pub service_ip: IpAddr,
    /// This machine's name.
    pub hostname: String,
    /// Further names and addresses, such as the node's.
    pub extra: Names,
}

/// The cluster's authorities and the API server's own certificates.
pub struct Pki {
    pub settings: Settings,
    /// Issues serving and client certificates.
    pub ca: Arc<Authority>,
    /// Issues the certificate with which this server speaks for users to aggregated servers.
    pub front_proxy_ca: Arc<Authority>,
    /// Signs service-account tokens.
    pub service_accounts: Arc<SigningKey>,
    /// The listener's certificate.
    pub serving: Arc<Rotating>,
    /// What this server shows kubelets.
    pub kubelet_client: Arc<Rotating>,
    /// What this server shows aggregated servers.
    pub front_proxy_client: Arc<Rotating>,
    clock: SharedClock,
}

impl Pki {
    /// Opens the directory, making what is missing.
    pub fn open(settings: Settings, clock: SharedClock) -> Result<Self, Error> {
        files::create_dir(&settings.dir)?;
        let now = clock.now();
        let ca = Arc::new(Authority::open(&settings.dir, "ca", "kubernetes", now)?);
        let front_proxy_ca =
            Arc::new(Authority::open(&settings.dir, "front-proxy-ca", "front-proxy-ca", now)?);
        let service_accounts = Arc::new(SigningKey::open(&settings.dir)?);
        let names =
            Names::of_api_server(&settings.domain, settings.service_ip, &settings.hostname, &settings.extra);
        let serving = Profile {
            common_name: "kube-apiserver".into(),
            organization: None,
            usage: Usage::Server(names),
            lifetime: SHORT,
        };
        let kubelet_client = component("kube-apiserver-kubelet-client", None, SHORT);
        let front_proxy_client = component("front-proxy-client", None, SHORT);
        Ok(Self {
            serving: Rotating::new(ca.clone(), serving, clock.clone())?,
            kubelet_client: Rotating::new(ca.clone(), kubelet_client, clock.clone())?,
            front_proxy_client: Rotating::new(front_proxy_ca.clone(), front_proxy_client, clock.clone())?,
            settings,
            ca,
            front_proxy_ca,
            service_accounts,
            clock,
        })
    }

    /// A certificate from the cluster's authority, valid from now.
    pub fn issue(&self, profile: &Profile) -> Result<Issued, Error> {
        self.ca.issue(profile, self.clock.now())
    }

    /// Replaces this server's own certificates as they come due, until dropped.
    pub async fn rotate(&self) {
        tokio::join!(
            self.serving.clone().run(),
            self.kubelet_client.clone().run(),
            self.front_proxy_client.clone().run()
        );
    }
}
