//! Credentials, and the tokens they buy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cri::AuthConfig;

/// What we have for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub basic: Option<(String, String)>,
    pub identity_token: Option<String>,
    pub registry_token: Option<String>,
}

impl Credentials {
    pub fn from_config(config: Option<AuthConfig>) -> Self {
        let Some(config) = config else { return Credentials::default() };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let basic = if !config.username.is_empty() || !config.password.is_empty() {
            Some((config.username, config.password))
        } else {
            decode(&config.auth)
        };
        Credentials {
            basic,
            identity_token: some(config.identity_token),
            registry_token: some(config.registry_token),
        }
    }
}

/// base64 of `name:password`.
fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// What a registry asks for in `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        let mut take = |name: &str| {
            let at = parameters.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some(parameters.swap_remove(at).1)
        };
        Some(Challenge::Bearer { realm: take("realm")?, service: take("service"), scope: take("scope") })
    }
}

/// `a="b",c="d,e"`.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name.trim_matches([' ', ',']).to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://a/token",service="r.io",scope="repository:x:pull,push""#;
        assert_eq!(
            Challenge::parse(header),
            Some(Challenge::Bearer {
                realm: "https://a/token".to_owned(),
                service: Some("r.io".to_owned()),
                scope: Some("repository:x:pull,push".to_owned()),
            })
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=\"no realm\""), None);
    }

    #[test]
    fn credentials_come_in_two_forms() {
        let config = AuthConfig { auth: STANDARD.encode("me:se:cret"), ..Default::default() };
        let credentials = Credentials::from_config(Some(config));
        assert_eq!(credentials.basic, Some(("me".to_owned(), "se:cret".to_owned())));
    }
}
