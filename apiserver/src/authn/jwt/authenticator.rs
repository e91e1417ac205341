//! The tokens of one issuer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use knarr_api::field::quote;
use knarr_api::time::SharedClock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::configuration::Issuer;
use super::keys::{Algorithm, RemoteKeys};
use super::mappings::Rules;
use super::provider::Provider;
use super::token::Token;
use crate::stream::Dialer;
use crate::user::UserInfo;

/// How long to wait before an issuer that could not be reached is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// Believes the tokens of one issuer, once the issuer has said where its keys are.
pub struct IssuerTokens {
    issuer: Issuer,
    rules: Rules,
    algorithms: Arc<[Algorithm]>,
    provider: Arc<Provider>,
    clock: SharedClock,
    keys: ArcSwapOption<RemoteKeys>,
    /// Why the issuer's configuration is not known yet.
    failure: Mutex<String>,
    retired: CancellationToken,
}

impl IssuerTokens {
    pub fn new(
        issuer: Issuer,
        rules: Rules,
        algorithms: Arc<[Algorithm]>,
        dialer: Arc<dyn Dialer>,
        clock: SharedClock,
    ) -> Self {
        let provider = Arc::new(Provider::new(&issuer, dialer));
        let failure = format!("oidc: authenticator for issuer {} is not initialized", quote(&issuer.url));
        Self {
            issuer,
            rules,
            algorithms,
            provider,
            clock,
            keys: ArcSwapOption::empty(),
            failure: Mutex::new(failure),
            retired: CancellationToken::new(),
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer.url
    }

    /// Asks the issuer where its keys are until it says so, or until it is not of interest any more.
    pub async fn initialize(&self) {
        let asking = async {
            while let Err(why) = self.try_initialize().await {
                tracing::error!(
                    issuer = self.issuer.url,
                    error = why,
                    "oidc authenticator: initializing plugin"
                );
                *self.failure.lock() = why;
                tokio::time::sleep(AGAIN).await;
            }
        };
        self.retired.run_until_cancelled(asking).await;
    }

    async fn try_initialize(&self) -> Result<(), String> {
        let url = self.provider.discover().await?;
        self.keys.store(Some(Arc::new(RemoteKeys::new(self.provider.clone(), url, self.clock.clone()))));
        Ok(())
    }

    /// Why the issuer's tokens cannot be checked yet; none if they can.
    pub fn failure(&self) -> Option<String> {
        let unhealthy = || {
            let (issuer, why) = (quote(&self.issuer.url), self.failure.lock());
            format!("oidc: authenticator for issuer {issuer} is not healthy: {why}")
        };
        self.keys.load().is_none().then(unhealthy)
    }

    /// Another takes this one's place.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// The user of a token that says it is from this issuer.
    pub async fn user(&self, token: &str) -> Result<UserInfo, String> {
        let keys = self.keys.load_full().ok_or("oidc: authenticator not initialized")?;
        let unverified = |why: String| format!("oidc: verify token: {why}");
        let token = Token::parse(token, &self.algorithms).map_err(unverified)?;
        keys.check(&token).await.map_err(|why| unverified(format!("failed to verify signature: {why}")))?;
        let claims = token.claims(&self.issuer.url, &self.issuer.audiences, self.clock.now());
        self.rules.user(&claims.map_err(unverified)?)
    }
}
