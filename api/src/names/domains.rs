//! Names that carry a domain: signer names, driver names, condition keys.

use crate::field::{Error, ErrorList, Path};

use super::{dns_label, dns_subdomain, pattern_mismatch, qualified_name};

const HTTP_PATH_PATTERN: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// A domain of at least three labels.
pub fn fully_qualified_name(path: &Path, name: &str) -> ErrorList {
    if name.is_empty() {
        return Error::required(path, "").into();
    }
    let wrong = dns_subdomain(name);
    if !wrong.is_empty() {
        return Error::invalid(path, name, wrong.join(",")).into();
    }
    if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        return Error::invalid(path, name, detail).into();
    }
    ErrorList::new()
}

/// A domain of at least two labels; a trailing dot is allowed.
pub fn fully_qualified_domain_name(path: &Path, name: &str) -> ErrorList {
    if name.is_empty() {
        return Error::required(path, "").into();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let wrong = dns_subdomain(name);
    if !wrong.is_empty() {
        return Error::invalid(path, name, wrong.join(",")).into();
    }
    if name.split('.').count() < 2 {
        let detail = "should be a domain with at least two segments separated by dots";
        return Error::invalid(path, name, detail).into();
    }
    let mut labels = name.split('.').map(|label| (label, dns_label(label)));
    match labels.find(|(_, wrong)| !wrong.is_empty()) {
        Some((label, wrong)) => Error::invalid(path, label, wrong.join(",")).into(),
        None => ErrorList::new(),
    }
}

/// A subdomain, a slash and a path, such as `acme.io/foo`.
pub fn domain_prefixed_path(path: &Path, value: &str) -> ErrorList {
    if value.is_empty() {
        return Error::required(path, "").into();
    }
    let Some((host, rest)) =
        value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        return Error::invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")")
            .into();
    };
    let mut errors: ErrorList =
        dns_subdomain(host).into_iter().map(|wrong| Error::invalid(path, host, wrong)).collect();
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let detail = pattern_mismatch("Invalid path", HTTP_PATH_PATTERN, &[]);
        errors.push(Error::invalid(path, rest, detail));
    }
    errors
}

/// A qualified name whose prefix must be there.
pub fn domain_prefixed_key(path: &Path, key: &str) -> ErrorList {
    if key.is_empty() {
        return Error::required(path, "").into();
    }
    let mut errors: ErrorList =
        qualified_name(key).into_iter().map(|wrong| Error::invalid(path, key, wrong)).collect();
    if errors.is_empty() && !key.contains('/') {
        errors.push(Error::invalid(path, key, "must be a domain-prefixed key (such as \"acme.io/foo\")"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_enough_labels() {
        let at = Path::new("x");
        assert!(
            fully_qualified_name(&at, "a.b.c").is_empty() && !fully_qualified_name(&at, "a.b").is_empty()
        );
        assert!(fully_qualified_domain_name(&at, "a.b.").is_empty());
        assert_eq!(fully_qualified_domain_name(&at, "").to_string(), "x: Required value");
    }

    #[test]
    fn prefixed_things_need_their_prefix() {
        let at = Path::new("x");
        assert!(domain_prefixed_path(&at, "acme.io/foo/bar?").to_string().contains("Invalid path (regex"));
        assert!(domain_prefixed_path(&at, "acme.io/foo").is_empty());
        assert!(
            domain_prefixed_key(&at, "acme.io/foo").is_empty() && !domain_prefixed_key(&at, "foo").is_empty()
        );
    }
}
