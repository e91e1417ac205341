//! Who is asking: client certificates, service-account and bootstrap tokens, the front proxy, anonymous.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use crate::user::User;

/// Someone who proved who they are.
#[derive(Debug, Clone)]
pub struct Authenticated {
    pub user: User,
    /// The audiences of the credential that this server also answers to; empty for credentials without any.
    pub audiences: Vec<String>,
}

/// Why nobody was authenticated although a credential was presented. The caller answers 401 either way; the text
/// is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(pub String);

/// Turns a request's credentials into a user.
///
/// `Ok(None)`: no credential that this authenticator knows was presented. The union over all of them therefore
/// answers `Ok(None)` for a request that must be refused with 401, and `anonymous` where that is allowed.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Reads only headers and extensions. The listener puts a [`Peer`] into the extensions; requests from inside
    /// the process carry an [`InProcess`] instead.
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected>;
}

/// The other end of the connection: a request extension that the TLS listener sets.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: std::net::SocketAddr,
    /// The certificate chain the client presented in the handshake, leaf first. The handshake proved possession
    /// of the key; which authority the chain belongs to is for the authenticators to check.
    pub certificates: Arc<[rustls_pki_types::CertificateDer<'static>]>,
}

/// A request from a component in this process: a request extension that nothing read from a socket can set.
#[derive(Debug, Clone)]
pub struct InProcess(pub User);
