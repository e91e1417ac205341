//! The rules for names and other short strings, with upstream's messages.
//!
//! A check returns everything wrong with a string, one message each; an empty list means it is fine. Checks of a
//! field take its path as well and return field errors.

mod dns;
mod domains;
mod generate;
mod identifiers;
mod ip;
mod labels;
mod path_segment;

pub use dns::{
    DNS_LABEL_MAX, DNS_SUBDOMAIN_MAX, dns_1035_label, dns_label, dns_subdomain, dns_subdomain_caseless,
    dns_subdomain_with_underscore, name_is_dns_1035_label, name_is_dns_label, name_is_dns_subdomain,
    wildcard_dns_subdomain,
};
pub use domains::{
    domain_prefixed_key, domain_prefixed_path, fully_qualified_domain_name, fully_qualified_name,
};
pub use generate::{MAX_GENERATED_NAME, generate_name, random_suffix, safe_encode};
pub use identifiers::{
    c_identifier, config_map_key, env_var_name, group_id, http_header_name, in_range, percent, port_name,
    port_number, relaxed_env_var_name, user_id,
};
pub use ip::{Cidr, cidr, cidr_legacy, interface_address, ip, ip_legacy, parse_cidr_sloppy, parse_ip_sloppy};
pub use labels::{
    ANNOTATIONS_MAX_BYTES, LABEL_VALUE_MAX, label_value, qualified_name, validate_annotations,
    validate_label_name, validate_labels,
};
pub use path_segment::{name_is_path_segment, path_segment_name, path_segment_prefix};

/// The message for a value of more than `max` characters.
pub fn max_length(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// The message for a value outside `low..=high`.
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The message for a value that does not have the form `pattern`, with examples that do.
pub fn pattern_mismatch(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

const EMPTY: &str = "must be non-empty";

/// Like [`max_length`], where upstream counts in bytes.
fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}
