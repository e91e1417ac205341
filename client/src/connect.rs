//! Getting a [`Client`], and giving every component its own identity.

use std::{path::Path, sync::Arc};

use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, Service};

/// Who a request is made as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    pub fn user(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { user: name.into(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    /// A service account, with the groups its tokens carry.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }
}

/// Makes clients for the identities of one process's components.
///
/// In the all-in-one process the server trusts the identity it is handed with the request; between machines the
/// factory holds one certificate and every component shares it, as upstream does by default.
pub trait ClientFactory: Send + Sync + 'static {
    fn client(&self, identity: &Identity) -> Client;
}

impl<F: Fn(&Identity) -> Client + Send + Sync + 'static> ClientFactory for F {
    fn client(&self, identity: &Identity) -> Client {
        self(identity)
    }
}

/// A factory whose components all share one client.
#[derive(Clone)]
pub struct SharedClient(pub Client);

impl ClientFactory for SharedClient {
    fn client(&self, _identity: &Identity) -> Client {
        self.0.clone()
    }
}

pub type SharedClientFactory = Arc<dyn ClientFactory>;

/// A client straight onto a service in this process: all of the server's filters, no socket.
///
/// Must be called inside a tokio runtime.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, "default")
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read kubeconfig {path}: {source}")]
    Read { path: String, source: kube::config::KubeconfigError },
    #[error("cannot use kubeconfig {path}: {source}")]
    Use { path: String, source: kube::config::KubeconfigError },
    #[error("cannot set up the connection to {server}: {source}")]
    Client { server: String, source: kube::Error },
}

/// A client over HTTPS as the current context of a kubeconfig file says.
pub async fn from_kubeconfig(path: &Path) -> Result<Client, ConnectError> {
    let shown = || path.display().to_string();
    let kubeconfig =
        Kubeconfig::read_from(path).map_err(|source| ConnectError::Read { path: shown(), source })?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| ConnectError::Use { path: shown(), source })?;
    from_config(config)
}

/// A client over HTTPS from settings already in hand (server, CA, client certificate or token).
pub fn from_config(mut config: Config) -> Result<Client, ConnectError> {
    // Watches end by the server's timeout and are guarded by the informer; an idle one is not broken.
    config.read_timeout = None;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ConnectError::Client { server, source })
}
