//! Trusting a server of which only the fingerprint of its authority is known, as a joining node does.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

const PREFIX: &str = "sha256:";

/// The SHA-256 of an authority's public key, written `sha256:<hex>` as kubeadm's `--discovery-token-ca-cert-hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// `None` for what is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self(Sha256::digest(parsed.public_key().raw).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix(PREFIX).ok_or(())?;
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut pin = [0; 32];
        for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(pin))
    }
}

/// Believes a server whose chain ends in the pinned authority, and keeps that authority's certificate.
#[derive(Debug)]
pub struct PinnedAuthority {
    pin: Pin,
    provider: Arc<rustls::crypto::CryptoProvider>,
    found: Mutex<Option<CertificateDer<'static>>>,
}

impl PinnedAuthority {
    pub fn new(pin: Pin) -> Self {
        Self { pin, provider: super::provider(), found: Mutex::default() }
    }

    /// The authority's certificate, once a server was believed.
    pub fn found(&self) -> Option<CertificateDer<'static>> {
        self.found.lock().clone()
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|certificate| Pin::of(certificate) == Some(self.pin));
        let Some(authority) = pinned else { return Err(CertificateError::UnknownIssuer.into()) };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        *self.found.lock() = Some(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::pki::{Authority, Names, Profile, Usage};

    fn chain(authority: &Authority, now: jiff::Timestamp) -> Vec<CertificateDer<'static>> {
        let names = Names { dns: vec!["server".into()], ips: Vec::new() };
        let profile = Profile {
            common_name: "server".into(),
            organization: None,
            usage: Usage::Server(names),
            lifetime: SignedDuration::from_hours(1),
        };
        authority.issue(&profile, now).expect("issues").certified.cert.clone()
    }

    #[test]
    fn only_a_chain_of_the_pinned_authority_is_believed_and_only_for_its_name() {
        let now: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().expect("a time");
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().unsigned_abs()));
        let directory = tempfile::tempdir().expect("a directory");
        let open = |name| Authority::open(directory.path(), name, name, now).expect("opens");
        let (ours, foreign) = (open("ours"), open("foreign"));
        let pin = Pin::of(ours.der()).expect("a certificate");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        let verify = |pinned: &PinnedAuthority, chain: &[CertificateDer<'static>], name: &str| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            pinned.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).is_ok()
        };
        let pinned = PinnedAuthority::new(pin);
        let (good, bad) = (chain(&ours, now), chain(&foreign, now));
        assert!(!verify(&pinned, &bad, "server"), "another authority");
        let forged = [bad[0].clone(), ours.der().clone()];
        assert!(!verify(&pinned, &forged, "server"), "the authority beside a foreign certificate");
        assert!(!verify(&pinned, &good, "other"), "another name");
        assert_eq!(pinned.found(), None);
        assert!(verify(&pinned, &good, "server"));
        assert_eq!(pinned.found().as_ref(), Some(ours.der()));
        for text in ["", "sha256:", "sha256:zz", "md5:00", &format!("sha256:{}", "é".repeat(32))] {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }
}
