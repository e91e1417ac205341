//! Registry credentials from pods' pull secrets.

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use knarr_runtime::cri::AuthConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::reference::split_registry;
use crate::agent::Agent;
use crate::pod::spec;

/// Secrets larger than this are no credentials.
const MAX_SIZE: usize = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Credentials by the registry (and path) they are for.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: Vec<(String, AuthConfig)>,
}

/// All that the pod's imagePullSecrets say. Secrets that are missing are told and left out, as upstream does.
pub async fn credentials(agent: &Agent, pod: &Pod) -> Credentials {
    let mut all = Credentials::default();
    for reference in spec::spec(pod).image_pull_secrets.iter().flatten() {
        if reference.name.is_empty() {
            continue;
        }
        match agent.objects.secret(spec::namespace(pod), &reference.name).await {
            Ok(secret) => all.add(&secret),
            Err(error) => {
                tracing::warn!(pod = spec::name(pod), secret = reference.name, %error, "no pull secret");
                agent.recorder.warning(
                    spec::reference(pod),
                    "FailedToRetrieveImagePullSecret",
                    format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not \
                         succeed.",
                        reference.name
                    ),
                );
            }
        }
    }
    all
}

impl Credentials {
    fn add(&mut self, secret: &Secret) {
        let data =
            |key: &str| secret.data.as_ref()?.get(key).map(|bytes| &bytes.0).filter(|b| b.len() <= MAX_SIZE);
        let entries = if let Some(bytes) = data(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(bytes).map(|config| config.auths)
        } else if let Some(bytes) = data(".dockercfg") {
            serde_json::from_slice::<BTreeMap<String, Entry>>(bytes)
        } else {
            return;
        };
        match entries {
            Ok(entries) => {
                self.entries.extend(entries.into_iter().map(|(at, entry)| (normalize(&at), entry.into())))
            }
            Err(error) => tracing::warn!(secret = secret.metadata.name, %error, "pull secret does not parse"),
        }
    }

    /// Those for an image, the most specific first.
    pub fn matching(&self, image: &str) -> Vec<AuthConfig> {
        let name = image.split('@').next().unwrap_or(image);
        let (registry, repository) = split_registry(name);
        let target = match registry {
            Some(registry) => format!("{registry}/{repository}"),
            None => format!("docker.io/{name}"),
        };
        let mut found: Vec<&(String, AuthConfig)> =
            self.entries.iter().filter(|(pattern, _)| matches(pattern, &target)).collect();
        found.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        found.into_iter().map(|(_, auth)| auth.clone()).collect()
    }
}

/// Without scheme and API path, and Docker Hub by one name.
fn normalize(at: &str) -> String {
    let at = at.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let at = at.strip_suffix("/v1").or_else(|| at.strip_suffix("/v2")).unwrap_or(at);
    match at {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => at.to_owned(),
    }
}

/// Hosts match part by part, where `*` stands for a part; paths by prefix.
fn matches(pattern: &str, target: &str) -> bool {
    let (pattern_host, pattern_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, path) = target.split_once('/').unwrap_or((target, ""));
    let mut wanted = pattern_host.split('.');
    let mut given = host.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => break,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
    path.starts_with(pattern_path)
}

impl From<Entry> for AuthConfig {
    fn from(entry: Entry) -> Self {
        let (mut username, mut password) = (entry.username, entry.password);
        if username.is_empty() && !entry.auth.is_empty() {
            let decoded =
                base64::engine::general_purpose::STANDARD.decode(entry.auth.trim()).unwrap_or_default();
            if let Some((user, secret)) = String::from_utf8_lossy(&decoded).split_once(':') {
                (username, password) = (user.to_owned(), secret.trim_matches('\0').to_owned());
            }
        }
        Self {
            username,
            password,
            auth: entry.auth,
            identity_token: entry.identitytoken,
            registry_token: entry.registrytoken,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn credentials(json: &str) -> Credentials {
        let mut credentials = Credentials::default();
        credentials.add(&Secret {
            data: Some([(".dockerconfigjson".to_owned(), ByteString(json.as_bytes().to_vec()))].into()),
            ..Secret::default()
        });
        credentials
    }

    #[test]
    fn credentials_go_to_their_registry_only() {
        let found = credentials(
            r#"{"auths": {"127.0.0.1:5000": {"auth": "dTpwOnE="}, "https://index.docker.io/v1/": {"username": "hub"},
                "127.0.0.1:5000/team": {"username": "team"}, "*.example.com": {"username": "star"}}}"#,
        );
        let users = |image: &str| found.matching(image).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("127.0.0.1:5000/team/app:1"), ["team", "u"]);
        assert_eq!(users("127.0.0.1:5000/app"), ["u"]);
        assert_eq!(found.matching("127.0.0.1:5000/app")[0].password, "p:q");
        assert_eq!(users("nginx"), ["hub"]);
        assert_eq!(users("a.example.com/x"), ["star"]);
        assert!(users("a.b.example.com/x").is_empty());
        assert!(users("other:5000/x").is_empty());
    }

    #[test]
    fn a_secret_that_does_not_parse_gives_nothing() {
        assert!(credentials("{").matching("nginx").is_empty());
    }
}
