//! What the connection itself says about its other end.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::CertificateDer;

use super::x509::Verified;
use crate::user::User;

/// The other end of a connection: a request extension that the TLS listener sets, one per connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// The certificate chain the client presented in the handshake, leaf first; empty where it presented none.
    /// The handshake proved possession of the key; which authority the chain belongs to is for the
    /// authenticators to check.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// What checking the chain came to, so that it is checked once per connection and authority.
    pub(super) as_client: Arc<ArcSwapOption<Verified>>,
    pub(super) as_proxy: Arc<ArcSwapOption<Verified>>,
}

impl Peer {
    pub fn new(address: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Self {
        Self {
            address,
            certificates: certificates.into(),
            as_client: Arc::default(),
            as_proxy: Arc::default(),
        }
    }
}

/// A request from a component in this process: a request extension that nothing read from a socket can set.
#[derive(Debug, Clone)]
pub struct InProcess(pub User);
