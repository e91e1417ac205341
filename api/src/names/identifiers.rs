//! Names of variables, ports and keys, and the numbers that go with them.

use super::dns::{DNS_SUBDOMAIN_MAX, framed};
use super::{EMPTY, inclusive_range, max_length, pattern_mismatch};

/// An identifier of C.
pub fn c_identifier(value: &str) -> Vec<String> {
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let tail = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if framed(value.as_bytes(), head, tail, tail) {
        return Vec::new();
    }
    let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    vec![pattern_mismatch(message, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// The name of an environment variable, by the strict rule.
pub fn env_var_name(value: &str) -> Vec<String> {
    let head = |b: u8| b.is_ascii_alphabetic() || b"-._".contains(&b);
    let mut wrong = Vec::new();
    if !framed(value.as_bytes(), head, is_key_byte, is_key_byte) {
        let message = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        wrong.push(pattern_mismatch(message, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    }
    wrong.extend(starts_like_a_parent(value));
    wrong
}

/// The name of an environment variable, by the rule in force since 1.34: printable ASCII except `=`.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.is_empty() {
        wrong.push(format!("environment variable name {EMPTY}"));
    }
    if !value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
        let message = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        wrong.push(message.to_owned());
    }
    wrong
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        wrong.push(max_length(DNS_SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(is_key_byte) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(pattern_mismatch(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    wrong.extend(starts_like_a_parent(value));
    wrong
}

/// The name of a port as RFC 6335 has it, in lower case.
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 15 {
        wrong.push(max_length(15));
    }
    let mut say = |broken: bool, message: &str| {
        if broken {
            wrong.push(message.to_owned());
        }
    };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    say(
        value.is_empty() || !value.bytes().all(allowed),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    say(!value.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    say(value.contains("--"), "must not contain consecutive hyphens");
    say(value.starts_with('-') || value.ends_with('-'), "must not begin or end with a hyphen");
    wrong
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%');
    if digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern_mismatch(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern_mismatch(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A port number, not zero.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A Unix user.
pub fn user_id(uid: i64) -> Vec<String> {
    in_range(uid, 0, i64::from(i32::MAX))
}

/// A Unix group.
pub fn group_id(gid: i64) -> Vec<String> {
    in_range(gid, 0, i64::from(i32::MAX))
}

/// A number in `low..=high`.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![inclusive_range(low, high)] }
}

fn is_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._".contains(&b)
}

/// Such names become files and variables; one that walks up a folder must not be.
fn starts_like_a_parent(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_follow_rfc_6335() {
        assert!(port_name("http-2").is_empty());
        assert_eq!(
            port_name("-1--2-"),
            [
                "must contain at least one letter (a-z)",
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen"
            ]
        );
        assert_eq!(port_name("a234567890123456"), ["must be no more than 15 characters"]);
    }

    #[test]
    fn variables_and_keys_do_not_walk_up() {
        assert!(env_var_name("A.b-c_1").is_empty() && !env_var_name("1A").is_empty());
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(config_map_key("..a"), ["must not start with '..'"]);
        assert!(relaxed_env_var_name("1 A/b").is_empty() && !relaxed_env_var_name("a=b").is_empty());
        assert_eq!(relaxed_env_var_name(""), ["environment variable name must be non-empty"]);
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(percent("10%").is_empty() && !percent("%").is_empty() && user_id(0).is_empty());
        assert!(
            c_identifier("_a1").is_empty() && !c_identifier("1a").is_empty() && !c_identifier("").is_empty()
        );
    }
}
