//! Keys where the issuer publishes them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use knarr_api::time::SharedClock;
use parking_lot::Mutex;

use super::Key;
use crate::authn::jwt::provider::Provider;
use crate::authn::jwt::token::Token;
use crate::authn::jwt::url::Url;

/// Keys that are believed for longer than this are not fetched again for a token that none of them signed.
const NEARLY_EXPIRED: SignedDuration = SignedDuration::from_secs(30);

/// An issuer's keys, fetched when the first token comes and again when one comes that none of them signed.
pub struct RemoteKeys {
    provider: Arc<Provider>,
    url: Url,
    clock: SharedClock,
    known: Mutex<Known>,
    /// Held while the keys are being fetched: others wait for the outcome and do not ask again.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<[Key]>,
    /// Until when the issuer says that they stay as they are.
    until: Timestamp,
    /// How often they were fetched, or tried to be.
    fetches: u64,
    /// Why the last fetch failed.
    failure: Option<String>,
}

impl RemoteKeys {
    pub fn new(provider: Arc<Provider>, url: Url, clock: SharedClock) -> Self {
        let known = Known { keys: Arc::default(), until: Timestamp::MIN, fetches: 0, failure: None };
        Self { provider, url, clock, known: Mutex::new(known), fetching: tokio::sync::Mutex::default() }
    }

    /// Whether one of the issuer's keys signed the token.
    pub async fn check(&self, token: &Token<'_>) -> Result<(), String> {
        let failed = || "failed to verify id token signature".to_owned();
        let known = self.known.lock().clone();
        if known.signed(token) {
            return Ok(());
        }
        let soon = self.clock.now().checked_add(NEARLY_EXPIRED).unwrap_or(Timestamp::MAX);
        if soon <= known.until {
            return Err(failed());
        }
        let fresh = self.fetch_after(known.fetches).await;
        match fresh.failure {
            Some(why) => Err(format!("fetching keys {why}")),
            None if fresh.signed(token) => Ok(()),
            None => Err(failed()),
        }
    }

    /// What came of a fetch that ended after this many.
    async fn fetch_after(&self, fetches: u64) -> Known {
        let _only = self.fetching.lock().await;
        let known = self.known.lock().clone();
        if known.fetches > fetches {
            return known;
        }
        let fetched = self.provider.keys(&self.url, self.clock.now()).await;
        let mut known = self.known.lock();
        known.fetches += 1;
        match fetched {
            Ok((keys, until)) => {
                known.keys = keys.into();
                known.until = until;
                known.failure = None;
            }
            Err(why) => known.failure = Some(why),
        }
        known.clone()
    }
}

impl Known {
    fn signed(&self, token: &Token<'_>) -> bool {
        self.keys.iter().any(|key| key.is_named(&token.key_id) && key.signed(token))
    }
}
