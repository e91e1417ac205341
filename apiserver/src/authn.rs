//! Who is asking: client certificates, tokens of service accounts, of bootstrapping and of other issuers, the front
//! proxy, anonymous.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use crate::user::User;

mod anonymous;
mod bearer;
mod bootstrap_token;
mod front_proxy;
pub mod impersonation;
pub mod jwt;
mod peer;
pub mod reviews;
pub mod service_account;
mod tokens;
mod union;
mod x509;

pub use anonymous::Anonymous;
pub(crate) use bearer::WEBSOCKET_TOKEN_PREFIX;
pub use bootstrap_token::BootstrapTokens;
pub use front_proxy::{FrontProxy, Headers};
pub use peer::{InProcess, Peer};
pub use tokens::{TokenAuthenticator, Tokens};
pub use union::{Authenticators, Config};
pub use x509::{ClientCertificates, Trust};

/// Someone who proved who they are.
#[derive(Debug, Clone)]
pub struct Authenticated {
    pub user: User,
    /// The audiences of the credential that this server also answers to; empty for credentials without any.
    pub audiences: Vec<String>,
}

/// Why nobody was authenticated although a credential was presented. The caller answers 401 either way; the text
/// is for the log, and for TokenReview.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

pub type SharedAuthenticator = Arc<dyn Authenticator>;
