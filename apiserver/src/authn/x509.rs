//! Client certificates: the CN is the user, the Os are the groups.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use http::request::Parts;
use jiff::Timestamp;
use knarr_api::time::SharedClock;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use super::{Authenticated, Authenticator, Peer, Rejected};
use crate::user::{User, UserInfo};

/// The subject attribute that carries a user's uid (upstream's `x509.uidOID`).
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A set of authorities that can be replaced while connections live.
pub struct Trust(ArcSwap<Authorities>);

struct Authorities {
    /// None: there are no authorities, so nobody is trusted.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// A chain that was checked against one state of a [`Trust`].
#[derive(Debug)]
pub(super) struct Verified {
    /// Identifies the authorities it was checked against, and keeps their address from being reused.
    against: Arc<dyn std::any::Any + Send + Sync>,
    not_before: i64,
    not_after: i64,
    outcome: Result<Option<User>, Rejected>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Trusts what these authorities issued for client authentication.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        Ok(Self(ArcSwap::from_pointee(Authorities::new(authorities)?)))
    }

    /// Trusts these from now on, and for open connections too.
    pub fn replace(&self, authorities: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(Authorities::new(authorities)?));
        Ok(())
    }

    /// The user of a chain, checked once per connection and state of the authorities; its validity in time is
    /// checked every time. `Ok(None)`: the certificate is good but names nobody.
    pub(super) fn user(
        &self,
        certificates: &[CertificateDer<'static>],
        memo: &ArcSwapOption<Verified>,
        now: Timestamp,
    ) -> Result<Option<User>, Rejected> {
        let authorities = self.0.load_full();
        let known = memo.load_full().filter(|known| known.is_against(&authorities));
        let verified = match known {
            Some(known) => known,
            None => {
                let fresh = Arc::new(authorities.verify(certificates, now));
                memo.store(Some(fresh.clone()));
                fresh
            }
        };
        let now = now.as_second();
        if now > verified.not_after || now < verified.not_before {
            return Err(Rejected("x509: certificate has expired or is not yet valid".into()));
        }
        verified.outcome.clone()
    }
}

impl Verified {
    fn is_against(&self, authorities: &Arc<Authorities>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.against), Arc::as_ptr(authorities))
    }
}

impl Authorities {
    fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        if roots.is_empty() {
            return Ok(Self { verifier: None });
        }
        let provider = crate::pki::provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { verifier: Some(verifier) })
    }

    fn verify(self: &Arc<Self>, certificates: &[CertificateDer<'static>], now: Timestamp) -> Verified {
        let mut verified = Verified {
            against: self.clone(),
            not_before: i64::MIN,
            not_after: i64::MAX,
            outcome: Err(Rejected("x509: certificate signed by unknown authority".into())),
        };
        let (Some(verifier), Some((leaf, rest))) = (&self.verifier, certificates.split_first()) else {
            return verified;
        };
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            now.as_second().try_into().unwrap_or_default(),
        ));
        verified.outcome = match verifier.verify_client_cert(leaf, rest, at) {
            Err(error) => Err(Rejected(format!("x509: {error}"))),
            Ok(_) => match x509_parser::parse_x509_certificate(leaf) {
                Err(error) => Err(Rejected(format!("x509: {error}"))),
                Ok((_, parsed)) => {
                    verified.not_before = parsed.validity().not_before.timestamp();
                    verified.not_after = parsed.validity().not_after.timestamp();
                    Ok(user_of(&parsed, leaf))
                }
            },
        };
        verified
    }
}

fn user_of(certificate: &x509_parser::certificate::X509Certificate<'_>, der: &[u8]) -> Option<User> {
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups =
        subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    let uid = subject
        .iter_attributes()
        .find(|attribute| attribute.attr_type().to_id_string() == UID_ATTRIBUTE)
        .and_then(|attribute| attribute.as_str().ok())
        .unwrap_or_default();
    let digest: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])].into();
    Some(Arc::new(UserInfo { name: name.to_owned(), uid: uid.to_owned(), groups, extra }))
}

/// Authenticates with the certificate of the connection.
pub struct ClientCertificates {
    pub trust: Arc<Trust>,
    pub clock: SharedClock,
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Authenticated>, Rejected> {
        let Some(peer) = request.extensions.get::<Peer>().filter(|peer| !peer.certificates.is_empty()) else {
            return Ok(None);
        };
        let user = self.trust.user(&peer.certificates, &peer.as_client, self.clock.now())?;
        Ok(user.map(|user| Authenticated { user, audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, component, node};
    use jiff::SignedDuration;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn now() -> Timestamp {
        "2026-11-01T00:00:00Z".parse().unwrap()
    }

    fn authority(dir: &tempfile::TempDir, name: &str) -> Authority {
        Authority::open(dir.path(), name, name, now()).unwrap()
    }

    #[test]
    fn a_certificate_of_the_authority_names_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(&dir, "ca");
        let trust = Trust::new(&[ca.der().clone()]).unwrap();
        let issued = ca.issue(&node("n1", HOUR), now()).unwrap();
        let user = trust.user(&issued.certified.cert, &ArcSwapOption::empty(), now()).unwrap().unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("system:node:n1", &["system:nodes".to_owned()][..])
        );
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn strangers_and_expired_certificates_are_rejected_even_on_a_known_connection() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (authority(&dir, "ca"), authority(&dir, "other"));
        let trust = Trust::new(&[ca.der().clone()]).unwrap();
        let stranger = other.issue(&component("eve", Some("system:masters"), HOUR), now()).unwrap();
        assert!(trust.user(&stranger.certified.cert, &ArcSwapOption::empty(), now()).is_err());

        let issued = ca.issue(&component("bob", None, HOUR), now()).unwrap();
        let memo = ArcSwapOption::empty();
        assert!(trust.user(&issued.certified.cert, &memo, now()).unwrap().is_some());
        let later = now().checked_add(HOUR * 2).unwrap();
        assert!(trust.user(&issued.certified.cert, &memo, later).is_err());
    }

    #[test]
    fn replacing_the_authorities_is_felt_by_open_connections() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (authority(&dir, "ca"), authority(&dir, "other"));
        let trust = Trust::new(&[ca.der().clone()]).unwrap();
        let issued = ca.issue(&component("bob", None, HOUR), now()).unwrap();
        let memo = ArcSwapOption::empty();
        assert!(trust.user(&issued.certified.cert, &memo, now()).is_ok());
        trust.replace(&[other.der().clone()]).unwrap();
        assert!(trust.user(&issued.certified.cert, &memo, now()).is_err());
    }
}
