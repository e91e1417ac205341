//! All ways to authenticate, in upstream's order.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use super::{
    Anonymous, Authenticated, Authenticator, ClientCertificates, FrontProxy, InProcess, Rejected, Tokens,
};
use crate::user::{AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP};

/// The ways to authenticate that are configured.
pub struct Config {
    pub front_proxy: Option<FrontProxy>,
    pub client_certificates: Option<ClientCertificates>,
    pub tokens: Option<Arc<Tokens>>,
    pub anonymous: Option<Anonymous>,
}

/// The front proxy, then certificates, then tokens; when none of them was tried, anonymous. One that rejects its
/// credential does not keep the next from accepting theirs, but it keeps the request from being anonymous.
pub struct Authenticators {
    named: Vec<Arc<dyn Authenticator>>,
    anonymous: Option<Anonymous>,
}

impl Authenticators {
    pub fn new(config: Config) -> Self {
        let mut named: Vec<Arc<dyn Authenticator>> = Vec::new();
        if let Some(front_proxy) = config.front_proxy {
            named.push(Arc::new(front_proxy));
        }
        if let Some(certificates) = config.client_certificates {
            named.push(Arc::new(certificates));
        }
        if let Some(tokens) = config.tokens {
            named.push(tokens);
        }
        Self { named, anonymous: config.anonymous }
    }
}

#[async_trait]
impl Authenticator for Authenticators {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected> {
        if let Some(InProcess(user)) = request.extensions.get() {
            return Ok(Some(Authenticated { user: user.clone(), audiences: Vec::new() }));
        }
        let mut rejected = None;
        for authenticator in &self.named {
            match authenticator.authenticate(request).await {
                Ok(Some(found)) => return Ok(Some(in_authenticated(found))),
                Ok(None) => {}
                Err(why) => {
                    rejected.get_or_insert(why);
                }
            }
        }
        match (rejected, &self.anonymous) {
            (Some(why), _) => Err(why),
            (None, Some(anonymous)) => anonymous.authenticate(request).await,
            (None, None) => Ok(None),
        }
    }
}

/// Every authenticated user is in `system:authenticated`.
pub(super) fn in_authenticated(mut found: Authenticated) -> Authenticated {
    if !found.user.in_group(AUTHENTICATED_GROUP) && !found.user.in_group(UNAUTHENTICATED_GROUP) {
        Arc::make_mut(&mut found.user).groups.push(AUTHENTICATED_GROUP.to_owned());
    }
    found
}
