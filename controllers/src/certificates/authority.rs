//! The key that signs requests, and the certificates it makes.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey};
use time::OffsetDateTime;
use x509_parser::{extensions::ParsedExtension, prelude::FromDer};
use yasna::{
    DERWriter, DERWriterSeq, Tag,
    models::{GeneralizedTime, ObjectIdentifier, UTCTime},
};

use super::request::{Name, Request};

/// Clocks of machines differ: a certificate is valid a little before it was issued.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// The end of a shorter life is not brought forward by as much.
const SHORT: Duration = Duration::from_secs(8 * 60 * 60);

/// The certificate and key, as PEM, of the authority that signs requests.
#[derive(Clone)]
pub struct SigningAuthority {
    pub certificate_pem: String,
    pub key_pem: String,
    /// How long certificates are valid at most.
    pub lifetime: Duration,
}

impl fmt::Debug for SigningAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningAuthority").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Why an authority cannot be used, or a certificate not made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the signing certificate does not parse: {0}")]
    Certificate(String),
    #[error("the signing key cannot be used: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the signing key is of a kind that signs no certificates")]
    KeyKind,
    #[error("unrecognized usage values: [{0}]")]
    Usages(String),
    #[error("refusing to sign a certificate that expired in the past: NotAfter={0}")]
    Expired(Timestamp),
    #[error("a time cannot be represented: {0}")]
    Time(String),
}

pub(super) struct Authority {
    key: KeyPair,
    algorithm: &'static Algorithm,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
    lifetime: Duration,
}

/// How a kind of key signs, as written into certificates.
struct Algorithm {
    oid: &'static [u64],
    has_null: bool,
}

const ECDSA_SHA256: Algorithm = Algorithm { oid: &[1, 2, 840, 10045, 4, 3, 2], has_null: false };
const ECDSA_SHA384: Algorithm = Algorithm { oid: &[1, 2, 840, 10045, 4, 3, 3], has_null: false };
const RSA_SHA256: Algorithm = Algorithm { oid: &[1, 2, 840, 113_549, 1, 1, 11], has_null: true };
const ED25519: Algorithm = Algorithm { oid: &[1, 3, 101, 112], has_null: false };

fn algorithm(key: &KeyPair) -> Result<&'static Algorithm, AuthorityError> {
    let kinds = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &ECDSA_SHA256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &ECDSA_SHA384),
        (&rcgen::PKCS_RSA_SHA256, &RSA_SHA256),
        (&rcgen::PKCS_ED25519, &ED25519),
    ];
    let found = kinds.into_iter().find(|(kind, _)| key.is_compatible(kind));
    found.map(|(_, algorithm)| algorithm).ok_or(AuthorityError::KeyKind)
}

/// What a certificate may be used for, as bits and as object identifiers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usages {
    /// Bit 0 of the certificate's string is the highest here.
    bits: u16,
    extended: Vec<&'static [u64]>,
}

/// In the order in which they are written.
const EXTENDED: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

const BITS: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

impl Usages {
    fn parse(names: &[String]) -> Result<Self, AuthorityError> {
        let known = |name: &&String| {
            BITS.iter().any(|(known, _)| known == name) || EXTENDED.iter().any(|(known, _)| known == name)
        };
        let unknown: Vec<_> =
            names.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
        if !unknown.is_empty() {
            return Err(AuthorityError::Usages(unknown.join(" ")));
        }
        let has = |name: &str| names.iter().any(|other| other == name);
        let bits = BITS.iter().filter(|(name, _)| has(name)).fold(0, |bits, (_, bit)| bits | (0x8000 >> bit));
        let mut extended = Vec::new();
        for (_, oid) in EXTENDED.iter().filter(|(name, _)| has(name)) {
            if !extended.contains(oid) {
                extended.push(*oid);
            }
        }
        Ok(Self { bits, extended })
    }
}

/// How long a certificate is to be valid: what was asked for, not more than the signer gives and not so little
/// that clocks could make nothing of it.
pub(super) fn lifetime(asked_seconds: Option<i32>, most: Duration) -> Duration {
    match asked_seconds {
        None => most,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(BACKDATE * 2).min(most),
    }
}

fn offset(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(at.as_second())
        .map_err(|error| AuthorityError::Time(error.to_string()))
}

