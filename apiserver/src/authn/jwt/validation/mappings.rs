//! What can be wrong with how claims become a user.

use std::collections::HashSet;

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names::domain_prefixed_path;

use super::compiled_or;
use crate::authn::jwt::configuration::{ClaimMappings, ExtraMapping, Mapping};
use crate::authn::jwt::expression::Expression;
use crate::authn::jwt::mappings::{Mappings, Source};

pub(super) fn compile(mappings: &ClaimMappings, path: &Path, errors: &mut ErrorList) -> Mappings {
    Mappings {
        username: prefixed(&mappings.username, &path.child("username"), true, errors),
        groups: prefixed(&mappings.groups, &path.child("groups"), false, errors),
        uid: uid(&mappings.uid, &path.child("uid"), errors),
        extra: extra(&mappings.extra, &path.child("extra"), errors),
    }
}

fn prefixed(mapping: &Mapping, path: &Path, required: bool, errors: &mut ErrorList) -> Source {
    let Mapping { claim, prefix, expression } = mapping;
    match (claim.as_str(), expression.as_str()) {
        ("", "") => {
            if required {
                errors.push(Error::required(path, "claim or expression is required"));
            }
            Source::None
        }
        (claim, "") => {
            if prefix.is_none() {
                errors.push(Error::required(
                    &path.child("prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                ));
            }
            Source::claim(claim, prefix.as_deref().unwrap_or_default())
        }
        ("", text) => {
            if let Some(prefix) = prefix {
                let detail = "may not be specified when expression is set";
                errors.push(Error::invalid(&path.child("prefix"), prefix, detail));
            }
            expression_of(text, &path.child("expression"), errors)
        }
        _ => {
            errors.push(Error::invalid(path, "", "claim and expression can't both be set"));
            Source::None
        }
    }
}

fn uid(mapping: &Mapping, path: &Path, errors: &mut ErrorList) -> Source {
    match (mapping.claim.as_str(), mapping.expression.as_str()) {
        ("", "") => Source::None,
        (claim, "") => Source::claim(claim, ""),
        ("", text) => expression_of(text, &path.child("expression"), errors),
        _ => {
            errors.push(Error::invalid(path, "", "claim and expression can't both be set"));
            Source::None
        }
    }
}

fn expression_of(text: &str, path: &Path, errors: &mut ErrorList) -> Source {
    compiled_or(Expression::of_claims(text), path, text, errors).map_or(Source::None, Source::Expression)
}

fn extra(mappings: &[ExtraMapping], path: &Path, errors: &mut ErrorList) -> Vec<(String, Expression)> {
    let mut seen = HashSet::new();
    let mut compiled = Vec::new();
    for (at, ExtraMapping { key, value_expression }) in mappings.iter().enumerate() {
        let (path, value_path) = (path.index(at).child("key"), path.index(at).child("valueExpression"));
        errors.extend(domain_prefixed_path(&path, key));
        if key.to_lowercase() != *key {
            errors.push(Error::invalid(&path, key, "must be lowercase"));
        }
        if is_reserved(key) {
            let detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.push(Error::invalid(&path, key, detail));
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&path, key));
        } else if value_expression.is_empty() {
            errors.push(Error::required(&value_path, ""));
        } else {
            let expression = Expression::of_claims(value_expression);
            let expression = compiled_or(expression, &value_path, value_expression, errors);
            compiled.extend(expression.map(|expression| (key.clone(), expression)));
        }
    }
    compiled
}

fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    ["kubernetes.io", "k8s.io"].iter().any(|reserved| {
        domain.strip_suffix(reserved).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}
