//! A certificate authority: made at the first start, then read.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{Error, Profile, Usage, files};

const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Clocks of nodes differ; a certificate is valid a little before it was issued.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// A self-signed authority and its key.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// An issued certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
    pub certified: Arc<CertifiedKey>,
    pub not_after: Timestamp,
    /// When to replace it: after two thirds of its life.
    pub renew_at: Timestamp,
}

impl Authority {
    /// The authority in `<dir>/<name>.crt` and `<name>.key`, made now if neither file exists.
    ///
    /// Errors: one of the two files is missing, they do not parse, or they do not belong together.
    pub fn open(dir: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Self, Error> {
        let (crt, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        match (files::read(&crt)?, files::read(&key)?) {
            (Some(pem), Some(key_pem)) => {
                Self::from_pem(&pem, &key_pem).map_err(|cause| Error::Malformed { path: crt, cause })
            }
            (None, None) => {
                let (authority, key_pem) = Self::generate(common_name, now)?;
                // The key first: a crash in between leaves a key without certificate, which is reported, and
                // never a certificate that others pinned without its key.
                files::write(&key, &key_pem)?;
                files::write(&crt, &authority.pem)?;
                Ok(authority)
            }
            (Some(_), None) => Err(Error::Malformed { path: crt, cause: "its key file is missing".into() }),
            (None, Some(_)) => {
                Err(Error::Malformed { path: key, cause: "its certificate file is missing".into() })
            }
        }
    }

    fn from_pem(pem: &str, key_pem: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| e.to_string())?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| e.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("the certificate and the key do not belong together".into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| e.to_string())?;
        Ok(Self { pem: pem.to_owned(), der, issuer })
    }

    fn generate(common_name: &str, now: Timestamp) -> Result<(Self, String), Error> {
        let failed = |cause| Error::Issue { name: common_name.to_owned(), cause };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = match common_name.try_into() {
            Ok(name) => vec![SanType::DnsName(name)],
            Err(_) => Vec::new(),
        };
        (params.not_before, params.not_after) = validity(common_name, now, AUTHORITY_LIFETIME)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key_pem = key.serialize_pem();
        let authority =
            Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) };
        Ok((authority, key_pem))
    }

    /// The authority's certificate, for kubeconfigs, `kube-root-ca.crt` and join tokens.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A new key with a certificate signed by this authority.
    pub fn issue(&self, profile: &Profile, now: Timestamp) -> Result<Issued, Error> {
        let failed = |cause| Error::Issue { name: profile.common_name.clone(), cause };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&profile.common_name, profile.organization.as_deref());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let (names, usages) = match &profile.usage {
            Usage::Client => (None, vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Usage::Server(names) => (Some(names), vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Usage::ServerAndClient(names) => {
                (Some(names), vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
            }
        };
        params.extended_key_usages = usages;
        for name in names.iter().flat_map(|n| &n.dns) {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params.subject_alt_names.extend(names.iter().flat_map(|n| &n.ips).map(|ip| SanType::IpAddress(*ip)));
        (params.not_before, params.not_after) = validity(&profile.common_name, now, profile.lifetime)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let mut chain = vec![certificate.der().clone()];
        if names.is_some() {
            // A server shows its authority too: who joins with a token knows only the authority's fingerprint.
            chain.push(self.der.clone());
        }
        let key_der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key_der)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certified: Arc::new(CertifiedKey::new(chain, signer)),
            not_after: now.checked_add(profile.lifetime).map_err(|_| lifetime(&profile.common_name))?,
            renew_at: now
                .checked_add(profile.lifetime * 2 / 3)
                .map_err(|_| lifetime(&profile.common_name))?,
        })
    }
}

impl Issued {
    /// Writes `<dir>/<name>.crt` and `<name>.key`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(), Error> {
        files::write(&dir.join(format!("{name}.key")), &self.key_pem)?;
        files::write(&dir.join(format!("{name}.crt")), &self.certificate_pem)
    }
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    subject
}

fn lifetime(name: &str) -> Error {
    Error::Lifetime { name: name.to_owned() }
}

fn validity(
    name: &str,
    now: Timestamp,
    life: SignedDuration,
) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let at = |moment: Timestamp| {
        OffsetDateTime::from_unix_timestamp(moment.as_second()).map_err(|_| lifetime(name))
    };
    let not_before = now.checked_sub(BACKDATE).map_err(|_| lifetime(name))?;
    let not_after = now.checked_add(life).map_err(|_| lifetime(name))?;
    Ok((at(not_before)?, at(not_after)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Names, component};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_authority_is_made_once_and_read_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), "ca", "kubernetes", now()).unwrap();
        let second = Authority::open(dir.path(), "ca", "kubernetes", now()).unwrap();
        assert_eq!(first.pem(), second.pem());
        for file in ["ca.crt", "ca.key"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_lost_key_is_reported_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path(), "ca", "kubernetes", now()).unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Authority::open(dir.path(), "ca", "kubernetes", now()).err().unwrap().to_string();
        assert!(error.contains("its key file is missing"), "{error}");
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open(a.path(), "ca", "kubernetes", now()).unwrap();
        Authority::open(b.path(), "ca", "kubernetes", now()).unwrap();
        std::fs::copy(b.path().join("ca.key"), a.path().join("ca.key")).unwrap();
        let error = Authority::open(a.path(), "ca", "kubernetes", now()).err().unwrap().to_string();
        assert!(error.contains("do not belong together"), "{error}");
    }

    #[test]
    fn issued_certificates_carry_user_group_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), "ca", "kubernetes", now()).unwrap();
        let issued = authority.issue(&component("admin", Some("system:masters"), DAY), now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certified.cert[0]).unwrap();
        assert_eq!(parsed.subject().to_string(), "O=system:masters, CN=admin");
        assert_eq!(parsed.validity().not_after.timestamp(), issued.not_after.as_second());

        let service = "10.96.0.1".parse().unwrap();
        let names = Names::of_api_server("cluster.local", service, "host-1", &Names::default());
        let server = Profile {
            common_name: "kube-apiserver".into(),
            organization: None,
            usage: Usage::Server(names),
            lifetime: DAY,
        };
        let issued = authority.issue(&server, now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certified.cert[0]).unwrap();
        let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
        for wanted in ["kubernetes.default.svc.cluster.local", "host-1", "localhost", "[10, 96, 0, 1]"] {
            assert!(names.contains(wanted), "{wanted} in {names}");
        }
    }
}
