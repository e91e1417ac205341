//! Names of signers, `example.com/signer`, and of the trust bundles that belong to them.

use knarr_api::field::{Error, ErrorList, quote};
use knarr_api::names::{self, DNS_LABEL_MAX, DNS_SUBDOMAIN_MAX};

use crate::resources::at::At;

/// A domain, a slash, and `namespace.name`.
const MAX: usize = DNS_SUBDOMAIN_MAX + 1 + DNS_LABEL_MAX + 1 + DNS_SUBDOMAIN_MAX;

pub fn is_kubernetes(signer: &str) -> bool {
    let host = signer.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

pub fn validate_name(at: &At<'_>, errors: &mut ErrorList) {
    let name = at.str();
    if name.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(at.invalid(detail));
        return;
    };
    if domain.len() > DNS_SUBDOMAIN_MAX {
        errors.push(Error::too_long(at.path(), DNS_SUBDOMAIN_MAX));
    }
    labels(at, domain, names::dns_label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(at.invalid_as(domain, detail));
    }
    labels(at, path, names::dns_subdomain, errors);
    if name.len() > MAX {
        errors.push(Error::too_long(at.path(), MAX));
    }
}

/// What is wrong with the first label that is wrong.
fn labels(at: &At<'_>, segment: &str, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let wrong = segment.split('.').map(|label| (label, rule(label))).find(|(_, wrong)| !wrong.is_empty());
    if let Some((label, messages)) = wrong {
        let told = messages.into_iter();
        errors.extend(
            told.map(|told| at.invalid_as(segment, format!("validating label {}: {told}", quote(label)))),
        );
    }
}

/// The signer that a trust bundle's name speaks of.
pub fn of_trust_bundle_name(name: &str) -> Option<String> {
    name.rfind(':').map(|colon| name[..colon].replace(':', "/"))
}

/// What is wrong with the name of a signer's trust bundle; the signer may be empty.
pub fn trust_bundle_name(name: &str, signer: &str, prefix: bool) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return names::name_is_dns_subdomain(name, prefix);
    }
    let required = signer.replace('/', ":") + ":";
    match name.strip_prefix(&required) {
        Some(rest) => names::name_is_dns_subdomain(rest, prefix),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {required}")]
        }
    }
}
