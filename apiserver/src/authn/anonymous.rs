//! Requests without any credential.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use super::{Authenticated, Authenticator, Rejected};
use crate::user::{User, UserInfo};

/// Lets requests without credentials in as `system:anonymous`, on these paths.
pub struct Anonymous {
    user: User,
    /// Exact paths; `None` lets every request in, to be judged by the authorizer.
    paths: Option<Vec<String>>,
}

impl Anonymous {
    /// Anonymous requests may only ask for the server's health.
    pub fn health_only() -> Self {
        Self::on(Some(["/livez", "/readyz", "/healthz"].map(str::to_owned).into()))
    }

    /// Anonymous requests on the given paths, or on all.
    pub fn on(paths: Option<Vec<String>>) -> Self {
        Self { user: Arc::new(UserInfo::anonymous()), paths }
    }
}

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected> {
        let path = request.uri.path();
        let allowed = self.paths.as_ref().is_none_or(|paths| paths.iter().any(|allowed| allowed == path));
        Ok(allowed.then(|| Authenticated { user: self.user.clone(), audiences: Vec::new() }))
    }
}
