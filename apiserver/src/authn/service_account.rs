//! Service-account tokens: issued on request, bound to an object, void when that object is gone.

mod claims;
mod discovery;
mod issue;
mod legacy;
mod verify;

pub use claims::{Claims, NamedUid, Private};
pub use discovery::{Discovery, JWKS_PATH, OPENID_CONFIGURATION_PATH};
pub(crate) use issue::random_uuid;
pub use issue::{Request, TokenIssuer};
pub use legacy::LegacyTokens;
pub use verify::ServiceAccountTokens;

pub const USERNAME_PREFIX: &str = "system:serviceaccount:";
const ALL_GROUP: &str = "system:serviceaccounts";

/// `system:serviceaccount:<namespace>:<name>`.
pub fn username(namespace: &str, name: &str) -> String {
    format!("{USERNAME_PREFIX}{namespace}:{name}")
}

/// The groups of every service account of a namespace, without `system:authenticated`.
pub fn groups(namespace: &str) -> Vec<String> {
    vec![ALL_GROUP.to_owned(), format!("{ALL_GROUP}:{namespace}")]
}

/// Namespace and name of a service account's username; `None` for other users.
pub fn split_username(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix(USERNAME_PREFIX)?.split_once(':')?;
    (is_label(namespace) && is_subdomain(name)).then_some((namespace, name))
}

pub(crate) fn is_label(text: &str) -> bool {
    let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && alphanumeric(text.bytes().next())
        && alphanumeric(text.bytes().next_back())
}

pub(crate) fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && alphanumeric(part.bytes().next())
            && alphanumeric(part.bytes().next_back())
    };
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_split_into_namespace_and_name() {
        assert_eq!(split_username("system:serviceaccount:kube-system:a.b"), Some(("kube-system", "a.b")));
        for bad in
            ["system:serviceaccount:x", "bob", "system:serviceaccount::x", "system:serviceaccount:a:b:c"]
        {
            assert_eq!(split_username(bad), None, "{bad}");
        }
    }
}
