//! The older way to name one issuer.

use std::collections::BTreeMap;

use super::configuration::{
    ClaimMappings, ClaimValidationRule, Configuration, Issuer, JwtAuthenticator, Mapping,
};

/// What the `--oidc-*` flags say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oidc {
    pub issuer_url: String,
    pub client_id: String,
    /// PEM; the machine's authorities if empty.
    pub certificate_authority: String,
    pub username_claim: String,
    /// Empty: the issuer's URL and `#`, except for addresses; `-`: none.
    pub username_prefix: String,
    /// Empty: tokens give no groups.
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required_claims: BTreeMap<String, String>,
    /// As tokens name them.
    pub signing_algorithms: Vec<String>,
}

impl Oidc {
    /// The same as a configuration.
    pub fn configuration(&self) -> Configuration {
        let claim = |claim: &str, prefix: String| Mapping {
            claim: claim.to_owned(),
            prefix: Some(prefix),
            expression: String::new(),
        };
        let username = claim(&self.username_claim, self.prefix());
        let groups = match self.groups_claim.as_str() {
            "" => Mapping::default(),
            name => claim(name, self.groups_prefix.clone()),
        };
        let required = self.required_claims.iter().map(|(claim, value)| ClaimValidationRule {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimValidationRule::default()
        });
        let authenticator = JwtAuthenticator {
            issuer: Issuer {
                url: self.issuer_url.clone(),
                certificate_authority: self.certificate_authority.clone(),
                audiences: vec![self.client_id.clone()],
                ..Issuer::default()
            },
            claim_validation_rules: required.collect(),
            claim_mappings: ClaimMappings { username, groups, ..ClaimMappings::default() },
            user_validation_rules: Vec::new(),
        };
        Configuration { jwt: vec![authenticator], anonymous: None }
    }

    fn prefix(&self) -> String {
        match (self.username_prefix.as_str(), self.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", self.issuer_url),
            (prefix, _) => prefix.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_their_issuer_unless_they_are_addresses() {
        let prefix = |username_prefix: &str, username_claim: &str| {
            let oidc = Oidc {
                issuer_url: "https://a".into(),
                username_prefix: username_prefix.into(),
                username_claim: username_claim.into(),
                ..Oidc::default()
            };
            oidc.configuration().jwt[0].claim_mappings.username.prefix.clone()
        };
        assert_eq!(prefix("", "sub").as_deref(), Some("https://a#"));
        assert_eq!(prefix("", "email").as_deref(), Some(""));
        assert_eq!(prefix("-", "sub").as_deref(), Some(""));
        assert_eq!(prefix("oidc:", "email").as_deref(), Some("oidc:"));
    }
}
