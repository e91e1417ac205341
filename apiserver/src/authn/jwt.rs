//! JSON web tokens of issuers that the operator trusts: structured authentication.
//!
//! [`Setup`] is a checked configuration, [`JwtTokens`] the authenticator that follows it.

mod authenticator;
mod configuration;
mod expression;
mod keys;
mod mappings;
mod oidc;
mod provider;
mod setup;
mod token;
mod url;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::future::join_all;
use knarr_api::field::{Error as FieldError, Path, aggregate};
use knarr_api::time::SharedClock;
use parking_lot::Mutex;

use self::authenticator::IssuerTokens;
use self::configuration::{AnonymousSection, Configuration};
use self::keys::Algorithm;
use self::mappings::Rules;
use self::setup::Source;
use super::{Authenticated, Rejected, TokenAuthenticator};
use crate::file_changes::FileChanges;
use crate::stream::Dialer;

pub use self::oidc::Oidc;
pub use self::setup::{Error, Setup};

/// How long the issuers of a changed configuration have to answer before it is given up, until the next look.
const PATIENCE: Duration = Duration::from_secs(60);

/// Believes the tokens of the configured issuers.
pub struct JwtTokens {
    current: ArcSwap<Vec<IssuerTokens>>,
    making: Making,
    disallowed: Vec<String>,
    /// Cannot change while the server runs.
    anonymous: Option<AnonymousSection>,
    file: Option<Mutex<Source>>,
}

/// What authenticators are made with.
struct Making {
    /// Whom tokens are for, as other authenticators see it.
    audiences: Vec<String>,
    algorithms: Arc<[Algorithm]>,
    dialer: Arc<dyn Dialer>,
    clock: SharedClock,
}

impl Making {
    fn all(&self, configuration: &Configuration, rules: Vec<Rules>) -> Vec<IssuerTokens> {
        let make = |(authenticator, rules): (&configuration::JwtAuthenticator, Rules)| {
            let (dialer, clock) = (self.dialer.clone(), self.clock.clone());
            let issuer = authenticator.issuer.clone();
            IssuerTokens::new(issuer, rules, self.algorithms.clone(), dialer, clock)
        };
        configuration.jwt.iter().zip(rules).map(make).collect()
    }
}

impl JwtTokens {
    /// `audiences` are those that this server answers to. Nothing is believed before [`JwtTokens::run`] has asked the
    /// issuers for their configuration.
    pub fn new(setup: Setup, audiences: Vec<String>, dialer: Arc<dyn Dialer>, clock: SharedClock) -> Self {
        let Setup { configuration, rules, algorithms, disallowed, file } = setup;
        let making = Making { audiences, algorithms, dialer, clock };
        let current = ArcSwap::from_pointee(making.all(&configuration, rules));
        let anonymous = configuration.anonymous;
        Self { current, making, disallowed, anonymous, file: file.map(Mutex::new) }
    }

    /// Asks the issuers for their configuration, and follows the file. Runs until dropped, where there is a file.
    pub async fn run(&self) {
        let first = self.current.load_full();
        let initialize = join_all(first.iter().map(IssuerTokens::initialize));
        tokio::join!(initialize, self.follow());
    }

    async fn follow(&self) {
        let Some(path) = self.file.as_ref().map(|file| file.lock().path.clone()) else { return };
        let mut changes = FileChanges::new(&path);
        loop {
            changes.next().await;
            match self.reload().await {
                Ok(true) => tracing::info!(path = %path.display(), "reloaded authentication config"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the authentication configuration stays as it was"),
            }
        }
    }

    /// Takes the file's present content; true when it was another. Content that cannot be used changes nothing.
    ///
    /// Errors: it is no good configuration, it says something else of requests without credentials, or one of its
    /// issuers cannot be reached (which is tried again at the next call).
    pub async fn reload(&self) -> Result<bool, Error> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut fresh = file.lock().clone();
        let text = setup::read(&fresh.path)?;
        if text == fresh.text {
            return Ok(false);
        }
        fresh.text = text;
        let checked = self.check(&fresh);
        if checked.is_err() {
            // It will not become better, and is told once.
            *file.lock() = fresh;
            return checked.map(|_| false);
        }
        let (configuration, rules) = checked?;
        let next = self.making.all(&configuration, rules);
        reach(&next).await?;
        let last = self.current.swap(Arc::new(next));
        last.iter().for_each(IssuerTokens::retire);
        *file.lock() = fresh;
        Ok(true)
    }

    fn check(&self, source: &Source) -> Result<(Configuration, Vec<Rules>), Error> {
        let configuration = source.parse()?;
        let validated = validation::validate(&configuration, &self.disallowed);
        if configuration.anonymous == self.anonymous {
            return Ok((configuration, validated?));
        }
        let mut errors = validated.err().unwrap_or_default();
        errors
            .push(FieldError::forbidden(&Path::new("anonymous"), "changed from initial configuration file"));
        Err(errors.into())
    }
}

/// Waits until all issuers have said where their keys are.
async fn reach(issuers: &[IssuerTokens]) -> Result<(), Error> {
    let all = join_all(issuers.iter().map(IssuerTokens::initialize));
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Unreachable(aggregate(issuers.iter().filter_map(IssuerTokens::failure)))),
    }
}

#[async_trait]
impl TokenAuthenticator for JwtTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Rejected> {
        let current = self.current.load_full();
        if current.is_empty() {
            return Ok(None);
        }
        // The audience of such a token is the issuer's affair; to others here it is for this server.
        let meant: Vec<String> =
            self.making.audiences.iter().filter(|audience| audiences.contains(audience)).cloned().collect();
        let Some(issuer) = token::untrusted_issuer(token).filter(|_| !meant.is_empty()) else {
            return Ok(None);
        };
        let Some(known) = current.iter().find(|known| known.issuer() == issuer) else { return Ok(None) };
        let user = known.user(token).await.map_err(Rejected)?;
        Ok(Some(Authenticated { user: Arc::new(user), audiences: meant }))
    }
}
