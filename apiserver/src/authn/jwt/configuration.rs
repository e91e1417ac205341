//! `AuthenticationConfiguration` as it is written, and reading it strictly.

mod fields;

use knarr_api::decode::{self, Format};
use serde::Deserialize;
use serde_json::Value;

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const KIND: &str = "AuthenticationConfiguration";

/// Who may come in with a token of an issuer, and who without any credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Configuration {
    pub jwt: Vec<JwtAuthenticator>,
    pub anonymous: Option<AnonymousSection>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AnonymousSection {
    pub enabled: bool,
    /// None: every path.
    pub conditions: Vec<AnonymousCondition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AnonymousCondition {
    pub path: String,
}

/// One issuer of tokens, and what is made of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtAuthenticator {
    pub issuer: Issuer,
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    pub claim_mappings: ClaimMappings,
    pub user_validation_rules: Vec<UserValidationRule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Issuer {
    /// The `iss` of its tokens, below which its documents are.
    pub url: String,
    /// Where its configuration document is, if not below its URL.
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM; the machine's authorities if empty.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

/// A claim with the text that it must have, or an expression that must be true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimValidationRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClaimMappings {
    pub username: Mapping,
    pub groups: Mapping,
    /// Has no prefix.
    pub uid: Mapping,
    pub extra: Vec<ExtraMapping>,
}

/// A claim, or an expression; neither leaves the attribute away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mapping {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserValidationRule {
    pub expression: String,
    pub message: String,
}

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    #[error("empty config data")]
    Empty,
    #[error("{0}")]
    Syntax(String),
    #[error("Object '{field}' is missing in '{text}'")]
    Missing { field: &'static str, text: String },
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind { kind: String, version: String },
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

impl Configuration {
    /// Reads YAML or JSON; unknown and repeated fields are errors.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        if text.is_empty() {
            return Err(ConfigurationError::Empty);
        }
        let syntax = |error: String| ConfigurationError::Syntax(error);
        let decoded = decode::untyped(text.as_bytes(), Format::Yaml, true);
        let mut decoded = decoded.map_err(|error| syntax(error.to_string()))?;
        check_kind(&decoded.value, text)?;
        let mut faults = decoded.strict_errors;
        fields::unknown(&decoded.value, &mut faults);
        if !faults.is_empty() {
            return Err(ConfigurationError::Strict(faults));
        }
        drop_nulls(&mut decoded.value);
        serde_json::from_value(decoded.value).map_err(|error| syntax(error.to_string()))
    }
}

fn check_kind(value: &Value, text: &str) -> Result<(), ConfigurationError> {
    let field = |name: &'static str, shown: &'static str| {
        let found = value[name].as_str().filter(|found| !found.is_empty());
        found.ok_or_else(|| ConfigurationError::Missing { field: shown, text: text.to_owned() })
    };
    let (kind, api_version) = (field("kind", "Kind")?, field("apiVersion", "apiVersion")?);
    let known = api_version.split_once('/');
    if kind == KIND && known.is_some_and(|(group, version)| group == GROUP && VERSIONS.contains(&version)) {
        return Ok(());
    }
    Err(ConfigurationError::Kind { kind: kind.to_owned(), version: api_version.to_owned() })
}

/// A field that is null is one that is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Configuration::parse(text).expect_err("refused").to_string()
    }

    #[test]
    fn every_version_reads_the_same() {
        for version in VERSIONS {
            let text = format!(
                "apiVersion: {GROUP}/{version}\nkind: {KIND}\njwt:\n- issuer:\n    url: https://a\n    \
                 discoveryURL: https://b\n    audiences: [x]\n    audienceMatchPolicy: null\n  claimMappings: \
                 {{username: {{claim: sub, prefix: ''}}}}\nanonymous: {{enabled: true, conditions: [{{path: \
                 /livez}}]}}\n"
            );
            let read = Configuration::parse(&text).expect("reads");
            assert_eq!(read.jwt[0].issuer.discovery_url, "https://b");
            assert_eq!(read.jwt[0].claim_mappings.username.prefix.as_deref(), Some(""));
            assert_eq!(read.anonymous.expect("a section").conditions[0].path, "/livez");
        }
    }

    #[test]
    fn what_is_no_configuration_is_told_as_upstream_does() {
        assert_eq!(refused(""), "empty config data");
        assert_eq!(refused("kind: A"), "Object 'apiVersion' is missing in 'kind: A'");
        assert_eq!(
            refused("{kind: A, apiVersion: apiserver.config.k8s.io/v1}"),
            "no kind \"A\" is registered for version \"apiserver.config.k8s.io/v1\""
        );
        assert_eq!(
            refused(
                "{kind: AuthenticationConfiguration, apiVersion: apiserver.config.k8s.io/v1, jwt: [{issuer: \
                 {urls: x}}], more: 1}"
            ),
            "strict decoding error: unknown field \"jwt[0].issuer.urls\", unknown field \"more\""
        );
        let repeated =
            "kind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\njwt: []\njwt: []\n";
        assert!(refused(repeated).contains("jwt"), "{}", refused(repeated));
    }
}
