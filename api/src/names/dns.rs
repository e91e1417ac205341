//! Labels and subdomains of DNS, the form of most names.

use std::borrow::Cow;

use super::{max_length, pattern_mismatch};

/// Longest label, in bytes.
pub const DNS_LABEL_MAX: usize = 63;
/// Longest subdomain, in bytes.
pub const DNS_SUBDOMAIN_MAX: usize = 253;

const LABEL_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
pub(super) const SUBDOMAIN_PATTERN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
pub(super) const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const SUBDOMAIN_CASELESS_MESSAGE: &str = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const UNDERSCORE_PATTERN: &str = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const UNDERSCORE_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
const LABEL_1035_PATTERN: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const WILDCARD_MESSAGE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";

/// A label as RFC 1123 has it, in lower case.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, DNS_LABEL_MAX);
    if !is_label(value) {
        wrong.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            pattern_mismatch(LABEL_MESSAGE, LABEL_PATTERN, &["my-name", "123-abc"])
        });
    }
    wrong
}

/// A subdomain as RFC 1123 has it, in lower case.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, DNS_SUBDOMAIN_MAX);
    if !is_subdomain(value) {
        wrong.push(pattern_mismatch(SUBDOMAIN_MESSAGE, SUBDOMAIN_PATTERN, &["example.com"]));
    }
    wrong
}

/// A subdomain in letters of either case, as driver names may be.
pub fn dns_subdomain_caseless(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        wrong.push(super::max_bytes(DNS_SUBDOMAIN_MAX));
    }
    if !is_subdomain(&value.to_ascii_lowercase()) {
        wrong.push(pattern_mismatch(SUBDOMAIN_CASELESS_MESSAGE, SUBDOMAIN_PATTERN, &["Example.com"]));
    }
    wrong
}

/// A subdomain whose labels may also hold underscores, as search domains may.
pub fn dns_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, DNS_SUBDOMAIN_MAX);
    let fits = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label).as_bytes();
        framed(label, is_alphanumeric, is_alphanumeric, |b| is_alphanumeric(b) || b == b'-' || b == b'_')
    };
    if !value.split('.').all(fits) {
        wrong.push(pattern_mismatch(UNDERSCORE_MESSAGE, UNDERSCORE_PATTERN, &["example.com"]));
    }
    wrong
}

/// A label as RFC 1035 has it: like [`dns_label`] but starting with a letter.
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, DNS_LABEL_MAX);
    if !framed(value.as_bytes(), |b| b.is_ascii_lowercase(), is_alphanumeric, is_label_byte) {
        wrong.push(pattern_mismatch(LABEL_1035_MESSAGE, LABEL_1035_PATTERN, &["my-name", "abc-123"]));
    }
    wrong
}

/// A subdomain after `*.`.
pub fn wildcard_dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, DNS_SUBDOMAIN_MAX);
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let pattern = format!(r"\*\.{SUBDOMAIN_PATTERN}");
        wrong.push(pattern_mismatch(WILDCARD_MESSAGE, &pattern, &["*.example.com"]));
    }
    wrong
}

/// An object's name that is a subdomain; with `prefix`, a generateName that will get a suffix.
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    dns_subdomain(&masked(name, prefix))
}

/// An object's name that is a label; with `prefix`, a generateName that will get a suffix.
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    dns_label(&masked(name, prefix))
}

/// An object's name that is an RFC 1035 label; with `prefix`, a generateName that will get a suffix.
pub fn name_is_dns_1035_label(name: &str, prefix: bool) -> Vec<String> {
    dns_1035_label(&masked(name, prefix))
}

/// A prefix may end in a dash because something will follow it. Like upstream, the dash and the character before
/// it become one letter.
fn masked(name: &str, prefix: bool) -> Cow<'_, str> {
    match name.strip_suffix('-').filter(|_| prefix) {
        Some(rest) if rest.ends_with(|c: char| c.is_ascii()) => {
            Cow::Owned(format!("{}a", &rest[..rest.len() - 1]))
        }
        _ => Cow::Borrowed(name),
    }
}

pub(super) fn is_label(value: &str) -> bool {
    framed(value.as_bytes(), is_alphanumeric, is_alphanumeric, is_label_byte)
}

pub(super) fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// Whether `value` starts with `first`, ends with `last` and has only `inner` between.
pub(super) fn framed(
    value: &[u8],
    first: fn(u8) -> bool,
    last: fn(u8) -> bool,
    inner: fn(u8) -> bool,
) -> bool {
    match value {
        [] => false,
        [only] => first(*only),
        [start, middle @ .., end] => first(*start) && last(*end) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_byte(b: u8) -> bool {
    is_alphanumeric(b) || b == b'-'
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![max_length(max)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lower_case_and_framed_by_alphanumerics() {
        for good in ["a", "0", "a1", "a--1--2--b", &"a".repeat(63)] {
            assert_eq!(dns_label(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "_", "a_b", ".", "a.", "a b", "\u{e9}", &"a".repeat(64)] {
            assert_ne!(dns_label(bad), Vec::<String>::new(), "{bad}");
        }
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }

    #[test]
    fn subdomains_are_labels_with_dots() {
        assert!(dns_subdomain("a.b-1.0").is_empty() && dns_subdomain(&"a".repeat(253)).is_empty());
        for bad in ["", ".", "a..b", "a.", ".a", "A.b", "a_b"] {
            assert!(!dns_subdomain(bad).is_empty(), "{bad}");
        }
        assert_eq!(dns_subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
        assert!(
            dns_subdomain_caseless("A.b").is_empty() && dns_subdomain_with_underscore("_a._b_c").is_empty()
        );
        assert!(wildcard_dns_subdomain("*.a.b").is_empty() && !wildcard_dns_subdomain("*.*.a").is_empty());
        assert!(!dns_1035_label("1a").is_empty() && dns_1035_label("a1").is_empty());
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert!(name_is_dns_label("web-", true).is_empty() && !name_is_dns_label("web-", false).is_empty());
        assert!(!name_is_dns_label("-", true).is_empty() && !name_is_dns_label("w\u{e9}-", true).is_empty());
    }
}
