//! Bearer tokens of all kinds, and the memory of those that were good a moment ago.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use knarr_api::time::SharedClock;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{Authenticated, Authenticator, Rejected, bearer};

/// How long a good token is believed without looking again; also how late a revocation may be felt.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(10);
/// Tokens remembered at once. When full, everything is forgotten: that costs one check each.
const CAPACITY: usize = 16 * 1024;
/// A token is a header; no header is longer.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Knows one kind of bearer token.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// `Ok(None)`: not a token of this kind. `audiences` are those the token may be for; tokens that have no
    /// audience are good for all of them.
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Rejected>;
}

/// Tries every kind of token.
pub struct Tokens {
    kinds: Vec<Arc<dyn TokenAuthenticator>>,
    /// The audiences this server itself answers to.
    audiences: Vec<String>,
    clock: SharedClock,
    remembered: Mutex<HashMap<[u8; 32], (Timestamp, Authenticated)>>,
}

impl Tokens {
    pub fn new(kinds: Vec<Arc<dyn TokenAuthenticator>>, audiences: Vec<String>, clock: SharedClock) -> Self {
        Self { kinds, audiences, clock, remembered: Mutex::default() }
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    fn recall(&self, key: &[u8; 32], now: Timestamp) -> Option<Authenticated> {
        self.remembered.lock().get(key).filter(|(until, _)| now < *until).map(|(_, known)| known.clone())
    }

    fn remember(&self, key: [u8; 32], now: Timestamp, known: &Authenticated) {
        let Ok(until) = now.checked_add(REMEMBERED) else { return };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= CAPACITY {
            remembered.retain(|_, (until, _)| now < *until);
            if remembered.len() >= CAPACITY {
                remembered.clear();
            }
        }
        remembered.insert(key, (until, known.clone()));
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, Rejected> {
        let mut rejections = Vec::new();
        for kind in &self.kinds {
            match kind.authenticate_token(token, audiences).await {
                Ok(Some(authenticated)) => return Ok(Some(authenticated)),
                Ok(None) => {}
                Err(Rejected(why)) => rejections.push(why),
            }
        }
        match rejections.len() {
            0 => Ok(None),
            1 => Err(Rejected(rejections.remove(0))),
            _ => Err(Rejected(format!("[{}]", rejections.join(", ")))),
        }
    }
}

/// A digest under which nothing of the token can be read back.
fn key(token: &str, audiences: &[String]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update((token.len() as u64).to_be_bytes());
    digest.update(token);
    for audience in audiences {
        digest.update((audience.len() as u64).to_be_bytes());
        digest.update(audience);
    }
    digest.finalize().into()
}

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Rejected> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejected("the bearer token is too long".into()));
        }
        let (key, now) = (key(token, audiences), self.clock.now());
        if let Some(known) = self.recall(&key, now) {
            return Ok(Some(known));
        }
        let found = self.ask(token, audiences).await?;
        if let Some(known) = &found {
            self.remember(key, now, known);
        }
        Ok(found)
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected> {
        let Some(token) = bearer::token(&request.headers)? else { return Ok(None) };
        match self.authenticate_token(&token, &self.audiences).await? {
            Some(found) => Ok(Some(found)),
            None => Err(Rejected("invalid bearer token".into())),
        }
    }
}
