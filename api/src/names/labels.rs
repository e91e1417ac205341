//! Labels and annotations.

use serde_json::{Map, Value};

use crate::field::{Error, ErrorList, Path};

use super::dns::{DNS_SUBDOMAIN_MAX, SUBDOMAIN_MESSAGE, SUBDOMAIN_PATTERN, framed, is_subdomain};
use super::{EMPTY, max_bytes, pattern_mismatch};

/// Longest value of a label, in bytes.
pub const LABEL_VALUE_MAX: usize = 63;
/// Most bytes all keys and values of an object's annotations may have together.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

const NAME_MAX: usize = 63;
const NAME_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_PATTERN: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A qualified name, which is what a label's key is: `name` or `subdomain/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(name), None) => {
            prefix_part(prefix, &mut wrong);
            name
        }
        (Some(name), None, _) => name,
        _ => {
            let message = pattern_mismatch(NAME_MESSAGE, NAME_PATTERN, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push(format!("name part {EMPTY}"));
    } else if name.len() > NAME_MAX {
        wrong.push(format!("name part {}", max_bytes(NAME_MAX)));
    }
    if !is_name(name) {
        let message = pattern_mismatch(NAME_MESSAGE, NAME_PATTERN, &["MyName", "my.name", "123-abc"]);
        wrong.push(format!("name part {message}"));
    }
    wrong
}

fn prefix_part(prefix: &str, wrong: &mut Vec<String>) {
    if prefix.is_empty() {
        wrong.push(format!("prefix part {EMPTY}"));
        return;
    }
    if prefix.len() > DNS_SUBDOMAIN_MAX {
        wrong.push(format!("prefix part {}", max_bytes(DNS_SUBDOMAIN_MAX)));
    }
    if !is_subdomain(prefix) {
        let message = pattern_mismatch(SUBDOMAIN_MESSAGE, SUBDOMAIN_PATTERN, &["example.com"]);
        wrong.push(format!("prefix part {message}"));
    }
}

fn is_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_alphanumeric();
    framed(name.as_bytes(), edge, edge, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > LABEL_VALUE_MAX {
        wrong.push(max_bytes(LABEL_VALUE_MAX));
    }
    if !value.is_empty() && !is_name(value) {
        wrong.push(pattern_mismatch(VALUE_MESSAGE, VALUE_PATTERN, &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// The key of a label, as a field error.
pub fn validate_label_name(name: &str, path: &Path) -> ErrorList {
    qualified_name(name).into_iter().map(|wrong| Error::invalid(path, name, wrong)).collect()
}

/// `metadata.labels`.
pub fn validate_labels(labels: &Map<String, Value>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels {
        errors.extend(validate_label_name(key, path));
        let value = value.as_str().unwrap_or_default();
        errors.extend(label_value(value).into_iter().map(|wrong| Error::invalid(path, value, wrong)));
    }
    errors
}

/// `metadata.annotations`: keys, in any case, and the size of all together.
pub fn validate_annotations(annotations: &Map<String, Value>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut size = 0;
    for (key, value) in annotations {
        let wrong = qualified_name(&key.to_lowercase());
        errors.extend(wrong.into_iter().map(|wrong| Error::invalid(path, key, wrong)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn qualified_names_may_have_a_prefix() {
        for good in ["simple", "1-num.2-num/3-num", "a.b/C_d", &format!("{}/a", "a".repeat(253))] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "nospecial%^", "-a", "a b", "A/b", &"a".repeat(64)] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert_eq!(qualified_name("")[0], "name part must be non-empty");
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    }

    #[test]
    fn label_values_may_be_empty() {
        assert!(label_value("").is_empty() && label_value("a_B.c-1").is_empty());
        assert!(!label_value("-a").is_empty());
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    }

    #[test]
    fn annotations_have_a_size_together() {
        let at = Path::new("metadata").child("annotations");
        let big = json!({"A/b": "x".repeat(ANNOTATIONS_MAX_BYTES)});
        let errors = validate_annotations(big.as_object().expect("an object"), &at);
        assert_eq!(errors.to_string(), "metadata.annotations: Too long: may not be more than 262144 bytes");
    }
}