impl Authority {
    pub(super) fn load(from: &SigningAuthority) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(&from.key_pem)?;
        let bad = |error: &dyn fmt::Display| AuthorityError::Certificate(error.to_string());
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(from.certificate_pem.as_bytes()).map_err(|error| bad(&error))?;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&pem.contents)
            .map_err(|error| bad(&error))?;
        let key_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| AuthorityError::Time(error.to_string()))?;
        Ok(Self {
            algorithm: algorithm(&key)?,
            subject: parsed.subject().as_raw().to_vec(),
            key_id,
            not_after,
            lifetime: from.lifetime,
            key,
        })
    }

    /// A certificate, as PEM, of what a request asks for.
    pub(super) fn sign(
        &self,
        request: &Request,
        usages: &[String],
        seconds: Option<i32>,
        serial: u128,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let usages = Usages::parse(usages)?;
        if now >= self.not_after {
            return Err(AuthorityError::Expired(self.not_after));
        }
        let life = lifetime(seconds, self.lifetime);
        let end = if life < SHORT { life } else { life - BACKDATE };
        let out_of_range = |error: jiff::Error| AuthorityError::Time(error.to_string());
        let not_before = now.checked_sub(BACKDATE).map_err(out_of_range)?;
        let not_after = now.checked_add(end).map_err(out_of_range)?.min(self.not_after);
        let (not_before, not_after) = (offset(not_before)?, offset(not_after)?);
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|seq| {
                seq.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
                seq.next().write_bigint_bytes(&serial.to_be_bytes(), true);
                self.write_algorithm(seq.next());
                seq.next().write_der(&self.subject);
                seq.next().write_sequence(|validity| {
                    write_time(validity.next(), not_before);
                    write_time(validity.next(), not_after);
                });
                seq.next().write_der(&request.subject);
                seq.next().write_der(&request.public_key);
                seq.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|extensions| self.write_extensions(extensions, request, &usages));
                });
            });
        });
        let signature = self.key.sign(&body)?;
        let certificate = yasna::construct_der(|writer| {
            writer.write_sequence(|seq| {
                seq.next().write_der(&body);
                self.write_algorithm(seq.next());
                seq.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem("CERTIFICATE", &certificate))
    }

    fn write_algorithm(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|seq| {
            seq.next().write_oid(&ObjectIdentifier::from_slice(self.algorithm.oid));
            if self.algorithm.has_null {
                seq.next().write_null();
            }
        });
    }

    fn write_extensions(&self, extensions: &mut DERWriterSeq<'_>, request: &Request, usages: &Usages) {
        if usages.bits != 0 {
            let bits = 16 - usages.bits.trailing_zeros() as usize;
            let bytes = usages.bits.to_be_bytes();
            extension(extensions, &[2, 5, 29, 15], true, |writer| {
                writer.write_bitvec_bytes(&bytes[..bits.div_ceil(8)], bits);
            });
        }
        if !usages.extended.is_empty() {
            extension(extensions, &[2, 5, 29, 37], false, |writer| {
                writer.write_sequence(|seq| {
                    for oid in &usages.extended {
                        seq.next().write_oid(&ObjectIdentifier::from_slice(oid));
                    }
                });
            });
        }
        // No authority: that is what an empty sequence says.
        extension(extensions, &[2, 5, 29, 19], true, |writer| writer.write_sequence(|_| ()));
        if let Some(id) = &self.key_id {
            extension(extensions, &[2, 5, 29, 35], false, |writer| {
                writer.write_sequence(|seq| {
                    seq.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
        if !request.names.is_empty() {
            // A subject without a name leaves only these to go by.
            let nameless = request.subject == [0x30, 0];
            extension(extensions, &[2, 5, 29, 17], nameless, |writer| {
                writer.write_sequence(|seq| {
                    for name in &request.names {
                        write_name(seq.next(), name);
                    }
                });
            });
        }
    }
}

fn extension(
    extensions: &mut DERWriterSeq<'_>,
    oid: &[u64],
    critical: bool,
    content: impl FnOnce(DERWriter<'_>),
) {
    extensions.next().write_sequence(|seq| {
        seq.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            seq.next().write_bool(true);
        }
        seq.next().write_bytes(&yasna::construct_der(content));
    });
}

fn write_name(writer: DERWriter<'_>, name: &Name) {
    let (tag, bytes) = match name {
        Name::Email(name) => (1, name.as_bytes()),
        Name::Dns(name) => (2, name.as_bytes()),
        Name::Uri(name) => (6, name.as_bytes()),
        Name::Ip(bytes) => (7, bytes.as_slice()),
    };
    writer.write_tagged_implicit(Tag::context(tag), |writer| writer.write_bytes(bytes));
}

/// Times up to 2049 have the short form.
fn write_time(writer: DERWriter<'_>, at: OffsetDateTime) {
    if (1950..2050).contains(&at.year()) {
        writer.write_utctime(&UTCTime::from_datetime(at));
    } else {
        writer.write_generalized_time(&GeneralizedTime::from_datetime(at));
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::request::tests::pem as request_pem, *};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa};

    pub(in super::super) fn authority() -> SigningAuthority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        SigningAuthority {
            certificate_pem: params.self_signed(&key).unwrap().pem(),
            key_pem: key.serialize_pem(),
            lifetime: Duration::from_secs(365 * 24 * 3600),
        }
    }

    #[test]
    fn a_certificate_says_what_was_asked_and_verifies() {
        let from = authority();
        let request = Request::parse(&request_pem("jane", "team", &["a.example"])).unwrap();
        let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let signed = Authority::load(&from).unwrap().sign(&request, &usages, Some(3600), 7, now).unwrap();

        let parse = |text: &str| x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1;
        let (ca, signed) = (parse(&from.certificate_pem), parse(&signed));
        let (ca, signed) = (ca.parse_x509().unwrap(), signed.parse_x509().unwrap());
        signed.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(signed.subject().to_string(), "O=team, CN=jane");
        assert_eq!(signed.issuer(), ca.subject());
        assert_eq!(signed.validity().not_before.timestamp(), now.as_second() - 300);
        assert_eq!(signed.validity().not_after.timestamp(), now.as_second() + 3600);
        let usage = signed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = signed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth);
        assert!(!signed.is_ca());
        let names = signed.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1);
    }

    #[test]
    fn lifetimes_stay_between_ten_minutes_and_what_the_signer_gives() {
        let most = Duration::from_secs(3600);
        for (asked, wanted) in
            [(None, 3600), (Some(1), 600), (Some(900), 900), (Some(9999), 3600), (Some(-1), 600)]
        {
            assert_eq!(lifetime(asked, most).as_secs(), wanted, "{asked:?}");
        }
    }

    #[test]
    fn an_unknown_usage_is_told() {
        let error = Usages::parse(&["client auth".to_owned(), "flying".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "unrecognized usage values: [\"flying\"]");
    }
}
