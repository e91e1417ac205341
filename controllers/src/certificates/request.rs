//! What a request for a certificate asks.

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// Longer ones are nobody's.
const MAX_BYTES: usize = 64 * 1024;

/// The facts of a PKCS#10 request that approving and signing go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The subject as it was encoded; it is signed as it is.
    pub(super) subject: Vec<u8>,
    /// The public key as it was encoded.
    pub(super) public_key: Vec<u8>,
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) names: Vec<Name>,
}

/// A subject alternative name of a kind that is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    Email(String),
    /// Four or sixteen bytes.
    Ip(Vec<u8>),
    Uri(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NotARequest,
    #[error("{0}")]
    Malformed(String),
}

impl Request {
    pub(super) fn parse(pem: &[u8]) -> Result<Self, RequestError> {
        if pem.len() > MAX_BYTES {
            return Err(RequestError::Malformed(format!("{} bytes are too many", pem.len())));
        }
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::NotARequest)?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::NotARequest);
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
        let info = &parsed.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().unwrap_or_default().to_owned()
        };
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            common_name: info.subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect(),
            names: parsed.requested_extensions().into_iter().flatten().flat_map(names).collect(),
        })
    }

    pub(super) fn has(&self, kind: impl Fn(&Name) -> bool) -> bool {
        self.names.iter().any(kind)
    }
}

fn names(extension: &ParsedExtension<'_>) -> Vec<Name> {
    let ParsedExtension::SubjectAlternativeName(alternatives) = extension else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::RFC822Name(name) => Some(Name::Email((*name).to_owned())),
        GeneralName::IPAddress(bytes) => Some(Name::Ip(bytes.to_vec())),
        GeneralName::URI(name) => Some(Name::Uri((*name).to_owned())),
        _ => None,
    };
    alternatives.general_names.iter().filter_map(name).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    pub(in super::super) fn pem(common_name: &str, organization: &str, dns: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names =
            dns.iter().map(|&name| SanType::DnsName(name.try_into().unwrap())).collect();
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap().into_bytes()
    }

    #[test]
    fn a_request_says_who_asks_for_which_names() {
        let request = Request::parse(&pem("system:node:n1", "system:nodes", &["n1"])).unwrap();
        assert_eq!(request.common_name, "system:node:n1");
        assert_eq!(request.organizations, ["system:nodes"]);
        assert_eq!(request.names, [Name::Dns("n1".to_owned())]);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Request::parse(bad.as_bytes()), Err(RequestError::NotARequest), "{bad:?}");
        }
        let broken = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert!(matches!(Request::parse(broken.as_bytes()), Err(RequestError::Malformed(_))));
    }
}
