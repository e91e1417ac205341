//! Requests and limits, and the names that resources may have.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList, quote};
use knarr_api::names;
use knarr_api::quantity::Quantity;

use crate::resources::at::{At, NOT_NEGATIVE};

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Whether the project itself defines the resource.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of it may be promised than there is.
pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Whether a device plugin may define the resource.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A resource's name; `at` is where the fault is told, which need not be the name's place.
pub fn name(name: &str, at: &At<'_>, errors: &mut ErrorList) -> bool {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.extend(wrong.into_iter().map(|wrong| at.invalid_as(name, wrong)));
        return false;
    }
    if !name.contains('/') && !STANDARD.contains(&name) && !is_quota_huge_pages(name) {
        errors.push(at.invalid_as(name, "must be a standard resource type or fully qualified"));
        return false;
    }
    true
}

/// The name of a resource that containers may ask for.
pub fn container_name(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    self::name(name, at, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_pages(name) {
            errors.push(at.invalid_as(name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(at.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

/// The name of a resource that a pod as a whole may ask for.
pub fn pod_name(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    if self::name(name, at, errors) && !matches!(name, "cpu" | "memory") && !is_huge_pages(name) {
        errors.push(Error::not_supported(at.path(), name, &["cpu", "hugepages-", "memory"]));
    }
}

/// The name of a resource that a quota may limit.
pub fn quota_name(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    self::name(name, at, errors);
    if !name.contains('/') && (!STANDARD.contains(&name) || name == "storage") && !is_quota_huge_pages(name) {
        errors.push(at.invalid_as(name, "must be a standard resource for quota"));
    }
}

/// An amount of a resource: not negative, and whole where the resource is counted.
pub fn amount(resource: &str, at: &At<'_>, errors: &mut ErrorList) {
    let Some(quantity) = at.quantity() else { return };
    if quantity.is_negative() {
        errors.push(at.invalid_as(quantity.to_string(), NOT_NEGATIVE));
    }
    if is_integer(resource) && quantity.milli_value() % 1000 != 0 {
        errors.push(at.invalid_as(at.str(), "must be an integer"));
    }
}

/// Amounts that must be greater than zero.
pub fn positive(at: &At<'_>, errors: &mut ErrorList) -> bool {
    let Some(quantity) = at.quantity() else { return true };
    let fits = !quantity.is_zero() && !quantity.is_negative();
    if !fits {
        errors.push(at.invalid_as(quantity.to_string(), crate::resources::at::NOT_POSITIVE));
    }
    fits
}

fn huge_pages(name: &str, at: &At<'_>, quantity: &Quantity, errors: &mut ErrorList) {
    let size = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
    let divides = size.is_some_and(|size| {
        let page = size.value();
        page > 0 && size.milli_value() % 1000 == 0 && quantity.value() % page == 0
    });
    if !divides {
        errors.push(
            at.invalid_as(at.str(), format!("{} is not positive integer multiple of {name}", at.str())),
        );
    }
}

/// `limits`, `requests` and `claims` of a container, a pod or an overhead.
pub fn requirements(
    at: &At<'_>,
    rule: fn(&str, &At<'_>, &mut ErrorList),
    claims: &BTreeSet<&str>,
    errors: &mut ErrorList,
) {
    if at.value().is_none() {
        return;
    }
    let (mut compute, mut huge) = (false, false);
    for (field, is_request) in [("limits", false), ("requests", true)] {
        for (name, entry) in at.entries(field) {
            rule(name, &entry, errors);
            amount(name, &entry, errors);
            let Some(quantity) = entry.quantity() else { continue };
            if is_request {
                against_limit(at, name, &quantity, errors);
            }
            if is_huge_pages(name) {
                huge = true;
                huge_pages(name, &entry, &quantity, errors);
            }
            compute |= matches!(name, "cpu" | "memory");
        }
    }
    if huge && !compute {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
    claim_names(at, claims, errors);
}

fn against_limit(at: &At<'_>, name: &str, request: &Quantity, errors: &mut ErrorList) {
    let limit = at.get("limits").and_then(|limits| Quantity::from_json(limits.get(name)?).ok());
    let requests = at.at("requests");
    match limit {
        Some(limit) if *request != limit && !is_overcommit_allowed(name) => {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.push(requests.invalid_as(request.to_string(), detail));
        }
        Some(limit) if *request > limit => {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(requests.invalid_as(request.to_string(), detail));
        }
        None if !is_overcommit_allowed(name) => {
            errors.push(at.at("limits").required("Limit must be set for non overcommitable resources"));
        }
        _ => {}
    }
}

fn claim_names(at: &At<'_>, claims: &BTreeSet<&str>, errors: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in at.items("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        let duplicate = |key: &str| Error::duplicate(claim.path(), key);
        if seen.contains(name) {
            errors.push(duplicate(name));
        } else {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            if !request.is_empty() {
                claim.at("request").check(errors, names::dns_label);
            }
            if seen.contains(&key) {
                errors.push(duplicate(&key));
            } else if request.is_empty() {
                let of_it = seen.iter().filter(|key| key.split_once('/').is_some_and(|(of, _)| of == name));
                errors.extend(of_it.map(|_| duplicate(name)));
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let mut error = Error::not_found(claim.path(), name);
            let known: Vec<&str> = claims.iter().copied().collect();
            error.detail = match known.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                false => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
            };
            errors.push(error);
        }
    }
}

/// A quoted list, as Go's `%q` prints one.
pub fn quoted(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", texts.join(" "))
}
