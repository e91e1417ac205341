//! `EncryptionConfiguration`: reading it, and everything that can be wrong with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_api::field::{Error, ErrorList, Path};
use serde::Deserialize;
use serde_json::Value;

use super::provider::{Cipher, Method, Provider};
use super::rules::{Pattern, Rules};

const API_VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "v1"];
const KINDS: [&str; 2] = ["EncryptionConfiguration", "EncryptionConfig"];

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("error decoding encryption provider configuration: {0}")]
    Decode(#[from] serde_yaml::Error),
    #[error("got unexpected config type: {api_version}, Kind={kind}")]
    Kind { api_version: String, kind: String },
    #[error("{0}")]
    Invalid(ErrorList),
    #[error("{0}: kms providers are not supported by this server")]
    Kms(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<Choice>,
}

/// One provider; exactly one field is set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

/// Reads a configuration; every fault is named.
pub fn parse(text: &str) -> Result<Rules, ConfigError> {
    let config: Configuration = serde_yaml::from_str(text)?;
    if !API_VERSIONS.contains(&config.api_version.as_str()) || !KINDS.contains(&config.kind.as_str()) {
        return Err(ConfigError::Kind { api_version: config.api_version, kind: config.kind });
    }
    let root = Path::new("resources");
    let mut errors = ErrorList::new();
    if config.resources.is_empty() {
        errors.push(Error::required(&root, "at least one resources is required"));
    }
    let mut chosen = Vec::new();
    for (at, part) in config.resources.iter().enumerate() {
        let (names, providers) = (root.index(at).child("resources"), root.index(at).child("providers"));
        for (path, empty) in [(&names, part.resources.is_empty()), (&providers, part.providers.is_empty())] {
            if empty {
                errors.push(Error::required(path, format!("at least one {path} is required")));
            }
        }
        overlaps(&part.resources, &names, &mut errors);
        let named = part.resources.iter().enumerate().map(|(at, name)| (names.index(at), name));
        named.filter_map(|(path, name)| resource_fault(&path, name)).for_each(|fault| errors.push(fault));
        let mut chain = Vec::new();
        for (at, choice) in part.providers.iter().enumerate() {
            let path = providers.index(at);
            if choice.kms.is_some() {
                return Err(ConfigError::Kms(path.child("kms").to_string()));
            }
            chain.extend(provider(choice, &path, &mut errors));
        }
        chosen.push((part.resources.iter().map(|name| Pattern::parse(name)).collect(), chain));
    }
    if !errors.is_empty() {
        return Err(ConfigError::Invalid(errors));
    }
    Ok(Rules::new(chosen))
}

fn provider(choice: &Choice, path: &Path, errors: &mut ErrorList) -> Option<Provider> {
    let Choice { aesgcm, aescbc, secretbox, identity, kms: _ } = choice;
    let keyed = [
        (Method::AesGcm, "aesgcm", aesgcm),
        (Method::AesCbc, "aescbc", aescbc),
        (Method::Secretbox, "secretbox", secretbox),
    ];
    let mut set = keyed.into_iter().filter_map(|(method, name, keys)| Some((method, name, keys.as_ref()?)));
    match (set.next(), set.next(), identity) {
        (None, _, None) => {
            errors.push(Error::invalid(
                path,
                "{}",
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
            ));
            None
        }
        (None, _, Some(_)) => Some(Provider::identity()),
        (Some((method, name, keys)), None, None) => {
            let path = path.child(name).child("keys");
            Some(Provider::new(method, ciphers(method, &keys.keys, &path, errors)))
        }
        _ => {
            errors.push(Error::invalid(
                path,
                "REDACTED",
                "more than one provider specified in a single element, should split into different list elements",
            ));
            None
        }
    }
}

fn ciphers(method: Method, keys: &[Key], path: &Path, errors: &mut ErrorList) -> Vec<(String, Cipher)> {
    if keys.is_empty() {
        errors.push(Error::required(path, "at least one keys is required"));
    }
    let read = |(at, key): (usize, &Key)| match cipher(method, key, &path.index(at)) {
        Ok(cipher) => Some((key.name.clone(), cipher)),
        Err(fault) => {
            errors.push(fault);
            None
        }
    };
    keys.iter().enumerate().filter_map(read).collect()
}

fn cipher(method: Method, key: &Key, path: &Path) -> Result<Cipher, Error> {
    if key.name.is_empty() {
        return Err(Error::required(&path.child("name"), "name is a mandatory field for a key"));
    }
    let path = path.child("secret");
    if key.secret.is_empty() {
        return Err(Error::required(&path, "secret is a mandatory field for a key"));
    }
    let secret = STANDARD
        .decode(&key.secret)
        .map_err(|_| Error::invalid(&path, "REDACTED", "secrets must be base64 encoded"))?;
    Cipher::new(method, &secret).ok_or_else(|| {
        let lengths: Vec<String> = method.key_lengths().iter().map(ToString::to_string).collect();
        let (len, lengths) = (secret.len(), lengths.join(" "));
        let detail = format!("secret is not of the expected length, got {len}, expected one of [{lengths}]");
        Error::invalid(&path, "REDACTED", detail)
    })
}

/// Two names of one list that mean the same resource.
fn overlaps(names: &[String], path: &Path, errors: &mut ErrorList) {
    let patterns: Vec<Pattern> = names.iter().map(|name| Pattern::parse(name)).collect();
    let pairs = || {
        (0..patterns.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| (&patterns[a], &patterns[b]))
    };
    let value = || Value::from(names.to_vec());
    if pairs().any(|(a, b)| a == b) {
        errors.push(Error::invalid(path, value(), "the same resource cannot be specified multiple times"));
    }
    if pairs().any(|(a, b)| a != b && (a.covers(b) || b.covers(a))) {
        errors.push(Error::invalid(
            path,
            value(),
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as \
             they will be masked",
        ));
    }
}

fn resource_fault(path: &Path, name: &str) -> Option<Error> {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let detail = if name.chars().any(char::is_uppercase) {
        "resource name should not contain capital letters"
    } else if name == "*" {
        "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    } else if matches!(name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        "resources which do not have REST API/s cannot be encrypted"
    } else if group == "events.k8s.io" {
        "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the \
         config file"
    } else if group == "extensions" {
        "'extensions' group has been removed and cannot be used for encryption"
    } else if group == "*" && resource != "*" {
        "encrypting the same resource across groups is not supported"
    } else {
        return None;
    };
    Some(Error::invalid(path, name, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(resources: &str, providers: &str) -> String {
        let text = format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: \
             {resources}\n  providers: {providers}\n"
        );
        parse(&text).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn faults_are_told_as_upstream_does() {
        let key = |len: usize| STANDARD.encode(vec![7; len]);
        let identity = "[{identity: {}}]";
        let table = [
            ("[secrets]", identity.to_owned(), ""),
            ("[secrets, configmaps, '*.apps']", identity.to_owned(), ""),
            (
                "[]",
                identity.to_owned(),
                "resources[0].resources: Required value: at least one resources[0].resources is required",
            ),
            (
                "[Secrets]",
                identity.to_owned(),
                "resources[0].resources[0]: Invalid value: \"Secrets\": resource name should not contain capital letters",
            ),
            (
                "['*']",
                identity.to_owned(),
                "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
            ),
            (
                "[secrets, '*.']",
                identity.to_owned(),
                "resources[0].resources: Invalid value: [\"secrets\",\"*.\"]: using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
            ),
            (
                "[secrets]",
                "[]".to_owned(),
                "resources[0].providers: Required value: at least one resources[0].providers is required",
            ),
            (
                "[secrets]",
                "[{aesgcm: {keys: [{name: a, secret: '%%'}]}}]".to_owned(),
                "resources[0].providers[0].aesgcm.keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
            ),
            (
                "[secrets]",
                format!("[{{secretbox: {{keys: [{{name: a, secret: {}}}]}}}}]", key(16)),
                "resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 16, expected one of [32]",
            ),
            (
                "[secrets]",
                format!("[{{aescbc: {{keys: [{{name: '', secret: {}}}]}}}}]", key(16)),
                "resources[0].providers[0].aescbc.keys[0].name: Required value: name is a mandatory field for a key",
            ),
            (
                "[secrets]",
                "[{kms: {name: a}}]".to_owned(),
                "resources[0].providers[0].kms: kms providers are not supported by this server",
            ),
        ];
        for (resources, providers, expected) in table {
            assert_eq!(refused(resources, &providers), expected, "{resources} {providers}");
        }
        assert!(refused("[secrets]", "[{rot13: {}}]").starts_with("error decoding"), "unknown fields");
        assert!(parse("kind: Pod\napiVersion: v1\n").is_err());
    }
}
