//! A certificate that is replaced before it expires, without anyone noticing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use knarr_api::time::SharedClock;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, sign};
use tokio::sync::watch;

use super::{Authority, Error, Issued, Profile};

/// Waiting is bounded, because the wall clock may be set while we wait.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(3600);
/// Issuing fails only for want of randomness or memory; it is tried again after this.
const RETRY: std::time::Duration = std::time::Duration::from_secs(30);

/// The newest certificate for one profile. As a rustls resolver it is asked at every handshake.
pub struct Rotating {
    authority: Arc<Authority>,
    profile: Profile,
    clock: SharedClock,
    current: ArcSwap<Issued>,
    replaced: watch::Sender<u64>,
}

impl std::fmt::Debug for Rotating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotating").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Rotating {
    /// Issues the first certificate.
    pub fn new(authority: Arc<Authority>, profile: Profile, clock: SharedClock) -> Result<Arc<Self>, Error> {
        let first = authority.issue(&profile, clock.now())?;
        let (replaced, _) = watch::channel(0);
        Ok(Arc::new(Self { authority, profile, clock, current: ArcSwap::from_pointee(first), replaced }))
    }

    pub fn current(&self) -> Arc<Issued> {
        self.current.load_full()
    }

    /// Counts replacements, for those who keep the certificate in a file.
    pub fn replacements(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Replaces the certificate whenever it is due, until dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.wait(self.clock.now())).await;
            if self.clock.now() < self.current.load().renew_at {
                continue;
            }
            if let Err(error) = self.renew() {
                tracing::error!(%error, user = self.profile.common_name, "certificate not renewed, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn wait(&self, now: Timestamp) -> std::time::Duration {
        let left = self.current.load().renew_at.duration_since(now);
        std::time::Duration::try_from(left).unwrap_or_default().min(LONGEST_WAIT)
    }

    fn renew(&self) -> Result<(), Error> {
        let fresh = self.authority.issue(&self.profile, self.clock.now())?;
        tracing::info!(name = self.profile.common_name, not_after = %fresh.not_after, "certificate replaced");
        self.current.store(Arc::new(fresh));
        self.replaced.send_modify(|count| *count += 1);
        Ok(())
    }
}

impl ResolvesServerCert for Rotating {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

impl ResolvesClientCert for Rotating {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<sign::CertifiedKey>> {
        let certified = self.current.load().certified.clone();
        certified.key.choose_scheme(schemes).is_some().then_some(certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::component;
    use jiff::SignedDuration;
    use knarr_api::time::Clock;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Manual(AtomicI64);

    impl Clock for Manual {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_replaced_after_two_thirds_of_its_life() {
        let start = 1_800_000_000;
        let clock = Arc::new(Manual(AtomicI64::new(start)));
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::open(dir.path(), "ca", "kubernetes", clock.now()).unwrap());
        let profile = component("admin", None, SignedDuration::from_hours(3));
        let rotating = Rotating::new(authority, profile, clock.clone()).unwrap();
        let first = rotating.current();
        let mut replacements = rotating.replacements();
        let task = tokio::spawn(rotating.clone().run());

        clock.0.store(start + 2 * 3600 - 1, Ordering::Relaxed);
        tokio::time::sleep(LONGEST_WAIT + RETRY).await;
        assert_eq!(rotating.current().certificate_pem, first.certificate_pem, "not yet due");

        clock.0.store(start + 2 * 3600, Ordering::Relaxed);
        replacements.changed().await.unwrap();
        assert_ne!(rotating.current().certificate_pem, first.certificate_pem);
        task.abort();
    }
}
