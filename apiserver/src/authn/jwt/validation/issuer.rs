//! What can be wrong with an issuer.

use std::collections::HashSet;

use knarr_api::field::{Error, ErrorList, Path, quote};

use crate::authn::jwt::configuration::Issuer;
use crate::authn::jwt::provider::authorities;
use crate::authn::jwt::url::Url;

const MATCH_ANY: &str = "MatchAny";

pub(super) fn validate(issuer: &Issuer, disallowed: &[String], path: &Path, errors: &mut ErrorList) {
    let url = path.child("url");
    if issuer.url.is_empty() {
        errors.push(Error::required(&url, ""));
    } else {
        address(&issuer.url, disallowed, &url, errors);
    }
    discovery(issuer, &path.child("discoveryURL"), errors);
    audiences(issuer, path, errors);
    if !issuer.certificate_authority.is_empty()
        && let Err(why) = authorities(&issuer.certificate_authority)
    {
        errors.push(Error::invalid(&path.child("certificateAuthority"), "<omitted>", why));
    }
    egress(&issuer.egress_selector_type, &path.child("egressSelectorType"), errors);
}

fn discovery(issuer: &Issuer, path: &Path, errors: &mut ErrorList) {
    let Issuer { url, discovery_url, .. } = issuer;
    if discovery_url.is_empty() {
        return;
    }
    if !url.is_empty() && url.trim_end_matches('/') == discovery_url.trim_end_matches('/') {
        errors.push(Error::invalid(path, discovery_url, "discoveryURL must be different from URL"));
    }
    address(discovery_url, &[], path, errors);
}

fn address(text: &str, disallowed: &[String], path: &Path, errors: &mut ErrorList) {
    let mut wrong = |detail: String| errors.push(Error::invalid(path, text, detail));
    if disallowed.iter().any(|issuer| issuer == text) {
        let mut sorted = disallowed.to_vec();
        sorted.sort();
        wrong(format!("URL must not overlap with disallowed issuers: [{}]", sorted.join(" ")));
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => return wrong(why),
    };
    let faults = [
        (url.scheme != "https", "URL scheme must be https"),
        (url.user, "URL must not contain a username or password"),
        (url.query, "URL must not contain a query"),
        (url.fragment, "URL must not contain a fragment"),
    ];
    faults.into_iter().filter(|(is, _)| *is).for_each(|(_, detail)| wrong(detail.to_owned()));
}

fn audiences(issuer: &Issuer, path: &Path, errors: &mut ErrorList) {
    let (policy, path) = (path.child("audienceMatchPolicy"), path.child("audiences"));
    let Issuer { audiences, audience_match_policy, .. } = issuer;
    if audiences.is_empty() {
        errors.push(Error::required(&path, format!("at least one {path} is required")));
        return;
    }
    let mut seen = HashSet::new();
    for (at, audience) in audiences.iter().enumerate() {
        let path = path.index(at);
        if audience.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        if !seen.insert(audience) {
            errors.push(Error::duplicate(&path, audience));
        }
    }
    let detail = match (audiences.len(), audience_match_policy.as_str()) {
        (_, MATCH_ANY) | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(Error::invalid(&policy, audience_match_policy, detail));
}

/// This server has no egress selector, so that none of them can be meant.
fn egress(selector: &str, path: &Path, errors: &mut ErrorList) {
    let detail = match selector {
        "" => return,
        "controlplane" | "cluster" => {
            format!("oidc: egress lookup required with egress selector type {}", quote(selector))
        }
        _ => "egress selector must be either controlplane or cluster".to_owned(),
    };
    errors.push(Error::invalid(path, selector, detail));
}
