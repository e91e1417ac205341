//! Projected volumes: several sources in one directory, no path twice.

use std::collections::BTreeSet;

use knarr_api::field::ErrorList;
use knarr_api::names;
use knarr_api::selector::{LabelSelectorOptions, validate_label_selector};

use super::Volume;
use super::common::{downward_file, key_to_path};
use crate::resources::at::At;
use crate::resources::certificates::signer;
use crate::resources::pod_spec::paths;

const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const MONTHS_3: i64 = 7_862_400;
const DAY: i64 = 86_400;

/// The paths used so far.
type Used<'a> = BTreeSet<&'a str>;

pub fn validate(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    paths::mode(&at.at("defaultMode"), errors);
    let mut used = Used::new();
    for source in at.items("sources") {
        let mut count = 0;
        for field in ["secret", "configMap"] {
            if let Some(keys) = source.some(field) {
                count += 1;
                self::keys(at, &keys, &mut used, errors);
            }
        }
        if let Some(downward) = source.some("downwardAPI") {
            count += 1;
            for file in downward.list("items") {
                let file = At::new(Some(file), downward.path().clone());
                downward_file(&file, errors);
                use_once(at, file.text("path"), None, &mut used, errors);
            }
        }
        if let Some(token) = source.some("serviceAccountToken") {
            count += 1;
            self::token(at, &token, errors);
        }
        if let Some(bundle) = source.some("clusterTrustBundle") {
            count += 1;
            trust_bundle(at, &bundle, &mut used, errors);
        }
        if let Some(certificate) = source.some("podCertificate") {
            count += 1;
            self::certificate(at, &certificate, &mut used, errors);
        }
        if count > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

/// Notes a path, or says that it is taken; `shown` is the value in the error where it is not the path.
fn use_once<'a>(
    at: &At<'_>,
    path: &'a str,
    shown: Option<&str>,
    used: &mut Used<'a>,
    errors: &mut ErrorList,
) {
    if !path.is_empty() && !used.insert(path) {
        errors.push(at.invalid_as(shown.unwrap_or(path), "conflicting duplicate paths"));
    }
}

fn keys<'a>(at: &At<'_>, keys: &At<'a>, used: &mut Used<'a>, errors: &mut ErrorList) {
    keys.at("name").require_text(errors);
    for item in keys.items("items") {
        key_to_path(&item, errors);
        use_once(at, item.text("path"), Some(keys.text("name")), used, errors);
    }
}

fn token(at: &At<'_>, token: &At<'_>, errors: &mut ErrorList) {
    let lifetime = token.at("expirationSeconds");
    let seconds = lifetime.i64().unwrap_or_default();
    if seconds < 10 * 60 {
        errors.push(lifetime.invalid_as(seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(lifetime.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    // Upstream names the volume, not the source, as the path's place.
    let path = At::new(token.get("path"), at.path().child("path"));
    if path.str().is_empty() {
        errors.push(path.required(""));
    } else {
        paths::non_reserved(&path, errors);
    }
}

fn trust_bundle<'a>(at: &At<'_>, bundle: &At<'a>, used: &mut Used<'a>, errors: &mut ErrorList) {
    match (bundle.some("name"), bundle.some("signerName")) {
        (Some(_), Some(_)) => errors.push(bundle.invalid("only one of name and signerName may be used")),
        (Some(name), None) => {
            if name.str().is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            let signer = signer::of_trust_bundle_name(name.str()).unwrap_or_default();
            let wrong = signer::trust_bundle_name(name.str(), &signer, false).into_iter();
            errors.extend(
                wrong.map(|wrong| name.invalid(format!("not a valid clustertrustbundlename: {wrong}"))),
            );
            if let Some(selector) = bundle.some("labelSelector") {
                errors.push(selector.invalid("labelSelector must be unset if name is specified"));
            }
        }
        (None, Some(name)) => {
            if name.str().is_empty() {
                errors.push(name.required("must be a valid signer name"));
            }
            signer::validate_name(&name, errors);
            if let Some(selector) = bundle.get("labelSelector") {
                let at = bundle.at("labelSelector");
                errors.extend(validate_label_selector(selector, LabelSelectorOptions::default(), at.path()));
            }
        }
        (None, None) => errors.push(bundle.required("either name or signerName must be specified")),
    }
    let path = bundle.at("path");
    path.require_text(errors);
    paths::non_reserved(&path, errors);
    use_once(at, path.str(), None, used, errors);
}

fn certificate<'a>(at: &At<'_>, certificate: &At<'a>, used: &mut Used<'a>, errors: &mut ErrorList) {
    let name = certificate.at("signerName");
    signer::validate_name(&name, errors);
    let annotations = certificate.at("userAnnotations");
    for (key, _) in certificate.entries("userAnnotations") {
        errors.extend(names::domain_prefixed_key(annotations.path(), &key.to_lowercase()));
    }
    certificate.at("keyType").one_of(errors, &KEY_TYPES);
    if let Some(lifetime) = certificate.some("maxExpirationSeconds") {
        let seconds = lifetime.i64().unwrap_or_default();
        let max = if signer::is_kubernetes(name.str()) { DAY } else { MONTHS_3 };
        if seconds < 3600 {
            errors.push(lifetime.invalid("if provided, maxExpirationSeconds must be >= 3600"));
        }
        if seconds > max {
            errors.push(lifetime.invalid(format!("if provided, maxExpirationSeconds must be <= {max}")));
        }
    }
    let mut any = false;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = certificate.at(field);
        if !path.str().is_empty() {
            any = true;
            paths::non_reserved(&path, errors);
            use_once(at, path.str(), None, used, errors);
        }
    }
    if !any {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(certificate.required(detail));
    }
}
