//! Servers on loopback that the server under test calls.

use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use knarr_api::time::{Clock, SystemClock};
use knarr_apiserver::pki::{Authority, Names, Profile, Usage, server_config};
use tokio::task::JoinSet;

/// A server at `https://localhost:<port>`, until dropped.
pub struct Https {
    pub port: u16,
    /// PEM of the authority that issued its certificate.
    pub authority: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Https {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Https {
    pub async fn serve(router: Router) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::open(keys.path(), "ca", "loopback", now).unwrap();
        let names = Names { dns: vec!["localhost".into()], ips: Vec::new() };
        let profile = Profile {
            common_name: "loopback".into(),
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
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(router);
                    // A client that hangs up has what it wanted.
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { port, authority: authority.pem().to_owned(), task }
    }
}
